"""What transfer asks of a model's graph: its layers in order, its head, its groups of layers, and what is trainable.

Nested models are treated as if their layers stood in the outer one.
"""

import collections
import difflib
import math
import re

import keras

from recipes.training.recipe import check_count

# Layer-wise rates fall from group to group, because one step a layer would leave the first of 50 at .65 ** 50. MAE and
# BEiT have a group a transformer block, 12 in ViT-B; ConvNeXt's fine-tuning makes 12 of 36 blocks (`optim_factory.py`).
GROUPS, GROUP_SIZE = 12, 4  # at most so many groups, of about so many layers if that gives fewer


def flatten(model):
    """Return `(layer, names of the nested models around it)` of every layer once, from input to output."""
    if not is_graph(model):
        raise ValueError(
            "model must be a functional or a built Sequential Keras model, whose layers and their order are known. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    units, seen = [], set()

    def visit(model, names):
        for layer in model.layers:
            if is_graph(layer):
                visit(layer, (*names, layer.name))
            elif id(layer) not in seen:
                seen.add(id(layer))
                units.append((layer, names))

    visit(model, ())
    return units


def is_graph(layer):
    """Return whether `layer` is a model whose layers are known: a functional or a built Sequential one."""
    return isinstance(layer, keras.Model) and (
        hasattr(layer, "operations") or (isinstance(layer, keras.Sequential) and layer.built)
    )


def inputs_of(model):
    """Return the input tensors of a graph in the structure that it is called with."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def outputs_of(model):
    """Return a dict of the output tensors of a graph, by their keys or by the layers that make them."""
    if not isinstance(model, keras.Sequential) and isinstance(model.output, dict):
        return model.output
    return {operation_of(tensor).name: tensor for tensor in model.outputs}


def operation_of(tensor):
    """Return the layer that made a tensor of a graph."""
    return tensor._keras_history.operation


def sources_of(tensor):
    """Return the tensors that the layer which made `tensor` took."""
    return operation_of(tensor)._inbound_nodes[tensor._keras_history.node_index].input_tensors


def find_output(model, output, argument="output"):
    """Return the tensor that `output` is or names: an output of the model, or what one of its layers puts out.

    `argument` is what the user calls it.
    """
    flatten(model)  # checks
    if isinstance(output, keras.KerasTensor):
        return output
    found = outputs_of(model)
    names = {layer.name: layer for layer in model.layers}
    if output in found:
        return found[output]
    if output not in names:
        raise ValueError(_unknown(argument, output, [*found, *names]))
    tensor = names[output].output
    if not isinstance(tensor, keras.KerasTensor):
        raise ValueError(f"{argument} must name one tensor, and the layer {output!r} makes several. Pass the tensor itself.")
    return tensor


def find_head(model):
    """Return the tensor that the head of `model` takes, and the layers of the head; the output and `[]` without one."""
    flatten(model)  # checks
    names = {layer.name: layer for layer in model.layers}
    if "features" in names and "logits" in names:
        features = names["features"].output
        below = ancestors(features)
        return features, [layer for layer in model.layers if id(layer) not in below]
    if len(model.outputs) != 1:
        raise ValueError(
            f"output must name one of the outputs of {model.name}: {', '.join(outputs_of(model))}. Received: output=None"
        )
    tensor, above, activations = model.outputs[0], [], set()
    while True:
        layer, sources = operation_of(tensor), sources_of(tensor)
        if is_graph(layer):
            inner, head = find_head(layer)
            if not head:
                break
            arguments = layer._inbound_nodes[tensor._keras_history.node_index].arguments
            rest = keras.Model(inputs_of(layer), inner, name=layer.name)
            return rest(*arguments.args, **arguments.kwargs), [*above, *head]
        activations |= _activations(layer)
        if _classifies(layer, activations):
            return sources[0], [*above, layer]
        if len(sources) != 1 or getattr(layer, "weights", ()):
            break
        above.append(layer)
        tensor = sources[0]
    return model.outputs[0], []


def select(argument, model, what):
    """Return where in `flatten(model)` the upper part begins that `what` means, or raise `ValueError` about `argument`.

    Args:
        argument: What the user calls `what`.
        model: Functional or Sequential model.
        what: `"all"`; an int `n` for the last `n` layers with weights, where a `BatchNormalization` counts with the layer
            below it; or the name of a layer or nested model, for it and all above.
    """
    units = flatten(model)
    if what == "all":
        return 0
    if isinstance(what, str):
        return find_span(argument, model, what)[0]
    check_count(argument, what)
    own = [i for i, (u, _) in enumerate(units) if u.weights and not isinstance(u, keras.layers.BatchNormalization)]
    if what > len(own):
        raise ValueError(f"{argument} must be at most {len(own)}, the number of layers with weights. Received: {what}")
    return own[-what]


def find_span(argument, model, name):
    """Return the first and last place in `flatten(model)` of the layer, or the layers of the nested model, `name`."""
    units = flatten(model)
    found = [i for i, (layer, names) in enumerate(units) if name == layer.name or name in names]
    if not found:
        raise ValueError(_unknown(argument, name, [n for layer, names in units for n in (layer.name, *names)]))
    return found[0], found[-1]


def set_trainable(model, states, batch_norm=False):
    """Set `trainable` of layers and leave that of the others.

    Args:
        model: Functional or Sequential model.
        states: Dict from the `id` of a layer of `flatten(model)` to whether it is to be trainable.
        batch_norm: Whether that holds for `BatchNormalization` too; if not, those are frozen instead.
    """
    units = flatten(model)
    states = {id(layer): states.get(id(layer)) for layer, _ in units}

    def open_models(outer, frozen):
        frozen = frozen or not outer.trainable
        for layer in outer.layers:
            if is_graph(layer):
                open_models(layer, frozen)
            elif frozen and states[id(layer)] is None:
                states[id(layer)] = False  # what a frozen model says of its layers is now said by each of them
        if not outer.trainable:
            outer.trainable = True

    open_models(model, False)
    for layer, _ in units:
        if states[id(layer)] is not None:
            layer.trainable = states[id(layer)]
        if states[id(layer)]:
            for part in layer._flatten_layers():
                if isinstance(part, keras.layers.BatchNormalization):
                    part.trainable = batch_norm


def layer_groups(model):
    """Return the weights below the head in groups of layers, lowest first: 12, or fewer if the model is shallow.

    A layer made of layers, such as an encoder, is taken apart. The groups have equally many layers with a matrix; what
    has vectors only, such as a normalisation, goes with the layer before it.
    """
    head = {id(layer) for layer in find_head(model)[1]}
    parts = [part for layer, _ in flatten(model) if id(layer) not in head for part in _parts(layer)]
    major = [any(len(v.shape) > 1 for v in weights) for weights in parts]
    count = max(1, sum(major))
    groups = [[] for _ in range(min(GROUPS, math.ceil(count / GROUP_SIZE)))]
    position = 0
    for weights, is_major in zip(parts, major, strict=True):
        position += is_major
        groups[max(0, position - 1) * len(groups) // count] += weights
    return groups


def layer_factors(model, layer_decay):
    """Return `lr_multipliers` for our optimizers: `layer_decay` to the number of groups above, the head's being 1."""
    groups = layer_groups(model)
    groups.append([v for layer in find_head(model)[1] for v in layer.weights])
    # A path loses the names of nested models when the model is reloaded, so the expressions leave them out if they can.
    around = {id(v): "/".join((*names, "")) for layer, names in flatten(model) for v in layer.weights}
    tails = [[v.path.removeprefix(around[id(v)]) for v in group] for group in groups]
    count = collections.Counter(tail for group in tails for tail in group)
    patterns = {}
    for i, (group, names) in enumerate(zip(groups, tails, strict=True)):
        for v, name in zip(group, names, strict=True):
            layer = (v.path if count[name] > 1 else name).rpartition("/")[0]
            patterns.setdefault((-layer.count("/"), i), {})[re.escape(layer)] = None
    # The longest first, because "encoder/dense" ends as "dense" does, and the first match counts.
    return [
        (f"(^|/)({'|'.join(patterns[depth, i])})/[^/]+$", layer_decay ** (len(groups) - 1 - i))
        for depth, i in sorted(patterns)
    ]


def ancestors(tensor):
    """Return the ids of all layers that `tensor` comes from."""
    found, waiting = set(), [tensor]
    while waiting:
        tensor = waiting.pop()
        if id(operation_of(tensor)) not in found:
            found.add(id(operation_of(tensor)))
            waiting += sources_of(tensor)
    return found


def _activations(layer):
    """Return the set of the name of the activation that a layer applies, empty for none."""
    function = getattr(layer, "activation", None) or type(layer)
    name = getattr(function, "__name__", type(function).__name__).lower()
    known = ("softmax", "log_softmax", "logsoftmax", "sigmoid", "relu", "relu6", "leakyrelu", "prelu", "elu")
    return {name} if name in known or (hasattr(layer, "activation") and name != "linear") else set()


def _classifies(layer, activations):
    """Return whether `layer` makes scores of classes, given what activations it and the layers after it apply."""
    probabilities = bool(activations & {"softmax", "log_softmax", "logsoftmax", "sigmoid"})
    if isinstance(layer, keras.layers.Dense):
        return probabilities or not activations
    if isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D)) and set(layer.kernel_size) == {1}:
        named = re.search(r"logits|pred|classifier|head|fc", layer.name)
        return probabilities or bool(named and not activations)
    return False


def _parts(layer):
    """Return the weights of a layer and of the layers within it, a list for each, in the order they were made in."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    lists = [own] if own else []
    for part in layer._layers:
        lists += _parts(part)
    return lists


def _unknown(argument, name, names):
    close = difflib.get_close_matches(str(name), dict.fromkeys(names), n=4, cutoff=0.4)
    return f"{argument} must name a layer of the model. Received: {argument}={name!r}. Similar names: {close}"
