"""What the variables of our AlexNet are called in torchvision."""

LAYERS = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "dense1": "classifier.1",
    "dense2": "classifier.4",
    "logits": "classifier.6",
}


def torch_names(model):
    """Return `{variable path: (name in the torch file, axes that bring it into our order)}`, as `assign` takes it."""
    names = {}
    for path in (variable.path for variable in model.weights):
        layer, variable = path.split("/")
        if layer not in LAYERS:  # the scale of a regression: the file has no such thing
            continue
        if variable == "bias":
            names[path] = (f"{LAYERS[layer]}.bias", None)
        else:  # torch has (out, in, height, width) and (out, in)
            names[path] = (f"{LAYERS[layer]}.weight", (2, 3, 1, 0) if layer.startswith("conv") else (1, 0))
    return names
