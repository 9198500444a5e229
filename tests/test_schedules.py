"""Schedules against their closed form, by the rate the optimizer used: how far a weight with gradient 1 moves."""

import copy
import math

import keras
import numpy as np
import pytest

from recipes.callbacks import (
    CosineRestarts,
    OneCycle,
    Schedule,
    ScheduledRate,
    WarmupConstant,
    WarmupCosine,
    WarmupInverseSqrt,
    WarmupLinear,
    WarmupStableDecay,
)
from recipes.training.optimizer import SGD, AdamW

pytestmark = pytest.mark.any_backend

ALL = [WarmupCosine, WarmupLinear, WarmupConstant, WarmupInverseSqrt, WarmupStableDecay, OneCycle, CosineRestarts]
X = np.ones((35, 1), "float32")  # 7 batches of 5
PEAK = 0.1


def rising(step, warmup):
    return (step + 1) / warmup


def cosine(progress):
    return 0.5 * (1 + math.cos(math.pi * progress))


def expected(cls, step, total):
    """The default curves once more, written out."""
    warmup = round(total * {WarmupLinear: 0.1, OneCycle: 0.25, CosineRestarts: 0}.get(cls, 0.05))
    p = (step - warmup) / (total - warmup)
    if cls is OneCycle:
        if step < warmup:
            return 1 / 25 + (1 - 1 / 25) * (1 - cosine(step / warmup))
        return 1e-5 + (1 - 1e-5) * cosine(p)
    if step < warmup:
        return rising(step, warmup)
    if cls is WarmupCosine:
        return cosine(p)
    if cls is WarmupLinear:
        return 1 - p
    if cls is WarmupConstant:
        return 1.0
    if cls is WarmupInverseSqrt:
        return math.sqrt(warmup / (step + 1))
    if cls is WarmupStableDecay:
        decay = round(0.2 * total)
        return 1 - math.sqrt(max(0, step - total + decay) / decay)
    starts = [0, round(total / 7), round(total * 3 / 7), total]
    cycle = sum(step >= start for start in starts[1:])
    return cosine((step - starts[cycle]) / (starts[cycle + 1] - starts[cycle]))


class Probe(keras.callbacks.Callback):
    """Reads the rate before each batch, and how far one weight with gradient 1 moves in it."""

    def __init__(self):
        super().__init__()
        self.read, self.used, self.batches = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        self.read.append([rate_of(inner) for inner in getattr(model.optimizer, "optimizers", [model.optimizer])])
        for weight in model.trainable_weights:
            weight.assign(np.zeros(weight.shape))

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)
        self.used.append([-float(keras.ops.convert_to_numpy(w)[0, 0]) for w in self.model.trainable_weights])

    @property
    def rates(self):
        np.testing.assert_allclose(np.array(self.read)[: len(self.used), 0], np.array(self.used)[:, 0], rtol=2e-7)
        return np.array(self.used)[:, 0]


def rate_of(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def mean_prediction(y, prediction):
    return keras.ops.mean(prediction)


def make_model(optimizer=None, **kwargs):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="only")])
    model.compile(optimizer or keras.optimizers.SGD(PEAK), mean_prediction, **kwargs)
    return model


def fit(model, *callbacks, epochs=3, **kwargs):
    if "x" not in kwargs:
        kwargs.update(x=X, y=X, batch_size=5)
    return model.fit(epochs=epochs, callbacks=list(callbacks), shuffle=False, verbose=0, **kwargs)


def curve(schedule, total, steps=None):
    return PEAK * schedule.fraction(np.arange(total) if steps is None else np.array(steps), total)


@pytest.mark.parametrize("cls", ALL)
def test_every_step_equals_the_closed_form_and_a_second_fit_starts_over(cls):
    model, schedule = make_model(), cls()
    closed = [PEAK * expected(cls, step, 42) for step in range(42)]
    np.testing.assert_allclose(curve(schedule, 42), closed, rtol=1e-12)
    for again in (schedule, cls()):
        probe = Probe()
        history = fit(model, again, probe, epochs=6)
        np.testing.assert_allclose(probe.rates, closed, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(history.history["learning_rate"], closed[6::7], rtol=1e-7)
        assert rate_of(model.optimizer) == np.float32(PEAK)


def test_as_schedule_is_the_same_curve_and_serialises():
    steps = np.arange(0, 60)
    for cls in ALL:
        optimizer = keras.optimizers.SGD(cls().as_schedule(PEAK, 42))
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))._learning_rate
        assert isinstance(again, ScheduledRate) and isinstance(again.schedule, cls)
        values = keras.ops.convert_to_numpy(again(keras.ops.convert_to_tensor(steps)))
        np.testing.assert_allclose(values, PEAK * cls().fraction(steps, 42), atol=PEAK * 5e-7)  # float32


def test_alone_in_a_fit_where_no_other_callback_reads_the_model():
    """On JAX, whatever reads `callback.model` brings the state up to date; the probe does, so this fit has none."""
    model = make_model()
    model.set_weights([np.zeros((1, 1))])
    fit(model, WarmupCosine())
    np.testing.assert_allclose(model.get_weights()[0], -curve(WarmupCosine(), 21).sum(), rtol=1e-6)


@pytest.mark.parametrize("cls", [WarmupCosine, CosineRestarts])
def test_as_schedule_in_the_graph_of_a_fit(cls):
    probe = Probe()
    fit(make_model(keras.optimizers.SGD(cls().as_schedule(PEAK, 21))), probe)
    np.testing.assert_allclose(np.array(probe.used)[:, 0], curve(cls(), 21), atol=PEAK * 5e-7)


def test_callback_config_round_trips_with_other_arguments():
    for schedule in (
        WarmupCosine(3, 0.1, 50),
        WarmupLinear(0.2, 0.3, 50),
        WarmupConstant(2, 9),
        WarmupInverseSqrt(2, 9),
        WarmupStableDecay(1, 5, "linear", 0.2, 50),
        OneCycle(4, 0.1, 0.2, (0.9, 0.8, 0.9), 50),
        CosineRestarts(2, 1.5, 3, 0.1, 50),
    ):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
        assert again.get_config() == schedule.get_config()
        np.testing.assert_array_equal(again.fraction(np.arange(50), 50), schedule.fraction(np.arange(50), 50))
        assert copy.deepcopy(schedule).get_config() == schedule.get_config()  # keras-tuner copies callbacks


def test_amounts_are_fractions_of_the_run_or_steps():
    rates = WarmupCosine(warmup=10, floor=0.1).fraction(np.arange(100), 100)
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_array_equal(rates, WarmupCosine(warmup=0.1, floor=0.1).fraction(np.arange(100), 100))
    assert rates.max() == 1 and 0.1 < rates[-1] < 0.101
    assert WarmupCosine(warmup=0).fraction(0, 100) == 1
    assert WarmupCosine(floor=0.1).fraction(1000, 100) == pytest.approx(0.1)  # stays there
    linear = WarmupStableDecay(warmup=0, decay=4, shape="linear", floor=0.5).fraction(np.arange(8), 8)
    np.testing.assert_allclose(linear, [1, 1, 1, 1, 1, 0.875, 0.75, 0.625])
    equal = CosineRestarts(cycles=2, multiplier=1).fraction(np.array([0, 2, 4, 6]), 8)
    np.testing.assert_allclose(equal, [1, 0.5, 1, 0.5])


def test_initial_epoch_continues_at_its_step():
    schedule = WarmupCosine()
    closed = curve(schedule, 21)
    probe = Probe()
    model = make_model()
    fit(model, schedule, probe, initial_epoch=2)
    np.testing.assert_allclose(probe.rates, closed[14:], rtol=1e-7)

    first, second = Probe(), Probe()  # one curve over two fits
    fit(model, WarmupCosine(total_steps=21), first, epochs=1)
    fit(model, WarmupCosine(total_steps=21), second, initial_epoch=1)
    np.testing.assert_allclose(np.concatenate([first.rates, second.rates]), closed, rtol=1e-7)


@pytest.mark.parametrize("validate", [False, True])
def test_a_checkpoint_of_an_epoch_is_continued_at_the_right_rate(tmp_path, validate):
    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save(tmp_path / f"{epoch}.keras")

    save = Save()
    callbacks = [save, WarmupCosine()] if validate else [WarmupCosine(), save]
    fit(make_model(), *callbacks, validation_data=(X, X) if validate else None)
    model = keras.models.load_model(tmp_path / "1.keras", custom_objects={"mean_prediction": mean_prediction})
    probe = Probe()
    fit(model, WarmupCosine(), probe, initial_epoch=2)
    np.testing.assert_allclose(probe.rates, curve(WarmupCosine(), 21)[14:], rtol=1e-7)


def test_backup_and_restore_resumes_the_curve(tmp_path):
    class Fail(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("power cut")

    def callbacks(*more):
        return [WarmupCosine(), keras.callbacks.BackupAndRestore(tmp_path / "backup"), *more]

    with pytest.raises(RuntimeError):
        fit(make_model(), *callbacks(Fail()))
    probe = Probe()
    fit(make_model(), *callbacks(probe))
    np.testing.assert_allclose(probe.rates, curve(WarmupCosine(), 21)[14:], rtol=1e-7)


@pytest.mark.parametrize("where", ["callback", "data"])
def test_the_fit_after_one_that_raised_finds_the_peak(where):
    class Fail(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 4:
                raise RuntimeError("stop")

    def broken():
        for i in range(7):
            if i == 4:
                raise RuntimeError("stop")
            yield X[:5], X[:5]

    model = make_model(AdamW(PEAK, beta_1=0.9) if where == "callback" else None)
    with pytest.raises(Exception, match="stop"):
        if where == "callback":
            fit(model, OneCycle(), Fail())
        else:
            fit(model, OneCycle(), x=broken(), steps_per_epoch=7)
    assert rate_of(model.optimizer) != np.float32(PEAK)
    probe = Probe()
    fit(model, WarmupCosine(), probe)  # another object: the peak is not lost with the first
    np.testing.assert_allclose(np.array(probe.read)[:, 0], curve(WarmupCosine(), 21), rtol=1e-7)
    assert rate_of(model.optimizer) == np.float32(PEAK)
    if where == "callback":
        assert float(keras.ops.convert_to_numpy(model.optimizer.momentum_variable)) == np.float32(0.9)

    with pytest.raises(RuntimeError):
        fit(model, OneCycle(), Fail())
    model.optimizer.learning_rate = 0.03  # the user has chosen a new one since
    probe = Probe()
    fit(model, WarmupConstant(0), probe, epochs=1)
    assert probe.read[0][0] == np.float32(0.03)


def test_stopped_early_puts_the_rate_back():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.model.stop_training = True

    model = make_model()
    history = fit(model, WarmupCosine(), Stop())
    assert rate_of(model.optimizer) == np.float32(PEAK)
    np.testing.assert_allclose(history.history["learning_rate"], curve(WarmupCosine(), 21, [3]))

    early = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True, min_delta=100)
    history = fit(model, early, WarmupCosine())
    assert rate_of(model.optimizer) == np.float32(PEAK)
    assert len(history.history["learning_rate"]) < 3


@pytest.mark.parametrize("optimizer, steps", [(keras.optimizers.SGD, 2), (SGD, 3)])
def test_gradient_accumulation_counts_batches(optimizer, steps):
    probe = Probe()
    fit(make_model(optimizer(PEAK, gradient_accumulation_steps=steps, momentum=0.0)), WarmupCosine(), probe)
    closed = curve(WarmupCosine(), 21)
    np.testing.assert_allclose(np.array(probe.read)[:, 0], closed, rtol=1e-7)
    moved = np.where(np.arange(1, 22) % steps == 0, closed, 0)
    np.testing.assert_allclose(np.array(probe.used)[:, 0], moved, rtol=2e-7, atol=1e-12)


def test_steps_per_execution_holds_the_rate_of_the_first_step():
    probe = Probe()
    history = fit(make_model(steps_per_execution=3), WarmupCosine(), probe)
    closed = curve(WarmupCosine(), 21)
    first = [0, 3, 6, 7, 10, 13, 14, 17, 20]
    batches = [3, 3, 1] * 3  # the last execution of an epoch is a partial one
    assert probe.batches == [2, 5, 8] * 3
    np.testing.assert_allclose(np.array(probe.read)[:, 0], closed[first], rtol=1e-7)
    np.testing.assert_allclose(np.array(probe.used)[:, 0], closed[first] * batches, rtol=3e-7)
    np.testing.assert_allclose(history.history["learning_rate"], closed[[6, 13, 20]], rtol=1e-7)


def unknown_length():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, X)).batch(5).filter(lambda x, y: True)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("execution", [1, 3])
def test_data_without_a_length(execution):
    model = make_model(steps_per_execution=execution)
    with pytest.raises(ValueError, match=r"steps_per_epoch=.*WarmupCosine\(total_steps=") as error:
        fit(model, WarmupCosine(), x=unknown_length())
    assert "no length" in str(error.value)

    probe = Probe()
    history = fit(model, WarmupCosine(total_steps=21), probe, x=unknown_length())
    closed = curve(WarmupCosine(), 21)
    first = np.arange(21) if execution == 1 else np.array([0, 3, 6, 7, 10, 13, 14, 17, 20])
    batches = 1 if execution == 1 else [3, 3, 1] * 3
    np.testing.assert_allclose(np.array(probe.used)[:, 0], closed[first] * batches, rtol=3e-7)
    np.testing.assert_allclose(history.history["learning_rate"], closed[[6, 13, 20]], rtol=1e-7)
    with pytest.raises(ValueError, match="initial_epoch.*steps_per_epoch="):
        fit(model, WarmupCosine(total_steps=21), x=unknown_length(), initial_epoch=1)

    probe = Probe()
    fit(make_model(), WarmupCosine(), probe, x=unknown_length().repeat(), steps_per_epoch=7)
    np.testing.assert_allclose(probe.rates, closed, rtol=1e-7)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_an_endless_generator_needs_steps():
    def endless():
        while True:
            yield X[:5], X[:5]

    with pytest.raises(ValueError, match="steps_per_epoch="):
        fit(make_model(), OneCycle(), x=endless())
    probe = Probe()
    fit(make_model(), OneCycle(), probe, x=endless(), steps_per_epoch=7)
    np.testing.assert_allclose(probe.rates, curve(OneCycle(), 21), rtol=1e-7)


def two_layers():
    inputs = keras.Input((1,))
    stem = keras.layers.Dense(1, use_bias=False, name="stem")(inputs)
    head = keras.layers.Dense(1, use_bias=False, name="head")(inputs)
    return keras.Model(inputs, keras.layers.Add()([stem, head]))


def test_layer_wise_factors_multiply_the_curve():
    model, probe = two_layers(), Probe()
    optimizer = SGD(PEAK, momentum=0.0, lr_multipliers=[("stem", 0.25)])
    model.compile(optimizer, mean_prediction)
    history = fit(model, WarmupCosine(), probe)
    closed = curve(WarmupCosine(), 21)
    np.testing.assert_allclose(np.array(probe.used), np.outer(closed, [0.25, 1]), rtol=2e-7)
    np.testing.assert_allclose(history.history["learning_rate"], closed[6::7], rtol=1e-7)


@pytest.mark.parametrize("kind", ["map", "function"])
def test_multi_optimizer_scales_each_from_its_own_peak(kind):
    stem, head = keras.optimizers.SGD(0.02, name="slow"), keras.optimizers.SGD(0.5, name="fast")
    if kind == "map":
        choice = keras.optimizers.OptimizerMap(head, {".*stem.*": stem})
    else:
        choice = lambda variable: stem if "stem" in variable.path else head  # noqa: E731
    model, probe = two_layers(), Probe()
    model.compile(keras.optimizers.MultiOptimizer(choice), mean_prediction)
    for _ in range(2):
        probe = Probe()
        history = fit(model, WarmupCosine(), probe)
        fraction = WarmupCosine().fraction(np.arange(21), 21)
        np.testing.assert_allclose(np.array(probe.used), np.outer(fraction, [0.02, 0.5]), rtol=2e-7)
        np.testing.assert_allclose(history.history["learning_rate_slow"], 0.02 * fraction[6::7], rtol=1e-7)
        np.testing.assert_allclose(history.history["learning_rate_fast"], 0.5 * fraction[6::7], rtol=1e-7)
    assert rate_of(stem) == np.float32(0.02) and rate_of(head) == np.float32(0.5)


def test_a_multi_optimizer_with_a_function_needs_a_built_model():
    if keras.backend.backend() != "tensorflow":
        return  # elsewhere Keras builds the model before fit begins
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD(PEAK)), mean_prediction)
    with pytest.raises(ValueError, match="model must be built.*model.build"):
        fit(model, WarmupCosine())


def test_mixed_float16_wraps_the_optimizer():
    keras.config.set_dtype_policy("mixed_float16")
    model, momenta, rates = make_model(SGD(PEAK, momentum=0.9)), Momentum(), []
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    read = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: rates.append(rate_of(model.optimizer)))
    history = fit(model, OneCycle(), momenta, read)
    np.testing.assert_allclose(rates, curve(OneCycle(), 21), rtol=1e-7)
    np.testing.assert_allclose(history.history["learning_rate"], curve(OneCycle(), 21)[6::7], rtol=1e-7)
    assert min(momenta.read) == np.float32(0.85)
    assert rate_of(model.optimizer) == np.float32(PEAK)


class Momentum(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.read = []

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        variable = getattr(optimizer, "inner_optimizer", optimizer).momentum_variable
        self.read.append(float(keras.ops.convert_to_numpy(variable)))


@pytest.mark.parametrize("optimizer", [AdamW, SGD])
def test_one_cycle_moves_the_momentum_of_our_optimizers(optimizer):
    model = make_model(optimizer(PEAK))
    for momentum, ends in (("auto", (0.95, 0.85, 0.95)), ((0.9, 0.5, 0.7), (0.9, 0.5, 0.7))):
        watch = Momentum()
        fit(model, OneCycle(momentum=momentum), watch, epochs=4)
        first, peak, last = ends
        up = [first + (peak - first) * (1 - cosine(step / 7)) for step in range(7)]
        down = [peak + (last - peak) * (1 - cosine((step - 7) / 21)) for step in range(7, 28)]
        np.testing.assert_allclose(watch.read, up + down, rtol=1e-6)
        assert float(keras.ops.convert_to_numpy(model.optimizer.momentum_variable)) == np.float32(0.9)
    watch = Momentum()
    fit(model, OneCycle(momentum=None), watch)
    assert set(watch.read) == {float(np.float32(0.9))}


def test_the_momentum_in_force_is_the_scheduled_one():
    """SGD's velocity under a gradient of 1 follows v = m v - r with the m of the step."""
    velocities = []

    class Velocity(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            velocities.append(float(keras.ops.convert_to_numpy(self.model.optimizer.momentums[0])[0, 0]))

    fit(make_model(SGD(PEAK, momentum=0.9, nesterov=False)), OneCycle(), Velocity())
    momenta = [0.95 + (0.85 - 0.95) * (1 - cosine(step / 5)) for step in range(5)]
    momenta += [0.85 + (0.95 - 0.85) * (1 - cosine((step - 5) / 16)) for step in range(5, 21)]
    velocity = 0.0
    for step, rate in enumerate(curve(OneCycle(), 21)):
        velocity = momenta[step] * velocity - rate
        assert velocities[step] == pytest.approx(velocity, rel=1e-5)


def test_momentum_asked_for_where_it_cannot_move():
    for optimizer in (keras.optimizers.SGD(PEAK, momentum=0.9), keras.optimizers.Adam(PEAK), SGD(PEAK, momentum=0.0)):
        with pytest.raises(ValueError, match="momentum can move only in recipes.AdamW.*momentum=None"):
            fit(make_model(optimizer), OneCycle(momentum=(0.95, 0.85, 0.95)))
    probe = Probe()
    fit(make_model(SGD(PEAK, momentum=0.0)), OneCycle(), probe)  # "auto" leaves it alone
    np.testing.assert_allclose(probe.rates, curve(OneCycle(), 21), rtol=1e-7)


def test_reduce_on_plateau_scales_the_rest_of_the_curve():
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            optimizer = self.model.optimizer
            optimizer.learning_rate = 0.5 * rate_of(optimizer)

    probe = Probe()
    fit(make_model(), WarmupCosine(), Halve(), probe)
    factors = np.repeat([1, 0.5, 0.25], 7)
    np.testing.assert_allclose(probe.rates, factors * curve(WarmupCosine(), 21), rtol=1e-7)


def test_an_unbuilt_model_and_jit():
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(PEAK), mean_prediction, jit_compile=True)
    probe = Probe()
    fit(model, WarmupCosine(), probe)
    np.testing.assert_allclose(np.array(probe.read)[:, 0], curve(WarmupCosine(), 21), rtol=1e-7)
    np.testing.assert_allclose(np.array(probe.used)[1:, 0], curve(WarmupCosine(), 21)[1:], rtol=2e-7)


def test_an_optimizer_with_a_schedule_of_its_own_is_refused():
    rate = WarmupCosine().as_schedule(PEAK, 21)
    for optimizer in (keras.optimizers.SGD(rate), keras.optimizers.SGD(lambda: 0.1)):
        with pytest.raises(ValueError, match="schedule of its own. Compile with a number.*learning_rate="):
            fit(make_model(optimizer), WarmupCosine())


def test_two_schedules_are_refused():
    with pytest.raises(ValueError, match="Two schedules"):
        fit(make_model(), WarmupCosine(), OneCycle())


BAD = [
    ("warmup", lambda: WarmupCosine(warmup=-1)),
    ("warmup", lambda: WarmupCosine(warmup=-0.1)),
    ("warmup", lambda: WarmupLinear(warmup=1.0)),
    ("warmup", lambda: WarmupLinear(warmup=5.0)),
    ("warmup", lambda: WarmupConstant(warmup=True)),
    ("warmup", lambda: WarmupConstant(warmup="3")),
    ("warmup", lambda: WarmupConstant(warmup=float("nan"))),
    ("floor", lambda: WarmupCosine(floor=1.5)),
    ("floor", lambda: WarmupLinear(floor=-0.1)),
    ("floor", lambda: CosineRestarts(floor=None)),
    ("total_steps", lambda: WarmupCosine(total_steps=0)),
    ("total_steps", lambda: WarmupCosine(total_steps=10.0)),
    ("decay", lambda: WarmupStableDecay(decay=1.5)),
    ("shape", lambda: WarmupStableDecay(shape="cosine")),
    ("start", lambda: OneCycle(start=25.0)),
    ("momentum", lambda: OneCycle(momentum=0.9)),
    ("momentum", lambda: OneCycle(momentum=(0.9, 1.0, 0.9))),
    ("momentum", lambda: OneCycle(momentum="off")),
    ("cycles", lambda: CosineRestarts(cycles=0)),
    ("multiplier", lambda: CosineRestarts(multiplier=0.5)),
    ("peak", lambda: WarmupCosine().as_schedule(0, 10)),
    ("total_steps", lambda: WarmupCosine().as_schedule(0.1, 0)),
    ("warmup", lambda: WarmupCosine(warmup=11).as_schedule(0.1, 10)),
]


def test_bad_arguments_name_themselves():
    for name, make in BAD:
        with pytest.raises(ValueError, match=rf"^{name}.*Received: .*{name}="):
            make()


def test_what_does_not_fit_in_the_run_raises_before_the_first_step():
    model = make_model()
    before = model.get_weights()
    for message, schedule in (
        ("warmup is longer than the run of 21 steps", WarmupCosine(warmup=22)),
        ("decay is longer than the run of 21 steps", WarmupStableDecay(decay=22)),
        ("warmup and decay together are longer", WarmupStableDecay(warmup=11, decay=11)),
        ("cycles do not fit in the run of 21 steps", CosineRestarts(cycles=10)),
    ):
        with pytest.raises(ValueError, match=message):
            fit(model, schedule)
    model.optimizer.learning_rate = float("nan")
    with pytest.raises(ValueError, match="learning_rate must be finite"):
        fit(model, WarmupCosine())
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_schedule_of_ones_own():
    class Half(Schedule):
        curve = staticmethod(lambda step, total, warmup, xp: xp.where(step < total // 2, 1.0, 0.5))

    probe = Probe()
    fit(make_model(), Half(warmup=0), probe, epochs=2)
    np.testing.assert_allclose(probe.rates, PEAK * np.repeat([1, 0.5], 7), rtol=1e-7)
