"""What turns a graph into a recipe: compiling for a task, and remembering how the model was made and is trained."""

import functools
import importlib
import inspect

import keras
import numpy as np

import recipes
from recipes.layers import Standardize
from recipes.training.contrastive import ContrastiveAccuracy, ContrastiveLoss
from recipes.training.language import NoHead, TokenAccuracy, TokenCrossEntropy
from recipes.training.losses import Accuracy, BinaryCrossEntropy, CrossEntropy, MeanSquaredError, NotAdapted
from recipes.training.optimizer import LAMB, SGD, AdamW, RMSProp

TASKS = ("classify", "multilabel", "regress")
OPTIMIZERS = {"adamw": AdamW, "lamb": LAMB, "rmsprop": RMSProp, "sgd": SGD}
LOSSES = {"softmax": CrossEntropy, "binary": BinaryCrossEntropy}
OTHER_TASKS = ("contrastive", "tokens", "language_model", "embed", "generate")


def builder(function):
    """Decorate a family: its models carry `model.recipe`, the plain-JSON facts that rebuild and train them.

    `model.recipe` is `{"builder": name, "arguments": keyword arguments, "training": settings}`. `weights` and `adapt`
    are left out: what they did is in the weights.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        model = function(*bound.args, **bound.kwargs)
        arguments = {k: _plain(v) for k, v in bound.arguments.items() if k not in ("weights", "adapt")}
        set_recipe(model, {"builder": function.__name__, "arguments": arguments, **get_recipe(model)})
        return model

    return build


def get_recipe(model):
    """Return the recipe of `model`, or `{}` if it did not come from a builder."""
    return getattr(model, "recipe", {})


def set_recipe(model, recipe):
    """Give `model` its recipe. Past Keras' attribute tracking, which would wrap the dict in something JSON refuses."""
    object.__setattr__(model, "recipe", recipe)


def compile_model(
    model,
    task="classify",
    *,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.01,
    momentum=0.9,
    beta_2=0.999,
    label_smoothing=0.0,
    global_clipnorm=None,
    loss="softmax",
    schedule="WarmupCosine",
    schedule_arguments=None,
    epochs=30,
    batch_size=128,
    augment=None,
    augment_arguments=None,
    mix=None,
    repeats=1,
    ema=None,
    sizes=None,
    grow=None,
    padding_id=None,
    mask=None,
):
    """Compile `model` for `task` and record the settings, so that `recompile` and `recipes.fit` know them.

    Args:
        model: Model that puts out float32 logits, or predictions in original units for `"regress"`.
        task: `"classify"` (integer or soft targets), `"multilabel"` (0/1 a label), `"regress"`, `"contrastive"`, `"tokens"`
            (a class id for every token), `"language_model"`, `"embed"` (nothing to learn) or `"generate"` (the model has a
            loss of its own).
        optimizer: `"adamw"`, `"lamb"`, `"rmsprop"` or `"sgd"` (Nesterov).
        learning_rate: Float >= 0: the peak of the schedule, meant for `batch_size`; nothing scales it for another.
        weight_decay: Float >= 0, as the optimizer means it; spares vectors.
        momentum: Float in `[0, 1)`: the momentum of `"sgd"` and `"rmsprop"`, `beta_1` of the others.
        beta_2: Float in `[0, 1)`, for `"adamw"` and `"lamb"`.
        label_smoothing: Float in `[0, 1)`, for the two classification tasks.
        global_clipnorm: Largest norm of all gradients together, or `None`.
        loss: Of `"classify"`: `"softmax"`, or `"binary"` for one yes-or-no cross-entropy a class.
        schedule: Name of a callback of `recipes.callbacks` for `recipes.fit`, or `None`.
        schedule_arguments: Dict of its arguments, or `None`.
        epochs: Number of epochs `recipes.fit` and `recipes.tune` train for when not told.
        batch_size: Examples a step when `recipes.fit` is not told.
        augment: Name of a policy of `recipes.data.augment` for `recipes.fit`, or `None`.
        augment_arguments: Dict of its arguments, or `None`.
        mix: Dict that `recipes.data.mixing.automatic_mix` takes, or `None`.
        repeats: Augmented copies of each example in a batch.
        ema: Decay of an average of the weights that `recipes.fit` keeps, in (0, 1), or `None`.
        sizes: Sizes of the images from stage to stage, as `recipes.fit` takes them, or `None`.
        grow: Dict from `"magnitude"`, `"mixup"`, `"cutmix"` or `"dropout"` to its value in the first and in the last of
            these stages, or `None`.
        padding_id: Token id that fills up short rows and is no target, or `None`; for the tasks of tokens.
        mask: Dict of the arguments of `recipes.data.mask_tokens`, for a `"language_model"` that guesses masked tokens;
            `None` for one that guesses the next.

    Returns:
        `model`, compiled.

    Raises:
        ValueError: If an argument is out of its range.
    """
    settings = {k: _plain(v) for k, v in locals().items() if k != "model"}
    check_choice("task", task, (*TASKS, *OTHER_TASKS))
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_choice("loss", loss, LOSSES)
    check_fraction("label_smoothing", label_smoothing)
    set_recipe(model, {**get_recipe(model), "training": settings})
    return recompile(model)


def recompile(model, **changes):
    """Compile `model` again from its recorded settings, e.g. after freezing or adapting.

    `changes` override the settings and are recorded, except `lr_multipliers` and `gradient_accumulation_steps`, which
    belong to one run.
    """
    extra = {k: changes.pop(k) for k in ("lr_multipliers", "gradient_accumulation_steps") if k in changes}
    recipe = get_recipe(model)
    settings = {**recipe["training"], **changes}
    set_recipe(model, {**recipe, "training": settings})
    optimizer = getattr(model, "make_optimizer", make_optimizer)(settings, **extra)  # generative models may have two
    model.compile(optimizer=optimizer, loss=make_loss(model, settings), metrics=make_metrics(settings))
    return model


def refresh_loss(model):
    """Compile again for the statistics that loaded weights brought, keeping the optimizer and its state."""
    settings = get_recipe(model)["training"]
    model.compile(optimizer=model.optimizer, loss=make_loss(model, settings), metrics=make_metrics(settings))
    return model


def make_optimizer(settings, **extra):
    """Return the optimizer that `settings` describe."""
    common = {k: settings[k] for k in ("learning_rate", "weight_decay", "global_clipnorm")}
    optimizer = OPTIMIZERS[settings["optimizer"]]
    if settings["optimizer"] in ("sgd", "rmsprop"):
        return optimizer(**common, momentum=settings["momentum"], **extra)
    return optimizer(**common, beta_1=settings["momentum"], beta_2=settings["beta_2"], **extra)


def make_loss(model, settings):
    """Return the loss of the task; one that refuses to train if a standardisation in `model` has seen no data."""
    if settings["task"] == "generate":  # the model's own, which refuses by itself
        return None
    scalers = [layer for layer in model.layers if isinstance(layer, Standardize)]
    if not all(layer.adapted for layer in scalers):
        return NotAdapted()
    if settings["task"] == "classify":
        return LOSSES[settings.get("loss", "softmax")](label_smoothing=settings["label_smoothing"])
    if settings["task"] == "multilabel":
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=settings["label_smoothing"])
    if settings["task"] == "contrastive":
        return ContrastiveLoss()
    if settings["task"] in ("tokens", "language_model"):
        return TokenCrossEntropy(**_token_arguments(settings), label_smoothing=settings["label_smoothing"])
    if settings["task"] == "embed":
        return NoHead()
    target = [layer for layer in scalers if layer.invert]
    return MeanSquaredError(keras.ops.convert_to_numpy(target[0].std).tolist() if target else (1.0,))


def make_metrics(settings):
    """Return fresh metrics of the task."""
    if settings["task"] == "classify":
        return [Accuracy()]
    if settings["task"] == "multilabel":
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
    if settings["task"] == "contrastive":
        return [ContrastiveAccuracy()]
    if settings["task"] in ("tokens", "language_model"):
        return [TokenAccuracy(**_token_arguments(settings))]
    if settings["task"] == "embed":
        return []
    if settings["task"] == "generate":  # the model's own; an empty list would wait for predictions to measure
        return None
    return [keras.metrics.MeanAbsoluteError(name="mae")]


def _token_arguments(settings):
    next_token = settings["task"] == "language_model" and settings.get("mask") is None
    return {"shift": next_token, "padding_id": settings.get("padding_id")}


def head(x, num_classes, task, name="logits"):
    """Put the head of `task` on features `(batch, width)`: float32 logits, or targets in original units.

    Small weights make the loss start at ln(classes), whatever the backbone.
    """
    y = keras.layers.Dense(
        num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), dtype="float32", name=name
    )(x)
    if task == "regress":
        y = Standardize(invert=True, dtype="float32", name="target")(y)
    return y


def adapt_model(model, x, y=None):
    """Set the statistics of every `Standardize` layer of `model` from training data; compile again afterwards."""
    for layer in model.layers:
        if isinstance(layer, Standardize) and not layer.invert:
            layer.adapt(x[layer.input.name] if isinstance(x, dict) else x)
        elif isinstance(layer, Standardize) and y is not None:
            # the steps of a forecast are in one unit
            layer.adapt(np.reshape(y, (-1, layer.input.shape[-1])) if len(layer.input.shape) == 3 else y)
        elif isinstance(layer, Standardize):
            raise ValueError('adapt must be (x, y) for task="regress": the targets are standardised too. Received: x only.')


def list_variants(family):
    """Return the names of the variants of a builder.

    Args:
        family: Name of a builder, such as `"resnet"`.

    Returns:
        List of strings that the builder's `variant=` takes.

    Raises:
        ValueError: If no builder has that name.

    Example:

    >>> list_variants("alexnet")
    ['small', 'torchvision', '2012']
    """
    return list(_module_of(family).VARIANTS)


def list_training(family):
    """Return the names of the training recipes of a builder.

    Args:
        family: Name of a builder, such as `"resnet"`.

    Returns:
        List of strings that the builder's `training=` takes; empty if it has one way of training only.

    Raises:
        ValueError: If no builder has that name.

    Example:

    >>> list_training("resnet")
    ['default', 'rsb_a1', 'rsb_a2', 'rsb_a3']
    """
    return list(getattr(_module_of(family), "TRAINING", ()))


def training_row(table, training, **given):
    """Return the row `training` of `table`, keyword arguments of `compile_model`, with what the caller gave on top.

    Args:
        table: The builder's `TRAINING`.
        training: Name of a row.
        **given: Settings that replace the row's, unless they are `None`. The builder takes out, with `pop`, what is an
            argument of its own and none of `compile_model`, such as `drop_path`.

    Returns:
        New dict.
    """
    check_choice("training", training, table)
    return {**table[training], **{name: value for name, value in given.items() if value is not None}}


def check_choice(name, value, allowed):
    """Raise `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}. Received: {name}={value!r}")


def check_count(name, value, minimum=1):
    """Raise `ValueError` unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}. Received: {name}={value!r}")


def check_classes(num_classes, task):
    """Raise `ValueError` unless `num_classes` fits `task`: softmax needs two."""
    check_choice("task", task, TASKS)
    check_count("num_classes", num_classes, minimum=2 if task == "classify" else 1)


def check_fraction(name, value):
    """Raise `ValueError` unless `value` is in `[0, 1)`."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1). Received: {name}={value!r}")


def check_images(input_shape, minimum=1):
    """Raise `ValueError` unless `input_shape` is `(height, width, channels)` with at least `minimum` pixels a side."""
    if len(input_shape) != 3 or not all(isinstance(n, int) and n > 0 for n in input_shape):
        raise ValueError(
            f"input_shape must be (height, width, channels), three positive integers. Received: input_shape={input_shape}"
        )
    height, width, channels = input_shape
    if height in (1, 3, 4) and channels > 4:
        raise ValueError(
            f"input_shape must be (height, width, channels), channels last; input_shape={input_shape} looks like "
            f"channels first. Transpose the images with x.transpose(0, 2, 3, 1) and pass {(width, channels, height)}."
        )
    if min(height, width) < minimum:
        raise ValueError(f"input_shape must be at least {minimum} pixels a side. Received: input_shape={input_shape}")


def _module_of(family):
    families = [name for name in recipes._PUBLIC if f"{name}_space" in recipes._PUBLIC]
    check_choice("family", family, families)
    return importlib.import_module(recipes._PUBLIC[family])


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
