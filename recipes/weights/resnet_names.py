"""What the variables of our ResNet are called in torchvision and timm, in transformers, and in keras.applications."""

import re

from recipes.weights.assigning import assign, load
from recipes.weights.keras_file import is_keras, names_by_class
from recipes.weights.reading import read_shapes, read_state_dict

VARIABLES = {  # the same in torchvision, timm and transformers
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
TORCH = {
    "stem_1_conv": "conv1.0",
    "stem_1_norm": "conv1.1",
    "stem_2_conv": "conv1.3",
    "stem_2_norm": "conv1.4",
    "stem_conv": "conv1",
    "stem_norm": "bn1",
    "logits": "fc",
}
TRANSFORMERS = {
    "stem_conv": "resnet.embedder.embedder.convolution",
    "stem_norm": "resnet.embedder.embedder.normalization",
    "logits": "classifier.1",
}
KERAS = {"stem_conv": "conv1_conv", "stem_norm": "conv1_bn", "logits": "predictions"}


def load_weights(model, path):
    """Give `model` the weights of a file of torchvision, timm, transformers or keras.applications."""
    shapes = read_shapes(path)
    if is_keras(shapes):
        mapping = names_by_class(model) if "conv2d/kernel" in shapes else keras_names(model)
        tensors = keras_tensors(read_state_dict(path))
        return assign(model, mapping, tensors, optional_head=("logits", "target"))
    if "resnet.embedder.embedder.convolution.weight" in shapes:
        mapping = transformers_names(model)
    elif "embedder.embedder.convolution.weight" in shapes:
        mapping = transformers_names(model, prefix="")
    else:
        mapping = torch_names(model)
    return load(model, path, mapping, optional_head=("logits", "target"))


def torch_names(model):
    """Return `{variable path: (name in torchvision and timm, axes that bring it into our order)}`, as `assign` takes it."""
    layers = {layer.name for layer in model.layers}
    pooled = int(any(name.endswith("_shortcut_pool") for name in layers))  # timm: downsample.0 is the pooling
    deep = "stem_1_conv" in layers

    def name(layer, stage, block):
        if stage is None:
            return "conv1.6" if layer == "stem_conv" and deep else TORCH.get(layer)
        inner = {
            "shortcut_conv": f"downsample.{pooled}",
            "shortcut_norm": f"downsample.{pooled + 1}",
            "se_reduce": "se.fc1",
            "se_expand": "se.fc2",
        }.get(layer) or re.sub(r"(\d)_(conv|norm)", lambda m: {"conv": "conv", "norm": "bn"}[m[2]] + m[1], layer)
        return f"layer{stage}.{block - 1}.{inner}"

    return _names(model, name)


def transformers_names(model, prefix="resnet."):
    """The same for transformers' `ResNetForImageClassification`, or its `ResNetModel` with `prefix=""`."""

    def name(layer, stage, block):
        if stage is None:
            return TRANSFORMERS.get(layer, "").replace("resnet.", prefix)
        kind = {"conv": "convolution", "norm": "normalization"}[layer.split("_")[1]]
        inner = "shortcut" if layer.startswith("shortcut") else f"layer.{int(layer[0]) - 1}"
        return f"{prefix}encoder.stages.{stage - 1}.layers.{block - 1}.{inner}.{kind}"

    return _names(model, name)


def keras_names(model):
    """The same for `keras.applications.ResNet50` and its like, whose weights `keras_tensors` brings into our order."""

    def name(layer, stage, block):
        if stage is None:
            return KERAS.get(layer)
        inner = layer.replace("shortcut", "0").replace("norm", "bn")
        return f"conv{stage + 1}_block{block}_{inner}"

    return {path: (f"{name}/{path.split('/')[-1]}", None) for path, name in _layers(model, name)}


def keras_tensors(tensors):
    """Return `{"layer/variable": array}` of such a network for our pixels.

    Those networks see BGR less the mean, ours RGB less the mean, divided by 64. So the first kernel is turned and
    multiplied, which changes no bit of the products.
    """
    tensors = {name.replace("probs/", "predictions/"): array for name, array in tensors.items()}  # as it once was called
    for first in {"conv1_conv/kernel", "conv2d/kernel"} & set(tensors):
        if tensors[first].ndim == 4:
            tensors[first] = tensors[first][:, :, ::-1] * 64
    return tensors


def _names(model, name):
    """Return the mapping of a torch file, in which convolutions are (out, in, height, width)."""
    names = {}
    for path, layer in _layers(model, name):
        variable = path.split("/")[-1]
        axes = None
        if variable == "kernel":
            axes = (1, 0) if path.startswith("logits/") else (2, 3, 1, 0)
        names[path] = (f"{layer}.{VARIABLES[variable]}", axes)
    return names


def _layers(model, name):
    """Yield each variable's path and what `name(layer, stage, block)` calls its layer, unless that is nothing."""
    for path in (variable.path for variable in model.weights):
        stage, block, layer = re.fullmatch(r"(?:stage(\d+)_block(\d+)_)?(\w+)/\w+", path).groups()
        found = name(layer, stage and int(stage), block and int(block))
        if found:
            yield path, found
