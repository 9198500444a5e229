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

from recipes.training.fit import fit, training_settings
from recipes.training.prepare import prepare
from recipes.training.recipe import check_choice, check_count, get_recipe, refresh_loss, set_recipe

# What decides between two trials, as the task is usually judged: (value in the history, direction)
OBJECTIVES = {
    "classify": ("val_accuracy", "max"),
    "multilabel": ("val_loss", "min"),  # accuracy over labels says little where most are 0
    "regress": ("val_mae", "min"),
}
METRICS = {"loss": "min", "accuracy": "max", "mae": "min"}
TUNERS = ("random", "hyperband", "bayesian")


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
    order. All trials start from the same seed and see the same split. A trial is scored by the weights it ends with, on
    validation data, and the model that comes back has the weights of the best trial: nothing is trained again. Ties go
    to the lower validation loss. Judge the model on data that the search has not seen: the best of many trials looks
    better on the validation data than it is.

    A search that was stopped goes on when the same call is made with the same `directory`. It spreads over processes
    and machines that share `directory` when each runs the same script with keras-tuner's three variables set:
    `KERASTUNER_TUNER_ID` (`chief`, which hands out the trials, and `worker0`, `worker1`, ...), `KERASTUNER_ORACLE_IP`
    and `KERASTUNER_ORACLE_PORT` (the chief's address). The chief returns the best of all; a worker, what is best when
    no trial is left for it.

    Args:
        builder: Function of recipes, such as `recipes.mlp`; or any with the same signature and a `space`.
        data: A `recipes.data.Data` or `(x, y)` arrays, from which the shape of the input, the number of classes and the
            categories are taken. A `tf.data.Dataset` or `PyDataset` needs `input_shape=` and `num_classes=`.
        validation: `(x, y)` arrays, a fraction of `data` in (0, 1) to hold out, or a dataset; `None` for the validation
            part of a `recipes.data.Data`, or a fifth of arrays.
        trials: The cost of the search, in full trainings. `"hyperband"` spends it on more and mostly shorter trials; it
            takes at least one training a bracket, `log3(epochs) + 1` of them.
        tuner: `"random"`, `"hyperband"` or `"bayesian"`.
        epochs: Epochs of a full training; `None` as the recipe says.
        objective: Value of the history that decides, such as `"val_loss"`, or a `keras_tuner.Objective`; `None` for
            `"val_accuracy"`, or `"val_loss"` if `task="multilabel"`, or `"val_mae"` if `task="regress"`.
        directory: Folder to keep the search in; `None` for a temporary one that is removed with the result.
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
    check_choice("verbose", verbose, (0, 1, 2))
    if epochs is not None:
        check_count("epochs", epochs)
    train, validation, names, fixed = _prepare_data(data, validation, seed, fixed)
    models = _TrialModel(builder, fixed.pop("input_shape"), fixed.pop("num_classes"), space, fixed)
    models.seed, models.verbose = seed, max(verbose - 1, 0)
    with _global_state_kept():
        probe = models.build(keras_tuner.HyperParameters())  # what is wrong for every trial is said now
        prepare(probe, train, validation, seed=seed)
        training = training_settings(probe)
        epochs = training["epochs"] if epochs is None else epochs
        objective = _objective(objective, training["task"])
        description = {
            "builder": builder.__name__,
            "arguments": {k: v for k, v in get_recipe(probe).get("arguments", {}).items() if k not in models.searched},
            "space": sorted(models.searched),
            "examples": len(train[1]) if isinstance(train, tuple) else None,
            "objective": [objective.name, objective.direction],
            **{"tuner": tuner, "epochs": epochs, "seed": seed},
        }
        if tuner == "hyperband":
            description["trials"] = trials  # the sizes of the brackets follow from it
        folder = _open(directory, description, overwrite)
        search = _make_tuner(tuner, models, objective, trials, epochs, seed, folder, verbose)
        search.search(train, validation=validation, epochs=epochs, callbacks=list(callbacks))
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

    Its `fit` is `recipes.fit`: `tuner.search` takes the arguments of that, or `x, y` and `validation_data` or
    `validation_split` as Keras spells them.

    Args:
        builder: Function of recipes, such as `recipes.mlp`; or any with the same signature and a `space`.
        input_shape: First argument of the builder; `None` for one of token ids, which has no such argument.
        num_classes: Next argument of the builder; `None` for one that has no such argument.
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
    return RecipeHyperModel(builder, input_shape, num_classes, space, fixed)


class RecipeHyperModel(keras_tuner.HyperModel):
    """What `recipes.hypermodel` returns."""

    def __init__(self, builder, input_shape, num_classes, space, fixed):
        if not callable(builder) or isinstance(builder, keras.Model):
            raise ValueError(f"builder must be a function such as recipes.mlp. Received: builder={builder!r}")
        if space is None:
            space = getattr(sys.modules.get(builder.__module__), f"{builder.__name__}_space", None)
        if not callable(space):
            raise ValueError(
                f"space must be a function from keras_tuner.HyperParameters to arguments of {builder.__name__}, whose "
                f"module has no {builder.__name__}_space. Received: space={space!r}"
            )
        super().__init__()
        self.builder, self.space, self.fixed = builder, space, fixed
        positional = [p for p in inspect.signature(builder).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.first = (input_shape, num_classes)[max(0, 2 - len(positional)) :]  # models of token ids have no input_shape
        self.policy = keras.config.dtype_policy()
        hp = keras_tuner.HyperParameters()
        chosen = space(hp)
        allowed = list(inspect.signature(builder).parameters)[len(self.first) :]
        for name, arguments in (("space", chosen), ("fixed", fixed)):
            unknown = sorted(set(arguments) - set(allowed))
            if unknown:
                raise ValueError(
                    f"{name} must hold arguments of {builder.__name__}: {', '.join(allowed)}. Received: {', '.join(unknown)}"
                )
        self.searched = set(chosen) - set(fixed)
        self.pinned = {p.name: fixed[p.name] for p in hp.space if p.name in fixed}

    def build(self, hp):
        keras.config.set_dtype_policy(self.policy)  # keras-tuner clears the session before each model, and this with it
        for name, value in self.pinned.items():
            hp.Fixed(name, value)
        model = self.builder(*self.first, **{**self.space(hp), **self.fixed})
        if model.compiled:
            model.optimizer.build(model.trainable_variables)  # so that load_weights finds where the moments go
        return model

    def fit(self, hp, model, x, y=None, *, validation=None, validation_data=None, validation_split=None, **kwargs):
        data = x if y is None else (x, y)
        validation = next((v for v in (validation, validation_data) if v is not None), validation_split or None)
        return fit(_ready(model), data, validation=validation, **kwargs)


class _TrialModel(RecipeHyperModel):
    """One trial of `recipes.tune`: seeded, and leaving its model to the tuner."""

    def build(self, hp):
        random.seed(self.seed)  # Keras draws its seeds here; keras.utils.set_random_seed imports tensorflow on JAX
        return super().build(hp)

    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        self.model = model
        callbacks = [c for c in callbacks if type(c).__name__ != "SaveBestEpoch"]  # _Trials saves the last
        return super().fit(hp, model, *args, callbacks=callbacks, seed=self.seed, verbose=self.verbose, **kwargs)


class _Trials:
    """Score, save and go on from what a trial ends with; keras-tuner takes the best epoch, which flatters noise."""

    def run_trial(self, trial, train, *, validation, callbacks, **kwargs):
        (history,) = super().run_trial(trial, train, validation=validation, callbacks=callbacks, **kwargs)
        model, self.hypermodel.model = self.hypermodel.model, None
        logs = {k: [float(v) for v in values] for k, values in history.history.items()}
        if not all(np.isfinite(v) for v in logs["loss"]):
            raise keras_tuner.errors.FailedTrialError(f"The loss is not finite: {logs['loss']}")
        model.save_weights(self._get_checkpoint_fname(trial.trial_id))
        earlier = trial.hyperparameters.values.get("tuner/trial_id")  # the one that Hyperband goes on from
        if earlier:
            logs = {k: _logs(self, earlier).get(k, []) + values for k, values in logs.items()}
        with open(_logs_file(self, trial.trial_id), "w", encoding="utf-8") as file:
            json.dump(logs, file)
        scores = {k: values[-1] for k, values in logs.items()}
        if callbacks:  # one may have put back earlier weights: measure those there are
            x, y = validation if isinstance(validation, tuple) else (validation, None)
            measured = model.evaluate(x, y, batch_size=None if y is None else 256, verbose=0, return_dict=True)
            scores.update({f"val_{k}": v for k, v in measured.items()})
        return scores


class _Random(_Trials, keras_tuner.RandomSearch):
    pass


class _Bayesian(_Trials, keras_tuner.BayesianOptimization):
    pass


class _Hyperband(_Trials, keras_tuner.Hyperband):
    def __init__(self, hypermodel, trainings, directory, project_name, **kwargs):
        oracle = _HyperbandOracle(trainings, **kwargs)
        keras_tuner.Tuner.__init__(self, oracle, hypermodel, directory=directory, project_name=project_name)


class _HyperbandOracle(keras_tuner.oracles.HyperbandOracle):
    """Hyperband whose brackets share a budget of `trainings` full trainings equally."""

    def __init__(self, trainings, **kwargs):
        self.trainings = trainings
        super().__init__(**kwargs)

    def _get_size(self, bracket_num, round_num):
        share = self.trainings / self._get_num_brackets()
        finalists = share / (1 + bracket_num * (1 - 1 / self.factor))  # every round costs the same but the first, more
        return max(1, round(finalists * self.factor ** (bracket_num - round_num)))


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
            search = _Hyperband(models, trials, max_epochs=epochs, **arguments)
    search.oracle.verbose = verbose
    return search


def _ready(model):
    """Let `model` train from the statistics that loaded weights may have brought."""
    return refresh_loss(model) if "training" in get_recipe(model) else model


def _prepare_data(data, validation, seed, fixed):
    """Return train and validation data, class names, and `fixed` with what the data tell added."""
    from recipes.data import Data, split

    names, told = None, {}
    if isinstance(data, Data):
        told = {"input_shape": data.info.input_shape, "num_classes": data.info.num_classes}
        if data.info.task != "classify":
            told["task"] = data.info.task
        if data.info.categories:
            told["categories"] = data.info.categories
        validation = data.validation if validation is None else validation
        names, data = data.info.class_names, data.train
    elif isinstance(data, tuple):
        if len(data) != 2:
            raise ValueError(f"data must be (x, y) or a recipes.data.Data. Received: {len(data)} parts")
        held = validation[1] if isinstance(validation, tuple) else None
        told = _shapes(*data, held, fixed.get("task", "classify"), "num_classes" not in fixed)
    fixed = {**told, **fixed}
    missing = [name for name in ("input_shape", "num_classes") if name not in fixed]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given unless data are arrays (x, y).")
    if isinstance(data, tuple) and not isinstance(validation, tuple):
        validation = 0.2 if validation is None else validation
        if not isinstance(validation, (int, float)) or not 0 < validation < 1:
            raise ValueError(f"validation must be data or a fraction in (0, 1). Received: validation={validation!r}")
        data, validation = split(*data, validation, seed=seed, stratify=fixed.get("task", "classify") == "classify")
    elif validation is None or isinstance(validation, (int, float)):
        raise ValueError(f"validation must be data unless data are arrays (x, y). Received: validation={validation!r}")
    return data, validation, names, fixed


def _shapes(x, y, held_y, task, count_classes):
    """Return `input_shape`, `num_classes` and, where there are some, `categories` of arrays."""
    result = {"input_shape": tuple(np.shape(x)[1:])}
    if isinstance(x, dict):
        result["input_shape"] = np.shape(x["numeric"])[1:] if "numeric" in x else (0,)
        if "categories" in x:
            result["categories"] = tuple(int(n) + 1 for n in np.max(x["categories"], axis=0))
    if not count_classes:
        return result
    y = np.asarray(y)
    if y.size == 0:
        raise ValueError("data y holds 0 examples.")
    if task != "classify" or (y.ndim == 2 and y.shape[1] > 1):  # targets, labels or soft classes: a column each
        return {**result, "num_classes": y.shape[1] if y.ndim > 1 else 1}
    if y.dtype.kind in "USO":
        raise ValueError(
            f"data y must be class ids 0, 1, ... Received: {y.flat[0]!r}; encode them with "
            "`classes, y = numpy.unique(y, return_inverse=True)`."
        )
    if not (np.isfinite(y).all() and (y == np.round(y)).all()):
        raise ValueError(
            f'data y must be class ids 0, 1, ...; to learn measured values pass task="regress". Received: {y.dtype}'
        )
    parts = [y] if held_y is None else [y, np.asarray(held_y)]
    return {**result, "num_classes": max(int(part.max()) for part in parts) + 1}


def _objective(objective, task):
    if objective is None:
        return keras_tuner.Objective(*OBJECTIVES.get(task, ("val_loss", "min")))
    if isinstance(objective, keras_tuner.Objective):
        return objective
    measured = ("loss", "mae" if task == "regress" else "accuracy")
    check_choice("objective", objective, [f"{part}{name}" for part in ("val_", "") for name in measured])
    return keras_tuner.Objective(objective, METRICS[objective.removeprefix("val_")])


def _open(directory, description, overwrite):
    """Return the search's folder, which holds nothing or the same search; `description` says which."""
    shared = "KERASTUNER_ORACLE_IP" in os.environ
    if directory is None:
        if shared:
            raise ValueError("directory must be given, and shared, where KERASTUNER_ORACLE_IP spreads the search.")
        return tempfile.mkdtemp(prefix="recipes-tune-")
    folder = os.path.abspath(directory)
    if shared and "chief" not in os.environ.get("KERASTUNER_TUNER_ID", ""):
        return folder  # the chief looks after it
    path = os.path.join(folder, "search.json")
    description = json.loads(json.dumps(description, default=lambda value: type(value).__name__))
    if os.path.exists(path) and overwrite:
        shutil.rmtree(folder)
    elif os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            earlier = json.load(file)
        changes = [f"{k} was {earlier.get(k)}, is {v}" for k, v in description.items() if v != earlier.get(k)]
        if changes:
            raise ValueError(
                f"directory={directory!r} holds another search: {'; '.join(changes)}. Pass overwrite=True or another."
            )
    elif os.path.isdir(folder) and os.listdir(folder):
        raise ValueError(f"directory must be empty or hold an earlier search. Received: directory={directory!r}")
    os.makedirs(folder, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(description, file, indent=2)
    return folder


def _best_trial(folder, objective):
    """Return the best of the completed trials. From the files, which chief and workers share."""
    files = sorted(glob.glob(os.path.join(glob.escape(folder), "trial_*", "trial.json")))
    trials = [keras_tuner.engine.trial.Trial.load(path) for path in files]
    done = [trial for trial in trials if trial.status == "COMPLETED"]
    if not done:
        reason = next((trial.message for trial in trials if trial.message), "the search was empty")
        raise RuntimeError(f"No trial came to its end. The first one stopped with:\n{reason}")
    sign = -1 if objective.direction == "max" else 1
    return min(done, key=lambda trial: (sign * trial.score, trial.metrics.get_best_value("val_loss")))


def _logs_file(tuner, trial_id):
    return os.path.join(tuner.get_trial_dir(trial_id), "history.json")


def _logs(tuner, trial_id):
    with open(_logs_file(tuner, trial_id), encoding="utf-8") as file:
        return json.load(file)


def _history(tuner, trial):
    history = keras.callbacks.History()
    history.history = _logs(tuner, trial.trial_id)
    history.epoch = list(range(len(history.history["loss"])))
    return history


@contextlib.contextmanager
def _global_state_kept():
    """Put back Python's random state, which trials set, and the dtype policy, which keras-tuner resets."""
    state, policy = random.getstate(), keras.config.dtype_policy()
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)
