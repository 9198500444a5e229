"""Where a network looks: Grad-CAM and attention rollout."""

import keras
import numpy as np
from keras import ops

from recipes.layers import SelfAttention
from recipes.training.checks import check_arrays
from recipes.training.graph import flatten, inputs_of, operation_of, sources_of
from recipes.training.recipe import check_choice
from recipes.vision.features import steps, through
from recipes.vision.gradients import input_gradient

CHUNK = 32  # images at once: the attention of large networks takes memory
NO_MAP = (keras.layers.Permute, keras.layers.Flatten, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


def explain(model, images, *, method="auto", classes=None, layer=None):
    """Show which parts of images decide what a classifier says: heat maps.

    Grad-CAM weighs the channels of the last feature map by how much the score of a class rises with them. Attention
    rollout follows the attention of a transformer from the output back to the patches; it says what was looked at, for
    whichever class.

    Args:
        model: Functional or Sequential Keras model from images to one score a class: of recipes, `keras.applications`
            or your own. What `features` returns will do for `"attention"`.
        images: Array `(batch, height, width, channels)`, as the model takes them.
        method: `"grad_cam"`; `"attention"`, for transformers of recipes; `"auto"`: attention for these if neither
            `classes` nor `layer` are given, else Grad-CAM.
        classes: For Grad-CAM: class id for all images, or array `(batch,)` of ids; `None` for what the model says.
        layer: For Grad-CAM: name of the layer whose map is weighed; `None` for the last map of a convolutional network,
            or the tokens that enter the last block of a transformer.

    Returns:
        Float32 array `(batch, height, width)` in [0, 1] at the size of the images: the largest value of each map is 1,
        unless nothing speaks for the class: then all are 0.

    Raises:
        ValueError: If an argument does not fit the model.

    Example:

    >>> model = recipes.resnet((32, 32, 3), 10)
    >>> explain(model, np.zeros((2, 32, 32, 3), "uint8"), classes=3).shape
    (2, 32, 32)

    Reference:
        [Selvaraju et al., 2017](https://arxiv.org/abs/1610.02391), equations 1 and 2;
        [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928), section 3.
    """
    flatten(model)  # checks
    check_choice("method", method, ("auto", "grad_cam", "attention"))
    images, _ = check_arrays(model, images, None, name="images")
    attends = any(isinstance(step, SelfAttention) for step, _ in steps(model))
    if method == "auto":
        method = "attention" if attends and classes is None and layer is None else "grad_cam"
    if method == "grad_cam":
        ids, tensor, scores = _classes(classes, len(images)), _find_map(model, layer), find_scores(model)
        lower = keras.Model(inputs_of(model), [tensor, scores])
        upper = keras.Model(tensor, scores)
        grid = _grid(model, tensor)
        maps = [
            grad_cam(lower, upper, images[i : i + CHUNK], ids[i : i + CHUNK], grid) for i in range(0, len(images), CHUNK)
        ]
    else:
        if not attends:
            raise ValueError(f'method="attention" is for transformers of recipes, and {model.name} has no SelfAttention.')
        if classes is not None or layer is not None:
            raise ValueError('classes and layer go with method="grad_cam": attention is not that of a class or a layer.')
        found = [(step, sources_of(tensor)[0]) for step, tensor in steps(model) if isinstance(step, SelfAttention)]
        lower = keras.Model(inputs_of(model), [tokens for _, tokens in found])
        grid = _grid(model, found[0][1])
        maps = [
            _attention_maps([step for step, _ in found], lower, images[i : i + CHUNK], grid)
            for i in range(0, len(images), CHUNK)
        ]
    maps = np.concatenate(maps)[..., None]  # (batch, rows, columns, 1)
    maps = ops.image.resize(maps, images.shape[1:3], "bilinear", data_format="channels_last")
    maps = ops.convert_to_numpy(maps)[..., 0]
    largest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def grad_cam(lower, upper, images, classes, grid):
    """Return Grad-CAM maps `(batch, rows, columns)`, not below 0.

    Args:
        lower: Model from images to `[features, scores]`.
        upper: Model from features to scores.
        images: Array `(batch, height, width, channels)`.
        classes: Array `(batch,)`, -1 for the class of the highest score.
        grid: `(rows, columns)` of the features, the last places of their second axis if they are tokens.
    """
    activation, scores = (np.asarray(array, "float32") for array in lower.predict_on_batch(images))
    if classes.max() >= scores.shape[1]:
        raise ValueError(f"classes must be below {scores.shape[1]}, the number of classes. Received: {classes.max()}")
    chosen = np.where(classes < 0, scores.argmax(axis=1), classes)
    gradient = input_gradient(upper, activation, np.eye(scores.shape[1], dtype="float32")[chosen])
    activation, gradient = (_on_grid(array, grid) for array in (activation, gradient))  # (batch, rows, columns, width)
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    return np.maximum((weights * activation).sum(axis=-1), 0)


def attention_weights(layer, tokens):
    """Return how much a `SelfAttention` lets each token see of each: `(batch, heads, length, length)`, rows sum to 1."""
    length, width = tokens.shape[1], tokens.shape[2] // layer.heads
    qkv = ops.reshape(ops.cast(layer.qkv(tokens), "float32"), (-1, length, 3, layer.heads, width))
    query, key = qkv[:, :, 0], qkv[:, :, 1]  # (batch, length, heads, width of a head)
    query = query * (ops.cast(layer.scale, "float32")[:, None] if layer.locality else width**-0.5)
    scores = ops.einsum("bnhd,bmhd->bhnm", query, key)
    rows, columns = np.indices((length, length))
    seen = (rows >= columns) if layer.causal else np.full((length, length), True)
    if layer.locality:
        seen = seen & (rows != columns) | (layer.causal and rows + columns == 0)
    return ops.convert_to_numpy(ops.softmax(ops.where(seen, scores, -1e9), axis=-1))


def rollout(weights):
    """Return how much of each input token is in each output token: `(batch, length, length)`, rows sum to 1.

    Args:
        weights: Attention of every block, from the input on, `(batch, heads, length, length)` each.
    """
    same = np.eye(weights[0].shape[-1], dtype="float32")
    total = same
    for block in weights:
        total = (0.5 * block.mean(axis=1) + 0.5 * same) @ total  # half comes past the attention, by the residual
    return total


def find_scores(model):
    """Return the tensor of the scores of the classes, before a softmax or a sigmoid."""
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"model must put out one score a class, (batch, classes). Received: {[tuple(t.shape) for t in model.outputs]}"
        )
    tensor = model.outputs[0]
    last = operation_of(tensor)
    if isinstance(last, (keras.layers.Activation, keras.layers.Softmax)):
        return sources_of(tensor)[0]
    if isinstance(last, keras.layers.Dense) and last.activation is not keras.activations.linear:
        source = sources_of(tensor)[0]
        plain = keras.layers.Dense.from_config({**last.get_config(), "activation": None, "name": f"{last.name}_scores"})
        plain.build(source.shape)
        plain.set_weights(last.get_weights())
        return plain(source)
    return tensor


def _find_map(model, layer):
    """Return the tensor that Grad-CAM weighs."""
    found = through(model)
    if layer is not None:
        named = {step.name: tensor for step, tensor in found if len(tensor.shape) in (3, 4)}
        if layer not in named:
            raise ValueError(
                "layer must name one that puts out a map or tokens and that everything passes through: "
                f"{', '.join(named)}. Received: layer={layer!r}"
            )
        return named[layer]
    order = [id(step) for step, _ in steps(model)]
    attention = [order.index(id(step)) for step, _ in steps(model) if isinstance(step, SelfAttention)]
    if attention:
        return [t for step, t in found if order.index(id(step)) < attention[-1] and len(t.shape) == 3][-1]
    maps = [t for step, t in found if len(t.shape) == 4 and not isinstance(step, NO_MAP)]
    maps = [t for t in maps if t.shape[1:3] != (1, 1)] or maps
    if not maps:
        raise ValueError(
            f"model must have a map (batch, rows, columns, channels) that everything passes through. {model.name} has none."
        )
    return maps[-1]


def _grid(model, tensor):
    """Return `(rows, columns)` of a map, or of the patches that tokens stand for."""
    if len(tensor.shape) == 4:
        return tensor.shape[1:3]
    before = [t for _, t in steps(model) if len(t.shape) == 4]
    grid = before[-1].shape[1:3] if before else None
    if not before or None in grid or tensor.shape[1] is None or grid[0] * grid[1] > tensor.shape[1]:
        raise ValueError(f"model must make tokens of a map of patches of known size, and {model.name} does not.")
    return grid


def _on_grid(array, grid):
    """Tokens `(batch, length, ...)` as `(batch, rows, columns, ...)`, without those that stand before the patches."""
    if array.ndim == 4:
        return array
    return array[:, array.shape[1] - grid[0] * grid[1] :].reshape(len(array), *grid, *array.shape[2:])


def _attention_maps(layers, lower, images, grid):
    """Return how much of each patch is in what the head sees: `(batch, rows, columns)`."""
    tokens = lower.predict_on_batch(images)
    tokens = tokens if isinstance(tokens, list) else [tokens]
    total = rollout([attention_weights(layer, t) for layer, t in zip(layers, tokens, strict=True)])
    has_class_token = total.shape[1] > grid[0] * grid[1]
    return _on_grid(total[:, 0] if has_class_token else total.mean(axis=1), grid)


def _classes(classes, batch):
    """Return an array `(batch,)` of class ids, -1 where the model is to say."""
    if classes is None:
        return np.full(batch, -1)
    ids = np.asarray(classes)
    if ids.dtype.kind not in "iu" or ids.shape not in ((), (batch,)) or ids.min() < 0:
        raise ValueError(f"classes must be a class id, or {batch} of them. Received: classes={classes!r}")
    return np.broadcast_to(ids, (batch,))
