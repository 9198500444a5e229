"""Where Keras puts the state of a model in a `.weights.h5` file, and which tensors of a file are this very model's."""

import keras
from keras.src.saving import saving_lib


class _Names(saving_lib.H5IOStore):
    """Takes down what Keras would write, without writing it."""

    def __init__(self):
        self.found, self.path = {}, ""

    def __bool__(self):
        return True

    def make(self, path, metadata=None):
        self.path = path
        return self

    def __setitem__(self, key, value):
        self.found[f"{self.path}/vars/{key}" if self.path else f"vars/{key}"] = value


def state_names(model):
    """Return `{"layers/dense/vars/0": variable}` of all that `model.save_weights` writes.

    Optimizers give arrays in place of variables.
    """
    names = _Names()
    saving_lib._save_state(model, weights_store=names, assets_store=None, inner_path="", visited_saveables=set())
    return names.found


def weight_names(model):
    """Return `{name in a file: variable}` of the weights alone, for the ways in which Keras and we name them.

    They are `"layers/dense/vars/0"` of Keras 3, `"logits/logits/kernel"` of its `.h5` before, and the variable's own path
    `"logits/kernel"`. Those that do not tell all variables of the model apart are left out; `[{}]` if none does.
    """
    mine = {id(variable) for variable in model.weights}
    numbered = {name: value for name, value in state_names(model).items() if id(value) in mine}
    layers = {id(v): layer.name for layer in reversed(getattr(model, "layers", [])) for v in layer.weights}
    legacy = {f"{layers.get(id(v), 'top_level_model_weights')}/{v.path}": v for v in model.weights}
    plain = {variable.path: variable for variable in model.weights}
    return [naming for naming in (numbered, legacy, plain) if len(naming) == len(mine)] or [{}]


def is_state(name):
    """Whether a name in a Keras file is that of an optimizer or a seed, and of no weight."""
    return name.startswith(("optimizer/", "optimizer_weights/")) or "/seed_generator" in f"/{name}"


def strip_legacy(name):
    """Return the name in a `.h5` of Keras 2, or of Keras 3's legacy saving, without what surrounds layer and variable."""
    return name.removeprefix("model_weights/").removesuffix(":0")


def plain_shape(variable):
    """Return the shape and the name of the type of a variable or an array."""
    return tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)
