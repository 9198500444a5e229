"""`recipes.tune`: a keras-tuner search over a builder's space in which every trial trains as `recipes.fit` does."""

import contextlib
import dataclasses
import glob
import inspect
import io
import json
import os
import random
import shutil
import sys
import tempfile
import weakref

import keras
import keras_tuner
import numpy as np

from recipes.training.fit import fit, prepare
from recipes.training.recipe import check_choice, check_count, get_recipe, make_loss, make_metrics, set_recipe

# What decides between two trials, as the task is usually judged: (value in the history, direction)
OBJECTIVES = {
    "classify": ("val_accuracy", "max"),
    "multilabel": ("val_loss", "min"),  # accuracy over labels says little where most are 0
    "regress": ("val_mae", "min"),
}
METRICS = {"loss": "min", "accuracy": "max", "mae": "min"}
TUNERS = ("random", "hyperband", "bayesian")
_SEARCH = "search.json"


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What `recipes.tune` returns.

    Attributes:
        model: The best trial's model, trained and compiled; `model.recipe["arguments"]` are the builder's arguments.
        hyperparameters: Dict of the values that the space chose for it.
        history: Its `keras.callbacks.History`.
        tuner: The `keras_tuner.Tuner`, for `tuner.results_summary()` and the other trials.
    """

    model: keras.Model
    hyperparameters: dict
    history: keras.callbacks.History
    tuner: keras_tuner.Tuner


def tune(
    builder,
    data,
    *,
    validation=None,
    trials=20,
    tuner="random",
    epochs=None,
    objective=None,
    directory=None,
    seed=0,
    space=None,
    callbacks=(),
    verbose=1,
    overwrite=False,
    **fixed,
):
    """Search the space of a builder for the arguments that do best on validation data.

    Every trial is one `recipes.fit`: the recipe's schedule over the trial's own epochs, batch size, augmentation and
    order. All trials start from the same seed and see the same split. The best trial's model comes back as it was after
    its best epoch; nothing is trained again, so its score is the one that won. Judge it on data that the search has not
    seen: the best of many trials looks better on the validation data than it is.

    A search that was stopped goes on when the same call is made with the same `directory`. It spreads over processes
    and machines that share `directory` when each runs the same script with keras-tuner's three variables set:
    `KERASTUNER_TUNER_ID` (`chief`, which hands out the trials, and `worker0`, `worker1`, ...), `KERASTUNER_ORACLE_IP`
    and `KERASTUNER_ORACLE_PORT` (the chief's address). The chief returns the best of all; a worker, what is best when
    no trial is left for it.

    Args:
        builder: Function of recipes, such as `recipes.mlp`; or any with the same signature and a `space`.
        data: `(x, y)` arrays or a `recipes.data.Data`, from which the shape of the input, the number of classes and
            the categories are taken. A `tf.data.Dataset` or `PyDataset` needs `input_shape=` and `num_classes=`.
        validation: `(x, y)` arrays, a fraction of `data` in (0, 1) to hold out, or a dataset; `None` for the validation
            part of a `recipes.data.Data`, a fifth of arrays.
        trials: The cost of the search, in full trainings. `"hyperband"` spends it on more and mostly shorter trials; it
            takes at least one training a bracket, `log3(epochs) + 1` of them.
        tuner: `"random"`, `"hyperband"` or `"bayesian"`.
        epochs: Epochs of a full training; `None` as the recipe says.
        objective: Value of the history that decides, such as `"val_loss"`; `None` for `"val_accuracy"`, for
            `"val_loss"` if `task="multilabel"`, `"val_mae"` if `task="regress"`; or a `keras_tuner.Objective`.
        directory: Folder to keep the search in; `None` for a temporary one that goes with the result.
        seed: Integer >= 0 that fixes the trials, their weights, their order and the split.
        space: Function from `keras_tuner.HyperParameters` to arguments of the builder; `None` for the builder's own.
        callbacks: More Keras callbacks; every trial gets its own copy.
        verbose: 0 silent, 1 a table for each trial, 2 also its epochs.
        overwrite: Whether to delete what `directory` holds of an earlier search, rather than to go on with it.
        **fixed: Arguments of the builder that are not searched.

    Returns:
        `TuneResult`.

    Raises:
        ValueError: If an argument is out of its range, the data do not fit the model, or `directory` holds another
            search; before the first trial.
        RuntimeError: If no trial came to its end.

    Example:

    >>> data = recipes.data.load("wine")
    >>> found = recipes.tune(recipes.mlp, data, trials=2, epochs=2, verbose=0)
    >>> sorted(found.hyperparameters)
    ['depth', 'dropout', 'learning_rate', 'weight_decay', 'width']
    """
    check_count("trials", trials)
    check_choice("tuner", tuner, TUNERS)
    check_count("seed", seed, minimum=0)
    if epochs is not None:
        check_count("epochs", epochs)
    train, validation, names, fixed = _prepare_data(data, validation, seed, fixed)
    shapes = [fixed.pop(key) for key in ("input_shape", "num_classes")]
    models = _RecipeHyperModel(builder, *shapes, space, fixed, seed=seed, verbose=max(verbose - 1, 0))
    with _global_state_kept():
        probe = models.build(keras_tuner.HyperParameters())  # what is wrong for every trial is said now
        prepare(probe, train, validation, seed=seed)
        training = get_recipe(probe)["training"]
        epochs = training["epochs"] if epochs is None else epochs
        objective = _objective(objective, training["task"])
        description = {
            "builder": builder.__name__,
            "arguments": {k: v for k, v in get_recipe(probe)["arguments"].items() if k not in models.searched},
            "space": sorted(models.searched),
            "examples": len(train[1]) if isinstance(train, tuple) else None,
            "objective": [objective.name, objective.direction],
            **{"tuner": tuner, "epochs": epochs, "seed": seed},
        }
        if tuner == "hyperband":
            description["trials"] = trials  # the sizes of the brackets follow from it
        folder = _open(directory, description, overwrite)
        search = _make_tuner(tuner, models, objective, trials, epochs, seed, folder, verbose)
        search.search(train, validation_data=validation, epochs=epochs, callbacks=list(callbacks))
        best = _best_trial(folder, objective)
        model = _ready(search.load_model(best))
    if names:
        set_recipe(model, {**get_recipe(model), "class_names": list(names)})
    if directory is None:
        weakref.finalize(search, shutil.rmtree, folder, ignore_errors=True)
    values = {k: v for k, v in best.hyperparameters.values.items() if not k.startswith("tuner/")}
    return TuneResult(model, values, _history(search, best), search)


def hypermodel(builder, input_shape, num_classes, *, space=None, **fixed):
    """Make a `keras_tuner.HyperModel` of a builder and its space, for any tuner of keras-tuner.

    Its `fit` is `recipes.fit`: `tuner.search` takes `x, y` or `(x, y)`, `validation_data` or `validation_split`, and
    every other argument of `recipes.fit`.

    Args:
        builder: Function of recipes, such as `recipes.mlp`; or any with the same signature and a `space`.
        input_shape: First argument of the builder.
        num_classes: Second argument of the builder.
        space: Function from `keras_tuner.HyperParameters` to arguments of the builder; `None` for `<builder>_space` of
            the builder's module.
        **fixed: Arguments of the builder that are not searched.

    Returns:
        `keras_tuner.HyperModel`.

    Raises:
        ValueError: If the builder has no space, or does not take what the space chooses or `fixed` holds.

    Example:

    >>> import keras_tuner
    >>> model = recipes.hypermodel(recipes.mlp, (4,), 3, dropout=0.1).build(keras_tuner.HyperParameters())
    >>> model.output_shape
    (None, 3)
    """
    return _RecipeHyperModel(builder, input_shape, num_classes, space, fixed)


class _RecipeHyperModel(keras_tuner.HyperModel):
    def __init__(self, builder, input_shape, num_classes, space, fixed, seed=None, verbose=None):
        if not callable(builder) or isinstance(builder, keras.Model):
            raise ValueError(f"builder must be a function such as recipes.mlp. Received: builder={builder!r}")
        if space is None:
            space = getattr(sys.modules.get(builder.__module__), f"{builder.__name__}_space", None)
            if space is None:
                raise ValueError(
                    f"space must be given: {builder.__module__} has no {builder.__name__}_space. Pass space=, a function "
                    "from keras_tuner.HyperParameters to arguments of the builder."
                )
        super().__init__()
        self.builder, self.space, self.fixed = builder, space, fixed
        self.input_shape, self.num_classes = input_shape, num_classes
        self.seed, self.verbose, self.policy = seed, verbose, keras.config.dtype_policy()
        hp = keras_tuner.HyperParameters()
        chosen = space(hp)
        parameters = [p.name for p in inspect.signature(builder).parameters.values()]
        for name, keys in (("space", chosen), ("fixed", fixed)):
            unknown = sorted(set(keys) - set(parameters[2:]))
            if unknown:
                raise ValueError(
                    f"{name} must hold arguments of {builder.__name__}: {', '.join(parameters[2:])}. Received: "
                    f"{', '.join(unknown)}"
                )
        self.searched = set(chosen) - set(fixed)
        self.pinned = {p.name: fixed[p.name] for p in hp.space if p.name in fixed}

    def build(self, hp):
        keras.config.set_dtype_policy(self.policy)  # keras-tuner clears the session before each model, and this with it
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed)
        for name, value in self.pinned.items():
            hp.Fixed(name, value)
        model = self.builder(self.input_shape, self.num_classes, **{**self.space(hp), **self.fixed})
        model.optimizer.build(model.trainable_variables)  # so that load_weights finds where the moments go
        return model

    def fit(self, hp, model, x, y=None, *, validation_data=None, validation_split=None, **kwargs):
        data = x if y is None else (x, y)
        validation = validation_data if validation_data is not None else validation_split or None
        if self.seed is not None:
            kwargs.setdefault("seed", self.seed)
        if self.verbose is not None:
            kwargs.setdefault("verbose", self.verbose)
        history = fit(_ready(model), data, validation=validation, **kwargs)
        if not np.isfinite(history.history["loss"]).all():
            raise keras_tuner.errors.FailedTrialError(f"the loss is not finite: {history.history['loss']}")
        return history


class _KeepsHistory:
    """Write each trial's history beside its weights: keras-tuner keeps the best epoch's values only."""

    def run_trial(self, trial, *args, **kwargs):
        histories = super().run_trial(trial, *args, **kwargs)
        logs = {k: [float(v) for v in values] for k, values in histories[0].history.items()}
        earlier = trial.hyperparameters.values.get("tuner/trial_id")  # Hyperband goes on from there
        if earlier:
            before = _history_file(self, earlier)
            logs = {k: before.get(k, []) + values for k, values in logs.items()}
        with open(os.path.join(self.get_trial_dir(trial.trial_id), "history.json"), "w", encoding="utf-8") as file:
            json.dump(logs, file)
        return histories


class _Random(_KeepsHistory, keras_tuner.RandomSearch):
    pass


class _Bayesian(_KeepsHistory, keras_tuner.BayesianOptimization):
    pass


class _HyperbandOracle(keras_tuner.oracles.HyperbandOracle):
    """Hyperband whose brackets share a budget of `trainings` full trainings equally."""

    def __init__(self, trainings, **kwargs):
        self.trainings = trainings
        super().__init__(**kwargs)

    def _get_size(self, bracket_num, round_num):
        share = self.trainings / self._get_num_brackets()
        survivors = share / (1 + bracket_num * (1 - 1 / self.factor))  # each rung costs 1 - 1/factor of the last
        return max(1, round(survivors * self.factor ** (bracket_num - round_num)))


class _Hyperband(_KeepsHistory, keras_tuner.Hyperband):
    def __init__(self, hypermodel, trainings, max_epochs, objective, seed, max_consecutive_failed_trials, **kwargs):
        oracle = _HyperbandOracle(
            trainings,
            max_epochs=max_epochs,
            objective=objective,
            seed=seed,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        keras_tuner.Tuner.__init__(self, oracle=oracle, hypermodel=hypermodel, **kwargs)


def _make_tuner(tuner, models, objective, trials, epochs, seed, folder, verbose):
    arguments = {
        "objective": objective,
        "seed": seed + 1,  # keras-tuner takes 0 for "any"
        "max_consecutive_failed_trials": 10**6,  # one that diverges says nothing of the next
        "directory": os.path.dirname(folder),
        "project_name": os.path.basename(folder),
    }
    with contextlib.redirect_stdout(sys.stdout if verbose else io.StringIO()):  # keras-tuner says that it reloads
        if tuner == "random":
            search = _Random(models, max_trials=trials, **arguments)
        elif tuner == "bayesian":
            search = _Bayesian(models, max_trials=trials, **arguments)
        else:
            search = _Hyperband(models, trials, epochs, **arguments)
    search.oracle.verbose = int(verbose)
    return search


def _ready(model):
    """Compile for the statistics that loaded weights brought, keeping the optimizer and its moments."""
    settings = get_recipe(model)["training"]
    model.compile(optimizer=model.optimizer, loss=make_loss(model, settings), metrics=make_metrics(settings))
    return model


def _prepare_data(data, validation, seed, fixed):
    """Return train and validation data, class names, and `fixed` with the shapes that the data tell."""
    from recipes.data import Data, split

    names = None
    if isinstance(data, Data):
        validation = data.validation if validation is None else validation
        names, data = data.info.class_names, data.train
    if not isinstance(data, tuple):
        missing = [key for key in ("input_shape", "num_classes") if key not in fixed]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be given unless data are arrays (x, y).")
        if validation is None or isinstance(validation, (int, float)):
            raise ValueError(f"validation must be data unless data are arrays (x, y). Received: validation={validation}")
        return data, validation, names, dict(fixed)
    if len(data) != 2:
        raise ValueError(f"data must be (x, y) or a recipes.data.Data. Received: {len(data)} parts")
    task = fixed.get("task", "classify")
    inferred = _infer(data, validation if isinstance(validation, tuple) else None, task, names)
    validation = 0.2 if validation is None else validation
    if isinstance(validation, (int, float)):
        if not 0 < validation < 1:
            raise ValueError(f"validation must be data or a fraction in (0, 1). Received: validation={validation}")
        data, validation = split(*data, validation, seed=seed, stratify=task == "classify")
    return data, validation, names, {**inferred, **fixed}


def _infer(data, validation, task, names):
    """Return `input_shape`, `num_classes` and, where there are some, `categories` for arrays."""
    parts = [data] if validation is None else [data, validation]
    x, y = data[0], np.asarray(data[1])
    if len(y) != len(next(iter(x.values())) if isinstance(x, dict) else x):
        raise ValueError("data must be (x, y) of the same length.")
    result = {}
    if isinstance(x, dict):
        result["input_shape"] = np.shape(x["numeric"])[1:] if "numeric" in x else (0,)
        if "categories" in x:
            ids = np.concatenate([np.asarray(part[0]["categories"]) for part in parts])
            result["categories"] = tuple(int(n) for n in ids.max(axis=0) + 1)
    else:
        result["input_shape"] = tuple(np.shape(x)[1:])
    if task != "classify" or (y.ndim == 2 and y.shape[1] > 1):  # targets, labels or soft classes: a column each
        result["num_classes"] = y.shape[1] if y.ndim > 1 else 1
        return result
    if y.dtype.kind not in "iub" and (y.dtype.kind != "f" or (y != np.round(y)).any()):
        raise ValueError(
            f'data y must be class ids 0, 1, ...; for targets that are measured pass task="regress". Received: {y.dtype} '
            f"such as {y.flat[0]!r}"
        )
    highest = max(int(np.max(part[1])) for part in parts)
    result["num_classes"] = max(highest + 1, len(names or ()))
    return result


def _objective(objective, task):
    if objective is None:
        return keras_tuner.Objective(*OBJECTIVES[task])
    if isinstance(objective, keras_tuner.Objective):
        return objective
    measured = ("loss", "mae" if task == "regress" else "accuracy")
    check_choice("objective", objective, [f"{part}{name}" for part in ("val_", "") for name in measured])
    return keras_tuner.Objective(objective, METRICS[objective.removeprefix("val_")])


def _open(directory, description, overwrite):
    """Return the search's folder, which holds nothing or the same search; `description` says which."""
    if directory is None:
        return tempfile.mkdtemp(prefix="recipes-tune-")
    folder = os.path.abspath(directory)
    path = os.path.join(folder, _SEARCH)
    description = json.loads(json.dumps(description, default=lambda value: type(value).__name__))
    if os.path.exists(path) and overwrite:
        shutil.rmtree(folder)
    elif os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            earlier = json.load(file)
        differ = [key for key in description if description[key] != earlier.get(key)]
        if differ:
            changes = "; ".join(f"{key} was {earlier.get(key)}, is {description[key]}" for key in differ)
            raise ValueError(f"directory={directory!r} holds another search: {changes}. Pass overwrite=True or another.")
        return folder
    elif os.path.isdir(folder) and os.listdir(folder):
        raise ValueError(f"directory must be empty or hold an earlier search. Received: directory={directory!r}")
    os.makedirs(folder, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(description, file, indent=2)
    return folder


def _best_trial(folder, objective):
    """Return the completed trial with the best score. From the files, which chief and workers share."""
    trials = [keras_tuner.engine.trial.Trial.load(path) for path in glob.glob(f"{glob.escape(folder)}/trial_*/trial.json")]
    done = [trial for trial in trials if trial.status == "COMPLETED"]
    if not done:
        reason = next((trial.message for trial in trials if trial.message), "the search was empty")
        raise RuntimeError(f"No trial came to its end. The first stopped with: {reason}")
    done.sort(key=lambda trial: trial.trial_id)
    return (max if objective.direction == "max" else min)(done, key=lambda trial: trial.score)


def _history_file(tuner, trial_id):
    with open(os.path.join(tuner.get_trial_dir(trial_id), "history.json"), encoding="utf-8") as file:
        return json.load(file)


def _history(tuner, trial):
    history = keras.callbacks.History()
    history.history = _history_file(tuner, trial.trial_id)
    history.epoch = list(range(len(history.history["loss"])))
    return history


@contextlib.contextmanager
def _global_state_kept():
    """Put back Python's and numpy's random state and the dtype policy: trials set the first, keras-tuner resets the last."""
    state, numpy_state, policy = random.getstate(), np.random.get_state(), keras.config.dtype_policy()
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        keras.config.set_dtype_policy(policy)
