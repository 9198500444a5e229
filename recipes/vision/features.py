"""What a network computes on its way, by name: `features` and `list_features`."""

import re

import keras

from recipes.training.graph import ancestors, find_output, flatten, inputs_of, operation_of, sources_of

BLOCK = re.compile(r"^(.*?block_?\d+[a-z]?)_")  # of ours and of keras.applications: block0_, stage2_block1_, block3a_


def features(model, names=None):
    """Make a model that puts out what layers of `model` compute, with the same weights.

    Without names: of a transformer every block; of a convolutional network one map for every resolution, the last of
    its blocks, or where there is no block at that resolution the last that everything passes through, from fine to
    coarse. Detectors, segmenters and perceptual losses are built on these.

    Args:
        model: Functional or Sequential Keras model.
        names: Name of a layer or of an output of the model, or a list of names; `None` as said above.
            `list_features` shows what there is.

    Returns:
        `keras.Model` from the inputs that are needed to one tensor if `names` is a string, else to a dict from names to
        tensors. It shares the layers of `model` and is not compiled.

    Raises:
        ValueError: If there is no such layer, or `names` is `None` and the model has neither blocks nor maps.

    Example:

    >>> model = recipes.vit((28, 28, 1), 10, depth=2)
    >>> list(features(model).output)
    ['block0_add2', 'block1_add2']
    >>> tuple(features(model, "stem_conv")(np.zeros((1, 28, 28, 1))).shape)
    (1, 7, 7, 96)
    """
    flatten(model)  # checks
    if names is None:
        names = default_names(model)
    listed = [names] if isinstance(names, str) else list(names)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"names must be the name of a layer, or a list of such names. Received: names={names!r}")
    known = {layer.name: tensor for layer, tensor in steps(model)}
    outputs = {name: known[name] if name in known else find_output(model, name, "names") for name in listed}
    inputs = needed_inputs(model, outputs.values())
    return keras.Model(inputs, outputs[names] if isinstance(names, str) else outputs, name=f"{model.name}_features")


def list_features(model):
    """List the layers of a model that `features` can put out.

    Args:
        model: Functional or Sequential Keras model.

    Returns:
        Dict from the names of layers, in order, to the shapes of what they put out: `(None, height, width, channels)`
        for maps, `(None, length, width)` for tokens.

    Raises:
        ValueError: If the layers of the model are not known.

    Example:

    >>> list_features(recipes.vit((28, 28, 1), 10, depth=2))["block1_add2"]
    (None, 49, 96)
    """
    flatten(model)  # checks
    return {layer.name: tuple(tensor.shape) for layer, tensor in steps(model) if sources_of(tensor)}


def default_names(model):
    """Return the names of the layers that `features` takes when it is given none."""
    found = through(model)
    ends = {}
    for layer, _ in steps(model):  # the last of every block, which counts if everything passes through it
        if BLOCK.match(layer.name):
            ends[BLOCK.match(layer.name)[1]] = layer.name
    ends = [(layer, tensor) for layer, tensor in found if layer.name in ends.values()]
    tokens = [layer.name for layer, tensor in ends if len(tensor.shape) == 3]
    if tokens:
        return tokens
    last = {}
    for layer, tensor in found:
        if len(tensor.shape) == 4 and None not in tensor.shape[1:] and max(tensor.shape[1:3]) > 1:
            if not isinstance(layer, (keras.layers.ZeroPadding2D, keras.layers.Permute)):
                last[tensor.shape[1:3]] = layer.name
    last |= {tensor.shape[1:3]: layer.name for layer, tensor in ends if len(tensor.shape) == 4}
    if not last or None in next(iter(last)):
        raise ValueError(
            f"names must be given: {model.name} has neither blocks nor maps of known size that everything passes through. "
            "recipes.list_features(model) lists its layers. Received: names=None"
        )
    return [last[size] for size in sorted(last, reverse=True)]


def steps(model):
    """Return `(layer, tensor)` of every layer of a graph that puts out one tensor, in order. A nested model is a layer."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    outputs = {id(node.operation): node.outputs for nodes in graph._nodes_by_depth.values() for node in nodes}
    return [(layer, outputs[id(layer)][0]) for layer in graph.layers if len(outputs[id(layer)]) == 1]


def through(model):
    """Return `steps` of the layers that everything passes through, from the first with weights on."""
    found = steps(model)
    places = {id(layer): place for place, (layer, _) in enumerate(found)}
    last_use = dict.fromkeys(places.values(), 0)  # of what a layer puts out
    for layer, tensor in found:
        for source in sources_of(tensor):
            if id(operation_of(source)) in places and source.dtype != "bool":  # a mask of padding goes past every block
                last_use[places[id(operation_of(source))]] = places[id(layer)]
    learned = [bool(layer.weights) and not isinstance(layer, keras.layers.Normalization) for layer, _ in found]
    chosen, needed_until = [], 0  # by a later layer, of all that came before
    for place, step in enumerate(found):
        if needed_until <= place and any(learned[: place + 1]):
            chosen.append(step)
        needed_until = max(needed_until, last_use[place])
    return chosen


def needed_inputs(model, tensors):
    """Return the inputs of `model` that `tensors` depend on, in its structure, or the one alone."""
    needed = set().union(*(ancestors(tensor) for tensor in tensors))
    structure = inputs_of(model)
    kept = [tensor for tensor in model.inputs if id(operation_of(tensor)) in needed]
    if len(kept) == 1:
        return kept[0]
    if isinstance(structure, dict):
        return {name: tensor for name, tensor in structure.items() if any(tensor is other for other in kept)}
    return kept
