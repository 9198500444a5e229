"""The order of `Batches` is a pure function of (seed, epoch), whatever `fit` and the backend do around it."""

import copy
import pickle
import random
import time

import keras
import numpy as np
import pytest

from recipes.data import Batches, split
from recipes.data.augment import automatic, compose, cutout, flip, shift

pytestmark = pytest.mark.any_backend

N = 17  # with batches of 4 a last one of a single sample is left, which joins the one before it
BITS = 2.0 ** np.arange(N, dtype="float32")[:, None]  # the sum of a batch tells which samples it held


class Recorder(keras.callbacks.Callback):
    """Writes down which samples every step was trained on, read from the running mean of the loss."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([])
        self.samples = self.total = 0

    def on_train_batch_end(self, batch, logs=None):
        self.epochs[-1].append(float(logs["loss"]))


def mean_output(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


def make_model(**compile_arguments):
    inputs = keras.Input((1,), name="x")
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="same")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=mean_output, **compile_arguments)
    return model


def train(batches, model=None, callbacks=(), **arguments):
    """The running means of the loss after every step, epoch by epoch."""
    recorder = Recorder()
    (model or make_model()).fit(batches, verbose=0, callbacks=[recorder, *callbacks], **arguments)
    return recorder.epochs


def running_means(batches, steps):
    """What `train` must return for `[[(epoch, batch), ...] of every epoch of fit]`."""
    expected = []
    for epoch_steps in steps:
        sums = np.cumsum([batches.batch(*step)[0].sum() for step in epoch_steps], dtype="float64")
        counts = np.cumsum([len(batches.batch(*step)[1]) for step in epoch_steps])
        expected.append(list(sums / counts))
    return expected


def all_steps(batches, epochs):
    return [[(epoch, i) for i in range(len(batches))] for epoch in epochs]


def assert_order(seen, batches, steps):
    expected = running_means(batches, steps)
    assert [len(epoch) for epoch in seen] == [len(epoch) for epoch in expected]
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def make_batches(**arguments):
    return Batches(BITS, np.zeros((N, 1), "float32"), 4, **{"seed": 3, **arguments})


def test_order_is_pinned():
    # the same numbers on every backend and machine
    assert Batches(np.arange(8), None, 4).order(0).tolist() == [5, 3, 0, 1, 2, 4, 7, 6]
    assert Batches(np.arange(8), None, 4).order(1).tolist() == [6, 3, 4, 7, 2, 0, 1, 5]


def test_fit_serves_every_epoch_in_its_order_although_keras_shuffles_too():
    batches = make_batches()
    random.seed(0)
    seen = train(batches, epochs=4)
    assert_order(seen, batches, all_steps(batches, range(4)))
    assert len({tuple(epoch) for epoch in seen}) == 4  # every epoch differs


def test_second_fit_starts_over_and_a_later_start_continues():
    model, batches = make_model(), make_batches()
    whole = train(batches, model, epochs=5)
    assert train(batches, model, epochs=5) == whole
    assert train(make_batches(initial_epoch=2), model, epochs=5, initial_epoch=2) == whole[2:]
    batches.initial_epoch = 3
    assert train(batches, model, epochs=5, initial_epoch=3) == whole[3:]
    assert train(make_batches(seed=4), model, epochs=5) != whole


def test_fit_that_was_stopped_early_leaves_nothing_behind():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model, batches = make_model(), make_batches()
    train(batches, model, callbacks=[Stop()], epochs=3)
    assert_order(train(batches, model, epochs=2), batches, all_steps(batches, range(2)))


def test_unbuilt_model():
    # Keras looks at a first batch to build it, before the first epoch
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="same")])
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=mean_output)
    batches = make_batches()
    assert_order(train(batches, model, epochs=3), batches, all_steps(batches, range(3)))


def test_steps_per_epoch_walks_through_whole_passes():
    batches = Batches(BITS[:16], np.zeros((16, 1), "float32"), 4, seed=3)  # 4 batches, 2 a Keras epoch
    seen = train(batches, epochs=4, steps_per_epoch=2)
    assert_order(seen, batches, [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(2, 0), (2, 1)], [(2, 2), (2, 3)]])


@pytest.mark.filterwarnings("ignore")
def test_steps_per_execution():
    # a callback fires once an execution; the last one is shorter (4 batches, 3 at a time)
    batches, model = make_batches(), make_model(steps_per_execution=3)
    seen = train(batches, model, epochs=3)
    for epoch, one in enumerate(seen):
        assert one[0] == pytest.approx(running_means(batches, [[(epoch, 0), (epoch, 1), (epoch, 2)]])[0][-1], rel=1e-6)


def test_validation_and_evaluation_on_the_same_object_disturb_nothing():
    class Evaluate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(batches, verbose=0)

    batches = make_batches()
    seen = train(batches, callbacks=[Evaluate()], epochs=3, validation_data=make_batches(shuffle=False))
    assert_order(seen, batches, all_steps(batches, range(3)))


def test_subclass_that_calls_super():
    class Mine(Batches):
        def on_epoch_begin(self):
            super().on_epoch_begin()

        def on_epoch_end(self):
            super().on_epoch_end()

    batches = Mine(BITS, np.zeros((N, 1), "float32"), 4, seed=3)
    assert_order(train(batches, epochs=3), batches, all_steps(batches, range(3)))


def test_loop_of_ones_own():
    batches = make_batches()
    batches.epoch = 2
    batches.on_epoch_begin()
    rows = np.concatenate([x for x, _ in batches])
    batches.on_epoch_end()
    np.testing.assert_array_equal(rows, BITS[batches.order(2)])


def test_fit_with_augmentation_weights_and_class_weight():
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), "uint8")
    y = np.arange(12) % 2
    inputs = keras.Input((8, 8, 1), name="image")
    outputs = keras.layers.Dense(2, name="logits")(keras.layers.Flatten(name="flat")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(Batches(x, y, 4, augment=shift, sample_weight=np.ones(12)), epochs=2, verbose=0)
    model.fit(Batches(x, y, 4, augment=shift), class_weight={0: 1.0, 1: 2.0}, epochs=2, verbose=0)


def test_dict_and_tuple_inputs_fit():
    numeric, categories = np.ones((10, 3), "float32"), np.arange(20, dtype="int32").reshape(10, 2)
    inputs = {
        "numeric": keras.Input((3,), name="numeric"),
        "categories": keras.Input((2,), dtype="int32", name="categories"),
    }
    flat = keras.layers.Flatten(name="flat")(keras.layers.Embedding(20, 2, name="embedding")(inputs["categories"]))
    joined = keras.layers.Concatenate(name="joined")([inputs["numeric"], flat])
    outputs = keras.layers.Dense(1, name="out")(joined)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    x, y = {"numeric": numeric, "categories": categories}, np.ones(10, "float32")
    model.fit(Batches(x, y, 4), epochs=2, verbose=0)
    batch, targets = Batches(x, y, 4)[0]
    assert set(batch) == set(x) and batch["categories"].shape == (4, 2) and targets.shape == (4,)
    pair, _ = Batches((numeric, categories), y, 4)[0]
    assert isinstance(pair, tuple) and pair[1].shape == (4, 2)


def test_every_sample_once_an_epoch_and_never_a_batch_of_one():
    for n in range(1, 30):
        for size in range(1, 8):
            batches = Batches(np.arange(n), np.arange(n), size, seed=n)
            served = [batches[i][1] for i in range(len(batches))]
            assert sorted(np.concatenate(served)) == list(range(n))
            assert n == 1 or size == 1 or min(map(len, served)) > 1
            if n >= size:
                assert {len(y) for _, y in Batches(np.arange(n), np.arange(n), size, drop_last=True)} == {size}


def test_unshuffled_keeps_the_order():
    batches = Batches(np.arange(7), np.arange(7), 3, shuffle=False, seed=1)
    assert np.concatenate([y for _, y in batches]).tolist() == list(range(7))


def test_augmentation_is_a_function_of_seed_epoch_and_batch():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), "uint8")
    drawn = []

    def augment(batch, rng):
        drawn.append(rng.integers(0, 2**60))
        batch[:] = 0  # may write into what it is given
        return batch

    original = images.copy()
    batches = Batches(images, np.arange(12), 4, seed=5, augment=augment)
    for epoch, index in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0)]:
        batches.batch(epoch, index)
    Batches(images, np.arange(12), 4, seed=6, augment=augment).batch(0, 0)
    Batches(images, np.arange(12), 4, seed=5, augment=augment, shuffle=False).batch(0, 0)
    assert drawn[0] == drawn[4] == drawn[6] and len(set(drawn)) == 5
    np.testing.assert_array_equal(images, original)


def test_inputs_are_read_as_their_plain_copies_are():
    x = np.arange(60, dtype="float32").reshape(20, 3)
    expected = np.concatenate([batch for batch, _ in Batches(x, np.arange(20), 6)])
    read_only = x.copy()
    read_only.flags.writeable = False
    padded = np.zeros((20, 6), "float32")
    padded[:, ::2] = x
    for variant in (x.astype(">f4"), np.asfortranarray(x), padded[:, ::2], x[::-1][::-1], read_only, x.tolist()):
        got = np.concatenate([batch for batch, _ in Batches(variant, np.arange(20), 6)])
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, expected)


def test_copies_and_pickles_serve_the_same():
    batches = make_batches()
    train(batches, epochs=1)
    for twin in (copy.deepcopy(batches), pickle.loads(pickle.dumps(batches))):
        np.testing.assert_array_equal(twin.order(5), batches.order(5))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1. Received: batch_size=0"),
        ({"batch_size": -1}, "batch_size must be"),
        ({"batch_size": 7.5}, "batch_size must be"),
        ({"y": np.arange(9)}, r"same number of samples. Received: x \[10, 9\]"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, "0 samples"),
        ({"x": 3}, "one row a sample"),
        ({"x": np.ma.masked_array(np.arange(10))}, "mask would be ignored"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"augment": "shift"}, "augment must be a function"),
        ({"sample_weight": np.ones(9)}, r"sample_weight must have shape \(10,\)"),
        ({"y": None, "sample_weight": np.ones(10)}, "sample_weight needs y"),
        ({"batch_size": 11, "drop_last": True}, "no batch at all"),
        ({"initial_epoch": -1}, "initial_epoch must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(**{"x": np.zeros((10, 2)), "y": np.arange(10), "batch_size": 4, **arguments})


def test_bad_augment_and_index():
    with pytest.raises(ValueError, match="as many samples as it was given, 4"):
        Batches(np.zeros((8, 4, 4, 1)), np.arange(8), 4, augment=lambda x, rng: x[:2])[0]
    with pytest.raises(IndexError, match="2 batches an epoch. Received: index=2"):
        Batches(np.zeros((8, 2)), np.arange(8), 4)[2]


def test_split_is_stratified_and_a_function_of_the_seed():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    x = {"rows": np.arange(100), "twice": np.arange(100) * 2}
    kept, held = split(x, y, 0.2, seed=1)
    assert np.bincount(held[1]).tolist() == [12, 6, 2]
    assert sorted(np.concatenate([kept[0]["rows"], held[0]["rows"]])) == list(range(100))
    np.testing.assert_array_equal(held[0]["twice"], 2 * held[0]["rows"])
    np.testing.assert_array_equal(held[1], y[held[0]["rows"]])
    np.testing.assert_array_equal(split(x, y, 0.2, seed=1)[1][1], held[1])
    assert split(x, y, 0.2, seed=2)[1][0]["rows"].tolist() != held[0]["rows"].tolist()
    one_hot = np.eye(3)[y]
    np.testing.assert_array_equal(split(x, one_hot, 0.2, seed=1, stratify=True)[1][0]["rows"], held[0]["rows"])


@pytest.mark.parametrize(
    "y, arguments, message",
    [
        (np.array([0, 0, 0, 1]), {"fraction": 0.5}, "class 1 is left with one sample"),
        (np.arange(20) // 2, {"fraction": 0.1}, "too few for each of 10 classes"),
        (np.zeros(4), {"fraction": 0.0}, "must be in"),
        (np.zeros(4), {"fraction": 1.0}, r"must be a fraction in \[0, 1\)"),
        (np.zeros(1), {"fraction": 0.5}, "some must be left on both sides"),
        (np.zeros(4), {"fraction": 0.5, "seed": "a"}, "seed must be"),
    ],
)
def test_split_refuses(y, arguments, message):
    with pytest.raises(ValueError, match=message):
        split(np.zeros((len(y), 2)), y, **arguments)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("function", [shift, flip, cutout, compose(flip, shift), automatic("shift", (16, 16, 3))])
def test_augmentation_keeps_dtype_shape_and_input(function, dtype):
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 12, 3)).astype(dtype)
    original = images.copy()
    one = function(images, np.random.default_rng(1))
    assert one.dtype == images.dtype and one.shape == images.shape and one.flags.c_contiguous
    assert not np.shares_memory(one, images)
    np.testing.assert_array_equal(images, original)
    np.testing.assert_array_equal(one, function(images, np.random.default_rng(1)))
    assert (one != function(images, np.random.default_rng(2))).any() and (one != images).any()


def test_shift_moves_whole_pixels_and_repeats_the_edge():
    rows, columns = np.meshgrid(np.arange(9), np.arange(7), indexing="ij")
    image = np.stack([rows, columns], -1).astype("uint8")  # (9, 7, 2): every pixel says where it comes from
    moved = shift(np.repeat(image[None], 400, 0), np.random.default_rng(0), amount=2)
    offsets = set()
    for one in moved:
        dy, dx = int(one[4, 3, 0]) - 4, int(one[4, 3, 1]) - 3
        offsets.add((dy, dx))
        np.testing.assert_array_equal(one[..., 0], np.clip(rows + dy, 0, 8))
        np.testing.assert_array_equal(one[..., 1], np.clip(columns + dx, 0, 6))
    assert offsets == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}
    black = shift(np.full((50, 8, 8, 1), 9, "uint8"), np.random.default_rng(0), amount=0.25, padding="zero")
    assert set(np.unique(black)) == {0, 9}


def test_flip_and_cutout():
    images = np.random.default_rng(0).integers(0, 256, (200, 6, 5, 1), "uint8")
    flipped = flip(images, np.random.default_rng(1))
    mirrored = np.array([(one == image[:, ::-1]).all() for one, image in zip(flipped, images, strict=True)])
    kept = np.array([(one == image).all() for one, image in zip(flipped, images, strict=True)])
    assert (mirrored | kept).all() and 70 < mirrored.sum() < 130
    covered = cutout(np.tile(np.array([0, 200], "uint8"), 512).reshape(1, 32, 32, 1), np.random.default_rng(0))
    assert (covered == 100).any() and (covered == 100).sum() <= 256


def test_automatic_names():
    assert automatic(None, (8,)) is None
    with pytest.raises(ValueError, match="augment must be one of"):
        automatic("mixup", (8, 8, 1))
    with pytest.raises(ValueError, match="needs images"):
        automatic("shift", (8,))
    images = np.arange(2 * 8 * 8, dtype="uint8").reshape(2, 8, 8, 1)
    for bad in ({"amount": 8}, {"amount": 0}, {"amount": 1.0}, {"padding": "wrap"}):
        with pytest.raises(ValueError, match="amount must be|padding must be"):
            shift(images, np.random.default_rng(0), **bad)
    for function in (shift, flip, cutout):
        with pytest.raises(ValueError, match=r"\(batch, height, width, channels\). Received: \(8, 8\)"):
            function(images[0, ..., 0], np.random.default_rng(0))


def test_augmentation_is_fast():
    images = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), "uint8")
    rng, augment = np.random.default_rng(0), automatic("flip_shift", (32, 32, 3))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        augment(images, rng)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01  # measured: 1 ms
