"""Transfer: freeze and unfreeze layers, exchange the head, fine-tune in two phases, add LoRA.

All of it works on functional and Sequential Keras models, whoever built them: by recipes, `keras.applications`, KerasHub or
by hand. Nested models are treated as if their layers stood in the outer one.
"""

import collections
import difflib
import math
import re
import warnings

import keras
import numpy as np

from recipes.callbacks import WarmupCosine
from recipes.training.checks import check_arrays
from recipes.training.fit import default_batch_size, prepare
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

# Layer-wise rates fall from group to group, because one step a layer would leave the first of 50 at .65 ** 50. MAE and BEiT
# have a group a transformer block, 12 in ViT-B; ConvNeXt's fine-tuning divides its 36 blocks into 12 (`optim_factory.py`).
GROUPS, GROUP_SIZE = 12, 4  # at most so many groups, of at least about so many layers
# What else `compile_model` should know of a model that no builder made. Images are moved, never mirrored.
STRANGER = {"weight_decay": 0.05, "label_smoothing": 0.1, "epochs": 10, "batch_size": 32}


def freeze(model, until=None):
    """Make layers untrainable, and compile again: without that Keras would go on training them in silence.

    Frozen weights stay bit for bit what they are, whatever the weight decay; a frozen `BatchNormalization` normalises with
    its stored statistics. The optimizer starts anew from its configuration; loss and metrics stay. A model that is not
    compiled is left so.

    Args:
        model: Functional or Sequential Keras model; changed in place.
        until: Name of the last layer to freeze, from the input on; an int `n`, to freeze all but the last `n` layers with
            weights; or `None`, to freeze all but the head. Other layers stay as they were.

    Returns:
        `model`.

    Raises:
        ValueError: If there is no such layer, or no head.

    Example:

    >>> model = freeze(recipes.resnet((32, 32, 3), 10))
    >>> [v.path for v in model.trainable_variables]
    ['logits/kernel', 'logits/bias']
    """
    units = flatten(model)
    if until is None:
        top = {id(layer) for layer in find_head(model)[1]}
        if not top:
            raise ValueError(
                f"until must name a layer: {model.name} has no head that could stay trainable. Give it one with "
                "recipes.replace_head(model, num_classes)."
            )
        chosen = [layer for layer, _ in units if id(layer) not in top]
    elif isinstance(until, int):
        chosen = [layer for layer, _ in units[: _first_of_last("until", units, until)]]
    else:
        chosen = [layer for layer, _ in units[: _positions("until", units, until)[-1] + 1]]
    _set_trainable(model, {id(layer): False for layer in chosen})
    return _recompile(model)


def unfreeze(model, what="all", *, batch_norm=False):
    """Make layers trainable again, and compile again.

    `BatchNormalization` stays frozen unless asked: small batches of new data would spoil the statistics of the old, and
    with them everything above.

    Args:
        model: Functional or Sequential Keras model; changed in place.
        what: `"all"`; an int `n`, for the last `n` layers with weights (a `BatchNormalization` counts with the layer below);
            or the name of a layer, for it and all above. Other layers stay as they were.
        batch_norm: Whether the `BatchNormalization` layers among them are unfrozen too. If not they are frozen, even if they
            were not.

    Returns:
        `model`.

    Raises:
        ValueError: If there is no such layer.

    Example:

    >>> model = unfreeze(freeze(recipes.resnet((32, 32, 3), 10)), "stage3_block1_1_conv")
    >>> model.get_layer("stage2_block1_1_conv").trainable
    False
    """
    units = flatten(model)
    if what == "all":
        first = 0
    elif isinstance(what, int):
        first = _first_of_last("what", units, what)
    else:
        first = _positions("what", units, what)[0]
    _set_trainable(model, {id(layer): True for layer, _ in units[first:]}, batch_norm)
    return _recompile(model)


def replace_head(model, num_classes, *, task="classify", output=None, dropout=None, learning_rate=1e-3):
    """Return a new compiled model: the layers of `model` below its head, and a fresh head.

    The head is what follows the layer `"features"`; else the last `Dense` layer, or a 1x1 convolution that classifies, with
    what follows it; a model that ends in neither is all backbone. Features with positions, such as
    `(batch, height, width, channels)`, are averaged over them.

    The layers below the head are **shared** with `model`, not copied: training one model moves the weights of both. To keep
    the old one as it is, pass `copy = keras.models.clone_model(model); copy.set_weights(model.get_weights())`.

    `keras.applications` models come with their own idea of pixels: give the new model what
    `keras.applications.<family>.preprocess_input` makes of yours.

    Args:
        model: Functional or Sequential Keras model with or without a head; not changed.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        output: What to put the head on, for a model with several outputs, such as a text encoder, or to cut deeper: name of
            an output, name of a layer, or a tensor of the graph. `None`: the single output, less the head.
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
    recipe = {key: value for key, value in get_recipe(model).items() if key != "class_names"}
    x = find_head(model)[0] if output is None else _named_output(model, output)
    if dropout is not None:
        check_fraction("dropout", dropout)
        if isinstance(_operation(x), keras.layers.Dropout):
            x = _inputs_of(x)[0]
        elif "builder" in recipe and dropout:
            raise ValueError(
                f"dropout must be None: {recipe['builder']} has none before its head, and could not be built again from "
                f"its recipe with one. Received: dropout={dropout}"
            )
    names = {layer.name for layer in model.layers}
    if len(x.shape) > 2:
        x = _average(x, model, name="head_pool" if "pool" in names else "pool")  # (batch, channels)
    if dropout is not None and ("builder" not in recipe or _operation(x).name != "features"):
        x = keras.layers.Dropout(dropout, name="features")(x)
    elif _operation(x).name != "features":
        x = keras.layers.Identity(name="features")(x)
    new = keras.Model(model.input, head(x, num_classes, task), name=model.name)

    arguments = recipe.get("arguments", {})
    if output is None and {"num_classes", "task"} <= set(arguments):
        changes = {"num_classes": num_classes, "task": task, "dropout": dropout, "learning_rate": learning_rate}
        changes = {k: v for k, v in changes.items() if k in arguments and v is not None}
        recipe = {**recipe, "arguments": {**arguments, **changes}}
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

    In the first phase all but the head is frozen. In the second the layers are divided, from the input to the head, into up to
    12 groups of four or more: the head learns at `learning_rate`, the group below it at `learning_rate * layer_decay`, the
    next at `learning_rate * layer_decay ** 2`, and so on. `BatchNormalization` stays frozen in both. Each phase warms up and
    then follows a cosine to zero. The optimizer is `recipes.AdamW`; loss and metrics stay as compiled.

    The head is replaced, as by `replace_head`, if the model has none, is not compiled, or has another number of outputs than
    `num_classes`. So use the model that is returned. Its layers are those of `model`: the weights of `model` move too.

    Give `keras.applications` models what their own `preprocess_input` makes of the pixels. A model with LoRA weights is
    trained with `recipes.fit`.

    Args:
        model: Functional or Sequential Keras model, best a pretrained one.
        data: `(x, y)` arrays, a `recipes.data.Data`, a `tf.data.Dataset` of batches or a `keras.utils.PyDataset`.
        validation: The same, or a fraction of `data` in (0, 1) to hold out; `None` for no validation.
        epochs: Number of passes over the data in all, at least 1.
        freeze_epochs: How many of them train the head alone: 0 to `epochs`.
        learning_rate: Peak learning rate of the head, in both phases.
        layer_decay: Factor between one group of layers and the next below, in (0, 1]; 1 for one rate everywhere.
        unfreeze: What the second phase trains besides the head: `"all"`, the last `n` layers, or from a layer on, as `what`
            of `recipes.unfreeze`.
        batch_size: Examples a step; `None`: 32, less on little data so that an epoch has ten steps.
        augment: As in `recipes.fit`.
        num_classes: Number of classes; `None`: as the labels of `data` and `validation` show.
        seed: Integer that fixes order, augmentation and the split.
        callbacks: Keras callbacks; they see two trainings, with one count of the epochs.
        verbose: As in `keras.Model.fit`.

    Returns:
        `(model, history)`: the model, compiled for more training like that of the last phase, and one
        `keras.callbacks.History` of all epochs.

    Raises:
        ValueError: If the data do not fit the model, or an argument is out of its range; before any step, with the model
            as it was.

    Example:

    >>> model = recipes.resnet((8, 8, 1), 100)  # a pretrained one would be better
    >>> model, history = fine_tune(model, recipes.data.load("digits"), num_classes=10, epochs=2, verbose=0)
    >>> model.output_shape, history.epoch
    ((None, 10), [0, 1])

    Reference:
        [Howard & Ruder, 2018](https://arxiv.org/abs/1801.06146), section 3 (gradual, slower below), and `fine_tune` of fastai
        (two phases); [Bao et al., 2022](https://arxiv.org/abs/2106.08254), appendix, and MAE's `FINETUNE.md` (.65 a group).
    """
    check_count("epochs", epochs)
    check_count("freeze_epochs", freeze_epochs, minimum=0)
    if freeze_epochs > epochs:
        raise ValueError(
            f"freeze_epochs must be at most epochs, which counts them too. Received: freeze_epochs={freeze_epochs}, "
            f"epochs={epochs}"
        )
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be in (0, 1]. Received: layer_decay={layer_decay}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a finite number > 0. Received: learning_rate={learning_rate}")
    if any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
        raise ValueError("model has LoRA weights, which learn alone with the head: train it with recipes.fit.")
    if unfreeze != "all":
        units = flatten(model)
        (_first_of_last if isinstance(unfreeze, int) else _positions)("unfreeze", units, unfreeze)
    _check_length(data)
    model, examples = _fit_head(model, data, validation, num_classes)
    if batch_size is None and examples:
        batch_size = default_batch_size(examples, STRANGER["batch_size"])
    train, validation = prepare(model, data, validation, batch_size=batch_size, augment=augment, seed=seed)

    history = keras.callbacks.History()
    history.set_model(model)
    history.on_train_begin()
    phases = [("head", freeze_epochs), (unfreeze, epochs)]
    for what, last in phases:
        first = len(history.epoch)
        if first >= last:
            continue
        _set_phase(model, what, learning_rate, layer_decay)
        if hasattr(train, "initial_epoch"):
            train.initial_epoch = train.epoch = first  # the order of an epoch depends on its number
        part = model.fit(
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

    A kernel `W` becomes `W + alpha / rank * A @ B`, where `A` has `rank` columns and `B` begins at zero, so that the model
    computes at first what it did. Only `A`, `B` and the head learn: a few per cent of the weights. Every `Dense`,
    `EinsumDense` (those within attention too), `Embedding` and convolution gets them, however deep it is nested; depthwise
    convolutions do not. Train the model with `recipes.fit` or `model.fit`, at a rate of about 1e-3.

    Saving merges: a file holds `W + alpha / rank * A @ B` as the kernel, and no state of the optimizer, which belonged to `A`
    and `B`. A loaded model computes the same; to train on, call `add_lora` again.

    Args:
        model: Keras model; changed in place. Give it its head first, with `replace_head`: a head of other classes would
            be kept.
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
    below = [layer for layer, _ in flatten(model) if all(layer is not other for other in top)]
    chosen = [layer for unit in below for layer in unit._flatten_layers() if hasattr(layer, "enable_lora")]
    chosen = [layer for layer in chosen if layer.built and _lora_kernel(layer) is not None]
    if not chosen:
        raise ValueError(
            f"model must have a Dense, EinsumDense, Embedding or convolution layer below its head. Received: {model.name} "
            f"with {sorted({type(layer).__name__ for layer in below if layer.weights})}"
        )
    for layer in chosen:
        if layer.lora_enabled and any(np.any(w) for w in _lora_weights(layer)):
            raise ValueError(f"model must have no LoRA weights yet. Received: {model.name}, {layer.name} has some")
    for layer in chosen:
        if layer.lora_enabled:  # a loaded file: both are zero, and neither would ever get a gradient
            a = _lora_weights(layer)[0]
            a.assign(keras.initializers.HeUniform()(a.shape, a.dtype))
        else:
            layer.enable_lora(rank, lora_alpha=alpha)
    adapted = {id(layer) for layer in chosen}
    inside = [any(id(layer) in adapted for layer in unit._flatten_layers()) for unit in below]
    states = {id(unit): trains for unit, trains in zip(below, inside, strict=True)}
    _set_trainable(model, {**states, **{id(layer): True for layer in top}})
    learns = {id(v) for layer in chosen for v in _lora_weights(layer)}
    for unit, trains in zip(below, inside, strict=True):
        for variable in unit.weights if trains else ():
            variable.trainable = id(variable) in learns
    _recompile(model)
    if model.compiled:  # on loading, a count that fits by accident would put the moments of A and B on other weights
        model.optimizer.save_own_variables = lambda store: None
    return model


def flatten(model):
    """Return `(layer, names of the nested models around it)` of every layer, in order from input to output, each once."""
    units, seen = [], set()

    def visit(model, names):
        for layer in model.layers:
            if _is_graph(layer):
                visit(layer, (*names, layer.name))
            elif id(layer) not in seen:
                seen.add(id(layer))
                units.append((layer, names))

    if not _is_graph(model):
        raise ValueError(
            "model must be a functional or a built Sequential Keras model, whose layers and their order are known. "
            f"Received: {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    visit(model, ())
    return units


def find_head(model):
    """Return the tensor that the head of `model` takes, and the layers of the head; the output and `[]` without a head."""
    flatten(model)  # checks
    names = {layer.name: layer for layer in model.layers}
    if "features" in names and "logits" in names:
        x = names["features"].output
        below = _below(x)
        return x, [layer for layer in model.layers if id(layer) not in below]
    if len(model.outputs) != 1:
        raise ValueError(
            f"output must name one of several outputs of {model.name}. Received: output=None. The outputs: "
            f"{list(model.output) if isinstance(model.output, dict) else [_operation(t).name for t in model.outputs]}"
        )
    x, above, activations = model.outputs[0], [], set()
    while True:
        layer, inputs = _operation(x), _inputs_of(x)
        if _is_graph(layer):
            y, inner = find_head(layer)
            if not inner:
                break
            node = layer._inbound_nodes[x._keras_history.node_index]
            cut = keras.Model(layer.input, y, name=layer.name)
            return cut(*node.arguments.args, **node.arguments.kwargs), [*above, *inner]
        activations.add(_activation(layer))
        if _classifies(layer, activations - {None}):
            return inputs[0], [*above, layer]
        if len(inputs) != 1 or getattr(layer, "weights", ()):
            break
        above.append(layer)
        x = inputs[0]
    return model.outputs[0], []


def layer_groups(model):
    """Return the weights below the head in up to 12 groups of four or more layers, lowest first, for layer-wise rates.

    A layer made of layers, such as an encoder, is taken apart. The groups have equally many layers with a matrix; what has
    vectors only, such as a normalisation, goes with the layer before it.
    """
    top = {id(layer) for layer in find_head(model)[1]}
    parts = [part for layer, _ in flatten(model) if id(layer) not in top for part in _parts(layer)]
    major = [any(len(v.shape) > 1 for v in weights) for weights in parts]
    count = max(1, sum(major))
    groups = [[] for _ in range(min(GROUPS, math.ceil(count / GROUP_SIZE)))]
    position = 0
    for weights, is_major in zip(parts, major, strict=True):
        position += is_major
        groups[max(0, position - 1) * len(groups) // count] += weights
    return groups


def layer_factors(model, layer_decay):
    """Return `lr_multipliers` for our optimizers: `layer_decay` to the number of groups above, the head's being 1."""
    groups = layer_groups(model)
    groups.append([v for layer in find_head(model)[1] for v in layer.weights])
    # A path loses the names of nested models when the model is reloaded, so the expressions leave them out if they can.
    around = {id(v): "/".join((*names, "")) for layer, names in flatten(model) for v in layer.weights}
    tails = [[v.path.removeprefix(around[id(v)]) for v in group] for group in groups]
    count = collections.Counter(tail for group in tails for tail in group)
    patterns = {}
    for i, (group, names) in enumerate(zip(groups, tails, strict=True)):
        for v, name in zip(group, names, strict=True):
            layer = (v.path if count[name] > 1 else name).rpartition("/")[0]
            patterns.setdefault((-layer.count("/"), i), {})[re.escape(layer)] = None
    return [  # the longest first, because "encoder/dense" ends as "dense" does, and the first match counts
        (f"(^|/)({'|'.join(patterns[key])})/[^/]+$", layer_decay ** (len(groups) - 1 - key[1])) for key in sorted(patterns)
    ]


class _PhaseSchedule(WarmupCosine):
    """Warm-up and cosine over the epochs `first` to `last` of a longer count; stops the fit after them."""

    def __init__(self, first, last, warmup=0.3):
        super().__init__(warmup=warmup)
        self.first, self.last = first, last

    def _length(self):
        return super()._length() // self.params["epochs"] * (self.last - self.first)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch - self.first, logs)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch - self.first, logs)
        if epoch + 1 >= self.last:
            self.model.stop_training = True


def _parts(layer):
    """Return the weights of a layer and of the layers within it, a list for each, in the order in which they were made."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    lists = [own] if own else []
    for part in layer._layers:
        lists += _parts(part)
    return lists


def _set_phase(model, what, learning_rate, layer_decay):
    """Set what trains in a phase of `fine_tune`, and compile for it."""
    units, top = flatten(model), {id(layer) for layer in find_head(model)[1]}
    if what == "all":
        first = 0
    elif what == "head":
        first = len(units)
    else:
        first = _first_of_last("unfreeze", units, what) if isinstance(what, int) else _positions("unfreeze", units, what)[0]
    _set_trainable(model, {id(layer): i >= first or id(layer) in top for i, (layer, _) in enumerate(units)})
    defaults = {"momentum": 0.9, "beta_2": 0.999, "global_clipnorm": None, **STRANGER}
    changes = {"optimizer": "adamw", "learning_rate": float(learning_rate)}
    recipe = get_recipe(model)
    if "training" in recipe:
        set_recipe(model, {**recipe, "training": {**recipe["training"], **changes}})
    factors = layer_factors(model, layer_decay) if layer_decay < 1 and what != "head" else ()
    optimizer = make_optimizer({**defaults, **recipe.get("training", {}), **changes}, lr_multipliers=factors)
    _recompile(model, optimizer)


def _fit_head(model, data, validation, num_classes):
    """Return the model with a head for the labels, its own if it fits, and the number of examples if it is known."""
    from recipes.data import Data

    task = get_recipe(model).get("training", {}).get("task", "classify")
    if isinstance(data, Data):
        if num_classes is None and task == "classify" and data.info.class_names:
            num_classes = len(data.info.class_names)
        validation = data.validation if validation is None else validation
        data = data.train
    has_head = model.compiled and bool(find_head(model)[1])
    shown, examples = None, None
    if isinstance(data, tuple) and len(data) == 2:
        shown = _outputs_shown(model, data, validation, task)
        examples = len(data[1])
    wanted = shown if num_classes is None else num_classes
    if wanted is None and not has_head:
        raise ValueError(
            f"num_classes must be given for a dataset, because {model.name} has no compiled head that would say it."
        )
    check_classes(wanted or model.output_shape[-1], task)
    if shown and wanted < shown:
        raise ValueError(f"num_classes must be at least {shown}, as the labels of data show. Received: num_classes={wanted}")
    if has_head and wanted in (None, model.output_shape[-1]):
        return model, examples
    if has_head and num_classes is None:
        warnings.warn(
            f"The head of {model.name} for {model.output_shape[-1]} outputs is replaced by a new one for {wanted}, as the "
            f"labels show. Pass num_classes={wanted} to say so yourself, or another number.",
            stacklevel=3,
        )
    return replace_head(model, wanted, task=task), examples


def _outputs_shown(model, data, validation, task):
    """Check arrays, and return the number of outputs that their targets call for."""
    pairs = [("data", data)] + ([("validation", validation)] if isinstance(validation, tuple) else [])
    counts = []
    for name, pair in pairs:
        _, y = check_arrays(model, *pair, name=name)
        soft = y.ndim == 2 and y.shape[1] > 1
        if task != "classify":
            counts.append(y.shape[1] if y.ndim == 2 else 1)
        elif soft:
            counts.append(y.shape[1])
        else:
            counts.append(int(y.max()) + 1)
        if task == "classify":  # negative, fractional or not probabilities
            check_arrays(model, *pair, name=name, classes=max(2, counts[-1]))
    return max(counts) if task != "classify" else max(2, *counts)


def _check_length(data):
    cardinality = getattr(data, "cardinality", None)
    if callable(cardinality) and int(cardinality()) < 0:
        raise ValueError(
            "data must say how many batches it has, for the learning rate to follow its curve: "
            "data.apply(tf.data.experimental.assert_cardinality(batches))."
        )


def _set_trainable(model, states, batch_norm=False):
    """Set `trainable` of the layers whose id is in `states`, leave the rest, keep BatchNorm frozen unless asked."""
    units = flatten(model)
    states = {id(layer): states.get(id(layer)) for layer, _ in units}

    def open_containers(container, frozen):
        frozen = frozen or not container.trainable
        for layer in container.layers:
            if _is_graph(layer):
                open_containers(layer, frozen)
            elif frozen and states[id(layer)] is None:
                states[id(layer)] = False  # what a frozen container says of its layers is now said by each of them
        if not container.trainable:
            container.trainable = True

    open_containers(model, False)
    for layer, _ in units:
        state = states[id(layer)]
        if state is not None:
            layer.trainable = state
        if state:
            for part in layer._flatten_layers():
                if isinstance(part, keras.layers.BatchNormalization):
                    part.trainable = batch_norm


def _recompile(model, optimizer=None):
    """Compile again with the loss and metrics it has and a fresh optimizer: `optimizer`, or one like its own."""
    if not model.compiled and optimizer is None:
        return model
    settings = dict(model._compile_config.config)
    if optimizer is None:
        old = model.optimizer
        optimizer = type(old).from_config(old.get_config())
        for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):  # not in the config
            if hasattr(old, name):
                setattr(optimizer, name, getattr(old, name))
    model.compile(**{**settings, "optimizer": optimizer})
    return model


def _is_graph(layer):
    """Whether `layer` is a model whose layers are known: a functional or a built Sequential one."""
    return isinstance(layer, keras.Model) and (
        hasattr(layer, "operations") or (isinstance(layer, keras.Sequential) and layer.built)
    )


def _operation(tensor):
    return tensor._keras_history.operation


def _inputs_of(tensor):
    """Return the tensors that the operation which made `tensor` took."""
    return _operation(tensor)._inbound_nodes[tensor._keras_history.node_index].input_tensors


def _below(tensor):
    """Return the ids of all operations that `tensor` comes from."""
    found, waiting = set(), [tensor]
    while waiting:
        x = waiting.pop()
        if id(_operation(x)) not in found:
            found.add(id(_operation(x)))
            waiting += _inputs_of(x)
    return found


def _activation(layer):
    """Return the name of the activation that a layer applies, or `None`."""
    if isinstance(layer, keras.layers.Layer) and not hasattr(layer, "activation"):
        known = {"Softmax": "softmax", "ReLU": "relu", "LeakyReLU": "relu", "ELU": "relu", "PReLU": "relu"}
        return known.get(type(layer).__name__)
    function = getattr(layer, "activation", type(layer).__name__.lower())
    name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    return None if name == "linear" else name


def _classifies(layer, activations):
    """Whether `layer` makes scores of classes, given the names of the activations that it and what follows it apply."""
    probabilities = bool(activations & {"softmax", "log_softmax", "sigmoid"})
    if isinstance(layer, keras.layers.Dense):
        return probabilities or not activations
    if isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D)) and set(layer.kernel_size) == {1}:
        named = re.search(r"logits|pred|classifier|head|fc", layer.name)
        return probabilities or bool(named and not activations)
    return False


def _named_output(model, output):
    """Return the tensor that `output` names."""
    flatten(model)  # checks
    if isinstance(output, keras.KerasTensor):
        return output
    outputs = model.output if isinstance(model.output, dict) else {}
    names = {layer.name: layer for layer in model.layers}
    if output in outputs:
        return outputs[output]
    if output not in names:
        raise ValueError(_unknown("output", output, [*outputs, *names]))
    x = names[output].output
    if not isinstance(x, keras.KerasTensor):
        raise ValueError(f"output must name one tensor; the layer {output!r} has several. Pass the tensor itself.")
    return x


def _average(x, model, name):
    """Average `(batch, ..., channels)` over all positions, those of padding left out where the model says which."""
    pool = {
        3: keras.layers.GlobalAveragePooling1D,
        4: keras.layers.GlobalAveragePooling2D,
        5: keras.layers.GlobalAveragePooling3D,
    }[len(x.shape)](name=name)
    inputs = model.input if isinstance(model.input, dict) else {}
    if len(x.shape) == 3 and "padding_mask" in inputs:  # as KerasHub's text encoders call it
        return pool(x, mask=inputs["padding_mask"])
    return pool(x)


def _positions(argument, units, name):
    """Return the places in `units` of the layer, or of all layers of the nested model, called `name`."""
    found = [i for i, (layer, names) in enumerate(units) if name == layer.name or name in names]
    if not found:
        raise ValueError(_unknown(argument, name, [n for layer, names in units for n in (layer.name, *names)]))
    return found


def _first_of_last(argument, units, count):
    """Return where the last `count` layers with weights begin in `units`; BatchNorm counts with the layer below it."""
    own = [
        i for i, (u, _) in enumerate(units) if u.weights and not isinstance(u, keras.layers.BatchNormalization)
    ]
    check_count(argument, count)
    if count > len(own):
        raise ValueError(f"{argument} must be at most {len(own)}, the number of layers with weights. Received: {count}")
    return own[-count]


def _unknown(argument, name, names):
    close = difflib.get_close_matches(str(name), dict.fromkeys(names), n=4, cutoff=0.4)
    return f"{argument} must name a layer of the model. Received: {argument}={name!r}. Similar names: {close}"


def _lora_kernel(layer):
    """Return the weight that LoRA would add to, or `None` if the layer cannot have it."""
    if getattr(layer, "kernel_constraint", None) or getattr(layer, "embeddings_constraint", None):
        return None
    return getattr(layer, "_kernel", getattr(layer, "_embeddings", None))


def _lora_weights(layer):
    """Return `A` and `B` of a layer that has them."""
    kind = "kernel" if hasattr(layer, "lora_kernel_a") else "embeddings"
    return [getattr(layer, f"lora_{kind}_{part}") for part in "ab"]
