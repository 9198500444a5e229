"""Transfer: freeze and unfreeze layers, exchange the head, fine-tune in two phases, add LoRA.

All of it works on functional and Sequential Keras models, whoever built them: recipes, `keras.applications`, KerasHub or
the user.
"""

import math
import warnings

import keras
import numpy as np

from recipes.callbacks import WarmupCosine
from recipes.data.pipeline import fit_batches
from recipes.layers import MaskedPool, PaddingMask
from recipes.training.checks import check_arrays
from recipes.training.graph import (
    find_head,
    find_output,
    find_span,
    flatten,
    inputs_of,
    layer_factors,
    operation_of,
    select,
    set_trainable,
    sources_of,
)
from recipes.training.prepare import default_batch_size, prepare
from recipes.training.recipe import (
    check_classes,
    check_count,
    check_fraction,
    compile_model,
    get_recipe,
    head,
    make_optimizer,
    recompile,
    set_recipe,
)

# What `compile_model` should know of a model that no builder made.
STRANGER = {"weight_decay": 0.05, "label_smoothing": 0.1, "epochs": 10, "batch_size": 32}


def freeze(model, until=None):
    """Make layers untrainable, and compile again: without that Keras would go on training them in silence.

    Frozen weights stay bit for bit what they are, whatever the weight decay; a frozen `BatchNormalization` normalises
    with its stored statistics. The optimizer starts anew from its configuration; loss and metrics stay. A model that is
    not compiled is left so.

    Args:
        model: Functional or Sequential Keras model; changed in place.
        until: Name of the last layer to freeze, from the input on; an int `n`, to freeze all but the last `n` layers
            with weights; or `None`, to freeze all but the head. Other layers stay as they were.

    Returns:
        `model`.

    Raises:
        ValueError: If there is no such layer, or no head.

    Example:

    >>> model = freeze(recipes.resnet((32, 32, 3), 10))
    >>> [v.path for v in model.trainable_variables]
    ['logits/kernel', 'logits/bias']
    """
    layers = [layer for layer, _ in flatten(model)]
    if until is None:
        top = _ids(find_head(model)[1])
        if not top:
            raise ValueError(
                f"until must name a layer: {model.name} has no head that could stay trainable. Give it one with "
                "recipes.replace_head(model, num_classes)."
            )
        chosen = _ids(layers) - top
    elif isinstance(until, str):
        chosen = _ids(layers[: find_span("until", model, until)[1] + 1])
    else:
        chosen = _ids(layers[: select("until", model, until)])
    set_trainable(model, dict.fromkeys(chosen, False))
    return _recompile(model)


def unfreeze(model, what="all", *, batch_norm=False):
    """Make layers trainable again, and compile again.

    `BatchNormalization` stays frozen unless asked: small batches of new data would spoil the statistics of the old, and
    with them everything above.

    Args:
        model: Functional or Sequential Keras model; changed in place.
        what: `"all"`; an int `n`, for the last `n` layers with weights (a `BatchNormalization` counts with the layer
            below); or the name of a layer, for it and all above. Other layers stay as they were.
        batch_norm: Whether the `BatchNormalization` layers among them are unfrozen too. If not they are frozen, even if
            they were not.

    Returns:
        `model`.

    Raises:
        ValueError: If there is no such layer.

    Example:

    >>> model = unfreeze(freeze(recipes.resnet((32, 32, 3), 10)), "stage3_block1_1_conv")
    >>> model.get_layer("stage2_block1_1_conv").trainable
    False
    """
    layers = [layer for layer, _ in flatten(model)]
    set_trainable(model, dict.fromkeys(_ids(layers[select("what", model, what) :]), True), batch_norm)
    return _recompile(model)


def replace_head(model, num_classes, *, task="classify", output=None, dropout=None, learning_rate=1e-3):
    """Return a new compiled model: the layers of `model` below its head, and a fresh head.

    The head is what follows the layer `"features"`; else the last `Dense` layer, or a 1x1 convolution that classifies,
    with what follows it. A model that ends in neither is all backbone. Features with positions, such as
    `(batch, height, width, channels)`, are averaged over them.

    The layers below the head are **shared** with `model`, not copied: training one model moves the weights of both. To
    keep the old one, give this function a copy: `copy = keras.models.clone_model(model)`, then
    `copy.set_weights(model.get_weights())`.

    `keras.applications` models come with their own idea of pixels: give the new model what
    `keras.applications.<family>.preprocess_input` makes of yours.

    Args:
        model: Functional or Sequential Keras model with or without a head; not changed.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        output: What to put the head on, for a model with several outputs, such as a text encoder, or to cut deeper:
            name of an output, name of a layer, or a tensor of the graph. `None`: the single output, less the head.
        dropout: Fraction of the features dropped before the head, in `[0, 1)`; `None` as the model has it.
        learning_rate: Learning rate that the new model is compiled with.

    Returns:
        Compiled `keras.Model` to logits `(batch, num_classes)`, its head named `"logits"`, its input `"features"`. If
        `model` has a recipe the new one has it too, so that `recipes.save` works on it.

    Raises:
        ValueError: If the model has several outputs and `output` is `None`, or an argument is out of its range.

    Example:

    >>> backbone = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None)
    >>> replace_head(backbone, 5).output_shape
    (None, 5)
    """
    check_classes(num_classes, task)
    recipe = {key: value for key, value in get_recipe(model).items() if key in ("builder", "arguments", "training")}
    if output is not None:
        recipe.pop("builder", None)  # it would not build this
    x = find_head(model)[0] if output is None else find_output(model, output)
    if dropout is not None:
        check_fraction("dropout", dropout)
        if isinstance(operation_of(x), keras.layers.Dropout):
            x = sources_of(x)[0]
        elif operation_of(x).name == "features" and dropout:
            raise ValueError(
                f'dropout must be None: the layer "features" of {model.name} is no Dropout whose rate could be set, and '
                f"its recipe could not rebuild it with another. Received: dropout={dropout}"
            )
    if len(x.shape) > 2:
        if operation_of(x).name == "features":  # of every token; the new head's features are those of the whole
            if not isinstance(operation_of(x), keras.layers.Dropout):
                raise ValueError(
                    f"output must name the layer of {model.name} to put the head on, such as "
                    f"{operation_of(sources_of(x)[0]).name!r}: its features are of single tokens. Received: output=None"
                )
            x = sources_of(x)[0]
        recipe.pop("builder", None)  # it would not average
        x = _average(x, model)  # (batch, channels)
    if operation_of(x).name != "features":
        x = keras.layers.Dropout(dropout or 0.0, name="features")(x)
    new = keras.Model(inputs_of(model), head(x, num_classes, task), name=model.name)

    arguments = recipe.get("arguments", {})
    if "builder" in recipe and {"num_classes", "task"} <= set(arguments):
        changes = {"num_classes": num_classes, "task": task, "dropout": dropout, "learning_rate": learning_rate}
        changes = {k: v for k, v in changes.items() if k in arguments and v is not None}
        recipe["arguments"] = {**arguments, **changes}
    else:
        recipe = {key: recipe[key] for key in ("training",) if key in recipe}
    set_recipe(new, recipe)
    if "training" in recipe:
        return recompile(new, task=task, learning_rate=learning_rate)
    augment = "shift" if len(new.inputs) == 1 and len(new.inputs[0].shape) == 4 else None
    return compile_model(new, task, learning_rate=learning_rate, augment=augment, **STRANGER)


def fine_tune(
    model,
    data,
    *,
    validation=None,
    epochs=5,
    freeze_epochs=1,
    learning_rate=1e-3,
    layer_decay=0.65,
    unfreeze="all",
    batch_size=None,
    augment="auto",
    num_classes=None,
    seed=0,
    callbacks=(),
    verbose="auto",
):
    """Train a pretrained model on new data: first its head alone, then everything, the lower the layer the slower.

    In the first phase all but the head is frozen. In the second the layers are divided, from the input to the head, into
    12 groups (shallow models: of four layers each). The head learns at half of `learning_rate`, the group below it at
    that times `layer_decay`, the next at that times `layer_decay ** 2`, and so on. `BatchNormalization` stays frozen in
    both. Each phase warms up and then follows a cosine to zero. The optimizer is `recipes.AdamW`; loss and metrics stay
    as compiled.

    The head is replaced, as by `replace_head`, if the model has none, is not compiled, or has another number of outputs
    than the data have classes. So go on with the model that is returned. Its layers are those of `model`: the weights of
    `model` move too.

    Give `keras.applications` models what their own `preprocess_input` makes of the pixels. A model with LoRA weights is
    trained with `recipes.fit` instead.

    Args:
        model: Functional or Sequential Keras model, best a pretrained one.
        data: `(x, y)` arrays, a `recipes.data.Data`, a `tf.data.Dataset` of batches or a `keras.utils.PyDataset`.
        validation: The same, or a fraction of `data` in (0, 1) to hold out; `None` for no validation.
        epochs: Number of passes over the data in all, at least 1.
        freeze_epochs: How many of them train the head alone: 0 to `epochs`.
        learning_rate: Peak learning rate of the head in the first phase. In the second it is half of that.
        layer_decay: Factor between one group of layers and the next below, in (0, 1]; 1 for one rate everywhere.
        unfreeze: What the second phase trains besides the head: `"all"`, the last `n` layers, or from a layer on, as
            `what` of `recipes.unfreeze`.
        batch_size: Examples a step; `None`: 32, or 16 if an epoch would have less than ten steps.
        augment: As in `recipes.fit`.
        num_classes: Number of classes; `None`: as many as the labels of `data` and `validation` show.
        seed: Integer that fixes order, augmentation and the split.
        callbacks: Keras callbacks; they see two trainings, with one count of the epochs.
        verbose: As in `keras.Model.fit`.

    Returns:
        `(model, history)`: the model as the last phase left it, compiled to go on like that, and one
        `keras.callbacks.History` of all epochs.

    Raises:
        ValueError: If the data do not fit the model, or an argument is out of its range; before any step, with the
            model as it was.

    Example:

    >>> model = recipes.resnet((8, 8, 1), 100)  # a pretrained one would be better
    >>> model, history = fine_tune(model, recipes.data.load("digits"), num_classes=10, epochs=2, verbose=0)
    >>> model.output_shape, history.epoch
    ((None, 10), [0, 1])

    Reference:
        Two phases: `fine_tune` of fastai. Rates: [Howard & Ruder, 2018](https://arxiv.org/abs/1801.06146), section 3.1;
        .65 a group: [He et al., 2021](https://arxiv.org/abs/2111.06377), `FINETUNE.md` of its code.
    """
    check_count("epochs", epochs)
    check_count("freeze_epochs", freeze_epochs, minimum=0)
    if freeze_epochs > epochs:
        raise ValueError(
            "freeze_epochs must be at most epochs, which counts them too. "
            f"Received: freeze_epochs={freeze_epochs}, epochs={epochs}"
        )
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be in (0, 1]. Received: layer_decay={layer_decay}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a finite number > 0. Received: learning_rate={learning_rate}")
    select("unfreeze", model, unfreeze)
    if any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
        raise ValueError("model has LoRA weights, which learn alone with the head: train it with recipes.fit.")
    _check_length(data)
    model, examples, warning = _fit_head(model, data, validation, num_classes)
    if batch_size is None and examples:
        batch_size = default_batch_size(examples, STRANGER["batch_size"])
    train, validation = prepare(model, data, validation, batch_size=batch_size, augment=augment, seed=seed)
    if warning:
        warnings.warn(warning, stacklevel=2)

    history = keras.callbacks.History()
    history.set_model(model)
    history.on_train_begin()
    for what, last in ((None, freeze_epochs), (unfreeze, epochs)):
        first = len(history.epoch)
        if first >= last:
            continue
        # as fastai does; 74.0 % became 75.3 % in benchmarks/transfer_fashion.py (3 seeds, looking at its test images)
        _begin_phase(model, what, learning_rate if what is None else learning_rate / 2, layer_decay)
        part = fit_batches(
            model,
            train,
            validation_data=validation,
            epochs=epochs,
            initial_epoch=first,
            callbacks=[_PhaseSchedule(first, last), *callbacks],
            verbose=verbose,
        )
        history.epoch += part.epoch
        history.params = part.params
        for name, values in part.history.items():
            history.history.setdefault(name, []).extend(values)
    model.history = history
    return model, history


def add_lora(model, rank=8, *, alpha=None):
    """Freeze everything but the head, add low-rank weights to the layers below, and compile again.

    A kernel `W` becomes `W + alpha / rank * A @ B`, where `A` has `rank` columns and `B` begins at zero, so that the
    model computes at first what it did. Only `A`, `B` and the head learn: a few per cent of the weights. Every `Dense`,
    `EinsumDense` (those within attention too), `Embedding` and convolution gets them, however deep it is nested;
    depthwise convolutions do not. Train the model with `recipes.fit` or `model.fit`, at a rate of about 1e-3.

    Saving merges: a file holds `W + alpha / rank * A @ B` as the kernel, and no state of the optimizer, which belonged
    to `A` and `B`. A loaded model computes the same; to train on, call `add_lora` again.

    Args:
        model: Functional or Sequential Keras model; changed in place. Give it its head first, with `replace_head`.
        rank: Number of columns of `A`, at least 1.
        alpha: Scale of the added product, relative to `rank`; `None`: `rank`, a scale of 1.

    Returns:
        `model`.

    Raises:
        ValueError: If no layer below the head takes LoRA weights, or one has them already.

    Example:

    >>> model = replace_head(keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None), 5)
    >>> parameters = model.count_params()
    >>> add_lora(model, rank=4).count_params() > parameters
    True

    Reference:
        [Hu et al., 2021](https://arxiv.org/abs/2106.09685), section 4.1.
    """
    check_count("rank", rank)
    top = find_head(model)[1]
    below = [layer for layer, _ in flatten(model) if id(layer) not in _ids(top)]
    adapted = {unit: [part for part in unit._flatten_layers() if _takes_lora(part)] for unit in below}
    chosen = [layer for parts in adapted.values() for layer in parts]
    if not chosen:
        raise ValueError(
            "model must have a Dense, EinsumDense, Embedding or convolution layer below its head. Received: "
            f"{model.name} with {sorted({type(layer).__name__ for layer in below if layer.weights})}"
        )
    for layer in chosen:
        if layer.lora_enabled and any(np.any(w) for w in _lora_weights(layer)):
            raise ValueError(f"model must have no LoRA weights yet. Received: {model.name}, {layer.name} has some")
    for layer in chosen:
        if layer.lora_enabled:  # it comes from a file: A and B are both zero, and neither would ever get a gradient
            a = _lora_weights(layer)[0]
            a.assign(keras.initializers.HeUniform()(a.shape, a.dtype))
        else:
            layer.enable_lora(rank, lora_alpha=alpha)
    set_trainable(model, {**{id(unit): bool(parts) for unit, parts in adapted.items()}, **dict.fromkeys(_ids(top), True)})
    learns = _ids(v for layer in chosen for v in _lora_weights(layer))
    for unit, parts in adapted.items():
        for variable in unit.weights if parts else ():
            variable.trainable = id(variable) in learns
    _recompile(model)
    if model.compiled:  # Keras would load the moments of A and B for other weights, if there are as many
        model.optimizer.save_own_variables = lambda store: None
    return model


class _PhaseSchedule(WarmupCosine):
    """Warm-up and cosine over the epochs `first` to `last` of a longer count; stops the fit after them."""

    def __init__(self, first, last):
        super().__init__(warmup=0.3)  # fastai's share of the rise
        self.first, self.last = first, last

    def _length(self):
        return super()._length() // self.params["epochs"] * (self.last - self.first)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch - self.first, logs)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch - self.first, logs)
        if epoch + 1 >= self.last:
            self.model.stop_training = True


def _begin_phase(model, what, learning_rate, layer_decay):
    """Make the head trainable and what `what` selects, `None` for nothing else, and compile with rates for them."""
    layers, top = [layer for layer, _ in flatten(model)], _ids(find_head(model)[1])
    first = len(layers) if what is None else select("unfreeze", model, what)
    set_trainable(model, {id(layer): i >= first or id(layer) in top for i, layer in enumerate(layers)})
    changes = {"optimizer": "adamw", "learning_rate": float(learning_rate)}
    settings = get_recipe(model).get("training", {})
    if settings:
        set_recipe(model, {**get_recipe(model), "training": {**settings, **changes}})
    defaults = {"momentum": 0.9, "beta_2": 0.999, "global_clipnorm": None, **STRANGER}
    factors = layer_factors(model, layer_decay) if layer_decay < 1 and what is not None else ()
    _recompile(model, make_optimizer({**defaults, **settings, **changes}, lr_multipliers=factors))


def _fit_head(model, data, validation, num_classes):
    """Return the model with a head for the labels, the number of examples if it is known, and a warning or `None`."""
    from recipes.data import Data

    task = get_recipe(model).get("training", {}).get("task")
    if task in ("tokens", "language_model"):
        if num_classes not in (None, model.output_shape[-1]):
            raise ValueError(
                f"num_classes must be None for task={task!r}: build the model with weights= and num_classes= instead. "
                f"Received: num_classes={num_classes!r}"
            )
        return model, None, None  # `prepare` checks the targets
    if task in (None, "embed"):
        task = data.info.task if isinstance(data, Data) else "classify"
    if isinstance(data, Data):
        if num_classes is None and task == "classify" and data.info.class_names:
            num_classes = len(data.info.class_names)
        validation = data.validation if validation is None else validation
        data = data.train
    has_head = model.compiled and bool(find_head(model)[1])
    examples, shown = None, None
    if isinstance(data, tuple) and len(data) == 2:
        pairs = {"data": data, "validation": validation} if isinstance(validation, tuple) else {"data": data}
        shown = max(_check_targets(model, pair, name, task) for name, pair in pairs.items())
        examples = len(data[1])
    wanted = shown if num_classes is None else num_classes
    if wanted is None and not has_head:
        raise ValueError(f"num_classes must be given: a dataset does not say it, and {model.name} has no compiled head.")
    if shown and wanted < shown:
        raise ValueError(f"num_classes must be at least {shown}, as the labels of data show. Received: {num_classes}")
    if has_head and wanted in (None, model.output_shape[-1]):
        return model, examples, None
    warning = (
        f"The head of {model.name} for {model.output_shape[-1]} outputs was replaced by a new one for {wanted}, as the "
        f"labels show. Pass num_classes={wanted} if that is right, or another number."
    )
    return replace_head(model, wanted, task=task), examples, warning if has_head and num_classes is None else None


def _check_targets(model, pair, name, task):
    """Raise `ValueError` unless the arrays fit the backbone; return the number of outputs that their targets need."""
    y = np.asarray(pair[1])
    if y.dtype.kind not in "biuf" or not y.size or not np.isfinite(y).all():
        count = 2  # the check below says what is wrong
    elif y.ndim == 2 and (y.shape[1] > 1 or task != "classify"):
        count = y.shape[1]
    else:
        count = max(2, int(y.max()) + 1) if task == "classify" else 1
    check_arrays(model, *pair, name=name, classes=count if task == "classify" else None)
    return count


def _check_length(data):
    cardinality = getattr(data, "cardinality", None)
    if callable(cardinality) and int(cardinality()) < 0:
        raise ValueError(
            "data must have a known number of batches, for the learning rate to follow its curve: pass "
            "data.apply(tf.data.experimental.assert_cardinality(batches)). Received: unknown or infinite"
        )


def _recompile(model, optimizer=None):
    """Compile again with the loss and metrics it has and a fresh optimizer: `optimizer`, or one like its own."""
    if not model.compiled:
        return model
    if optimizer is None:
        old = model.optimizer
        optimizer = type(old).from_config(old.get_config())
        for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):  # not in the configuration
            if hasattr(old, name):
                setattr(optimizer, name, getattr(old, name))
    model.compile(**{**model._compile_config.config, "optimizer": optimizer})
    return model


def _average(x, model):
    """Average `(batch, ..., channels)` over all positions but those of padding, where the model takes or makes a mask."""
    layers = keras.layers
    pools = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D, 5: layers.GlobalAveragePooling3D}
    name = "head_pool" if "pool" in {layer.name for layer in model.layers} else "pool"
    masks = [layer for layer in model.layers if isinstance(layer, PaddingMask)]
    if len(x.shape) == 3 and len(masks) == len(model.inputs) == 1:
        return MaskedPool(name=name)(x, mask=masks[0].output)
    pool, inputs = pools[len(x.shape)](name=name), inputs_of(model)
    if len(x.shape) == 3 and isinstance(inputs, dict) and "padding_mask" in inputs:  # KerasHub's name for it
        return pool(x, mask=inputs["padding_mask"])
    return pool(x)


def _takes_lora(layer):
    """Return whether Keras can give `layer` LoRA weights."""
    constrained = getattr(layer, "kernel_constraint", None) or getattr(layer, "embeddings_constraint", None)
    return hasattr(layer, "enable_lora") and layer.built and not constrained


def _lora_weights(layer):
    """Return `A` and `B` of a layer that has them."""
    kind = "kernel" if hasattr(layer, "lora_kernel_a") else "embeddings"
    return [getattr(layer, f"lora_{kind}_{part}") for part in "ab"]


def _ids(objects):
    return {id(o) for o in objects}
