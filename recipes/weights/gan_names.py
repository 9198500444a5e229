"""What the generator of `gan(variant="dcgan")` is called in torch's DCGAN: a row of transposed convolutions and norms."""

import re

from recipes.weights.assigning import assign
from recipes.weights.reading import read_state_dict

NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def torch_names(generator):
    """Return `{variable path: (name in the torch file, axes)}`, as `assign` takes it.

    In torch the first layer is a transposed convolution of one pixel, here a matrix: see `load_generator`. Then come a
    norm and a rectifier, the next convolution and so on, all numbered in one `main`.
    """
    names = {}
    for path in (variable.path for variable in generator.weights):
        layer, variable = path.split("/")[-2:]
        if layer == "generator_project":
            names[path] = ("main.0.weight", None)
            continue
        kind, index = re.fullmatch(r"generator_(conv|norm)(\d+)", layer).groups()
        if kind == "norm":
            names[path] = (f"main.{3 * int(index) + 1}.{NORM[variable]}", None)
        else:  # torch has (in, out, height, width), Keras (height, width, out, in)
            names[path] = (f"main.{3 * int(index)}.weight", (2, 3, 1, 0))
    return names


def load_generator(generator, path):
    """Read the weights of a DCGAN generator of torch's tutorials into `generator`.

    Args:
        generator: Generator of `recipes.generative.gan_networks.convolutional_networks`.
        path: File with the state dict of the generator, alone or as `netG_state_dict`.

    Raises:
        ValueError: If the file is unsafe or of another network. Nothing was loaded then.
    """
    tensors = read_state_dict(path)
    first = tensors.get("main.0.weight")
    if first is not None and first.ndim == 4:  # (noise, channels, 4, 4) to (noise, 4 * 4 * channels), channels last
        tensors["main.0.weight"] = first.transpose(0, 2, 3, 1).reshape(len(first), -1)
    assign(generator, torch_names(generator), tensors)
