"""What the variables of our recurrent networks are called in torch, and how its `nn.LSTM` and `nn.GRU` order the gates."""

import re

import numpy as np

from recipes.weights.assigning import assign
from recipes.weights.reading import read_state_dict

RECURRENT = r"(?P<prefix>.*?)(?P<kind>weight_ih|weight_hh|bias_ih|bias_hh)_l(?P<layer>\d+)(?P<reverse>_reverse)?"
OWN = ("standardize", "target")  # statistics that no file of torch has


def load_weights(model, path):
    """Give `model` the weights of a torch `nn.LSTM` or `nn.GRU`, alone or within a module.

    Args:
        model: One of `recipes.lstm`, `recipes.lstm_text` or `recipes.lstm_lm`.
        path: The file. Layers come in the order of their numbers, and within one `nn.LSTM` in the order of its own. Beside
            them it may have a linear head (a matrix and a vector) and, for tokens, must have an embedding (a matrix alone).
    """
    variables = {variable.path: variable for variable in model.weights}
    tensors = our_tensors(read_state_dict(path), list(variables))
    for name, variable in variables.items():
        if name.split("/")[0] in OWN:
            tensors[name] = np.asarray(variable)
    return assign(model, {name: (name, None) for name in variables}, tensors, optional_head=("logits",))


def our_tensors(tensors, paths):
    """Return the tensors under the paths of our variables, and any that mean nothing to us under their own names.

    Args:
        tensors: State dict of torch.
        paths: Paths of the variables of the model.
    """
    found, cells = {}, {}
    for name, tensor in tensors.items():
        match = re.fullmatch(RECURRENT, name)
        if match:
            place = (_by_number(match["prefix"]), int(match["layer"]))
            cells.setdefault(place, {}).setdefault(bool(match["reverse"]), {})[match["kind"]] = tensor
        else:
            found[name] = tensor
    ours = sorted((p.removesuffix("/kernel") for p in paths if p.endswith("_cell/kernel")), key=_by_number)
    blocks = list(dict.fromkeys(path.split("/")[0] for path in ours))
    for number, place in enumerate(sorted(cells)):
        for reverse, parts in cells[place].items():
            block = blocks[number] if number < len(blocks) else f"block{number}"
            inner = [path for path in ours if path.startswith(f"{block}/") and ("/backward_" in path) == reverse]
            cell = inner[0] if inner else f"{block}/{'backward' if reverse else 'forward'}"
            found.update({f"{cell}/{name}": value for name, value in convert_cell(parts).items()})
    return _rename_matrices(found, paths)


def convert_cell(parts):
    """Return kernel, recurrent kernel and bias as Keras has them.

    Both order the gates of an LSTM i, f, g, o; torch has two biases, whose sum counts. The gates of a GRU are r, z, n in
    torch and z, r, h in Keras, where both biases count if the reset gate comes after the matrix, as in torch.

    Args:
        parts: Dict of `"weight_ih"`, `"weight_hh"`, `"bias_ih"` and `"bias_hh"` of one direction of one layer.
    """
    parts = {kind: np.asarray(tensor) for kind, tensor in parts.items()}
    if "weight_hh" in parts and len(parts["weight_hh"]) == 3 * parts["weight_hh"].shape[-1]:
        parts = {kind: _reset_second(tensor) for kind, tensor in parts.items()}
        both = np.stack
    else:
        both = sum
    names = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel"}
    result = {names[kind]: tensor.T for kind, tensor in parts.items() if kind in names}
    if {"bias_ih", "bias_hh"} <= set(parts):
        result["bias"] = both([parts["bias_ih"], parts["bias_hh"]])
    return result


def _reset_second(tensor):
    reset, update, new = np.split(tensor, 3)
    return np.concatenate([update, reset, new])


def _rename_matrices(tensors, paths):
    """Find out which matrix is the embedding, which has no bias, and which is the head, which has one."""
    found = dict(tensors)
    matrices = [name for name, tensor in found.items() if name.endswith("weight") and np.ndim(tensor) == 2]
    heads = [name for name in matrices if re.sub("weight$", "bias", name) in found]
    embeddings = [name for name in matrices if name not in heads]
    if "embedding/embeddings" in paths and len(embeddings) == 1:
        found["embedding/embeddings"] = found.pop(embeddings[0])
    if len(heads) == 1:
        bias = re.sub("weight$", "bias", heads[0])
        if "logits/kernel" in paths:
            found["logits/kernel"], found["logits/bias"] = np.asarray(found.pop(heads[0])).T, found.pop(bias)
        elif _is_tied(found, heads[0], bias):
            del found[heads[0]], found[bias]
    return found


def _is_tied(tensors, head, bias):
    """Whether a head is the matrix of the embedding once more, and its bias, which ours does not have, is zero."""
    same = np.array_equal(tensors[head], tensors.get("embedding/embeddings"))
    return same and not np.any(tensors[bias])


def _by_number(name):
    """A key that sorts names by the numbers in them: rnns.2 before rnns.10."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name))


def convert_cudnn(kernel, recurrent_kernel, bias):
    """Return the weights of `keras.layers.LSTM` from those of Keras 2's `CuDNNLSTM`.

    Its two biases are added up, the matrices of the gates lie the other way round: those of the input in another order
    of memory, those of the state transposed.

    Args:
        kernel: Array `(width, 4 * units)`.
        recurrent_kernel: Array `(units, 4 * units)`.
        bias: Array `(8 * units,)`.
    """
    gates = [gate.T.reshape(gate.shape, order="F") for gate in np.split(kernel, 4, axis=1)]
    states = [gate.T for gate in np.split(recurrent_kernel, 4, axis=1)]
    return [np.concatenate(gates, axis=1), np.concatenate(states, axis=1), sum(np.split(bias, 2))]
