"""The parts of transfer: freeze and unfreeze layers, exchange the head.

All of it works on functional and Sequential Keras models, whoever built them: recipes, `keras.applications`, KerasHub or
the user.
"""

import keras

from recipes.layers import MaskedPool, PaddingMask
from recipes.training.graph import (
    find_head,
    find_output,
    find_span,
    flatten,
    inputs_of,
    operation_of,
    select,
    set_trainable,
    sources_of,
)
from recipes.training.recipe import check_classes, check_fraction, compile_model, get_recipe, head, recompile, set_recipe

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
        top = ids_of(find_head(model)[1])
        if not top:
            raise ValueError(
                f"until must name a layer: {model.name} has no head that could stay trainable. Give it one with "
                "recipes.replace_head(model, num_classes)."
            )
        chosen = ids_of(layers) - top
    elif isinstance(until, str):
        chosen = ids_of(layers[: find_span("until", model, until)[1] + 1])
    else:
        chosen = ids_of(layers[: select("until", model, until)])
    set_trainable(model, dict.fromkeys(chosen, False))
    return renew_optimizer(model)


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
    set_trainable(model, dict.fromkeys(ids_of(layers[select("what", model, what) :]), True), batch_norm)
    return renew_optimizer(model)


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


def renew_optimizer(model, optimizer=None):
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


def ids_of(objects):
    """Return the identities of some objects, as a set: layers and variables do not compare."""
    return {id(o) for o in objects}
