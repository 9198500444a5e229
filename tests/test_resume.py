"""`recipes.fit(directory=...)`: goes on bit for bit, refuses another run, minds signals, stops on what is not finite."""

import errno
import json
import os
import random
import re
import signal
import threading

import keras
import numpy as np
import pytest

import recipes
from recipes.callbacks import WarmupCosine
from recipes.training import checkpoints, state
from recipes.training.finite import find_reason, guard
from recipes.training.recipe import compile_model

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.integers(0, 3, 40)
STEPS = 5  # batches of 8


def make(dropout=0.5):
    """A small model with all that has state: dropout, batch normalization, moments."""
    inputs = keras.Input((4,), name="x")
    x = keras.layers.Dense(6, name="hidden")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(keras.layers.ReLU(name="relu")(x))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="small")
    return compile_model(model, learning_rate=0.05, global_clipnorm=1.0)


class At(keras.callbacks.Callback):
    """Does something before the given step of the fit, counted from 0; counts the steps it has seen."""

    async_safe = True

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action, self.seen = step, action, 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.seen == self.step:
            self.action(self)
        self.seen += 1


class Crash(Exception):
    pass


def crash(_):
    raise Crash


def jitter(x, rng):
    return x + rng.normal(size=x.shape).astype("float32") + np.float32(random.random() + np.random.rand())


def everything(model):
    return state.read_variables(state.model_variables(model))


def same(a, b):
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def go(model, directory, step=None, action=crash, data=(X, Y), **arguments):
    defaults = dict(validation=(X[:16], Y[:16]), epochs=4, batch_size=8, ema=0.9, early_stopping=2, accumulate=2)
    defaults |= dict(save_steps=1, verbose=0, callbacks=[At(step, action)], schedule=WarmupCosine(warmup=3))
    return recipes.fit(model, data, directory=directory, **{**defaults, **arguments})


@pytest.fixture(scope="module")
def model():
    """One for all tests of this file, so that it is compiled once; each begins with `begin`."""
    keras.utils.set_random_seed(1)
    model = make()
    guard(model)
    model.optimizer.build(model.trainable_variables)
    model.start = everything(model)
    return model


def begin(model, spoiled=False):
    """Give the model its state of the beginning; `spoiled`: numbers that going on must all replace."""
    if model.optimizer.gradient_accumulation_steps is None:
        recipes.training.precision.set_accumulation(model, 2)
    for name, variable in state.model_variables(model).items():
        value = model.start.get(name, np.zeros(variable.shape, variable.dtype))
        variable.assign(np.full_like(value, 3) if spoiled and not name.endswith("learning_rate") else value)
    random.seed(0)
    np.random.seed(0)
    return model


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The history and the state that the run ends with which nothing stops."""
    return go(begin(model), tmp_path_factory.mktemp("whole")), everything(model)


@pytest.mark.any_backend
def test_goes_on_bit_for_bit(model, whole, tmp_path):
    """From the middle of an epoch and of an accumulation, from its first and last step, twice in a run, and when over."""
    whole, expected = whole
    assert 2 < len(whole.epoch) <= 4 and whole.history["learning_rate"][0] > 0
    for crashes in [(3, 14), (5,), (4,)]:
        directory = tmp_path / "-".join(map(str, crashes))
        begin(model)
        for at in crashes:
            with pytest.raises(Crash):
                go(model, directory, at)
            begin(model, spoiled=True)
        history = go(model, directory)
        assert same(everything(model), expected), crashes
        assert history.history == whole.history and history.epoch == whole.epoch
        report = json.loads((directory / "report.json").read_text())
        assert report["status"] == "finished" and len(report["starts"]) == len(crashes) + 1
        assert report["history"]["loss"] == whole.history["loss"] and report["run"]["settings"]["epochs"] == 4
    begin(model, spoiled=True)  # a run that is over is given back without a step
    history = go(model, directory, 0)
    assert same(everything(model), expected) and history.history == whole.history
    best = recipes.load_best(model, directory)
    assert best["val_loss"] == min(whole.history["val_loss"])
    assert sorted(n for n in os.listdir(directory) if n[0] == "b") == sorted(os.listdir(directory))[1:3]


@pytest.mark.any_backend
def test_stops_before_a_step_that_is_not_finite(model, tmp_path):
    seen = []

    def spoil(x, rng):
        seen.append(len(x))
        if spoil.on and len(seen) == 8:
            x[2, 1] = np.nan
        return x

    spoil.on = True
    begin(model)
    weights = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda b, logs: weights.append([np.array(v) for v in keep.model.trainable_variables])
    )
    with pytest.raises(FloatingPointError, match=r"epoch \d, batch \d.*(x holds nan|not finite).*learning_rate"):
        go(model, tmp_path, augment=spoil, callbacks=[keep], ema=None)
    bad = [np.array_equal(v, w) for v, w in zip(model.trainable_variables, weights[-1], strict=True)]
    assert all(bad) and all(np.isfinite(v).all() for v in model.get_weights()[:2])
    name, arrays, facts = checkpoints.newest(str(tmp_path), "checkpoint-")
    assert not state.not_finite(arrays) and facts["position"]["epoch"] * STEPS + facts["position"]["batch"] <= 8
    spoil.on = False
    go(model, tmp_path, augment=spoil, callbacks=[keep], ema=None)
    assert all(np.isfinite(v).all() for v in model.get_weights())


def test_says_which_layer():
    inputs = keras.Input((2,), name="x")
    x = keras.layers.Dense(2, name="first")(inputs)
    root = keras.layers.Activation(keras.ops.sqrt, name="root")
    huge = keras.layers.Rescaling(3e38, name="huge")
    zeros = np.zeros((3, 2), "float32"), np.zeros(3, "int64")

    def reason(layer, x_values, *layers_after):
        y = layer(x)
        for after in layers_after:
            y = after(y)
        model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(y))
        model.compile("sgd", recipes.CrossEntropy())
        batches = recipes.data.Batches(x_values, zeros[1], 3, shuffle=False)
        batch, reason = find_reason(model, batches, 0, range(1))
        assert batch == 0
        return reason

    assert "output of the layer huge" in reason(huge, zeros[0] + 9)
    assert "gradient of first/" in reason(root, zeros[0])
    broken = zeros[0].copy()
    broken[1, 1] = np.inf
    assert "x holds inf at [1, 1]" in reason(huge, broken)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_size": 10}, "data.batch_size was 8 and is now 10"),
        ({"epochs": 5}, "settings.epochs was 4 and is now 5"),
        ({"accumulate": 1}, "accumulat"),
        ({"schedule": WarmupCosine(warmup=4)}, r"settings.schedule.*warmup.* was 3 and is now 4"),
        ({"callbacks": []}, r"callbacks must be those of the run: .*At"),
        ({"seed": 1}, "data.seed was 0 and is now 1"),
    ],
)
def test_another_run_is_refused_by_name(model, tmp_path, changed, words):
    with pytest.raises(Crash):
        go(begin(model), tmp_path, 2)
    with pytest.raises(ValueError, match=words):
        go(begin(model), tmp_path, **changed)


def test_other_data_and_another_model_are_refused_by_name(model, tmp_path):
    with pytest.raises(Crash):
        go(begin(model), tmp_path, 2)
    before = everything(begin(model))
    other = Y.copy()
    other[0] = (other[0] + 1) % 3
    with pytest.raises(ValueError, match=r"data.sha256.y.* choose another directory"):
        go(model, tmp_path, data=(X, other))
    assert same(everything(model), before)
    with pytest.raises(ValueError, match=r"model.layers\[4\]\[1\].rate was 0.5 and is now 0.25"):
        go(make(dropout=0.25), tmp_path)
    with pytest.raises(ValueError, match="a file has that name"):
        go(model, tmp_path / "report.json")
    with pytest.raises(ValueError, match="save_seconds"):
        go(model, tmp_path, save_seconds=-1)


def handlers():
    return [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]


@pytest.fixture
def interruptible():
    """Ctrl-C reaches the tests even where they run in the background, where shells let processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "ends"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_waits_until_the_step_is_saved(model, whole, tmp_path, number, ends):
    before = handlers()
    with pytest.raises(ends) as caught:
        go(begin(model), tmp_path, 7, lambda at: os.kill(os.getpid(), number), save_steps=None)
    assert handlers() == before and getattr(caught.value, "code", 143) == 143
    position = checkpoints.newest(str(tmp_path), "checkpoint-")[2]["position"]
    assert (position["epoch"], position["batch"]) == (1, 3)  # step 7, which the signal interrupted, is done
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "interrupted"
    if number == signal.SIGTERM:
        go(begin(model, spoiled=True), tmp_path)
        assert same(everything(model), whole[1])


@pytest.mark.usefixtures("interruptible")
def test_the_second_signal_is_immediate_and_one_while_saving_or_validating_waits(model, whole, tmp_path, monkeypatch):
    def twice(at):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(begin(model), tmp_path / "twice", 7, twice)
    assert checkpoints.newest(str(tmp_path / "twice"), "checkpoint-")[2]["position"]["batch"] == 2  # of before step 7
    fsync = os.fsync

    def interrupt(handle):
        if not interrupt.done and interrupt.begun:
            interrupt.done = True
            os.kill(os.getpid(), signal.SIGTERM)
        fsync(handle)

    interrupt.done = interrupt.begun = False
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(SystemExit):
        go(begin(model), tmp_path / "saving", 7, lambda at: setattr(interrupt, "begun", True))
    assert checkpoints.newest(str(tmp_path / "saving"), "checkpoint-")[2]["position"]["batch"] == 3
    monkeypatch.undo()
    stop = keras.callbacks.LambdaCallback()
    stop.on_test_begin = lambda logs=None: (
        stop.epochs.append(1) or (os.kill(os.getpid(), signal.SIGTERM) if len(stop.epochs) == 2 else None)
    )
    stop.epochs = []
    with pytest.raises(SystemExit):
        go(begin(model), tmp_path / "validating", callbacks=[stop])
    position = checkpoints.newest(str(tmp_path / "validating"), "checkpoint-")[2]["position"]
    assert (position["epoch"], position["batch"]) == (1, STEPS)
    go(begin(model, spoiled=True), tmp_path / "validating", callbacks=[stop])
    assert same(everything(model), whole[1])


def test_outside_the_main_thread_signals_are_left_alone(model, tmp_path):
    before, failed = handlers(), []

    def train():
        try:
            go(begin(model), tmp_path, epochs=1)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not failed and handlers() == before


def test_a_full_disk_is_a_warning_twice_and_an_error_the_third_time_and_at_the_end(model, whole, tmp_path, monkeypatch):
    write = os.write

    def full(handle, content):
        if full.on:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, content)

    full.on = False
    monkeypatch.setattr(os, "write", full)
    with pytest.warns(UserWarning, match="checkpoint-00000002, is untouched. Training goes on"):
        with pytest.raises(OSError, match=r"No space left on device.*checkpoint-00000002, is untouched.*Make room"):
            go(begin(model), tmp_path, 3, lambda at: setattr(full, "on", True))
    full.on = False
    position = checkpoints.newest(str(tmp_path), "checkpoint-")[2]["position"]
    assert (position["epoch"], position["batch"]) == (0, 3)  # three steps more were not saved
    go(begin(model, spoiled=True), tmp_path)
    assert same(everything(model), whole[1])
    with pytest.warns(UserWarning), pytest.raises(OSError, match="No space left"):
        go(begin(model), tmp_path / "end", 4, lambda at: setattr(full, "on", True), epochs=1, save_steps=None)
    monkeypatch.setattr(os, "open", lambda *a, **k: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(OSError, match="Read-only"):
        go(begin(model), tmp_path / "end")


def test_checkpoints_take_a_small_share_of_the_time(model, tmp_path):
    written = []
    real = checkpoints.write
    try:
        checkpoints.write = lambda *a: written.append(a[1]) or real(*a)
        go(begin(model), tmp_path, save_steps=None, early_stopping=None, epochs=12)
    finally:
        checkpoints.write = real
    kept = [name for name in written if name.startswith("checkpoint")]
    assert 1 < len(kept) < 12  # the first epoch and the last, and few between, which take milliseconds


def test_a_data_set_goes_on_if_its_order_is_fixed(model, tmp_path):
    import tensorflow as tf

    def stream(**shuffle):
        data = tf.data.Dataset.from_tensor_slices((X, Y))
        return (data.shuffle(40, **shuffle) if shuffle else data).batch(8)

    def train(directory, data, step=None):
        return recipes.fit(
            model, data, epochs=2, directory=directory, verbose=0, save_steps=1, accumulate=2, callbacks=[At(step, crash)]
        )

    begin(model)
    train(tmp_path / "whole", stream())
    expected = everything(model)
    for at in (3, 5, 7):
        begin(model)
        with pytest.raises(Crash):
            train(tmp_path / str(at), stream(), at)
        train(tmp_path / str(at), stream())
        assert same(everything(model), expected)
    for seed, words in ((None, "data.first batch was|first batch"), (5, "another order in every epoch")):
        begin(model)
        with pytest.raises(Crash):
            train(tmp_path / f"shuffled {seed}", stream(seed=seed), 7)
        with pytest.raises(ValueError, match=words):
            train(tmp_path / f"shuffled {seed}", stream(seed=seed))


class Parts(keras.utils.PyDataset):
    """Batches of a data set in files, say."""

    def __init__(self, asked):
        super().__init__()
        self.asked = asked

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        self.asked.append(index)
        return X[index * 8 : index * 8 + 8], Y[index * 8 : index * 8 + 8], None


def test_a_py_dataset_has_another_order_every_epoch_and_goes_on(model, tmp_path):
    def train(directory, step=None, asked=None, **more):
        common = dict(epochs=3, verbose=0, save_steps=1, accumulate=2, directory=directory, callbacks=[At(step, crash)])
        return recipes.fit(model, Parts([] if asked is None else asked), **{**common, **more})

    asked = []
    begin(model)
    train(tmp_path / "whole", asked=asked)
    expected = everything(model)
    order = [asked[-n - STEPS : len(asked) - n] for n in (10, 5, 0)]  # what was looked at before comes first
    assert all(sorted(epoch) == list(range(STEPS)) for epoch in order) and order[0] != order[1] != order[2]
    begin(model)
    with pytest.raises(Crash):
        train(tmp_path / "broken", 8)
    train(tmp_path / "broken")
    assert same(everything(model), expected)
    with pytest.raises(ValueError, match="data.seed was 0 and is now 1|data.first batch"):
        train(tmp_path / "broken", seed=1)


def test_accumulation_keeps_the_optimizer_and_precision_the_model():
    keras.utils.set_random_seed(1)
    model = recipes.mlp((4,), 3, hidden=(8,), adapt=X)
    recipes.fit(model, (X, Y), epochs=1, batch_size=8, verbose=0)
    before, moments = model.optimizer, np.array(model.optimizer._momentums[0])
    recipes.training.precision.set_accumulation(model, 4)
    assert model.optimizer is not before and np.array_equal(model.optimizer._momentums[0], moments)
    assert int(model.optimizer.iterations) == 5
    recipes.fit(model, (X, Y), epochs=1, batch_size=8, accumulate=4, verbose=0)
    assert int(model.optimizer.iterations) == 5 + 1  # five batches more, one update of four
    recipes.fit(model, (X, Y), epochs=1, batch_size=8, verbose=0)
    assert model.optimizer.gradient_accumulation_steps is None and int(model.optimizer.iterations) == 6 + 5
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append({layer.name: layer.compute_dtype for layer in model.layers})
    )
    expected = model(X[:4])
    recipes.fit(model, (X, Y), epochs=0, precision="mixed_bfloat16", verbose=0)
    assert np.array_equal(model(X[:4]), expected)
    recipes.fit(model, (X, Y), epochs=1, batch_size=8, precision="mixed_bfloat16", callbacks=[look], verbose=0)
    assert seen[0]["logits"] == "float32" and "bfloat16" in seen[0].values()
    assert {layer.compute_dtype for layer in model.layers} == {"float32"} and keras.config.dtype_policy().name == "float32"
    with pytest.raises(ValueError, match="precision must be one of"):
        recipes.fit(model, (X, Y), epochs=1, precision="float16", verbose=0)
    with pytest.raises(ValueError, match="accumulate"):
        recipes.fit(model, (X, Y), epochs=1, accumulate=0, verbose=0)
    stranger = make()
    with pytest.raises(ValueError, match="no builder of recipes made"):
        recipes.fit(stranger, (X, Y), epochs=1, precision="mixed_bfloat16", verbose=0)
    assert re.fullmatch("mixed_bfloat16|float32", "float32") and recipes.training.precision.pays(stranger) in (True, False)
