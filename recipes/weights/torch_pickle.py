"""The pickle inside a torch file: what it describes, without executing anything.

`pickle.load` runs whatever a file says. This interpreter knows the instructions a state dict is made of, builds dicts,
lists, tuples, numbers and descriptions of tensors, and refuses everything else. Its work is bounded before it starts.
"""

import math
import pickletools
import re
import struct
from typing import NamedTuple

import numpy as np

from recipes.weights.errors import UnsafeFileError

MAX_PICKLE = 8 << 20  # bytes; a network of 300 tensors needs 40 thousand
MAX_OPCODES = 500_000  # 38 a tensor; half a second
MAX_DIMENSIONS = 16
ADVICE = 'Save the state dict alone, with torch.save(model.state_dict(), "weights.pth").'
BROKEN = "Download or copy the file again."

DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # widened to float32 when read
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}
GLOBALS = {
    "collections OrderedDict": "dict",
    "torch._utils _rebuild_tensor": "tensor",
    "torch._utils _rebuild_tensor_v2": "tensor",
    "torch._utils _rebuild_parameter": "parameter",
    "torch Size": "size",
    **{f"torch {name}": name for name in DTYPES},
}


class Global(NamedTuple):
    """A name in the pickle, one of `GLOBALS`."""

    kind: str


class Storage(NamedTuple):
    """A record of `numel` numbers."""

    key: str
    kind: str
    numel: int

    @property
    def nbytes(self):
        return self.numel * np.dtype(DTYPES[self.kind]).itemsize

    @property
    def dtype(self):
        return np.dtype({"BFloat16Storage": "<f4", "BoolStorage": "?"}.get(self.kind, DTYPES[self.kind]))


class Tensor(NamedTuple):
    """A view of a record, in elements."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


class OrderedDict(dict):
    """What `collections.OrderedDict` in the pickle becomes: the only object that may be given attributes (ignored)."""


class Pickle:
    """Interpreter of the part of pickle protocol 2 that a state dict needs. Nothing is imported, nothing is called.

    Args:
        path: The file, for errors.
        member: The part of the file, for errors.
        stream: `io.BytesIO` positioned at the pickle.
        id_length: Number of entries of a storage's persistent id: 5 in the zip layout, 6 in the older one.
    """

    def __init__(self, path, member, stream, id_length):
        self.path, self.member, self.stream, self.id_length = path, member, stream, id_length
        self.storages = {}
        self.opcodes = 0

    def refuse(self, rule, remedy=ADVICE):
        raise UnsafeFileError(self.path, self.member, rule, remedy) from None

    def load(self):
        """Return what the next pickle of the stream describes."""
        try:
            return self._run()
        except UnsafeFileError:
            raise
        except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
            self.refuse(f"the pickle is truncated or malformed ({str(error)[:100]})", BROKEN)

    def _run(self):
        stack, marks, memo = [], [], {}

        def pop_to_mark():
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            return items

        for opcode, argument, _ in pickletools.genops(self.stream):
            self.opcodes += 1
            if self.opcodes > MAX_OPCODES:
                self.refuse(f"the pickle has more than {MAX_OPCODES} instructions")
            match opcode.name:
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                    stack.append(argument)
                case "BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                    stack.append(argument)
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
                case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                    stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[opcode.name]())
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    stack.append(tuple(pop_to_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    length = int(opcode.name[-1])
                    items = tuple(stack[-length:])
                    if len(items) < length:
                        self.refuse("the pickle is malformed: too few items for a tuple", BROKEN)
                    del stack[-length:]
                    stack.append(items)
                case "APPEND" | "APPENDS":
                    items = [stack.pop()] if opcode.name == "APPEND" else pop_to_mark()
                    if not isinstance(stack[-1], list):
                        self.refuse("it appends to something that is not a list")
                    stack[-1].extend(items)
                case "SETITEM" | "SETITEMS":
                    items = [stack.pop(-2), stack.pop()] if opcode.name == "SETITEM" else pop_to_mark()
                    self._set_items(stack[-1], items)
                case "GLOBAL":
                    if argument not in GLOBALS:
                        name = show(argument.replace(" ", "."))
                        self.refuse(f"it asks for {name}, which is not part of a state dict")
                    stack.append(Global(GLOBALS[argument]))
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "REDUCE":
                    arguments = stack.pop()
                    stack.append(self._reduce(stack.pop(), arguments))
                case "BUILD":
                    state = stack.pop()
                    harmless = isinstance(state, dict) and set(state) <= {"_metadata"}
                    if not isinstance(stack[-1], OrderedDict) or not harmless:
                        self.refuse("it sets attributes of an object")
                case "PROTO":
                    if argument != 2:
                        self.refuse(f"it is pickle protocol {argument}, torch.save writes 2")
                case "STOP":
                    if len(stack) != 1 or marks:
                        self.refuse("the pickle is malformed: it must describe one object", BROKEN)
                    return stack[0]
                case _:
                    self.refuse(f"the pickle uses the instruction {opcode.name}, which no state dict needs")

    def _set_items(self, target, items):
        if not isinstance(target, dict):
            self.refuse("it sets items of something that is not a dict")
        if len(items) % 2:
            self.refuse("the pickle is malformed: a key without a value", BROKEN)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # hashing a tuple of tuples of tuples can take forever
                self.refuse("a dict has a key that is neither a string nor an integer")
            target[key] = value

    def _storage(self, identity):
        """Return the storage that a persistent id `("storage", type, key, device, numel)` names."""
        if type(identity) is not tuple or len(identity) != self.id_length:
            self.refuse("a storage's identity is malformed", BROKEN)
        tag, kind, key, _, numel = identity[:5]
        if type(tag) is not str or tag != "storage" or not isinstance(kind, Global) or kind.kind not in DTYPES:
            self.refuse("a persistent id is not that of a storage of numbers")
        if type(key) is not str or not re.fullmatch(r"[0-9]{1,40}", key):
            self.refuse("a storage's key is malformed", BROKEN)
        if type(numel) is not int or numel < 0:
            self.refuse(f"storage {show(key)} declares a number of elements that is not one", BROKEN)
        if self.id_length == 6 and identity[5] is not None:
            self.refuse("a storage is a view of another one, as torch before 0.4 wrote")
        storage = Storage(key, kind.kind, numel)
        if self.storages.setdefault(key, storage) != storage:
            self.refuse(f"storage {show(key)} is declared twice, differently", BROKEN)
        return storage

    def _reduce(self, function, arguments):
        """Return what one of `GLOBALS` makes of `arguments`."""
        if not isinstance(function, Global) or type(arguments) is not tuple:
            self.refuse("it calls something that is not one of torch's tensor makers")
        if function.kind == "dict" and len(arguments) == 0:
            return OrderedDict()
        if function.kind == "size" and len(arguments) == 1 and type(arguments[0]) is tuple:
            return arguments[0]
        if function.kind == "parameter" and len(arguments) == 3 and isinstance(arguments[0], Tensor):
            return arguments[0]
        if function.kind == "tensor" and len(arguments) in (4, 6, 7):
            if len(arguments) == 7 and arguments[6]:
                self.refuse("a tensor has metadata (a conjugate or negative view)")
            return self._tensor(*arguments[:4])
        self.refuse(f"it calls {function.kind} with arguments that torch.save does not write")

    def _tensor(self, storage, offset, shape, strides):
        """Return a tensor that provably lies inside its storage and has no element twice."""
        if not isinstance(storage, Storage):
            self.refuse("a tensor has no storage", BROKEN)
        if type(shape) is not tuple or type(strides) is not tuple or len(shape) != len(strides):
            self.refuse("a tensor's shape or strides are malformed", BROKEN)
        if len(shape) > MAX_DIMENSIONS:
            self.refuse(f"a tensor has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
        if any(type(n) is not int or not 0 <= n < 2**63 for n in (offset, *shape, *strides)):
            self.refuse("a tensor's offset, shape or stride is negative, too large or not an integer")
        if 0 not in shape:
            if offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) >= storage.numel:
                self.refuse(f"a tensor reaches beyond its storage of {storage.numel} elements")
            reach = 0  # of the dimensions so far, from the tightest out
            for stride, n in sorted((stride, n) for n, stride in zip(shape, strides, strict=True) if n > 1):
                if stride <= reach:
                    self.refuse("a tensor uses the same elements twice (strides too small for its shape)")
                reach += (n - 1) * stride
        elif offset > storage.numel or math.prod(max(n, 1) for n in shape) >= 2**31:
            self.refuse("an empty tensor has an offset or a shape out of all proportion")
        return Tensor(storage, offset, shape, strides)


def show(text):
    """Return untrusted text so that it can stand in an error message."""
    return ascii(text[:80])
