"""Images of another size: a trained model rebuilt for it, and training on images that grow from stage to stage."""

import contextlib
import functools
import re

import keras
import numpy as np

import recipes
from recipes.data.pipeline import fit_batches
from recipes.training.finite import guard
from recipes.training.recipe import check_fraction, get_recipe, make_metrics, set_recipe


def resize(model, size):
    """Return the same network for images of another size, with the same weights and the optimizer's state, compiled.

    Learned positions of a vision transformer are interpolated. A network that is trained on crops is often better on test
    images a little larger than its own: EfficientNetV2-S is trained at 300 pixels and tested at 384.

    Args:
        model: Model of a builder for images; not changed.
        size: Side of the new images in pixels, or `(height, width)`.

    Returns:
        Compiled `keras.Model`: images `(batch, height, width, channels)` to what `model` puts out. Its weights are copies.

    Raises:
        ValueError: If no builder made the model, or a weight fits one size only, as the dense layers of `alexnet` do.

    Example:

    >>> model = recipes.resnet((32, 32, 3), 10)
    >>> resize(model, 48).input_shape
    (None, 48, 48, 3)

    Reference:
        [Touvron et al., 2019](https://arxiv.org/abs/1906.06423), section 3; positions as
        [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929), section 3.2.
    """
    recipe = get_recipe(model)
    shape = recipe.get("arguments", {}).get("input_shape", ())
    if "builder" not in recipe or len(shape) != 3:
        raise ValueError(f"model must be one that a builder of recipes made for images. Received: {model.name}")
    arguments = {**recipe["arguments"], "input_shape": [*_pixels(size), shape[2]]}
    with _policy_of(model):
        new = getattr(recipes, recipe["builder"])(**arguments)
    for layer, old in zip(new.layers, model.layers, strict=True):
        layer.trainable = old.trainable
    set_recipe(new, {**recipe, "arguments": arguments})
    new.compile(
        optimizer=type(model.optimizer).from_config(model.optimizer.get_config()),
        loss=model.loss,
        metrics=make_metrics(recipe["training"]),
        run_eagerly=model.run_eagerly,
        steps_per_execution=model.steps_per_execution,
        jit_compile=model.jit_compile,
    )
    copy_state(model, new)
    return new


def copy_state(source, target):
    """Give `target` the weights, the states of seeds and the optimizer's state of `source`, one network at two sizes."""
    for variable, value in zip(target.weights, carry(source.get_weights(), source, target), strict=True):
        variable.assign(value)
    seeds = ([v for v in model.variables if "seed_generator" in v.path] for model in (target, source))
    for variable, old in zip(*seeds, strict=True):
        variable.assign(np.array(old))
    if source.optimizer.built:
        target.optimizer.build(target.trainable_variables)
        grids = grid_of(source), grid_of(target)
        for variable, old in zip(target.optimizer.variables, source.optimizer.variables, strict=True):
            variable.assign(fit_shape(np.array(old), variable.shape, *grids, old.path))


def carry(values, source, target):
    """Return `values`, one a weight of `source`, in the shapes of the weights of `target`."""
    grids = grid_of(source), grid_of(target)
    weights = zip(values, source.weights, target.weights, strict=True)
    return [fit_shape(np.array(value), new.shape, *grids, old.path) for value, old, new in weights]


def grid_of(model):
    """Return `(rows, columns)` of the patches of a vision transformer, `None` of another network."""
    tokens = [layer for layer in model.layers if layer.name == "tokens"]
    return tokens[0].input.shape[1:3] if tokens else None


def fit_shape(value, shape, old_grid, new_grid, path):
    """Return `value` as it is, or positions `(1 + rows * columns, width)` interpolated from one grid to another."""
    from recipes.weights.vit_names import cubic_weights

    if value.shape == tuple(shape):
        return value
    if not re.search("position_embedding", path) or old_grid is None:
        raise ValueError(
            f"size must be that of the model: {path} fits one size only. Received: {value.shape}, not {tuple(shape)}"
        )
    prefix = len(value) - old_grid[0] * old_grid[1]
    places = value[prefix:].reshape(*old_grid, -1)
    places = np.einsum("ry,yxw->rxw", cubic_weights(old_grid[0], new_grid[0]), places)
    places = np.einsum("cx,rxw->rcw", cubic_weights(old_grid[1], new_grid[1]), places)
    if value.min() >= 0:  # an average of squares in the optimizer, which a cubic may overshoot
        places = np.maximum(places, 0)
    return np.concatenate([value[:prefix], places.reshape(new_grid[0] * new_grid[1], -1)]).astype(value.dtype)


def fit_sizes(model, train, *, sizes, grow=None, validation_data=None, epochs, initial_epoch=0, callbacks=(), **kwargs):
    """Fit `model` in stages of equal length on images of the given sizes; what `recipes.fit(sizes=...)` does.

    Every stage trains a network rebuilt for its size, with the weights and the optimizer's state of the one before, and
    validates it at that size. The schedule runs through all stages as one.

    Args:
        model: Model of a builder; it has the weights and the optimizer's state of the last stage in the end.
        train: `recipes.data.Batches` of images of the model's own size.
        sizes: Sequence of sizes: pixels, `(height, width)`, or fractions of the model's own size in (0, 1].
        grow: Dict from `"magnitude"`, `"mixup"` or `"cutmix"` to its values in the first and in the last stage.
        validation_data: `Batches` or `None`.
        epochs, initial_epoch, callbacks: As in `keras.Model.fit`.
        **kwargs: Further arguments of `keras.Model.fit`.

    Returns:
        One `keras.callbacks.History`.

    Reference:
        [Tan & Le, 2021](https://arxiv.org/abs/2104.00298), section 4 and table 6.
    """
    from recipes.callbacks import ExponentialMovingAverage, Schedule
    from recipes.data import Batches
    from recipes.data.shuffled import ShuffledBatches

    arrays = isinstance(train, Batches) and not isinstance(train, ShuffledBatches)
    if not arrays or not isinstance(validation_data, (Batches, type(None))):
        raise ValueError("sizes needs arrays (x, y), for training and validation: pass sizes=None to train on a dataset.")
    own = tuple(model.input_shape[1:3])
    shapes = [_stage_size(size, own) for size in _sequence(sizes)]
    bounds = [epochs * k // len(shapes) for k in range(len(shapes) + 1)]
    averages = [c for c in callbacks if isinstance(c, ExponentialMovingAverage)]
    schedules = [c for c in callbacks if isinstance(c, Schedule) and c.total_steps is None]
    history = keras.callbacks.History()
    history.set_model(model)
    history.on_train_begin()
    augment, current = train.augment, model
    stages = [(k, *span) for k, span in enumerate(zip(bounds[:-1], bounds[1:], strict=True))]
    # a checkpoint of the end of a stage goes on in the network of that stage, and at once to the next
    run = kwargs.get("run")
    ended = initial_epoch if run is not None and run.pending and not run.batch else None
    stages = [
        (k, max(first, initial_epoch), last)
        for k, first, last in stages
        if max(first, initial_epoch) < last or first < last == ended
    ]
    for schedule in schedules:
        schedule.total_steps = epochs * len(train) or None
    try:
        for k, first, last in stages:
            network = model if shapes[k] == own else resize(model, shapes[k])
            _move(current, network, averages)
            guard(network)
            current = network
            to_size = [] if shapes[k] == own else [functools.partial(_to_size, shapes[k])]
            if grow:
                augment, train.mix = _stage_policy(model, shapes[k], grow, k / max(1, len(shapes) - 1))
            train.augment = functools.partial(_in_turn, [*to_size, *([augment] if augment else [])])
            if validation_data is not None:
                validation_data.augment = to_size[0] if to_size else None
            for average in averages:
                average._first, average._last = k == stages[0][0], k == stages[-1][0]
            part = fit_batches(
                network,
                train,
                validation_data=validation_data,
                epochs=last,
                initial_epoch=first,
                callbacks=list(callbacks),
                **kwargs,
            )
            history.epoch += part.epoch
            history.params = part.params
            for name, values in part.history.items():
                history.history.setdefault(name, []).extend(values)
            if network.stop_training:
                break
    finally:
        _move(current, model, averages)
        for average in averages:
            average._first = average._last = True
        for schedule in schedules:
            schedule.total_steps = None
    model.history = history
    return history


def resize_images(images, size):
    """Return images `(batch, height, width, channels)` at `(height, width)`, bilinear with antialiasing, same dtype.

    >>> resize_images(np.full((2, 8, 8, 3), 7, "uint8"), (4, 6)).shape
    (2, 4, 6, 3)
    """
    from PIL import Image

    height, width = size
    whole = images.dtype == np.uint8 and images.shape[-1] in (1, 3)
    planes = images if whole else np.moveaxis(images, -1, 1).astype("float32")  # Pillow has no colours of other types
    planes = planes[..., 0] if whole and images.shape[-1] == 1 else planes
    flat = planes if whole else planes.reshape(-1, *images.shape[1:3])
    resized = np.stack([np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR)) for p in flat])
    if whole:
        return resized.reshape(len(images), height, width, -1)
    resized = np.moveaxis(resized.reshape(len(images), -1, height, width), 1, -1)
    return (np.rint(resized) if images.dtype.kind in "iu" else resized).astype(images.dtype)


def _to_size(size, images, rng):
    return resize_images(images, size)


def _in_turn(functions, images, rng):
    for function in functions:
        images = function(images, rng)
    return images


def _move(current, network, averages):
    """Let `network` go on where `current` is, the averages with it."""
    if network is current:
        return
    copy_state(current, network)
    for average in averages:
        if average._averages is not None:
            values = [np.array(keras.ops.convert_to_numpy(a)) for a in average._averages]
            average.hold(network, _carry_floats(values, current, network))


def _carry_floats(values, source, target):
    """`carry` for the averages, which leave out the weights that are no floats."""
    floats = [keras.backend.is_float_dtype(v.dtype) for v in source.weights]
    queue = iter(values)
    everything = [next(queue) if chosen else np.array(v) for chosen, v in zip(floats, source.weights, strict=True)]
    carried = zip(carry(everything, source, target), floats, strict=True)
    return [value for value, chosen in carried if chosen]


def _stage_policy(model, shape, grow, progress):
    """Return the augmentation and the mixing of a stage, the strengths in `grow` on a line from first to last."""
    from recipes.data.augment import automatic
    from recipes.data.mixing import automatic_mix

    settings = get_recipe(model)["training"]
    now = {name: first + (last - first) * progress for name, (first, last) in grow.items()}
    mix = {**(settings["mix"] or {}), **{name: now.pop(name) for name in ("mixup", "cutmix") if name in now}}
    classes = model.output_shape[-1] if settings["task"] == "classify" else None
    mixes = any(mix.get(name) for name in ("mixup", "cutmix"))
    if not mixes and (settings["mix"] or "mixup" in grow or "cutmix" in grow):  # soft targets in every stage
        mix, mixes = {"mixup": 1.0, "probability": 0.0}, True
    arguments = {**(settings["augment_arguments"] or {}), **now}
    augment = automatic(settings["augment"], (*shape, model.input_shape[-1]), arguments)
    return augment, automatic_mix(mix, classes) if mixes else None


def _sequence(sizes):
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise ValueError(f'sizes must be a sequence such as (0.5, 1.0), "auto" or None. Received: sizes={sizes!r}')
    return sizes


def _stage_size(size, own):
    if isinstance(size, float):
        if size != 1:
            check_fraction("sizes", size)
        return tuple(max(1, round(size * side)) for side in own)
    return _pixels(size)


def _pixels(size):
    """`(height, width)` of a side or of both."""
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in pair):
        raise ValueError(f"size must be a number of pixels, or (height, width). Received: size={size!r}")
    return tuple(int(n) for n in pair)


@contextlib.contextmanager
def _policy_of(model):
    """Build with the dtype policy that `model` was built with."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(model.dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
