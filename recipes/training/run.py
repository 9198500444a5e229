"""What `recipes.fit(directory=...)` does around one call of `model.fit`: checkpoints, going on, signals, the report."""

import contextlib
import datetime
import json
import os
import time
import warnings

import keras
import numpy as np

from recipes.data.batches import Batches
from recipes.training import checkpoints, state
from recipes.training.facts import describe, difference, first_batch, versions
from recipes.training.lock import lock
from recipes.training.run_callbacks import RunCallbacks
from recipes.training.signals import Signals

STEP, BEST, REPORT = "checkpoint-", "best-", "report.json"
_PATIENCE = 3  # checkpoints in a row that may fail
_SHARE = 50  # a checkpoint comes at least so many times its own duration after the one before: 2 % of the time


@contextlib.contextmanager
def open_run(directory, model, train, validation, *, settings, save_seconds, save_steps):
    """Open the run in `directory`, new or to go on, for this process. Of several the first alone writes to it.

    Args:
        directory: Folder, made if need be.
        model: Compiled model, built.
        train, validation: Data as `fit_batches` takes them.
        settings: Arguments that decide what is computed.
        save_seconds: Seconds of training after which a checkpoint is written, even within an epoch.
        save_steps: Steps after which one is written as well, whatever it costs; or `None`.

    Returns:
        Context that gives a `Run`.

    Raises:
        ValueError: If another process uses the directory, or the run in it is another one.
        OSError: If the directory cannot be written.
    """
    directory = os.path.abspath(os.fspath(directory))
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise ValueError(f"directory must be a folder, and a file has that name. Received: directory={directory!r}")
    os.makedirs(directory, exist_ok=True)
    first, several = processes()
    with lock(directory) if first else contextlib.nullcontext(), Signals() as signals:
        run = Run(directory, train, describe(model, train, validation, settings), signals, writes=first)
        run.save_seconds, run.save_steps = save_seconds, save_steps
        if several:
            _agree(run)
        try:
            yield run
        except BaseException as error:
            run.close("interrupted" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "failed", error)
            raise
        run.close("finished")


def processes():
    """Return whether this process is the first of those that train together, and whether there are several."""
    if getattr(keras.distribution.distribution(), "num_processes", 1) == 1:
        return True, False
    import jax  # no other backend has several under `keras.distribution`

    return jax.process_index() == 0, True


def _agree(run):
    """Wait for the other processes; raise unless all go on from the same place."""
    from jax.experimental import multihost_utils

    place = np.array([run.epoch, run.batch])
    multihost_utils.assert_equal(
        place, f"directory must be one that all processes see. Received: {run.directory!r}, which differs"
    )


class Run:
    """A training in a directory.

    Attributes:
        epoch, batch: Where training goes on: the epoch, and the batches of it that are done. `(0, 0)` if it begins.
        pending: `(arrays, facts)` of the checkpoint to go on from, until they are restored; or `None`.
    """

    def __init__(self, directory, train, facts, signals, writes=True):
        self.directory, self.train, self.facts, self.signals, self.writes = directory, train, facts, signals, writes
        self.stream = not isinstance(train, Batches)
        self.epoch = self.batch = self.failures = self.number = 0
        self.pending = self.best = self.candidate = None
        self.past = {"epoch": [], "history": {}}  # of the fits before this one, of several that are one
        self.reorders = False  # whether a stream comes in another order every time
        self.duration, self.saved = 0.0, time.monotonic()
        self.steps_before = self.steps_saved = 0  # batches in the epochs that are over; at the last checkpoint
        self.steps = None  # what stands in for the training step of the model
        self.report = {"status": "running", "starts": [], "versions": versions(), "run": facts}
        if writes:
            checkpoints.clean(directory)
        self._find()
        self.report["starts"] = [
            *self._starts(),
            {"time": _now(), "pid": os.getpid(), "epoch": self.epoch, "batch": self.batch},
        ]
        self.write_report(strict=True)  # a directory that cannot be written shows now

    def around(self, model, train, *, callbacks=(), epochs, verbose="auto", **_):
        """Return the `CallbackList` for one `model.fit`."""
        if isinstance(train, Batches):
            steps = len(train)
        elif hasattr(train, "cardinality"):
            steps = int(train.cardinality())
            steps = steps if steps >= 0 else None
        else:
            steps = getattr(train, "num_batches", None)
        return RunCallbacks(self, list(callbacks), model, epochs=epochs, steps=steps, verbose=verbose)

    def example(self):
        """Return a batch."""
        return self.train.batch(self.epoch, 0) if isinstance(self.train, Batches) else first_batch(self.train)

    def due(self, steps, end_of_epoch=False):
        """Return whether a checkpoint should be written now, `steps` batches into the epoch or at its end."""
        if self.save_steps and self.steps_before + steps - self.steps_saved >= self.save_steps:
            return True
        since = time.monotonic() - self.saved
        return since >= _SHARE * self.duration and (end_of_epoch or since >= self.save_seconds)

    def save(self, around, position, *, last=False, metrics=None):
        """Write a checkpoint of everything at `position`, the arguments of going on.

        Raises:
            FloatingPointError: If a weight is no longer finite; nothing is written.
            OSError: If it could not be written, for the third time in a row or the last time.
        """
        if not self.writes:
            return
        start, model = time.monotonic(), around.model
        arrays = state.read_variables(state.model_variables(model))
        bad = state.not_finite(arrays)
        if bad:
            raise FloatingPointError(
                f"{bad[0].split('/', 2)[2]} is not finite, so no checkpoint was written and the ones before are untouched. "
                "Look for what is not finite in the data, lower learning_rate, or build the model with global_clipnorm=1.0."
            )
        if metrics:
            arrays.update(metrics)
        kept = {
            "callbacks": [[type(c).__name__, state.callback_state(c, before)] for c, before in around.states()],
            "random": state.random_state(),
            "history": around.history(),
        }
        facts = {
            "run": self.facts,
            "versions": versions(),
            "position": {**position, "reorders": self.reorders, "steps_before": self.steps_before},
            "state": state.pack(kept, arrays, "state"),
        }
        try:
            self._write_best()
            checkpoints.write(self.directory, f"{STEP}{self.number:08d}", arrays, facts)
        except (OSError, checkpoints.DamagedCheckpointError) as error:
            self._failed(error, last)
            return
        self.number, self.failures = self.number + 1, 0
        checkpoints.prune(self.directory, STEP, 2)
        history = kept["history"]["history"]
        self.report.update(epoch=position["epoch"], batch=position["batch"], saved=_now(), history=history)
        self.write_report()
        self.saved, self.steps_saved = time.monotonic(), self.steps_before + position["batch"]
        self.duration = self.saved - start

    def note_best(self, model, epoch, loss):
        """Remember the weights of `model` if `loss`, that of the validation data, is the best; `save` writes them."""
        if self.writes and loss == loss and abs(loss) != float("inf") and (self.best is None or loss < self.best):
            arrays = state.read_variables({v.path: v for v in model.weights})
            if not state.not_finite(arrays):
                self.best, self.candidate = loss, (arrays, {"val_loss": loss, "epoch": epoch})

    def close(self, status, error=None):
        """Write the end into the report, and leave the model as it was."""
        if self.steps is not None:
            self.steps.remove()
        if error is not None:
            self.report["error"] = f"{type(error).__name__}: {error}"
        self.report.update(status=status, ended=_now(), best=self.best)
        self.write_report()

    def write_report(self, strict=False):
        """Write `report.json`; what the disk refuses is a warning unless `strict`."""
        if not self.writes:
            return
        try:
            checkpoints.write_file(
                os.path.join(self.directory, REPORT), [json.dumps(_finite(self.report), indent=2, allow_nan=False).encode()]
            )
        except OSError as error:
            if strict:
                raise
            warnings.warn(f"{REPORT} could not be written: {error}", stacklevel=2)

    def _find(self):
        found = checkpoints.newest(self.directory, STEP)
        names = checkpoints.names(self.directory, STEP)
        self.number = int(names[0][len(STEP) :]) + 1 if names else 0
        if found is None:
            if self.writes:
                checkpoints.prune(self.directory, BEST, 0)  # of a run that died before its first checkpoint
            return
        with contextlib.suppress(checkpoints.DamagedCheckpointError):
            best = checkpoints.newest(self.directory, BEST)
            self.best = best[2]["val_loss"] if best else None
        name, arrays, facts = found
        changed = difference(facts["run"], self.facts)
        if changed:
            raise ValueError(
                f"directory holds a run with other arguments: {changed[0]} was {_short(changed[1])} and is now "
                f"{_short(changed[2])}. Call recipes.fit as before to go on with it, or choose another directory. "
                f"Received: directory={self.directory!r}"
            )
        changed = difference(facts["versions"], versions())
        if changed:
            warnings.warn(
                f"The run in {self.directory} began with {changed[0]} {changed[1]}, and this is {changed[2]}: it goes on, "
                "and may not end bit for bit as it would have.",
                stacklevel=2,
            )
        position = facts["position"]
        if position["reorders"] and not position["stopped"]:
            raise ValueError(
                "directory holds a run whose data set came in another order in every epoch, which cannot be put back: train "
                "on arrays or with reshuffle_each_iteration=False, in another directory. "
                f"Received: directory={self.directory!r}"
            )
        self.epoch, self.batch, self.pending = position["epoch"], position["batch"], (arrays, facts)
        self.steps_before = position["steps_before"]
        self.steps_saved = self.steps_before + self.batch
        if position["stopped"]:
            self.epoch = self.facts["settings"]["epochs"]

    def _starts(self):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(os.path.join(self.directory, REPORT), encoding="utf-8") as file:
                return list(json.load(file)["starts"])[-99:] if self.pending else []
        return []

    def _write_best(self):
        if self.candidate is None:
            return
        names = checkpoints.names(self.directory, BEST)
        number = int(names[0][len(BEST) :]) + 1 if names else 0
        checkpoints.write(self.directory, f"{BEST}{number:08d}", *self.candidate)
        self.candidate = None
        checkpoints.prune(self.directory, BEST, 1)

    def _failed(self, error, last):
        self.failures += 1
        self.saved = time.monotonic()
        names = checkpoints.names(self.directory, STEP)
        message = f"The checkpoint could not be written to {self.directory}: {error}. " + (
            f"The one before, {names[0]}, is untouched." if names else "There is none before it."
        )
        if not last and self.failures < _PATIENCE:
            warnings.warn(f"{message} Training goes on.", stacklevel=4)
            return
        message += " Make room and run the same command again to go on from there."
        raise (OSError(error.errno, message) if isinstance(error, OSError) else RuntimeError(message)) from error


def load_best(model, directory):
    """Give `model` the best weights of a run, those with the smallest loss on the validation data.

    Args:
        model: Model with the weights of the one that was trained.
        directory: Of `recipes.fit`.

    Returns:
        Dict with `"val_loss"` and `"epoch"`, counted from 0.

    Raises:
        ValueError: If there are none, or they do not fit.

    Example:

    >>> model = recipes.mlp((13,), 3, hidden=(8,))
    >>> history = recipes.fit(model, recipes.data.load("wine"), epochs=2, directory="runs/wine", verbose=0)
    >>> best = recipes.load_best(model, "runs/wine")
    >>> best["val_loss"] == min(history.history["val_loss"])
    True
    """
    found = checkpoints.newest(os.fspath(directory), BEST)
    if found is None:
        raise ValueError(f"directory must be one of a recipes.fit with validation data. Received: directory={directory!r}")
    state.assign_variables({v.path: v for v in model.weights}, found[1])
    return found[2]


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _short(value):
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:100]}..."


def _finite(value):
    """Return JSON in which what is no number is a word, as the standard wants it."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
