"""What the variables of our ConvNeXt are called in timm, torchvision, transformers, and in the authors' own files."""

import re

from recipes.weights.assigning import assign
from recipes.weights.reading import read_state_dict

# {stage} and {block} count from 0; torchvision numbers what shrinks the picture and the stages in one sequence
LAYOUTS = {
    "timm": {
        "stem_conv": "stem.0",
        "stem_norm": "stem.1",
        "shrink_norm": "stages.{stage}.downsample.0",
        "shrink_conv": "stages.{stage}.downsample.1",
        "depthwise": "stages.{stage}.blocks.{block}.conv_dw",
        "norm": "stages.{stage}.blocks.{block}.norm",
        "mlp1": "stages.{stage}.blocks.{block}.mlp.fc1",
        "mlp2": "stages.{stage}.blocks.{block}.mlp.fc2",
        "scale": "stages.{stage}.blocks.{block}.gamma",
        "head_norm": "head.norm",
        "logits": "head.fc",
    },
    "facebook": {
        "stem_conv": "downsample_layers.0.0",
        "stem_norm": "downsample_layers.0.1",
        "shrink_norm": "downsample_layers.{stage}.0",
        "shrink_conv": "downsample_layers.{stage}.1",
        "depthwise": "stages.{stage}.{block}.dwconv",
        "norm": "stages.{stage}.{block}.norm",
        "mlp1": "stages.{stage}.{block}.pwconv1",
        "mlp2": "stages.{stage}.{block}.pwconv2",
        "scale": "stages.{stage}.{block}.gamma",
        "head_norm": "norm",
        "logits": "head",
    },
    "transformers": {
        "stem_conv": "embeddings.patch_embeddings",
        "stem_norm": "embeddings.layernorm",
        "shrink_norm": "encoder.stages.{stage}.downsampling_layer.0",
        "shrink_conv": "encoder.stages.{stage}.downsampling_layer.1",
        "depthwise": "encoder.stages.{stage}.layers.{block}.dwconv",
        "norm": "encoder.stages.{stage}.layers.{block}.layernorm",
        "mlp1": "encoder.stages.{stage}.layers.{block}.pwconv1",
        "mlp2": "encoder.stages.{stage}.layers.{block}.pwconv2",
        "scale": "encoder.stages.{stage}.layers.{block}.layer_scale_parameter",
        "head_norm": "layernorm",
        "logits": "classifier",
    },
    "torchvision": {
        "stem_conv": "features.0.0",
        "stem_norm": "features.0.1",
        "shrink_norm": "features.{shrink}.0",
        "shrink_conv": "features.{shrink}.1",
        "depthwise": "features.{sequence}.{block}.block.0",
        "norm": "features.{sequence}.{block}.block.2",
        "mlp1": "features.{sequence}.{block}.block.3",
        "mlp2": "features.{sequence}.{block}.block.5",
        "scale": "features.{sequence}.{block}.layer_scale",
        "head_norm": "classifier.0",
        "logits": "classifier.2",
    },
}
VARIABLES = {"kernel": ".weight", "bias": ".bias", "gamma": ".weight", "beta": ".bias", "scale": ""}


def load_weights(model, path):
    """Give `model` the weights of a file or folder in any of `LAYOUTS`."""
    tensors = read_state_dict(path)
    mapping = torch_names(model, tensors)
    ranks = {mapping[v.path][0]: len(v.shape) for v in model.weights if v.path in mapping}
    for name, rank in ranks.items():  # timm's small variants have 1x1 convolutions for matrices, torchvision (width, 1, 1)
        if name in tensors and set(tensors[name].shape[rank:]) == {1}:
            tensors[name] = tensors[name].reshape(tensors[name].shape[:rank])
    return assign(model, mapping, tensors, optional_head=("logits", "target"))


def torch_names(model, tensors):
    """Return `{variable path: (name in the torch file, axes that bring it into our order)}`, as `assign` takes it.

    The names of `tensors` tell the layout.
    """
    prefix = "convnext." if "convnext.embeddings.layernorm.weight" in tensors else ""
    fits = [name for name, layers in LAYOUTS.items() if f"{prefix}{layers['stem_conv']}.weight" in tensors]
    layout = LAYOUTS[fits[0] if fits else "timm"]
    names = {}
    for path in (variable.path for variable in model.weights):
        stage, block, layer, variable = re.fullmatch(r"(?:stage(\d+)_(?:block(\d+)_)?)?(\w+)/(\w+)", path).groups()
        if layer not in layout:  # the scale of a regression: the file has no such thing
            continue
        stage, block = int(stage or 1) - 1, int(block or 1) - 1
        name = layout[layer].format(stage=stage, block=block, shrink=2 * stage, sequence=2 * stage + 1)
        axes = None
        if variable == "kernel":  # torch has (out, in), (out, in, height, width), and depthwise (channel, 1, height, width)
            axes = {"depthwise": (2, 3, 0, 1), "mlp1": (1, 0), "mlp2": (1, 0), "logits": (1, 0)}.get(layer, (2, 3, 1, 0))
        names[path] = (("" if layer == "logits" else prefix) + name + VARIABLES[variable], axes)
    return names
