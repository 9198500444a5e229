"""What the variables of our EfficientNet are called in `efficientnet-pytorch` and its lite, timm and keras.applications."""

import re
import warnings

import numpy as np

from recipes.weights.assigning import assign, load
from recipes.weights.keras_file import is_keras, names_by_class
from recipes.weights.reading import read_config, read_shapes, read_state_dict

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
ELSEWHERE = (
    "It pads every convolution evenly, ours as TensorFlow does, so the outputs would differ without a word. "
    "Pass one of timm's whose name begins with tf_, or keras.applications', of the same variant."
)
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
TIMM_FUSED = {"expand_conv": "conv_exp", "expand_norm": "bn1", "project_conv": "conv_pwl", "project_norm": "bn2"}
TIMM_CONV = {"project_conv": "conv", "project_norm": "bn1"}  # a fused one that does not widen
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of pixels in [0, 1]
KERAS = {
    "stem_norm": "stem_bn",
    "top_norm": "top_bn",
    "logits": "predictions",
    "expand_norm": "expand_bn",
    "depthwise_conv": "dwconv",
    "depthwise_norm": "bn",
    "project_norm": "project_bn",
}


HEAD = ("logits", "target")


def load_weights(model, path):
    """Give `model` the weights of a file of timm, keras.applications, `efficientnet-pytorch` or its lite."""
    shapes = read_shapes(path)
    if is_keras(shapes):
        tensors = keras_tensors(read_state_dict(path))
        return assign(model, keras_names(model, tensors), tensors, optional_head=HEAD)
    if "features.0.0.weight" in shapes:
        raise ValueError(f"weights={str(path)!r} are torchvision's EfficientNet. {ELSEWHERE}")
    check_config(model, path)
    mapping = timm_names(model, shapes) if "conv_stem.weight" in shapes else torch_names(model)
    return load(model, path, mapping, optional_head=HEAD)


def check_config(model, path):
    """Refuse what `config.json` of timm says to be another network; warn if it was trained on pixels of another scale."""
    config = read_config(path)
    name = config.get("architecture")
    if isinstance(name, str) and re.match(r"(gc_)?efficientnet", name):
        raise ValueError(f"weights={str(path)!r} are timm's {name[:40]} (config.json). {ELSEWHERE}")
    trained = config.get("pretrained_cfg")
    try:
        mean, std = (np.array(trained[key], "float64") * 255 for key in ("mean", "std"))
        scale, offset = (np.array(getattr(model.get_layer("rescale"), key)) for key in ("scale", "offset"))
        same = np.allclose(-offset / scale, mean, atol=1) and np.allclose(1 / scale, std, atol=1)
    except (KeyError, TypeError, ValueError):
        return
    if not same:
        warnings.warn(
            f"weights: they were trained on pixels less {mean.round(1)}, divided by {std.round(1)} (config.json), this "
            f"variant takes {(-offset / scale).round(1)} and {(1 / scale).round(1)}. Fine-tune before you predict."
        )


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
    layers = {layer.name for layer in model.layers}
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?(\w+)/(\w+)", path).groups()
        if block is None and layer in TIMM:
            names[path] = (f"{TIMM[layer]}.{VARIABLES[variable]}", torch_axes(layer, variable))
        elif block is not None and int(block) < len(places):
            widens, filters = f"block{block}_expand_conv" in layers, f"block{block}_depthwise_conv" in layers
            table = (TIMM_BLOCK if widens else TIMM_NARROW) if filters else (TIMM_FUSED if widens else TIMM_CONV)
            stage, index = places[int(block)]
            name = f"blocks.{stage}.{index}.{table[layer]}.{VARIABLES[variable]}"
            names[path] = (name, torch_axes(layer, variable))
    return names


def keras_names(model, tensors):
    """The same for keras.applications, whose blocks are block1a, block2a, block2b ...: `"layer/variable"`, in our order."""
    if "conv2d/kernel" in tensors:
        return names_by_class(model)
    found = {re.match(r"block(\d+)([a-z])_", name) for name in tensors} - {None}
    places = sorted({(int(match[1]), match[2]) for match in found})
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?(\w+)/(\w+)", path).groups()
        layer = KERAS.get(layer, layer)
        if layer == "dwconv" and any("dwconv2/" in name for name in tensors):  # V2
            layer = "dwconv2"
        if block is None or int(block) < len(places):
            prefix = "" if block is None else "block{}{}_".format(*places[int(block)])
            names[path] = (f"{prefix}{layer}/{variable}", None)
    return names


def keras_tensors(tensors):
    """Return `{"layer/variable": array}` of such a network without what it knows of pixels, which must be what ours knows.

    The files of B0 ... B7 hold the square root of ImageNet's standard deviation twice, once in a layer without weights.
    """
    tensors = {name.replace("probs/", "predictions/"): array for name, array in tensors.items()}
    pixels = {key: tensors.pop(f"normalization/{key}", None) for key in ("mean", "variance", "count")}
    mean, variance = pixels["mean"], pixels["variance"]
    if mean is None or variance is None:
        return tensors
    known = np.shape(mean) == np.shape(variance) == (3,) and np.allclose(mean, IMAGENET[0], atol=1e-3)
    if not known or not any(np.allclose(variance, np.power(IMAGENET[1], power), atol=1e-3) for power in (1, 2)):
        raise ValueError(
            f"weights: the file's normalization has mean {np.ravel(mean)[:3]} and variance {np.ravel(variance)[:3]}, ours "
            f"ImageNet's, {IMAGENET[0]} and the square of {IMAGENET[1]}. Its weights would see other pixels than before."
        )
    return tensors


def torch_axes(layer, variable):
    """Return the axes of a torch tensor in our order."""
    if variable != "kernel":
        return None
    # torch has (out, in, height, width) and, depthwise, (channel, 1, height, width)
    return {"depthwise_conv": (2, 3, 0, 1), "logits": (1, 0)}.get(layer, (2, 3, 1, 0))
