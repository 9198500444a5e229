"""What the variables of our EfficientNet are called in `efficientnet-pytorch` and `efficientnet-lite-pytorch`."""

import re

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


def torch_names(model):
    """Return `{variable path: (name in the torch file, axes that bring it into our order)}`, as `assign` takes it."""
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?(\w+)/(\w+)", path).groups()
        if layer not in LAYERS:  # the scale of a regression: the file has no such thing
            continue
        prefix = f"_blocks.{block}." if block else ""
        axes = None
        if variable == "kernel":  # torch has (out, in, height, width) and, depthwise, (channel, 1, height, width)
            axes = {"depthwise_conv": (2, 3, 0, 1), "logits": (1, 0)}.get(layer, (2, 3, 1, 0))
        names[path] = (f"{prefix}{LAYERS[layer]}.{VARIABLES[variable]}", axes)
    return names
