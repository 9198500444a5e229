"""`recipes.fine_tune`: a new head first, then everything, the early layers with smaller rates."""

import math
import warnings

import keras
import numpy as np

from recipes.callbacks import WarmupCosine
from recipes.data.pipeline import fit_batches
from recipes.training.checks import check_arrays
from recipes.training.graph import find_head, flatten, layer_factors, select, set_trainable
from recipes.training.prepare import default_batch_size, prepare
from recipes.training.recipe import check_count, get_recipe, make_optimizer, set_recipe
from recipes.training.transfer import STRANGER, ids_of, renew_optimizer, replace_head


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
    group_by_length=False,
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
        group_by_length: As in `recipes.fit`.
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
    settings = {"batch_size": batch_size, "augment": augment, "seed": seed, "group_by_length": group_by_length}
    train, validation = prepare(model, data, validation, **settings)
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
    layers, top = [layer for layer, _ in flatten(model)], ids_of(find_head(model)[1])
    first = len(layers) if what is None else select("unfreeze", model, what)
    set_trainable(model, {id(layer): i >= first or id(layer) in top for i, layer in enumerate(layers)})
    changes = {"optimizer": "adamw", "learning_rate": float(learning_rate)}
    settings = get_recipe(model).get("training", {})
    if settings:
        set_recipe(model, {**get_recipe(model), "training": {**settings, **changes}})
    defaults = {"momentum": 0.9, "beta_2": 0.999, "global_clipnorm": None, **STRANGER}
    factors = layer_factors(model, layer_decay) if layer_decay < 1 and what is not None else ()
    renew_optimizer(model, make_optimizer({**defaults, **settings, **changes}, lr_multipliers=factors))


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
