"""`recipes.fit`: one call that trains a model the way its recipe says."""

import functools
import warnings

import keras
import numpy as np

from recipes.data.batches import Batches
from recipes.data.pipeline import fit_batches
from recipes.data.shares import round_up
from recipes.data.shuffled import shuffled
from recipes.data.splitting import count
from recipes.layers import Standardize
from recipes.training.check_setup import check_batch_norm, check_setup
from recipes.training.check_streams import check_stream, stream_callbacks, stream_errors
from recipes.training.check_targets import check_validation, count_classes, warn_one_class
from recipes.training.checks import check_arrays, warn_range
from recipes.training.finite import StopOnNonFinite, guard
from recipes.training.language import own_targets
from recipes.training.precision import computing_in, set_accumulation
from recipes.training.recipe import adapt_model, check_count, get_recipe, recompile, set_recipe


def fit(
    model,
    data,
    *,
    validation=None,
    epochs=None,
    batch_size=None,
    schedule="auto",
    augment="auto",
    mix="auto",
    seed=0,
    class_weight=None,
    sample_weight=None,
    early_stopping=None,
    ema="auto",
    sizes="auto",
    precision=None,
    accumulate=1,
    allow_nonfinite=False,
    directory=None,
    save_seconds=60,
    save_steps=None,
    initial_epoch=0,
    callbacks=(),
    verbose="auto",
):
    """Train `model` as its recipe says: schedule, augmentation, batch size and order, in one call of `model.fit`.

    Arrays are checked before the first step, the batches of a stream as they arrive. The order of the examples and their
    augmentation depend on `seed` and the epoch alone. A model that standardises its input is adapted to the training data
    first, if it is not yet. A step whose loss or gradients are not finite changes no weight and ends the training with what
    was wrong.

    With `directory` the same command, run again after whatever stopped it, goes on within the epoch and ends bit for bit
    where it would have ended: see `recipes/training/run.py`.

    Args:
        model: Compiled Keras model, best one that a builder returned: others train by the defaults of this function.
        data: `(x, y)` arrays, a `recipes.data.Data`, a `tf.data.Dataset` of batches or a `keras.utils.PyDataset`. The
            last two keep their own batch size and augmentation; the order of a `Dataset` is its own, that of the batches of
            a `PyDataset` depends on `seed` and the epoch, unless it has hooks or workers. A language model takes ids
            `(examples, length)` alone, an encoder-decoder `{"source": ids, "target": ids}`, a generative model `x` alone, or
            with labels if it has classes.
        validation: The same, or a fraction of `data` in (0, 1) to hold out, stratified by class; `None` for no
            validation, or for that of a `recipes.data.Data`.
        epochs: Number of passes; `None` as the recipe says.
        batch_size: Examples a step; `None` as the recipe says, less on little data so that an epoch has ten steps. The
            learning rate stays what it is: a published recipe's belongs to its own batch size, so build the model with
            `learning_rate=` scaled in proportion.
        schedule: `"auto"` as the recipe says, a callback of `recipes.callbacks`, or `None` for the compiled rate.
        augment: `"auto"` as the recipe says, the name of a policy of `recipes.data.augment`, a function
            `(images, rng) -> images`, or `None`.
        mix: `"auto"` as the recipe says, a dict such as `{"mixup": 0.2, "cutmix": 1.0}`, a function
            `(x, y, rng) -> (x, y)`, or `None`. With mixing the accuracy of the training data is that of the larger share.
        seed: Integer that fixes order, augmentation and the split.
        class_weight: Dict from each class id to its weight.
        sample_weight: Array `(examples,)` of weights, for arrays.
        early_stopping: Number of epochs without a better validation loss after which training stops and the best
            weights return; `None` to train to the end.
        ema: `"auto"` as the recipe says; the decay, such as 0.9999, of an average of the weights, which is what is
            validated and what the model ends with (`recipes.callbacks.ExponentialMovingAverage`); or `None`.
        sizes: `"auto"` as the recipe says; the size of the images in each of some stages of equal length, which grows:
            pixels, `(height, width)`, or fractions of the model's own size such as `(0.5, 0.75, 1.0)`; or `None`. Each
            stage is validated at its size. Use it with networks whose weights fit every size.
        precision: `None` computes as the model was built; `"mixed_bfloat16"` computes in bfloat16 and keeps weights, head
            and loss in float32; `"auto"` does so where the hardware has it and it pays. Afterwards the model computes as
            before.
        accumulate: Number of batches whose gradients make one update, for a batch larger than the memory.
        allow_nonfinite: Whether `x` may hold NaN and infinities, for a model whose own layers deal with them; its recipe
            keeps that for `recipes.predict` and `recipes.evaluate`.
        directory: Folder of checkpoints, of the best weights on the validation data (`recipes.load_best`) and of
            `report.json`; or `None`. Of several processes all must see it, and the first writes. The same arguments and
            data go on with the run in it, others are refused by name. SIGTERM and Ctrl-C wait for the step to be finished
            and saved; a second one does not.
        save_seconds: With `directory`: a checkpoint is due at the end of an epoch, and within one after so many seconds; but
            not before 50 times the duration of writing the last one, so that all take at most 2 % of the time.
        save_steps: Steps after which one is written whatever it costs, or `None`.
        initial_epoch: Epoch to start from.
        callbacks: More Keras callbacks.
        verbose: As in `keras.Model.fit`.

    Returns:
        `keras.callbacks.History`.

    Raises:
        ValueError: If the data do not fit the model, an argument is out of its range, or `directory` belongs to another run
            or process; before any step.
        FloatingPointError: If the loss or a gradient is not finite. The trained weights are those before that step; the
            running statistics of a batch normalization may have seen the batch.
        OSError: If `directory` cannot be written: at the start, for the third time in a row, or at the end.

    Example:

    >>> data = recipes.data.load("digits")
    >>> model = recipes.resnet((8, 8, 1), 10)
    >>> history = recipes.fit(model, data, epochs=1, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'learning_rate', 'loss', 'val_accuracy', 'val_loss']
    """
    training = training_settings(model)
    epochs = training["epochs"] if epochs is None else epochs
    check_count("epochs", epochs, minimum=0)
    if allow_nonfinite:
        set_recipe(model, {**get_recipe(model), "allow_nonfinite": True})
    train, validation = prepare(
        model,
        data,
        validation,
        batch_size=batch_size,
        augment=augment,
        mix=mix,
        seed=seed,
        sample_weight=sample_weight,
        class_weight=class_weight,
    )
    check_setup(model, callbacks, validation is not None)
    callbacks = [*make_schedule(model, schedule), *make_average(model, ema), *own_callbacks(model), *callbacks]
    if early_stopping is not None:
        check_count("early_stopping", early_stopping)
        if validation is None:
            raise ValueError("early_stopping needs validation data: pass validation=(x, y) or a fraction such as 0.1.")
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=early_stopping, restore_best_weights=True))
    callbacks += [StopOnNonFinite(train), *stream_callbacks(model, train)]
    run, own_policy = functools.partial(fit_batches, model), augment == "auto" and mix == "auto"
    if isinstance(sizes, str) and sizes == "auto":
        sizes = training.get("sizes")
    if sizes is not None:
        from recipes.training.resolution import fit_sizes

        if early_stopping is not None:
            raise ValueError("early_stopping must be None with sizes: the losses of two sizes do not compare.")
        run = functools.partial(fit_sizes, model, sizes=sizes, grow=training.get("grow") if own_policy else None)
    run = functools.partial(
        run, train, validation_data=validation, class_weight=class_weight, callbacks=callbacks, verbose=verbose
    )
    check_count("accumulate", accumulate)
    set_accumulation(model, accumulate)
    guard(model)
    if model.built and not model.optimizer.built:  # or TensorFlow makes its state in the first step, and traces that twice
        model.optimizer.build(model.trainable_variables)
    with computing_in(model, precision), stream_errors(model):
        if directory is None:
            return run(epochs=epochs, initial_epoch=initial_epoch)
        settings = {"epochs": epochs, "schedule": schedule, "augment": augment, "mix": mix, "ema": ema, "sizes": sizes}
        settings |= {"early_stopping": early_stopping, "class_weight": class_weight, "accumulate": accumulate}
        settings["precision"] = precision
        return fit_in(directory, model, train, validation, run, settings, initial_epoch, save_seconds, save_steps)


def training_settings(model):
    """Return the training part of the model's recipe; for a stranger the defaults of its task, with a warning."""
    settings = get_recipe(model).get("training")
    if settings is None:
        if not model.compiled:
            raise ValueError("model is not compiled. Call model.compile(...), or build it with a function of recipes.")
        warnings.warn(
            f"{model.name} did not come from a builder of recipes, so it has no training recipe: WarmupCosine from its "
            "compiled rate, 30 epochs, batches of 128, no augmentation.",
            stacklevel=3,
        )
        settings = {"task": None, "schedule": "WarmupCosine", "epochs": 30, "batch_size": 128, "augment": None}
    return settings


def prepare(
    model,
    data,
    validation=None,
    *,
    batch_size=None,
    augment="auto",
    mix="auto",
    seed=0,
    sample_weight=None,
    class_weight=None,
    initial_epoch=0,
):
    """Check the data and turn them into what `model.fit` takes.

    Args:
        model: Model to train; its `Standardize` layers are adapted if they are not.
        data, validation, batch_size, augment, mix, seed, sample_weight, class_weight, initial_epoch: As in `fit`.

    Returns:
        `(train, validation)`: a `recipes.data.Batches` and `Batches` or `None`, or the datasets that came in.
    """
    from recipes.data import Data, split
    from recipes.data.augment import automatic
    from recipes.data.masking import mask_tokens
    from recipes.data.mixing import automatic_mix

    training = get_recipe(model).get("training") or {"batch_size": 128, "augment": None, "task": None}
    generative, bundled = training["task"] == "generate", isinstance(data, Data)
    if bundled:
        validation = data.validation if validation is None else validation
        if data.info.class_names:
            set_recipe(model, {**get_recipe(model), "class_names": list(data.info.class_names)})
        data = data.train
        if isinstance(data, Batches):  # of image_folder(batch_size=...), for Keras; here the recipe augments
            batch_size, data = batch_size or data.batch_size, (data.x, data.y)
    if training["task"] == "language_model":
        data, validation = (_with_targets(part) for part in (data, validation))
    if generative:
        data, validation = (model.as_pair(part, bundled) for part in (data, validation))
    classes = count_classes(model)
    check = model.check_data if generative else functools.partial(check_arrays, model, classes=classes)
    if not isinstance(data, tuple):
        _check_dataset(model, data, validation, sample_weight)
        if isinstance(validation, tuple):
            validation = Batches(*check(*validation, name="validation"), round_up(256), shuffle=False)
        return shuffled(check_stream(model, data, "data"), seed), check_stream(model, validation, "validation")
    if len(data) != 2:
        raise ValueError(
            f"data must be (x, y), a recipes.data.Data, a tf.data.Dataset or a PyDataset. Received: {len(data)} parts"
        )
    mask = functools.partial(mask_tokens, **training["mask"]) if training.get("mask") else None
    x, y = check(*data)
    warn_range(model, x)
    warn_one_class(y, classes)
    _check_weights(y, class_weight, sample_weight, classes)
    if isinstance(validation, (int, float)):
        if not 0 < validation < 1:
            raise ValueError(f"validation must be data or a fraction in (0, 1). Received: validation={validation}")
        if sample_weight is not None:
            raise ValueError("validation must be data, not a fraction, when sample_weight is given: split both yourself.")
        alone = y is None
        (x, y), validation = split(
            x, np.zeros(count(x)) if alone else y, validation, seed=seed, stratify=classes is not None
        )
        y, validation = (None, (validation[0], None)) if alone else (y, validation)
    if isinstance(validation, tuple):
        validation = check(*validation, name="validation")
        check_validation(x, y, *validation, classes)
        validation = Batches(*validation, batch_size or round_up(256), shuffle=False, mix=mask)
    if any(isinstance(layer, Standardize) and not layer.adapted for layer in model.layers):
        adapt_model(model, x, y)
        recompile(model)
    arguments = training.get("augment_arguments") if augment in ("auto", training["augment"]) else None
    if augment == "auto":
        augment = training["augment"]
    if augment is None or isinstance(augment, str):
        augment = automatic(augment, model.input_shape[1:], arguments) if augment else None
    if isinstance(mix, str) and mix == "auto":
        mix = mask or training.get("mix")
    if mix is not None and (class_weight is not None or sample_weight is not None):
        raise ValueError("mix must be None with class_weight or sample_weight: a mixture has no weight of its own.")
    if mix is not None and mask is None and classes is None:
        y = np.asarray(y, "float32")
    if not callable(mix):
        mix = automatic_mix(mix, classes)
    if batch_size is None:
        batch_size = default_batch_size(count(x), training["batch_size"])
    check_count("batch_size", batch_size)
    check_batch_norm(model, min(batch_size, count(x)))
    arguments = get_recipe(model).get("arguments", {})
    if batch_size != training["batch_size"] and arguments.get("training", "default") != "default":
        if arguments.get("learning_rate") is None:
            rate = training["learning_rate"] * batch_size / training["batch_size"]
            warnings.warn(
                f"training={arguments['training']!r} has the rate {training['learning_rate']} for batches of "
                f"{training['batch_size']}, and these are of {batch_size}: nothing was scaled. Build the model with "
                f"learning_rate={rate:.2g}, in proportion, or with the rate you mean.",
                stacklevel=3,
            )
    train = Batches(
        x,
        y,
        batch_size,
        seed=seed,
        augment=augment,
        mix=mix,
        repeats=min(training.get("repeats", 1), batch_size),
        sample_weight=sample_weight,
        initial_epoch=initial_epoch,
    )
    return train, validation


def default_batch_size(examples, preferred):
    """Return `preferred`, halved until an epoch of `examples` has ten steps, but not below 16."""
    while preferred > 16 and examples < 10 * preferred:
        preferred //= 2
    return preferred


def fit_in(directory, model, train, validation, run, settings, initial_epoch, save_seconds, save_steps):
    """Call `run(epochs=, initial_epoch=, run=)` in `directory`, from where the run in it was left."""
    from recipes.callbacks.schedule import settle
    from recipes.training.run import open_run, processes

    parallel = isinstance(keras.distribution.distribution(), keras.distribution.DataParallel)
    if processes()[1] and not (parallel and isinstance(train, Batches)):
        raise ValueError(
            "directory must be None in one process of several, unless they are under keras.distribution.DataParallel and "
            "each is given the same arrays: the first writes for all, and must have all."
        )
    if initial_epoch:
        raise ValueError("initial_epoch must be 0 with directory, which says where to go on.")
    if not isinstance(save_seconds, (int, float)) or not save_seconds >= 0:
        raise ValueError(f"save_seconds must be a number >= 0. Received: save_seconds={save_seconds!r}")
    if save_steps is not None:
        check_count("save_steps", save_steps)
    if not model.built:
        raise ValueError("model must be built to be trained in a directory: give it a keras.Input, or call it once.")
    settle(model.optimizer)  # its rate is one of the facts
    cadence = {"save_seconds": save_seconds, "save_steps": save_steps}
    with open_run(directory, model, train, validation, settings=settings, **cadence) as opened:
        return run(epochs=settings["epochs"], initial_epoch=opened.epoch, run=opened)


def make_schedule(model, schedule):
    """Return the list of the schedule callback that `schedule` means: none, or one."""
    import recipes.callbacks

    if schedule == "auto":
        settings = training_settings(model)
        name, arguments = settings["schedule"], settings.get("schedule_arguments") or {}
        schedule = getattr(recipes.callbacks, name)(**arguments) if name else None
    if schedule is not None and not isinstance(schedule, keras.callbacks.Callback):
        raise ValueError(f'schedule must be "auto", a callback of recipes.callbacks or None. Received: {schedule!r}')
    return [] if schedule is None else [schedule]


def own_callbacks(model):
    """Return the callbacks that a model of a family of its own kind trains with."""
    return getattr(model, "fit_callbacks", list)()


def make_average(model, ema):
    """Return the list of the callback that averages the weights as `ema` says: none, or one."""
    from recipes.callbacks import ExponentialMovingAverage

    if isinstance(ema, str) and ema == "auto":
        ema = get_recipe(model).get("training", {}).get("ema")
    if ema is None or isinstance(ema, keras.callbacks.Callback):
        return [] if ema is None else [ema]
    try:
        return [ExponentialMovingAverage(ema)]
    except ValueError as error:
        raise ValueError(f'ema must be "auto", a decay in (0, 1) or None. Received: ema={ema!r}') from error


def _with_targets(data):
    """Return `(x, y)` of the ids alone, which are their own targets; anything else as it is."""
    if isinstance(data, tuple) and len(data) == 1:
        data = data[0]
    if isinstance(data, (np.ndarray, list, dict)):
        return data, own_targets(data)
    return data


def _check_dataset(model, data, validation, sample_weight):
    if isinstance(data, (np.ndarray, list, dict)):
        raise ValueError("data must be (x, y), a tuple of two arrays, to train on arrays. Received: x without y")
    if isinstance(validation, float):
        raise ValueError("validation must be data, not a fraction, unless data are arrays (x, y).")
    if sample_weight is not None:
        raise ValueError("sample_weight goes with arrays (x, y); let a dataset yield (x, y, sample_weight).")
    if any(isinstance(layer, Standardize) and not layer.adapted for layer in model.layers):
        raise ValueError("This model standardises its inputs: build it with adapt=(x, y) to train it on a dataset.")


def _check_weights(y, class_weight, sample_weight, classes):
    if y is None and (class_weight is not None or sample_weight is not None):
        raise ValueError("class_weight and sample_weight must be None for a model that learns from x alone.")
    if class_weight is not None:
        missing = sorted({int(c) for c in np.unique(y)} - set(class_weight)) if classes and y.ndim == 1 else []
        if missing:
            raise ValueError(f"class_weight must name every class of y. Missing: {missing}")
        if not all(np.isfinite(w) and w >= 0 for w in class_weight.values()):
            raise ValueError(f"class_weight must be finite and >= 0. Received: {class_weight}")
    if sample_weight is not None:
        weight = np.asarray(sample_weight)
        if weight.shape != (len(y),):
            raise ValueError(f"sample_weight must have shape ({len(y)},). Received: {weight.shape}")
        if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
            raise ValueError("sample_weight must be finite, >= 0 and not all zero.")
