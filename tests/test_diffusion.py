"""Diffusion against closed forms: the noise, the targets, the samplers, guidance and the average."""

import keras
import numpy as np
import pytest
from keras import ops

import recipes
from recipes.generative.noising import (
    TARGETS,
    coefficients,
    cosine_betas,
    flow_sigmas,
    karras_sigmas,
    linear_betas,
    table_of_sigmas,
)
from recipes.generative.samplers import SAMPLERS
from tests.harness.state import dtype_policy

RANDOM = np.random.default_rng(0)
DATA = RANDOM.uniform(-1, 1, (6, 4, 4, 1)).astype("float32")
NOISE = RANDOM.standard_normal(DATA.shape, "float32")


def numpy_of(value):
    return ops.convert_to_numpy(value)


# The noise


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas()], ids=["linear", "cosine"])
def test_the_table_of_levels_is_the_chain_of_single_steps(betas):
    """Each step of DDPM keeps `sqrt(1 - beta)` of the data and adds variance `beta`: mean and variance of all of them."""
    mean, variance = 1.0, 0.0
    sigmas = table_of_sigmas(betas)
    for step, beta in enumerate(betas):
        mean, variance = mean * np.sqrt(1 - beta), variance * (1 - beta) + beta
        scale = 1 / np.sqrt(1 + sigmas[step] ** 2)
        assert scale == pytest.approx(mean, rel=1e-9)
        assert (scale * sigmas[step]) ** 2 == pytest.approx(variance, rel=1e-9)
    assert variance == pytest.approx(1, abs=1e-4)  # nothing is left of the data


@pytest.mark.any_backend
def test_noisy_data_have_the_mean_and_variance_of_their_level():
    x = np.tile([[3.0, -20.0]], (200_000, 1)).astype("float32")
    spread = np.array([[1.0, -30.0], [5.0, -10.0]])  # mean (3, -20), standard deviation (2, 10)
    for variant, level, mean_of, variance in [
        ("ddpm", 300, lambda z, s: z / np.sqrt(1 + s**2), lambda s: s**2 / (1 + s**2)),
        ("flow", 0.25, lambda z, s: 0.75 * z, lambda s: 0.25**2),
        ("edm", 2.0, lambda z, s: z / np.sqrt(5), lambda s: 4 / 5),
    ]:
        model = recipes.diffusion((2,), variant=variant, adapt=spread, width=16, depth=1)
        sigma = model.sigma_of(level)
        for shift in (0.0, 4.0):  # in the scale of the network 0, then 2 and 0.4
            noisy = model.add_noise(x + shift, level, seed=1)
            np.testing.assert_allclose(noisy.mean(0), mean_of(np.array([shift / 2, shift / 10]), sigma), atol=0.01)
            np.testing.assert_allclose(noisy.var(0), variance(sigma), rtol=0.01)


def test_levels_and_settings_out_of_range_are_refused():
    step, time, sigma = (
        recipes.diffusion((2,), variant=variant, adapt=DATA[..., 0, 0][:, :2], width=16, depth=1)
        for variant in ("ddpm", "flow", "edm")
    )
    bad = [(step, -1), (step, 1000), (step, 0.5), (time, 1.0), (time, -0.1), (sigma, -1.0), (sigma, np.inf), (sigma, np.nan)]
    for model, level in bad:
        with pytest.raises(ValueError, match="level must be"):
            model.add_noise(np.zeros((1, 2)), level)
    for settings in ({"steps": 1}, {"sampler": "magic"}, {"guidance": -1.0}, {"guidance": 2.0}, {"labels": 1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            sigma.sample(1, **settings)
    for betas in ((0.0, 0.5), (0.5, 1.0), (0.1, np.nan), [0.1], "square"):
        with pytest.raises(ValueError, match="betas"):
            table_of_sigmas(betas)
    for function, arguments in [
        (karras_sigmas, {"smallest": 0.0}),
        (karras_sigmas, {"rho": 0}),
        (flow_sigmas, {"first": 1.0}),
    ]:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            function(8, **arguments)
        with pytest.raises(ValueError, match="steps"):
            function(1)


# The targets


@pytest.mark.any_backend
def test_given_the_true_noise_every_target_gives_back_the_data():
    for target in TARGETS:
        for sigma in (0.002, 0.1, 1.0, 10.0, 80.0):
            about = coefficients(target, np.float32(sigma), data_std=0.5)
            noisy = DATA + np.float32(sigma) * NOISE
            found = numpy_of(about.skip * noisy + about.out * (about.data * DATA + about.noise * NOISE))
            np.testing.assert_allclose(found, DATA, rtol=0, atol=1e-4, err_msg=f"{target}, sigma {sigma}")


def test_each_target_is_what_its_paper_says():
    sigma = np.array([0.1, 1.0, 10.0])
    kept = 1 / (1 + sigma**2)  # DDPM's product of 1 - beta
    variance, std = sigma**2 + 0.25, 0.5
    expected = {
        "epsilon": (np.sqrt(kept), np.zeros(3), np.ones(3)),
        "v": (np.sqrt(kept), -np.sqrt(1 - kept), np.sqrt(kept)),
        "flow": (1 / (1 + sigma), -np.ones(3), np.ones(3)),
        # Karras et al.: the data less c_skip times the noisy data, over c_out
        "edm": (variance**-0.5, (1 - std**2 / variance) * variance**0.5 / sigma / std, -std / variance**0.5),
    }
    for target, values in expected.items():
        about = coefficients(target, ops.convert_to_tensor(sigma, "float32"), std)
        for found, value in zip((about.scale, about.data, about.noise), values, strict=True):
            np.testing.assert_allclose(np.broadcast_to(numpy_of(found), 3), value, rtol=1e-5, err_msg=target)
    about = coefficients("edm", ops.convert_to_tensor(sigma, "float32"), std)
    seen = numpy_of(about.scale) ** 2 * (std**2 + sigma**2)
    asked = numpy_of(about.data) ** 2 * std**2 + numpy_of(about.noise) ** 2
    np.testing.assert_allclose([seen, asked], 1, rtol=1e-5)  # what goes in and what is asked for have variance 1


# The samplers

MEAN, STD = np.float32(0.7), np.float32(0.4)


def gaussian(x, sigma):
    """The best guess for data of mean .7 and standard deviation .4."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


@pytest.mark.any_backend
def test_samplers_follow_the_known_path_and_agree_as_steps_grow():
    largest = np.float32(20.0)
    noise = largest * np.linspace(-2, 2, 9, dtype="float32")[:, None]
    exact = MEAN + (noise - MEAN) * STD / np.sqrt(STD**2 + largest**2)  # the path keeps how far out a point lies
    errors = {}
    for name, sampler in SAMPLERS.items():
        for steps in (20, 40, 80):
            found = numpy_of(sampler(gaussian, noise, karras_sigmas(steps, largest=float(largest))))
            errors[name, steps] = np.abs(found - exact).max()
    for name, order in [("ddim", 1), ("euler", 1), ("heun", 2), ("dpm_solver", 2)]:
        for steps in (20, 40):
            ratio = errors[name, steps] / errors[name, 2 * steps]
            assert 0.8 * 2**order < ratio < 1.35 * 2**order, f"{name}: {errors}"
    assert max(error for (name, steps), error in errors.items() if steps == 80) < 0.05
    assert max(errors["heun", 80], errors["dpm_solver", 80]) < 0.004
    levels = karras_sigmas(20, largest=float(largest))
    same = [numpy_of(SAMPLERS[name](gaussian, noise, levels)) for name in ("ddim", "euler")]
    np.testing.assert_allclose(*same, atol=1e-5)


# The model


def small_model(variant="edm", **arguments):
    keras.utils.set_random_seed(0)
    points = np.random.default_rng(1).normal(size=(4096, 2)) * [2, 5] + [10, 0]
    return recipes.diffusion((2,), variant=variant, width=16, depth=1, adapt=points, **arguments), points.astype("float32")


def test_the_loss_of_a_network_that_says_nothing_is_the_size_of_its_target():
    for variant, size in [("edm", 1.0), ("ddpm", 1.0), ("v", 1.0), ("flow", 2.0)]:
        model, points = small_model(variant)
        assert model.evaluate(points, batch_size=4096, verbose=0) == pytest.approx(size, rel=0.06), variant


@pytest.mark.any_backend
def test_guidance_of_one_is_the_class_and_of_zero_is_none():
    model, points = small_model(num_classes=3)
    random = np.random.default_rng(2)
    model.average.set_weights([random.normal(size=w.shape) * 0.3 for w in model.average.get_weights()])
    x, labels, sigma = points[:6] - 10, np.array([0, 1, 2, 0, 1, 2], "int32"), np.float32(2.0)

    def by_hand(labels):
        """Karras et al., equation 7, with data of standard deviation 1."""
        guess = model.average({"data": x / np.sqrt(5), "noise": np.full(6, np.log(2.0), "float32"), "label": labels})
        return x / 5 + 2 / np.sqrt(5) * numpy_of(guess)

    told, not_told = by_hand(labels), by_hand(np.full(6, 3, "int32"))
    assert np.abs(told - not_told).max() > 0.01
    for guidance in (0.0, 1.0, 1.000001, 3.0):  # the third takes the way of the others, which is not that of 1
        found = numpy_of(model.denoise(x, sigma, ops.convert_to_tensor(labels), guidance))
        np.testing.assert_allclose(found, not_told + guidance * (told - not_told), rtol=1e-4, atol=1e-4)


class Before(keras.callbacks.Callback):
    """Keeps the weights of the network before every step."""

    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        self.values.append([w.copy() for w in self.model.network.get_weights()])


@pytest.mark.any_backend
def test_the_average_is_its_closed_form_and_is_what_is_evaluated_and_sampled():
    model, points = small_model(ema=0.3, learning_rate=0.05)
    record = Before()
    model.fit(points[:320], batch_size=32, epochs=1, verbose=0, callbacks=[record])
    expected = record.values[0]
    for t, weights in enumerate(record.values):
        decay = min(0.3, (1 + t) / (10 + t))
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, weights, strict=True)]
    assert len(record.values) == float(model.average_steps) == 10
    for found, value, now in zip(model.average.get_weights(), expected, model.network.get_weights(), strict=True):
        np.testing.assert_allclose(found, value, atol=1e-6)
        assert not np.allclose(found, now, atol=1e-4)
    samples, loss = model.sample(3, seed=0, steps=4), model.evaluate(points, batch_size=4096, verbose=0)
    model.network.set_weights([0 * w for w in model.network.get_weights()])
    np.testing.assert_array_equal(model.sample(3, seed=0, steps=4), samples)
    assert model.evaluate(points, batch_size=4096, verbose=0) == pytest.approx(loss, rel=0.1)


def test_samplers_of_the_model_agree_and_lie_in_the_units_of_the_data():
    model, points = small_model()
    recipes.fit(model, points, epochs=3, verbose=0)
    samples = {
        name: model.sample(500, seed=0, steps=40, sampler=name, batch_size=500) for name in ("heun", "dpm_solver", "ddim")
    }
    for name, found in samples.items():
        assert np.abs(found - samples["heun"]).mean() < (0.3 if name == "ddim" else 0.05), name
        np.testing.assert_allclose(found.mean(0), [10, 0], atol=1.0)
        np.testing.assert_allclose(found.std(0), [2, 5], rtol=0.25)


@pytest.mark.parametrize("variant", ["ddpm", "v", "edm", "flow"])
def test_samplers_spend_their_steps_where_data_are(variant):
    """Cosine betas end at a level of 20,000: from there, 20 steps made nothing of eight Gaussians."""
    levels = recipes.diffusion((2,), variant=variant, width=16, depth=1).sigmas(20)
    assert len(levels) == 21 and levels[-1] == 0 and (np.diff(levels) < 0).all()
    assert (levels < 10).sum() >= 10


@pytest.mark.parametrize("denoiser", ["unet", "transformer"])
def test_patches_leave_the_network_in_float32_under_mixed_precision(denoiser):
    with dtype_policy("mixed_bfloat16"):
        model = recipes.diffusion((8, 8, 1), denoiser=denoiser, patch_size=2, width=32, depth=1)
    inputs = {"data": DATA[:2].repeat(2, 1).repeat(2, 2), "noise": np.zeros(2, "float32")}
    assert numpy_of(model.network(inputs)).dtype == "float32"
