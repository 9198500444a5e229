"""`recipes.fit`: one call that trains a model the way its recipe says."""

import functools
import warnings

import keras

from recipes.data.batches import Batches
from recipes.data.pipeline import build_optimizer, fit_batches
from recipes.training.check_setup import check_setup
from recipes.training.check_streams import stream_callbacks, stream_errors
from recipes.training.finite import StopOnNonFinite, guard
from recipes.training.precision import computing_in, set_accumulation
from recipes.training.prepare import prepare
from recipes.training.recipe import check_count, get_recipe, set_recipe


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
    group_by_length=False,
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
        group_by_length: Whether texts of like length share batches, which end where their longest text does: less work
            where lengths differ, for models of padded ids, on arrays. JAX and XLA compile each length, multiples of 8, anew.
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
        group_by_length=group_by_length,
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
    with computing_in(model, precision), stream_errors(model):
        if directory is None:
            return run(epochs=epochs, initial_epoch=initial_epoch)
        settings = {"epochs": epochs, "schedule": schedule, "augment": augment, "mix": mix, "ema": ema, "sizes": sizes}
        settings |= {"early_stopping": early_stopping, "class_weight": class_weight, "accumulate": accumulate}
        settings |= {"precision": precision, "group_by_length": group_by_length}
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
    build_optimizer(model)
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
