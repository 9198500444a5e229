"""What only `stylegan` can break: its layers against their formulas, what happens when, path lengths, adaptation."""

import keras
import numpy as np
import pytest
from keras import ops

import recipes
from recipes.generative.gradients import input_gradient
from recipes.layers import BilinearUpsample, MinibatchStddev, ModulatedConv2D

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1)).astype("uint8")


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def small(**arguments):
    return recipes.stylegan((8, 8, 1), **{"width": 4, "latent": 6, **arguments})


@pytest.mark.parametrize("demodulate", [pytest.param(True, marks=pytest.mark.any_backend), False])
def test_a_modulated_convolution_is_each_examples_own(demodulate):
    """Equations 1 to 3 of the paper: a kernel for each example, made and applied by itself."""
    rng = np.random.default_rng(0)
    x, scales = rng.normal(size=(3, 5, 4, 6)).astype("float32"), rng.normal(size=(3, 6)).astype("float32")
    layer = ModulatedConv2D(7, demodulate=demodulate)
    found = numpy(layer(x, scales))
    kernel = numpy(layer.kernel) / (9 * 6) ** 0.5
    for i in range(3):
        own = kernel * scales[i][None, None, :, None]
        if demodulate:
            own = own / np.sqrt((own**2).sum(axis=(0, 1, 2), keepdims=True) + 1e-8)
        expected = numpy(ops.conv(x[i : i + 1], own, padding="same"))
        np.testing.assert_allclose(found[i : i + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.any_backend
def test_the_deviation_is_that_within_each_group():
    x = np.random.default_rng(0).normal(size=(6, 2, 2, 3)).astype("float32")
    found = numpy(MinibatchStddev(group=3)(x))
    for i in range(6):  # two groups: 0, 2, 4 and 1, 3, 5
        expected = np.sqrt(x[i % 2 :: 2].var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(found[i, :, :, 3], expected, rtol=1e-5)
    assert np.array_equal(found[..., :3], x)
    assert np.abs(numpy(MinibatchStddev()(np.repeat(x[:1], 4, axis=0)))[..., 3]).max() < 1e-3


def test_the_enlargement_is_bilinear():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype("float32")
    expected = numpy(keras.layers.UpSampling2D(interpolation="bilinear")(x))
    np.testing.assert_allclose(numpy(BilinearUpsample()(x)), expected, atol=1e-6)


def test_styles_are_mixed_and_drawn_together():
    model = small(mixing=1.0)
    count = model.parts[2]
    assert count == 3  # 4 x 4 pixels have one convolution, 8 x 8 two
    styles = numpy(model.styles(None, 64))
    firsts = (np.abs(styles - styles[:, :1]).max(axis=2) > 1e-6).argmax(axis=1)  # where the second style begins
    assert set(firsts) == {1, 2}
    assert np.array_equal(styles[:, 2] == styles[:, 1], np.repeat(firsts[:, None] == 1, 6, axis=1))
    assert np.abs(numpy(model.mean_style)).max() > 0
    model.mixing = 0.0
    styles = numpy(model.styles(None, 4))
    assert (styles == styles[:, :1]).all() and len(np.unique(styles[:, 0], axis=0)) == 4
    for truncation, spread in ((0.0, 0.0), (1.0, 1.0)):
        samples = model.sample(4, seed=0, truncation=truncation)
        assert (samples.std(axis=0).max() > 1e-3) == bool(spread)
    with pytest.raises(ValueError, match="truncation"):
        model.sample(4, truncation=1.5)


def test_path_lengths_are_those_of_finite_differences():
    """The gradient by the styles of each layer, root of the mean over layers; and its derivative by a weight."""
    model = small()
    rng = np.random.default_rng(0)
    styles, direction = rng.normal(size=(2, 3, 6)).astype("float32"), rng.normal(size=(2, 8, 8, 1)).astype("float32")

    def total(styles):  # float32 noise of a sum of 64 pixels asks for a large step
        images = numpy(model.synthesise(ops.convert_to_tensor(styles), training=False))
        return (images * direction).sum(axis=(1, 2, 3)) / 8

    gradient, step = np.zeros_like(styles), 1e-2
    for layer in range(3):
        for column in range(6):
            moved = np.zeros_like(styles)
            moved[:, layer, column] = step
            gradient[:, layer, column] = (total(styles + moved) - total(styles - moved)) / (2 * step)
    expected = np.sqrt((gradient**2).sum(axis=2).mean(axis=1))
    found = numpy(model.path_lengths(ops.convert_to_tensor(styles), ops.convert_to_tensor(direction), training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    assert float(model.mean_length) == 0.0
    model.path_length = 2.0
    model.path_length_loss(ops.convert_to_tensor(rng.normal(size=(8, 8, 8, 1)).astype("float32")), None, True)
    assert float(model.mean_length) > 0.0


@pytest.mark.any_backend
def test_what_is_due_when():
    """Path lengths every 4 steps, R1 every 16, each as heavy as it is rare, with rates and moments to match."""
    model = small(path_length=2.0, penalty=1.0, learning_rate=1e-3)
    always, both = ("generator", "discriminator"), ("generator", "path_length", "discriminator", "r1")
    assert model.due(0) == model.due(16) == both
    assert model.due(4) == model.due(8) == ("generator", "path_length", "discriminator")
    assert all(model.due(step) == always for step in (1, 2, 3, 5, 15, 17))
    generator, discriminator = model.optimizer.generator, model.optimizer.discriminator
    for optimizer, share in ((generator, 4 / 5), (discriminator, 16 / 17)):
        config = optimizer.get_config()
        assert config["learning_rate"] == pytest.approx(1e-3 * share)
        assert config["beta_1"] == 0.0 and config["beta_2"] == pytest.approx(0.99**share)
    x = model.to_network(IMAGES)
    gradient = input_gradient(lambda x: model.judge(x, None), x, model.discriminator)
    r1 = np.square(numpy(gradient)).sum(axis=(1, 2, 3)).mean()
    assert float(model.r1_loss(x, None, True)) == pytest.approx(16 * 0.5 * r1, rel=1e-5)
    assert float(model.r1_loss(x, None, False)) == pytest.approx(0.5 * r1, rel=1e-5)


def test_a_fit_makes_what_is_due():
    model = small(path_length=2.0, augment=("translation",))
    model.run_eagerly = True
    model.fit(np.repeat(IMAGES, 2, axis=0)[:12], batch_size=2, epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 6
    assert int(model.optimizer.generator.iterations) == 6 + 2  # path lengths at steps 0 and 4
    assert int(model.optimizer.discriminator.iterations) == 6 + 1  # R1 at step 0
    assert float(model.average_steps) == 6


def test_augmentation_adapts_to_a_sure_discriminator():
    model = small(augment=("translation",))
    x = model.to_network(IMAGES)
    model.ada_images = 40  # so 8 images are a fifth of the way
    judge, shares = model.judge, []
    for sure in (1.0, 1.0, 1.0, -1.0):
        object.__setattr__(model, "judge", lambda x, *rest, sure=sure: 0.0 * judge(x, *rest) + sure)
        model.discriminator_loss(x, None, True)
        shares.append(round(float(model.probability), 4))
    assert shares == [0.2, 0.4, 0.6, 0.4]
