"""`recipes.resize`, and training on images that grow from stage to stage."""

import keras
import numpy as np
import pytest

import recipes
from recipes.callbacks import ExponentialMovingAverage, WarmupCosine
from recipes.training.resolution import fit_shape, resize_images
from recipes.weights.vit_names import resize_positions

any_backend = pytest.mark.any_backend  # what differs by backend; an eager step on JAX takes seconds
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (32, 16, 16, 3)).astype("uint8")
IDS = np.arange(32) % 3
DATA = (IMAGES, IDS)


def convolutional(**arguments):
    keras.utils.set_random_seed(1)
    return recipes.resnet((16, 16, 3), 3, **{"depths": (1,), "widths": (4,), "stem": "cifar", **arguments})


def transformer(**arguments):
    keras.utils.set_random_seed(1)
    return recipes.vit((16, 16, 3), 3, **{"width": 32, "depth": 1, "drop_path": 0.2, **arguments})


def weights(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def quick(model):
    model.run_eagerly = True
    return model


# --------------------------------------------------------------------------------------------------------------- resize


@pytest.mark.parametrize("build", [convolutional, transformer])
def test_the_same_size_is_a_copy(build):
    model = build()
    same = recipes.resize(model, 16)
    np.testing.assert_array_equal(same(IMAGES), model(IMAGES))
    same.set_weights([np.zeros_like(w) for w in same.get_weights()])
    assert weights(model).any() and same.recipe == model.recipe


@any_backend
def test_convolutions_go_with_any_size():
    model = convolutional()
    wide = recipes.resize(model, (16, 24))
    assert wide.input_shape == (None, 16, 24, 3) and wide.recipe["arguments"]["input_shape"] == [16, 24, 3]
    np.testing.assert_array_equal(weights(wide), weights(model))
    x = RANDOM.integers(0, 256, (2, 16, 24, 3)).astype("float32")
    assert wide(x).shape == (2, 3)
    assert type(wide.optimizer) is type(model.optimizer) and wide.loss.get_config() == model.loss.get_config()


@any_backend
@pytest.mark.parametrize("pool", ["token", "average"])
def test_positions_are_interpolated_as_weights_of_a_file_are(pool):
    model = transformer(pool=pool, patch_size=4)
    large = recipes.resize(model, (24, 32))
    old, new = (m.get_layer("position_embedding").get_weights()[0] for m in (model, large))
    np.testing.assert_allclose(new, resize_positions(old, (6, 8), prefix=int(pool == "token")), atol=1e-6)
    assert large.get_layer("tokens").input.shape[1:3] == (6, 8)
    back = recipes.resize(large, 16)  # from a grid that is no square
    assert back.get_layer("position_embedding").get_weights()[0].shape == old.shape


def test_the_patch_keeps_its_size():
    model = transformer()  # compact: the patch follows from the size of the image where nothing is said
    assert recipes.resize(model, 64).recipe["arguments"]["patch_size"] == model.recipe["arguments"]["patch_size"]


def test_waves_as_positions_need_no_interpolation():
    model = transformer(positions="sincos", patch_size=4)
    np.testing.assert_array_equal(weights(recipes.resize(model, 24)), weights(model))


@any_backend
def test_frozen_layers_stay_frozen_and_the_optimizer_goes_on():
    model = quick(recipes.freeze(convolutional()))
    recipes.fit(model, DATA, epochs=1, verbose=0)
    large = recipes.resize(model, 24)
    assert [v.path for v in large.trainable_variables] == ["logits/kernel", "logits/bias"]
    for a, b in zip(large.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(large.optimizer.iterations) > 0


@any_backend
def test_an_average_of_squares_stays_positive():
    spiky = np.zeros((1 + 16, 2), "float32")
    spiky[7] = 1.0
    moved = fit_shape(spiky, (1 + 36, 2), (4, 4), (6, 6), "vit_position_embedding_embedding_velocity")
    assert moved.shape == (37, 2) and moved.min() >= 0 and moved.max() > 0.5
    assert fit_shape(-spiky, (1 + 36, 2), (4, 4), (6, 6), "position_embedding/embedding").max() > 0


def test_what_cannot_be_resized():
    with pytest.raises(ValueError, match="dense1/kernel fits one size only"):
        recipes.resize(recipes.alexnet((16, 16, 3), 3, widths=(4,) * 5, hidden=8), 32)
    with pytest.raises(ValueError, match="model must be one that a builder"):
        recipes.resize(keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten()]), 32)
    with pytest.raises(ValueError, match="model must be one that a builder"):
        recipes.resize(recipes.mlp((4,), 3), 32)
    for size in (0, 2.5, "32", (32,), True):
        with pytest.raises(ValueError, match="size must be"):
            recipes.resize(convolutional(), size)


# --------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("dtype, channels", [("uint8", 3), ("uint8", 1), ("uint8", 4), ("float32", 3), ("int64", 2)])
def test_images_of_every_kind(dtype, channels):
    images = RANDOM.integers(0, 256, (3, 8, 12, channels)).astype(dtype)
    small = resize_images(images, (4, 6))
    assert small.shape == (3, 4, 6, channels) and small.dtype == images.dtype
    np.testing.assert_allclose(small.mean((1, 2)), images.mean((1, 2)), atol=12)  # antialiased: every pixel counts
    flat = np.full((2, 8, 8, channels), 77, dtype)
    assert (resize_images(flat, (12, 10)) == 77).all()


def test_rows_and_columns_are_not_exchanged():
    ramp = np.broadcast_to(np.arange(8, dtype="uint8")[None, :, None, None] * 30, (1, 8, 8, 1))
    small = resize_images(ramp, (4, 8))[0, :, :, 0]
    assert (np.diff(small.astype(int), axis=0) > 0).all() and (np.diff(small.astype(int), axis=1) == 0).all()


# --------------------------------------------------------------------------------------------------------------- stages


@any_backend
def test_stages_of_the_own_size_are_a_plain_fit():
    plain, staged = convolutional(), convolutional()
    options = {"epochs": 3, "validation": 0.25, "verbose": 0, "ema": 0.9}
    first = recipes.fit(plain, DATA, **options)
    second = recipes.fit(staged, DATA, sizes=(1.0, 16, (16, 16)), **options)
    assert first.epoch == second.epoch == [0, 1, 2]
    for name, values in first.history.items():
        np.testing.assert_array_equal(values, second.history[name], err_msg=name)
    np.testing.assert_array_equal(weights(plain), weights(staged))
    for a, b in zip(plain.optimizer.variables, staged.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("build", [convolutional, transformer])
def test_growing_images_share_weights_optimizer_and_schedule(build):
    model, schedule, average = quick(build()), WarmupCosine(warmup=0.25), ExponentialMovingAverage(0.9)
    sizes = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            sizes.append((epoch, self.model.input_shape[1]))

    history = recipes.fit(
        model, DATA, epochs=4, sizes=(8, 0.75, 1.0), schedule=schedule, ema=average, validation=0.25, verbose=0,
        callbacks=[Watch()],
    )  # fmt: skip
    assert sizes == [(0, 8), (1, 12), (2, 16), (3, 16)] and history.epoch == [0, 1, 2, 3]
    steps = 4 * 2  # 24 examples in batches of 16, as little data makes them
    peak = model.recipe["training"]["learning_rate"]
    expected = [peak * schedule.fraction(step, steps) for step in (1, 3, 5, 7)]
    np.testing.assert_allclose(history.history["learning_rate"], expected, rtol=1e-6)
    assert schedule.total_steps is None and int(model.optimizer.iterations) == steps and average.steps == steps
    assert float(model.optimizer.learning_rate) == np.float32(peak)
    assert np.isfinite(weights(model)).all() and np.isfinite(history.history["val_loss"]).all()
    averaged = weights(model)
    average.restore()
    assert not np.array_equal(averaged, weights(model))


def test_the_last_stage_may_be_smaller_than_the_model():
    model = quick(transformer())
    before = weights(model)
    recipes.fit(model, DATA, epochs=1, sizes=(8,), verbose=0)
    assert model.input_shape == (None, 16, 16, 3) and int(model.optimizer.iterations) == 2
    assert not np.array_equal(before, weights(model))


def test_strengths_grow_and_a_later_start_skips_stages():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append((epoch, self.model.input_shape[1]))

    model = quick(recipes.efficientnet((16, 16, 3), 3, width=0.1, depth=0.1, training="v2", learning_rate=1e-3))
    assert model.recipe["training"]["sizes"] == [0.57, 0.71, 0.86, 1.0]
    recipes.fit(model, DATA, epochs=4, initial_epoch=2, verbose=0, callbacks=[Watch()])
    assert seen == [(2, 14), (3, 16)]


def test_the_policy_of_a_stage():
    from recipes.training.resolution import _stage_policy

    model = recipes.efficientnet((16, 16, 3), 3, width=0.1, depth=0.1, training="v2")
    strengths = []
    for progress in (0.0, 0.5, 1.0):
        augment, mix = _stage_policy(model, (8, 8), {"magnitude": (5, 10), "mixup": (0, 0.2)}, progress)
        strengths.append(augment.args[0][-1].keywords["magnitude"])
        assert mix(IMAGES, IDS, np.random.default_rng(0))[1].shape == (32, 3)
    assert strengths == [5, 7.5, 10]


class Own(keras.utils.PyDataset):
    def __len__(self):
        return 2


def test_bad_sizes():
    model = convolutional()
    for sizes, match in ((8, "sizes must be a sequence"), ((), "sizes must"), ((1.5,), "sizes"), ((0,), "size must be")):
        with pytest.raises(ValueError, match=match):
            recipes.fit(model, DATA, epochs=1, sizes=sizes, verbose=0)
    with pytest.raises(ValueError, match="early_stopping must be None with sizes"):
        recipes.fit(model, DATA, epochs=1, sizes=(8,), early_stopping=1, validation=0.25, verbose=0)
    with pytest.raises(ValueError, match="sizes needs arrays"):
        recipes.fit(model, Own(), epochs=1, sizes=(8,), verbose=0)
