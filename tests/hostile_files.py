"""Eighty files that are broken or built to do harm: what makes each, and what must become of it.

`ROWS` is the table, in the order of the catalogue of reliability. A maker writes its file, or several, into an empty
folder. What opens them and watches is `tests/hostile_runner.py`.
"""

import base64
import copy
import itertools
import json
import marshal
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import keras
import numpy as np

import recipes
from recipes.weights.manifest import write_manifest
from tests import torch_files as t

FIXTURES = Path(__file__).parent / "fixtures"
MB = 1 << 20
SECRET = "/etc/" + "passwd"
REFUSED, LOADS, WARNS, SAME = "refused", "loads", "loads with a warning", "refused or loaded the same"


class Row(NamedTuple):
    """A line of the table.

    `door` is what the file is for: `"archive"` (a `.keras` file), `"weights"` (of a model that is there), `"folder"` (of
    `recipes.save`) or `"bert"` (a folder of the hub that says how large the model is). `says` is in the error or warning.
    """

    number: int
    title: str
    make: Callable
    door: str
    says: str
    outcome: str = REFUSED


class Good:
    """What hostile files are made from: a small model and the honest files of it."""

    def __init__(self, folder):
        data = np.random.default_rng(0).normal(size=(16, 4))
        self.model = recipes.mlp((4,), 3, hidden=(4, 4), adapt=data)
        self.folder, self.archive = folder / "good", folder / "good.keras"
        recipes.save(self.model, self.folder)
        recipes.save(self.model, self.archive)
        self.h5 = self.folder / "model.weights.h5"
        self.tensors = {v.path: np.asarray(keras.ops.convert_to_numpy(v)) for v in self.model.weights}
        with zipfile.ZipFile(self.archive) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}


@keras.saving.register_keras_serializable("recipes", name="Reader")
class Reader(keras.layers.Layer):
    """A layer under our name that reads the file that it is told to."""

    def __init__(self, path="", **kwargs):
        super().__init__(**kwargs)
        self.text = Path(path).read_text() if path else ""


@keras.saving.register_keras_serializable("guests", name="Reader")
class Guest(Reader):
    """The same under another name."""


# ---- .keras


def archive(folder, good, change=lambda config: config, *, members=None, info=lambda info: info, name="model.keras"):
    """Write a `.keras` file with a changed configuration, or with other members: pairs of name and bytes."""
    if members is None:
        config = change(json.loads(good.members["config.json"]))
        text = config if isinstance(config, bytes) else json.dumps(config).encode()
        members = [(key, text if key == "config.json" else data) for key, data in good.members.items()]
    with zipfile.ZipFile(folder / name, "w") as file:
        for key, data in members:
            file.writestr(info(zipfile.ZipInfo(key)), data)
    return folder / name


def more(good, *pairs):
    return [*good.members.items(), *pairs]


def with_layer(kind, module="keras.layers", registered=None, **arguments):
    """Return a change that puts another layer in the place of `features`."""

    def change(config):
        for layer in config["config"]["layers"]:
            if layer["name"] == "features":
                layer.update(module=module, class_name=kind, registered_name=registered)
                layer["config"] = {"name": "features", "trainable": True, "dtype": "float32", **arguments}
        return config

    return change


def with_activation(module, name, kind="function"):
    def change(config):
        for layer in config["config"]["layers"]:
            if layer["name"] == "block1_activation":
                said = {"module": module, "class_name": kind, "config": name, "registered_name": name}
                layer["config"]["activation"] = said if kind == "function" else {**said, "class_name": name, "config": {}}
        return config

    return change


def lambda_layer(folder, good):
    code = compile("__import__('os').system('touch canary')", "<file>", "eval")
    dumped = [base64.b64encode(marshal.dumps(code)).decode(), None, None]
    function = {"class_name": "__lambda__", "config": {"value": dumped}}
    yield archive(folder, good, with_layer("Lambda", function=function))
    yield archive(folder, good, with_layer("Identity", activity_regularizer=function), name="elsewhere.keras")


def keras_functions(folder, good):
    for i, (module, name) in enumerate(
        [("keras.utils", "get_file"), ("keras.models", "load_model"), ("keras.config", "enable_unsafe_deserialization")]
    ):
        yield archive(folder, good, with_activation(module, name), name=f"{i}.keras")


def foreign_modules(folder, good):
    yield archive(folder, good, with_activation("os", "system"), name="function.keras")
    yield archive(folder, good, with_activation("builtins", "eval"), name="builtin.keras")
    yield archive(folder, good, with_activation("subprocess", "Popen", "class"), name="class.keras")
    yield archive(folder, good, with_layer("exec", module="builtins"), name="layer.keras")
    yield archive(folder, good, with_layer("ZipFile", module="keras.src.ops.zipfile"), name="inside.keras")


def vocabularies(folder, good):
    yield archive(folder, good, with_layer("StringLookup", vocabulary=SECRET), name="file.keras")
    yield archive(folder, good, with_layer("StringLookup", vocabulary="http://127.0.0.1:9/x"), name="url.keras")
    yield archive(folder, good, with_layer("TextVectorization", vocabulary="words.txt"), name="near.keras")


def wrapped_torch(folder, good):
    module = base64.b64encode(pickle.dumps(print)).decode()
    return archive(folder, good, with_layer("TorchModuleWrapper", module=module))


def readers(folder, good):
    ours = with_layer("Reader", module="recipes.layers", registered="recipes>Reader", path="secret.txt")
    guests = with_layer("Reader", module="guests", registered="guests>Reader", path="secret.txt")
    silent = with_layer("Reader", module="recipes.layers", registered="recipes>Reader")
    for i, change in enumerate((ours, guests, silent)):
        yield archive(folder, good, change, name=f"{i}.keras")


def units(number):
    def change(config):
        layers = config["config"]["layers"]
        next(layer for layer in layers if layer["name"] == "logits")["config"]["units"] = number
        return config

    return lambda folder, good: archive(folder, good, change)


def many_layers(folder, good):
    def change(config):
        layers = config["config"]["layers"]
        dense = next(layer for layer in layers if layer["name"] == "block1_dense")
        layers += [{**dense, "name": f"n{i}", "config": {**dense["config"], "name": f"n{i}"}} for i in range(10_000)]
        return config

    yield archive(folder, good, change, name="wide.keras")
    yield archive(folder, good, lambda config: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, name="deep.keras")
    yield archive(folder, good, lambda config: b"[" * 100_000, name="open.keras")
    yield archive(folder, good, lambda config: b'{"a":' * 500 + b"1" + b"}" * 500, name="rather_deep.keras")


def compressed(path, name, byte, size, others):
    """Write an archive with a member that is `size` times the same byte, packed as tightly as can be."""
    block = byte * MB
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(size // MB):
        checksum = zlib.crc32(block, checksum)
    data = once * (size // MB) + packer.flush()
    entry = zipfile.ZipInfo(name)
    with zipfile.ZipFile(path, "w") as file:
        for key, text in others:
            file.writestr(key, text)
        file.writestr(entry, data)  # stored, and called compressed
    whole = bytearray(path.read_bytes())
    for magic, fields in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = whole.rindex(magic + whole[whole.rindex(magic) + 4 : whole.rindex(magic) + 6])
        struct.pack_into("<H", whole, place + fields, zipfile.ZIP_DEFLATED)
        struct.pack_into("<III", whole, place + fields + 6, checksum, len(data), size)
    path.write_bytes(whole)
    return path


def packed_config(folder, good):
    others = [(name, data) for name, data in good.members.items() if name != "config.json"]
    return compressed(folder / "model.keras", "config.json", b" ", 700 * MB, others)


def packed_asset(folder, good):
    return compressed(folder / "model.keras", "assets/x", b"\0", 700 * MB, good.members.items())


def slips(folder, good):
    for i, name in enumerate(("../../evil", "/tmp/evil", "C:\\evil", "assets\\..\\..\\evil", "assets/../../evil")):
        yield archive(folder, good, members=more(good, (name, b"x")), name=f"{i}.keras")


def duplicates(folder, good):
    return archive(folder, good, members=more(good, ("config.json", good.members["config.json"])))


def changed_bytes(change):
    def make(folder, good):
        whole = bytearray(good.archive.read_bytes())
        (folder / "model.keras").write_bytes(change(whole) or whole)
        return folder / "model.keras"

    return make


def bad_checksum(whole):
    whole[len(whole) // 2] ^= 1  # within the weights


def encrypted(whole):
    struct.pack_into("<H", whole, whole.rindex(b"PK\x01\x02") + 8, 1)


def linked(folder, good):
    def info(entry):
        entry.external_attr = 0o120777 << 16
        return entry

    return archive(folder, good, info=info)


def layer_name(folder, good):
    def change(config):
        config["config"]["layers"][2]["config"]["name"] = config["config"]["layers"][2]["name"] = "../../x"
        return config

    return archive(folder, good, change)


def cut(folder, good):
    whole = good.archive.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        (folder / f"{part}.keras").write_bytes(whole[: int(len(whole) * part)])
        yield folder / f"{part}.keras"


def flipped(folder, good):
    """A byte in every two hundred, and every eleventh of the texts and of the directory at the end."""
    whole = good.archive.read_bytes()
    near = [*range(0, 180, 11), *range(len(whole) - 240, len(whole), 11)]
    for position in sorted({*near, *range(0, len(whole), 1499)}):
        changed = bytearray(whole)
        changed[position] ^= (0x01, 0x80, 0xFF)[position % 3]
        (folder / f"{position}.keras").write_bytes(changed)
        yield folder / f"{position}.keras"


def newer(folder, good):
    metadata = json.dumps({"keras_version": "99.0", "date_saved": "2099-01-01@00:00:00"}).encode()
    return archive(folder, good, members=[*{**good.members, "metadata.json": metadata}.items()])


def no_archive(folder, good):
    (folder / "empty.keras").write_bytes(b"")
    (folder / "text.keras").write_bytes(b"not a model at all")
    return folder / "empty.keras", folder / "text.keras"


# ---- .h5

KERNEL = "layers/dense/vars/0"
EXTERNAL = {"shape": (4, 4), "dtype": "f4", "external": [(SECRET, 0, 64)]}


def h5(change, **options):
    """Return the maker of a `.weights.h5` that is changed once it is written."""

    def make(folder, good):
        path = folder / "w.weights.h5"
        shutil.copy(good.h5, path)
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return make


def replaced(**arguments):
    def change(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, **arguments)

    return change


def shape_bombs(file):
    """Each is a little smaller than what Keras would look at more closely."""
    for i in range(16):
        name, shape = f"layers/dense_{i + 9}/vars/0", (1 << 10, 1 << 18)
        file.create_dataset(name, shape, "f4", chunks=(1, 1 << 18), compression="gzip")
    replaced(shape=(1 << 10, 1 << 18), dtype="f4", fillvalue=1.0)(file)


def soft_links(folder, good):
    def link(place):
        def change(file):
            del file[place]
            file[place] = h5py.SoftLink("/optimizer/vars/3")

        return change

    for i, place in enumerate((KERNEL, "layers/dense")):
        yield h5(link(place))(folder, good).rename(folder / f"{i}.weights.h5")


def external_link(file):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink(SECRET, "/")


def virtual(file):
    layout = h5py.VirtualLayout((4, 4), "f4")
    layout[:] = h5py.VirtualSource(SECRET, "x", (4, 4))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def cycle(file):
    file["layers/dense/again"] = file["layers"]


def odd_types(folder, good):
    kinds = {
        "compound": {"data": np.zeros((4, 4), [("a", "f4"), ("b", "f4")])},
        "lists": {"shape": (4, 4), "dtype": h5py.vlen_dtype("f4")},
        "references": {"shape": (4, 4), "dtype": h5py.ref_dtype},
        "strings": {"data": np.full((4, 4), b"abc")},
        "complex": {"data": np.zeros((4, 4), "c8")},
    }
    for name, arguments in kinds.items():
        yield h5(replaced(**arguments))(folder, good).rename(folder / f"{name}.weights.h5")


def unknown_filter(folder, good):
    path = h5(replaced(data=np.ones((4, 4), "f4"), chunks=(4, 4), compression="gzip"))(folder, good)
    whole = bytearray(path.read_bytes())
    struct.pack_into("<H", whole, whole.index(b"deflate") - 8, 32099)
    path.write_bytes(whole)
    return path


def user_block(folder, good):
    path = folder / "w.weights.h5"
    with h5py.File(good.h5) as source, h5py.File(path, "w", userblock_size=512) as file:
        for name in source:
            source.copy(name, file)
    whole = bytearray(path.read_bytes())
    whole[:10] = b"#!/bin/sh\n"
    path.write_bytes(whole)
    return path


def saved(change, manifest=False):
    """Return the maker of a folder of `recipes.save` whose weights are changed, and with `manifest` that as well."""

    def make(folder, good):
        shutil.copytree(good.folder, folder / "net")
        with h5py.File(folder / "net" / "model.weights.h5", "a") as file:
            change(file)
        if manifest:
            write_manifest(folder / "net", {})
        return folder / "net"

    return make


def swap(file):
    a, b = file[KERNEL][()], file["layers/dense_1/vars/0"][()]
    file[KERNEL][...], file["layers/dense_1/vars/0"][...] = b, a


def transpose(file):
    file[KERNEL][...] = file[KERNEL][()].T


def not_finite(file):
    file["layers/dense_1/vars/0"][0, 0] = np.inf
    file[KERNEL][0, 0] = np.nan


def no_optimizer(file):
    del file["optimizer"]


def extra(file):
    file["layers/dense_9/vars/0"] = np.zeros(3, "f4")


# ---- .safetensors


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


TWICE = b'{"w":%b,"w":%b}' % ((json.dumps(entry()).encode(),) * 2)


def safetensors(header, data=bytes(8), length=None):
    """Return the maker of a `.safetensors` file of a header, or its bytes, and the numbers."""

    def make(folder, good, name="w.safetensors"):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
        return folder / name

    return make


def several(*makers):
    def make(folder, good):
        for i, maker in enumerate(makers):
            path = maker(folder, good)
            yield path.rename(path.with_name(f"{i}_{path.name}"))

    return make


def write_safetensors(path, tensors):
    """Write an honest file."""
    header, data = {}, b""
    for name, array in tensors.items():
        array = np.asarray(array, "<f4", order="C")
        header[name] = entry(len(data), len(data) + array.nbytes, array.shape)
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def long_header(folder, good):
    """Of 101 MB, and they are there: zeros that take no place on the disk."""
    path = folder / "w.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 101 * MB) + b"{")
        file.truncate(102 * MB)
    return path


def tiny_entries(folder, good):
    path = folder / "w.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 2 + 5 * 10_000_000) + b"{")
        for _ in range(100):
            file.write(b'"":1,' * 100_000)
        file.write(b"}")
    yield path
    text = b"{" + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}"
    yield safetensors(text)(folder, good, "fewer.safetensors")


def nan_tensor(folder, good):
    tensors = {**good.tensors, "logits/bias": np.float32([0, np.nan, 0])}
    return write_safetensors(folder / "w.safetensors", tensors)


def wild_names(folder, good):
    for i, name in enumerate(("../../evil", "a\0b")):
        yield write_safetensors(folder / f"{i}.safetensors", {**good.tensors, name: np.zeros(2)})


# ---- .pth

TENSOR = t.tensor(t.storage())
ORDERED = t.name("collections", "OrderedDict") + b")R"
LAUGHS = b"(" * 200 + b")q\x01" + b"h\x01h\x01h\x01h\x01h\x01h\x01h\x01tq\x01" * 200  # 8 ** 200 empty tuples


LAUGHING = (t.mapping(a=LAUGHS, w=TENSOR), b"}" + t.text("a") + b"22")


def torch(*bodies, **options):
    """Return the maker of a torch file of each pickle."""
    return several(*[lambda folder, good, body=body: t.write_zip(folder / "w.pth", body, **options) for body in bodies])


def call(module, attribute, *arguments):
    return t.mapping(w=t.name(module, attribute) + t.items(*arguments) + b"R")


def tensor(*arguments, numel=6, **options):
    return t.mapping(w=t.tensor(t.storage(numel=numel), *arguments, **options))


def other_layouts(folder, good):
    (folder / "tar.pth").write_bytes(bytes(257) + b"ustar" + bytes(300))
    yield folder / "tar.pth"
    script = [("archive/code/__torch__.py", b"print()"), ("archive/constants.pkl", b"")]
    yield t.write_zip(folder / "script.pth", t.mapping(w=TENSOR), extra=script)


def packed_record(folder, good):
    body = t.mapping(w=t.tensor(t.storage(numel=50 * MB), (50 * MB,)))
    description = [("archive/data.pkl", t.pickled(body)), ("archive/version", b"3\n")]
    return compressed(folder / "w.pth", "archive/data/0", b"\0", 200 * MB, description)


def wrong_endings(folder, good):
    shutil.copy(good.h5, folder / "really_h5.pth")
    yield folder / "really_h5.pth", LOADS
    yield write_safetensors(folder / "really_safetensors.h5", good.tensors), LOADS
    (folder / "text.pth").write_text("<html>404</html>")
    yield folder / "text.pth"


def wrapped(folder, good):
    for prefix in ("module.", "_orig_mod.", "module._orig_mod."):
        tensors = {prefix + name: array for name, array in good.tensors.items()}
        yield t.write_state_dict(folder / f"{prefix}pth", tensors)


# ---- the hub, and other things


def hub_folder(folder, good, change=lambda weight_map: None, **shards):
    """Write a split `.safetensors`: two shards and their index."""
    names = list(good.tensors)
    split = {"a.safetensors": names[:4], "b.safetensors": names[4:]}
    folder.mkdir(exist_ok=True)
    for shard, inside in split.items():
        write_safetensors(folder / shard, {name: good.tensors[name] for name in inside})
    weight_map = {name: shard for shard, inside in split.items() for name in inside}
    change(weight_map)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def outside_shards(folder, good):
    for i, name in enumerate(("../../x", "../a.safetensors", "/tmp/a.safetensors", "..", "b/a.safetensors")):
        yield hub_folder(folder / str(i), good, lambda weight_map, name=name: weight_map.update({"logits/bias": name}))


def wrong_shards(folder, good):
    yield hub_folder(folder / "honest", good), LOADS
    missing = hub_folder(folder / "missing", good)
    (missing / "b.safetensors").unlink()
    yield missing
    twice = hub_folder(folder / "twice", good)
    index = twice / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"weight_map": {', '"weight_map": {"logits/bias": "a.safetensors", '))
    yield twice
    both = hub_folder(folder / "both", good)
    write_safetensors(both / "a.safetensors", good.tensors)
    yield both
    other = hub_folder(folder / "digest", good)
    yield other, REFUSED, {"sha256": {"a.safetensors": "0" * 64, "b.safetensors": "0" * 64}}


def links(folder, good):
    write_safetensors(folder / "elsewhere.safetensors", good.tensors)
    bad = folder / "bad"
    bad.mkdir()
    (bad / "model.safetensors").symlink_to("../elsewhere.safetensors")
    yield bad
    shard = hub_folder(folder / "shard", good)
    (shard / "a.safetensors").rename(folder / "a.safetensors")
    (shard / "a.safetensors").symlink_to("../a.safetensors")
    yield shard
    snapshot = folder / "models--owner--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "models--owner--name" / "blobs").mkdir()
    write_safetensors(folder / "models--owner--name" / "blobs" / "123", good.tensors)
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    yield snapshot, LOADS


def large_vocabulary(folder, good):
    for i, (key, value) in enumerate([("vocab_size", 10**12), ("num_hidden_layers", 10**9), ("intermediate_size", 10**12)]):
        shutil.copytree(FIXTURES / "bert_classify", folder / str(i))
        path = folder / str(i) / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        yield folder / str(i)


def yaml(folder, good):
    (folder / "object.yaml").write_text("!!python/object/apply:os.system ['touch canary']\n")
    laughs = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    (folder / "aliases.yaml").write_text("\n".join(laughs))
    return folder / "object.yaml", folder / "aliases.yaml"


def mixed_steps(folder, good):
    """The manifest of one step with the weights of the step before."""
    shutil.copytree(good.folder, folder / "net")
    weights = folder / "net" / "model.weights.h5"
    before = weights.read_bytes()
    with h5py.File(weights, "a") as file:
        file[KERNEL][0, 0] += 1
    write_manifest(folder / "net", {})
    weights.write_bytes(before)
    return folder / "net"


def cut_manifest(folder, good):
    for part in (0.0, 0.5, 0.99):
        shutil.copytree(good.folder, folder / str(part))
        path = folder / str(part) / "manifest.json"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        yield folder / str(part)


def left_over(folder, good):
    """What a save leaves that the power cut off: beside a model that is whole, and alone."""
    shutil.copytree(good.folder, folder / "net")
    shutil.copytree(good.folder, folder / ".saving-x")
    (folder / ".saving-x" / "manifest.json").unlink()
    (folder / "net" / "model.weights.h5.tmp").write_bytes(b"half")
    yield folder / "net", LOADS
    yield folder / ".saving-x"


def two_writers(folder, good):
    """Files of two models in one folder, as writers would leave them that do not move whole folders."""
    other = recipes.mlp((4,), 3, hidden=(5, 4), adapt=np.zeros((2, 4)))
    recipes.save(other, folder / "other")
    for i, name in enumerate(("recipe.json", "model.weights.h5", "manifest.json")):
        shutil.copytree(good.folder, folder / str(i))
        shutil.copy(folder / "other" / name, folder / str(i) / name)
        yield folder / str(i)
    shutil.copytree(good.folder, folder / "consistent")
    shutil.copy(folder / "other" / "recipe.json", folder / "consistent" / "recipe.json")
    write_manifest(folder / "consistent", {})
    yield folder / "consistent"


ROWS = [
    Row(1, "Lambda with marshalled bytecode", lambda_layer, "archive", "runs code|holds code"),
    Row(2, "keras.utils.get_file and the like as a function", keras_functions, "archive", "asks for 'keras"),
    Row(3, "module os, builtins, subprocess", foreign_modules, "archive", "asks for|cannot load"),
    Row(4, "StringLookup of a file or URL", vocabularies, "archive", "names a file"),
    Row(5, "TFSMLayer", lambda f, g: archive(f, g, with_layer("TFSMLayer", filepath="x")), "archive", "TFSMLayer"),
    Row(6, "TorchModuleWrapper with a pickle", wrapped_torch, "archive", "TorchModuleWrapper"),
    Row(7, "registered class of ours with a path", readers, "archive", "names a file|not ours"),
    Row(8, "config bomb, 6e7 units", units(60_000_000), "archive", "more variables than"),
    Row(9, "10,000 layers; JSON 100,000 deep", many_layers, "archive", "parts, more|too deep|deeper|lists"),
    Row(10, "zip bomb, config.json of 700 MB", packed_config, "archive", "compressed"),
    Row(11, "zip bomb as an asset", packed_asset, "archive", "no member of that name"),
    Row(12, "zip slip", slips, "archive", "leads out of|malformed name"),
    Row(13, "config.json twice", duplicates, "archive", "two members"),
    Row(14, "bad checksum", changed_bytes(bad_checksum), "archive", "damaged"),
    Row(15, "encrypted", changed_bytes(encrypted), "archive", "encrypted"),
    Row(16, "polyglot prefix", changed_bytes(lambda w: b"#!/bin/sh\n" + w), "archive", "nor a .keras|not a torch"),
    Row(17, "trailing bytes", changed_bytes(lambda w: w + b"x"), "archive", "bytes follow its end"),
    Row(18, "symbolic link", linked, "archive", "symbolic link"),
    Row(19, "layer name ../../x", layer_name, "archive", "looks like a path"),
    Row(20, "truncated at 10, 50, 90, 99.9 %", cut, "archive", "truncated"),
    Row(21, "single bytes changed", flipped, "archive", "", SAME),
    Row(22, "written by Keras 99.0", newer, "archive", "says that Keras '99.0' wrote it", WARNS),
    Row(23, "empty file, text", no_archive, "archive", "first bytes|empty"),
    Row(24, "h5: shape bombs", h5(shape_bombs), "weights", "chunks|needs|members"),
    Row(25, "h5: external link", h5(external_link), "weights", "link to elsewhere"),
    Row(26, "h5: soft link, also of a group", soft_links, "weights", "link to elsewhere"),
    Row(27, "h5: external storage", h5(replaced(**EXTERNAL)), "weights", "another file"),
    Row(28, "h5: virtual dataset", h5(virtual), "weights", "another file"),
    Row(29, "h5: cyclic groups", h5(cycle), "weights", "under two names"),
    Row(30, "h5: compound, lists, references", odd_types, "weights", "not plain numbers"),
    Row(31, "h5: unknown filter", unknown_filter, "weights", "chunks"),
    Row(32, "h5: user block", user_block, "weights", "not a torch file"),
    Row(33, "h5: equal shapes swapped", saved(swap), "folder", "sha256"),
    Row(34, "h5: square kernel transposed", saved(transpose), "folder", "sha256"),
    Row(35, "h5: NaN and Inf", several(h5(not_finite)), "weights", "not finite"),
    Row(36, "h5: no optimizer to resume", saved(no_optimizer, manifest=True), "folder", "file has none, the model"),
    Row(37, "h5: extra dataset", h5(extra), "weights", "arrays without a variable: 'layers/dense_9"),
    Row(
        38,
        "st: header of 2^63, 101 MB, past the end",
        several(safetensors({"w": entry()}, length=2**63), long_header, safetensors({"w": entry()}, length=500)),
        "weights",
        "header's length",
    ),
    Row(39, "st: overlap", safetensors({"a": entry(), "b": entry(4, 12)}, bytes(12)), "weights", "overlaps"),
    Row(40, "st: hole", safetensors({"a": entry(), "b": entry(12, 20)}, bytes(20)), "weights", "hole"),
    Row(41, "st: trailing bytes", safetensors({"w": entry()}, bytes(9)), "weights", "the file has"),
    Row(42, "st: truncated", safetensors({"w": entry()}, bytes(7)), "weights", "the file has"),
    Row(43, "st: shape overflow", safetensors({"w": entry(0, 8, (2**62, 2**62))}), "weights", "does not need"),
    Row(44, "st: negative shape", safetensors({"w": entry(0, 8, (-2, -1))}), "weights", "non-negative"),
    Row(45, "st: reversed offsets", safetensors({"w": entry(8, 0)}), "weights", "does not need"),
    Row(46, "st: duplicate key", safetensors(TWICE), "weights", "twice"),
    Row(47, "st: unknown dtype", safetensors({"w": entry(dtype="C64")}), "weights", "dtype"),
    Row(48, "st: deep JSON", safetensors(b'{"w":' + b"[" * 100_000), "weights", "not JSON"),
    Row(49, "st: not UTF-8", safetensors(b'{"\xff":1}'), "weights", "not JSON"),
    Row(50, "st: metadata no text", safetensors({"__metadata__": {"a": 1}, "w": entry()}), "weights", "map of strings"),
    Row(51, "st: NaN", nan_tensor, "weights", "not finite"),
    Row(52, "st: names ../ and NUL", wild_names, "weights", "arrays without a variable"),
    Row(53, "st: end at 2^62", safetensors({"w": entry(0, 2**62)}), "weights", "does not need"),
    Row(54, "st: ten million entries", tiny_entries, "weights", "header's length|parts, more"),
    Row(
        55,
        "st: odd size, big-endian claim",
        several(safetensors({"w": entry(0, 3, (2,), "BF16")}, bytes(3)), safetensors({"w": entry(dtype=">F4")})),
        "weights",
        "does not need|dtype",
    ),
    Row(56, "pth: REDUCE os.system", torch(call("os", "system", t.text("touch canary"))), "weights", "asks for 'os.system'"),
    Row(57, "pth: protocol 0", torch(b"cposix\nsystem\n(S'touch canary'\ntR"), "weights", "asks for 'posix.system'"),
    Row(58, "pth: eval via STACK_GLOBAL", torch(b"\x8c\x08builtins\x8c\x04eval\x93"), "weights", "instruction"),
    Row(
        59,
        "pth: nested pickle, __setstate__",
        torch(call("pickle", "loads", t.text("x")), TENSOR + t.mapping(__setstate__=t.text("x")) + b"b"),
        "weights",
        "asks for|sets attributes",
    ),
    Row(60, "pth: stride 0", torch(tensor((10**6, 10**6), (0, 0), numel=1)), "weights", "same elements twice"),
    Row(61, "pth: out of bounds", torch(tensor((7,)), tensor((2, 3), offset=1)), "weights", "beyond its storage"),
    Row(62, "pth: wrong number of elements", torch(tensor((5,), numel=5), tensor((2,), numel=2**40)), "weights", "bytes"),
    Row(63, "pth: size overflow", torch(tensor((2**31, 2**31, 4)), tensor((2**64,))), "weights", "beyond|too large"),
    Row(64, "pth: negative size, stride", torch(tensor((-2, -3)), tensor((2, 3), (-3, 1), offset=3)), "weights", "negative"),
    Row(65, "pth: SETITEM on a tensor", torch(TENSOR + t.text("a") + t.number(1) + b"s"), "weights", "sets items"),
    Row(66, "pth: tar layout, TorchScript", other_layouts, "weights", "tar layout|TorchScript"),
    Row(67, "pth: bomb record", packed_record, "weights", "compressed"),
    Row(68, "pth: billion laughs", torch(*LAUGHING), "weights", "not a tensor|DUP"),
    Row(69, "pth: text of 2^62 bytes", torch(b"\x8d" + struct.pack("<Q", 2**62)), "weights", "malformed"),
    Row(70, "another type than its name says", wrong_endings, "weights", "first bytes"),
    Row(71, "pth: names of wrapped modules", wrapped, "weights", "removed the prefix", WARNS),
    Row(72, "index: shard outside", outside_shards, "weights", "not a .safetensors file beside it"),
    Row(73, "index: shard missing, twice, another", wrong_shards, "weights", "not there|twice|both say|sha256"),
    Row(74, "link out of the snapshot", links, "weights", "leads out of its folder"),
    Row(75, "config.json: vocabulary of 10^12", large_vocabulary, "bert", "config.json says"),
    Row(76, "YAML: object, aliases", yaml, "weights", "first bytes"),
    Row(77, "manifest of a step, weights of another", mixed_steps, "folder", "sha256"),
    Row(78, "manifest truncated", cut_manifest, "folder", "not JSON"),
    Row(79, "left over from a save that was cut off", left_over, "folder", "it has no manifest.json"),
    Row(80, "two writers", two_writers, "folder", "sha256|bytes|more variables|another model"),
]


def make(row, folder, good):
    """Write the files of a row; return a list of `(path, outcome, keyword arguments)`."""
    made = row.make(folder, good)
    made = [made] if isinstance(made, Path) else made
    result = []
    for item in made:
        path, *rest = item if isinstance(item, tuple) and not isinstance(item, Path) else (item,)
        result.append((path, *itertools.chain(rest, (row.outcome, {})[len(rest) :])))
    return copy.copy(result)
