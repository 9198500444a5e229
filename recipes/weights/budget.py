"""Build a model that a file describes, but none that is larger than the weights in the file."""

import contextlib
import math
import threading

import keras

_LOCK = threading.Lock()
SPARE = 64  # variables


class _TooLarge(Exception):
    """More variables than the file has weights."""


@contextlib.contextmanager
def variables_within(shapes, refuse):
    """Refuse to build more than a file holds, before it is allocated.

    Keras gives a layer its variables when it is built, full of random numbers: a file of a few bytes that asks for a layer
    of a million units would get gigabytes. So while the `with` lasts, layers of this thread ask here first.

    Args:
        shapes: Shapes of the arrays in the file.
        refuse: Function of a rule that raises `UnsafeFileError`.
    """
    allowed = [len(shapes) + SPARE, sum(map(math.prod, shapes)) * 3 // 2 + 1024]
    owner, original = threading.get_ident(), keras.layers.Layer.add_weight
    blown = []

    def add_weight(layer, shape=None, *args, **kwargs):
        if threading.get_ident() == owner and not blown:
            allowed[0] -= 1
            allowed[1] -= _elements(shape)
            if min(allowed) < 0:
                blown.append(f"{layer.name} and the layers before it need more variables than the file has")
        if blown and threading.get_ident() == owner:
            raise _TooLarge(blown[0])
        return original(layer, shape, *args, **kwargs)

    with _LOCK:
        keras.layers.Layer.add_weight = add_weight
        try:
            yield
        except Exception:
            if not blown:
                raise
        finally:
            keras.layers.Layer.add_weight = original
    if blown:  # Keras may have wrapped the error, or gone on
        refuse(blown[0])


def _elements(shape):
    """Return the number of elements of a shape, `()` if it is left out; a shape that is none is Keras' to refuse."""
    try:
        return math.prod(int(n) for n in shape or ())
    except (TypeError, ValueError):
        return 0
