"""What the variables of our EfficientNet are called in `efficientnet-pytorch` and its lite, timm and keras.applications."""

import re

from recipes.weights.assigning import load
from recipes.weights.reading import read_shapes

LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_norm": "_bn0",
    "top_conv": "_conv_head",
    "top_norm": "_bn1",
    "logits": "_fc",
    # within block i
    "expand_conv": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "se_reduce": "_se_reduce",
    "se_expand": "_se_expand",
    "project_conv": "_project_conv",
    "project_norm": "_bn2",
}
VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

TIMM = {"stem_conv": "conv_stem", "stem_norm": "bn1", "top_conv": "conv_head", "top_norm": "bn2", "logits": "classifier"}
TIMM_BLOCK = {  # one that widens first
    "expand_conv": "conv_pw",
    "expand_norm": "bn1",
    "depthwise_conv": "conv_dw",
    "depthwise_norm": "bn2",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "project_conv": "conv_pwl",
    "project_norm": "bn3",
}
TIMM_NARROW = {**TIMM_BLOCK, "depthwise_norm": "bn1", "project_conv": "conv_pw", "project_norm": "bn2"}  # one that does not
KERAS = {
    "stem_norm": "stem_bn",
    "top_norm": "top_bn",
    "logits": "predictions",
    "expand_norm": "expand_bn",
    "depthwise_conv": "dwconv",
    "depthwise_norm": "bn",
    "project_norm": "project_bn",
}


def load_weights(model, path):
    """Give `model` the weights of a file of timm, `efficientnet-pytorch` or `efficientnet-lite-pytorch`."""
    shapes = read_shapes(path)
    mapping = timm_names(model, shapes) if "conv_stem.weight" in shapes else torch_names(model)
    return load(model, path, mapping, optional_head=("logits", "target"))


def torch_names(model):
    """Return `{variable path: (name in the torch file, axes that bring it into our order)}`, as `assign` takes it."""
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?(\w+)/(\w+)", path).groups()
        if layer not in LAYERS:  # the scale of a regression: the file has no such thing
            continue
        prefix = f"_blocks.{block}." if block else ""
        names[path] = (f"{prefix}{LAYERS[layer]}.{VARIABLES[variable]}", torch_axes(layer, variable))
    return names


def timm_names(model, tensors):
    """The same for timm, which numbers the blocks by stage; the names of `tensors` tell how long the stages are."""
    found = {re.match(r"blocks\.(\d+)\.(\d+)\.", name) for name in tensors} - {None}
    places = sorted({(int(match[1]), int(match[2])) for match in found})
    widening = {layer.name.removesuffix("_expand_conv") for layer in model.layers if layer.name.endswith("_expand_conv")}
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?(\w+)/(\w+)", path).groups()
        if block is None and layer in TIMM:
            names[path] = (f"{TIMM[layer]}.{VARIABLES[variable]}", torch_axes(layer, variable))
        elif block is not None and int(block) < len(places):
            layers = TIMM_BLOCK if f"block{block}" in widening else TIMM_NARROW
            stage, index = places[int(block)]
            name = f"blocks.{stage}.{index}.{layers[layer]}.{VARIABLES[variable]}"
            names[path] = (name, torch_axes(layer, variable))
    return names


def keras_names(model, tensors):
    """The same for keras.applications, whose blocks are block1a, block2a, block2b ...: `"layer/variable"`, in our order."""
    found = {re.match(r"block(\d+)([a-z])_", name) for name in tensors} - {None}
    places = sorted({(int(match[1]), match[2]) for match in found})
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?(\w+)/(\w+)", path).groups()
        layer = KERAS.get(layer, layer)
        if block is None or int(block) < len(places):
            prefix = "" if block is None else "block{}{}_".format(*places[int(block)])
            names[path] = (f"{prefix}{layer}/{variable}", None)
    return names


def torch_axes(layer, variable):
    """Return the axes of a torch tensor in our order."""
    if variable != "kernel":
        return None
    # torch has (out, in, height, width) and, depthwise, (channel, 1, height, width)
    return {"depthwise_conv": (2, 3, 0, 1), "logits": (1, 0)}.get(layer, (2, 3, 1, 0))
