"""The list of callbacks of a run: around all others, it saves before each step and goes on where a checkpoint left off."""

import copy
import itertools

import keras

from recipes.training import state
from recipes.training.facts import hash_batch
from recipes.training.finite import StopOnNonFinite


class RunCallbacks(keras.callbacks.CallbackList):
    """Calls the callbacks of a fit, and around them keeps the checkpoints of a `Run`.

    A checkpoint within an epoch is one of the moment before a step, when no callback has yet heard of it. To go on from it
    Keras runs through the epoch from its start, but for the steps that are done nothing is trained and no callback called.

    Args:
        run: `Run`.
        callbacks: List of callbacks.
        model: Model that is fitted.
        epochs, steps, verbose: As Keras tells them to callbacks.
    """

    def __init__(self, run, callbacks, model, *, epochs, steps, verbose):
        self.own = list(callbacks)
        super().__init__(
            list(callbacks),
            add_history=True,
            add_progbar=verbose != 0,
            model=model,
            epochs=epochs,
            steps=steps,
            verbose=verbose,
        )
        self.run, self.epochs, self.known_steps = run, epochs, steps
        self.skipped = 0
        self.before_test = None  # the metrics of training while validation uses the same

    def history(self):
        """Return what Keras' `History` holds of this run, of the fits before this one too."""
        merged = {name: list(values) for name, values in self.run.past["history"].items()}
        for name, values in self._history.history.items():
            merged[name] = merged.get(name, []) + list(values)
        return {"epoch": self.run.past["epoch"] + list(getattr(self._history, "epoch", ())), "history": merged}

    def states(self):
        """Return each callback with what it remembered when training began."""
        return zip(self.own, self.at_first, strict=True)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.at_first = [None if hasattr(c, "get_state") else copy.deepcopy(state.callback_state(c)) for c in self.own]
        self.run.steps = self.steps = _Steps(self.model, self.run)
        self.model.train_function = self.steps
        if self.run.pending:
            history = self._restore()["history"]
            self._history.history = {name: list(values) for name, values in history["history"].items()}
            self._history.epoch = list(history["epoch"])

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.epoch, self.skipped = epoch, 0
        self.steps.begin()
        if self.run.pending and self.run.batch:  # within this epoch, whose beginning the callbacks have just seen
            self._build_metrics()
            self._restore(metrics=True)
            self.skipped = self.run.batch
            self.steps.skip(self.run.batch, self.run.pending[1]["position"]["last_batch"])
        self.run.pending = None

    def on_train_batch_begin(self, batch, logs=None):
        if batch < self.skipped:
            return
        if batch > self.skipped:
            self._between(batch)
        super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        if batch >= self.skipped:
            super().on_train_batch_end(batch, logs)

    def on_test_begin(self, logs=None):
        super().on_test_begin(logs)
        self.before_test = self._metrics()

    def on_test_batch_begin(self, batch, logs=None):
        super().on_test_batch_begin(batch, logs)
        if self.run.signals.received is not None:
            self._save(self.epoch, self.steps_done(), metrics=self.before_test, last=True)
            self.run.signals.leave()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        run, done = self.run, self.steps_done()
        if logs and "val_loss" in logs:
            run.note_best(self.model, epoch, float(logs["val_loss"]))
        run.reorders = run.reorders or self.steps.reorders()
        last = self.model.stop_training or epoch + 1 == self.epochs
        signal, due = run.signals.received is not None, run.due(done, end_of_epoch=True)
        run.steps_before += done
        if last or signal or due:
            self._save(epoch + 1, 0, last=last or signal)
        if signal:
            run.signals.leave()

    def on_train_end(self, logs=None):
        self.steps.remove()
        self.run.steps = self.run.pending = None
        super().on_train_end(logs)
        self.run.past = self.history()

    def steps_done(self):
        """Return the batches of this epoch that are done, now that it ends."""
        return self.known_steps or self.steps.done

    def _between(self, batch):
        """Between two steps: `batch` batches of the epoch are done."""
        signal = self.run.signals.received is not None
        if signal or self.run.due(batch):
            if self._async_train:
                self._flush_futures()
            for callback in self.own:
                if isinstance(callback, StopOnNonFinite):  # a step that was left out must be made again, not passed over
                    callback.check(batch, exact=True)
            self._save(self.epoch, batch, metrics=self._metrics(), last=signal)
            self.run.signals.leave()

    def _save(self, epoch, batch, *, metrics=None, last=False):
        stopped = batch == 0 and bool(self.model.stop_training)
        position = {
            "epoch": epoch,
            "batch": batch,
            "stopped": stopped,
            "last_batch": self.steps.last_hash() if batch else None,
        }
        self.run.reorders = self.run.reorders or self.steps.reorders()
        self.run.save(self, position, last=last, metrics=metrics)

    def _metrics(self):
        model = self.model
        names = [n for n in state.model_variables(model, metrics=True) if n.startswith("metrics/")]
        return state.read_variables(dict(zip(names, model.metrics_variables, strict=True)))

    def _restore(self, metrics=False):
        """Give the model and every callback what the checkpoint holds."""
        arrays, facts = self.run.pending
        kept = state.unpack(facts["state"], arrays)
        names = [name for name, _ in kept["callbacks"]]
        if names != [type(c).__name__ for c in self.own]:
            raise ValueError(
                f"callbacks must be those of the run: {', '.join(names)}. Received: "
                f"{', '.join(type(c).__name__ for c in self.own)}. Pass the same, or choose another directory."
            )
        groups = ("model/", "optimizer/", *(["metrics/"] if metrics else []))
        wanted = {name: array for name, array in arrays.items() if name.startswith(groups)}
        state.assign_variables(state.model_variables(self.model, metrics), wanted)
        for callback, (_, kept_state) in zip(self.own, kept["callbacks"], strict=True):
            state.restore_callback(callback, kept_state)
        state.restore_random(kept["random"])
        return kept

    def _build_metrics(self):
        """On TensorFlow the first step makes the variables of the metrics, and there may be none."""
        if keras.backend.backend() != "jax":
            self.model._symbolic_build(data_batch=self.run.example())


class _Steps:
    """Stands in for `model.train_function`: leaves out the steps that are done, and looks at the batches of a stream."""

    def __init__(self, model, run):
        self.model, self.stream = model, run.stream
        self.original = model.train_function
        known = run.facts["data"]
        self.known_first = known.get("first batch") if run.stream else None
        self.left, self.first, self.last, self.expected, self.done = 0, None, None, None, 0

    def begin(self):
        """An epoch begins."""
        self.done = 0

    def skip(self, batches, expected):
        """Leave out the next `batches`, the last of which has the hash `expected` if the data are a stream."""
        self.left, self.expected = batches, expected
        self.logs = {name: 0.0 for name in self.model.get_metrics_result()}

    def reorders(self):
        """Return whether the first batch trained on was not the one that the data began with before."""
        return None not in (self.first, self.known_first) and self.first != self.known_first

    def last_hash(self):
        return None if self.last is None else hash_batch(self.last)

    def remove(self):
        self.model.train_function = self.original

    def __call__(self, *arguments):
        *model_state, iterator = arguments
        if self.stream:
            batches = list(itertools.islice(iterator, self.model.steps_per_execution))
            if not batches:
                raise StopIteration
            if self.first is None:
                self.first = hash_batch(batches[0])
            self.last, self.done = batches[-1], self.done + len(batches)
            iterator = batches if isinstance(iterator, list) else iter(batches)  # torch is given a list
        if self.left <= 0:
            return self.original(*model_state, iterator)
        self.left -= self.model.steps_per_execution
        if self.left <= 0 and self.expected is not None and self.last_hash() != self.expected:
            raise ValueError(
                "data must come in the order they came in before, to go on within an epoch, and batch "
                f"{self.done - 1} is another one. Train on arrays, or give the data set a fixed order, in another directory."
            )
        return (self.logs, *model_state) if model_state else self.logs
