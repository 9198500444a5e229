"""Autoencoders: divergences and likelihoods in closed form, the codebook of VQ-VAE step by step, and what codes are."""

import keras
import numpy as np
import pytest
from keras import ops

import recipes
from recipes.callbacks import KLAnnealing
from recipes.generative.densities import bernoulli_nll, gaussian_kl, gaussian_nll, mixture_nll
from recipes.layers import VectorQuantizer
from recipes.sequence.compiled import compiled

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 9, 8, 1)).astype("uint8")  # an odd side


def numpy(value):
    return np.array(ops.convert_to_numpy(value))


@pytest.mark.any_backend
def test_densities_and_divergences():
    from scipy import stats

    mean, log_variance = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 3))
    scale = np.exp(log_variance / 2)
    expected = np.empty((4, 3))
    for i in np.ndindex(4, 3):  # the integral of q log(q / p)
        q, grid = stats.norm(mean[i], scale[i]), np.linspace(mean[i] - 12 * scale[i], mean[i] + 12 * scale[i], 10001)
        expected[i] = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - stats.norm.logpdf(grid)), grid)
    np.testing.assert_allclose(numpy(gaussian_kl(mean, log_variance)), expected, rtol=1e-6, atol=1e-6)
    x = RANDOM.normal(size=(4, 3))
    expected = -stats.norm.logpdf(x, mean, scale).sum(1)
    np.testing.assert_allclose(numpy(gaussian_nll(x, mean, log_variance / 2)), expected, rtol=1e-6)
    logits = RANDOM.normal(size=4)
    shares = np.exp(logits) / np.exp(logits).sum()
    density = [sum(s * stats.norm.pdf(row, m, d).prod() for s, m, d in zip(shares, mean, scale, strict=True)) for row in x]
    np.testing.assert_allclose(numpy(mixture_nll(x, mean, log_variance / 2, logits)), -np.log(density), rtol=1e-5)
    coins = RANDOM.integers(0, 2, (4, 3))
    expected = -stats.bernoulli.logpmf(coins, 1 / (1 + np.exp(-mean))).sum(1)
    np.testing.assert_allclose(numpy(bernoulli_nll(coins.astype("float64"), mean)), expected, rtol=1e-6)


def test_the_loss_is_the_bound():
    """Reconstruction plus beta times the weight times what exceeds the free nats, of the model's own outputs."""
    model = recipes.vae((9, 8, 1), width=8, latent=3, components=1, beta=0.5, free_bits=0.02)
    x = model.to_network(IMAGES)
    mean, log_variance = map(numpy, model.posterior(x))
    state = numpy(model.random.state)
    code = mean + np.exp(log_variance / 2) * numpy(keras.random.normal(mean.shape, seed=model.random))
    reconstruction = numpy(gaussian_nll(x, model.outputs(code), model.log_scale)).mean()
    kl = numpy(gaussian_kl(mean, log_variance)).mean(0)
    assert (kl < 0.02).any()  # there is something to be free
    for weight in (1.0, 0.25):
        model.kl_weight.assign(weight)
        model.random.state.assign(state)
        found = float(model.batch_loss(x, None, training=True))
        assert found == pytest.approx(reconstruction + 0.5 * weight * np.maximum(kl, 0.02).sum(), rel=1e-5)
    assert float(model.kl.result()) == pytest.approx(kl.sum(), rel=1e-5)


def test_codes_of_a_vae():
    model = recipes.vae((9, 8, 1), 3, width=8, latent=3, likelihood="bernoulli", kl_warmup=0.5)
    labels = np.array([0, 1, 2, 0, 1, 2])
    history = recipes.fit(model, (IMAGES, labels), epochs=2, verbose=0)
    assert {"loss", "kl", "reconstruction"} <= set(history.history) and float(model.kl_weight) == 1
    codes = model.encode(IMAGES, labels=labels)
    assert codes.shape == (6, 3) and codes.dtype == "float32"
    back = model.decode(codes, labels=labels)
    assert back.shape == IMAGES.shape and 0 <= back.min() and back.max() <= 255
    np.testing.assert_allclose(model.reconstruct(IMAGES, labels=labels), back, atol=1e-3)
    between = model.interpolate(IMAGES[:2], IMAGES[2:4], steps=5, labels=labels[:2])
    assert between.shape == (2, 5, 9, 8, 1)
    np.testing.assert_allclose(between[:, 0], back[:2], atol=1e-3)
    middle = (codes[:2] + model.encode(IMAGES[2:4], labels=labels[:2])) / 2
    np.testing.assert_allclose(between[:, 2], model.decode(middle, labels=labels[:2]), atol=1e-3)
    for refused, word in (
        (lambda: model.encode(IMAGES), "labels"),
        (lambda: model.encode(IMAGES / 255, labels=labels), "0..255"),
        (lambda: model.encode(IMAGES[:, :8], labels=labels), "shape"),
        (lambda: model.decode(codes[:, :2], labels=labels), "codes"),
        (lambda: model.interpolate(IMAGES[:2], IMAGES[:3], labels=labels[:2]), "equally long"),
        (lambda: model.interpolate(IMAGES, IMAGES, steps=1, labels=labels), "steps"),
        (lambda: model.compute_loss(IMAGES), "num_classes"),
        (lambda: model.compute_loss(IMAGES, labels, sample_weight=np.ones(6)), "sample_weight"),
        (lambda: recipes.fit(model, IMAGES), "num_classes"),
    ):
        with pytest.raises(ValueError, match=word):
            refused()


def test_annealing():
    """The weight rises in cycles while the model trains, and is 1 whenever the model is measured."""
    model = recipes.vae((3,), width=8, depth=1, components=1, adapt=RANDOM.normal(size=(12, 3)))
    seen = []

    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(self.model.kl_weight))

        def on_test_end(self, logs=None):
            seen.append(f"tested at {float(self.model.kl_weight)}")

    x = RANDOM.normal(size=(12, 3))
    model.fit(x, batch_size=3, epochs=2, validation_data=(x,), verbose=0, callbacks=[KLAnnealing(0.5, cycles=2), Recorder()])
    assert seen == [0.0, 0.5, 1.0, 1.0, "tested at 1.0"] * 2
    with pytest.raises(ValueError, match="kl_weight"):
        recipes.mlp((3,), 2, adapt=x).fit(x, np.zeros(12), callbacks=[KLAnnealing()], verbose=0)
    for bad in ({"warmup": 1.5}, {"cycles": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            KLAnnealing(**bad)


def test_autoencoder():
    """It gives back what it was trained on better than anything else, and learns to take noise out."""
    x = np.zeros((64, 8, 8, 1), "uint8")
    x[:32, :4], x[32:, :, :4] = 255, 255
    model = recipes.autoencoder((8, 8, 1), variant="dense", width=32, latent=2, noise=0.3, learning_rate=1e-2)
    recipes.fit(model, x, epochs=40, verbose=0)
    assert model.encode(x).shape == (64, 2)
    np.testing.assert_allclose(model.decode(model.encode(x)), model.reconstruct(x), atol=1e-3)
    scores, other = model.anomaly_scores(x), model.anomaly_scores(255 - x)
    assert scores.shape == (64,) and other.min() > 3 * scores.max()
    noisy = np.clip(x + RANDOM.normal(0, 38, x.shape), 0, 255)
    assert np.abs(model.reconstruct(noisy) - x).mean() < 0.5 * np.abs(noisy - x).mean()
    with pytest.raises(ValueError, match="recipes.vae"):
        model.sample(2)


@pytest.mark.any_backend
def test_codebook():
    """The averages of hand-written code, for three steps; then a code that nobody chooses starts anew at some vector."""
    layer = VectorQuantizer(codes=4, decay=0.8, restart=0.1, seed=0)
    x = RANDOM.normal(size=(3, 10, 2)).astype("float32")
    layer.build(x.shape)
    table = np.array([[1, 1], [-1, 1], [0, -1], [50, 50]], "float32")
    usage = np.full(4, 0.25)
    layer.usage.assign(usage)
    layer.sums.assign(table * 0.25)
    sums = table * 0.25
    for step in range(3):
        distances = np.square(x.reshape(30, 1, 2) - sums / usage[:, None]).sum(-1)
        ids = distances.argmin(1)
        assert np.array_equal(numpy(layer.nearest(x)).reshape(30), ids), step
        np.testing.assert_allclose(numpy(layer(x, training=True)).reshape(30, 2), (sums / usage[:, None])[ids], rtol=1e-5)
        chosen = np.eye(4)[ids]
        usage = 0.8 * usage + 0.2 * chosen.mean(0)
        sums = 0.8 * sums + 0.2 * chosen.T @ x.reshape(30, 2) / 30
        np.testing.assert_allclose(numpy(layer.usage), usage, rtol=1e-5)
        np.testing.assert_allclose(numpy(layer.sums), sums, rtol=1e-4, atol=1e-6)
    while usage[3] * 0.8 >= 0.1 / 4:
        usage[3] *= 0.8
        layer(x, training=True)
    assert numpy(layer.table)[3] == pytest.approx([50, 50], rel=1e-4)
    layer(x, training=True)
    assert numpy(layer.usage)[3] == pytest.approx(0.25)
    assert np.abs(x.reshape(30, 2) - numpy(layer.table)[3]).sum(1).min() < 1e-5


def test_codes_of_a_vqvae():
    """Ids of data and back; the ids of samples are those that the prior says, each after those before it."""
    model = recipes.vqvae((9, 8, 1), 2, codes=8, width=8, depth=0, prior_width=32, prior_depth=1, dropout=0.0)
    labels = np.array([0, 1, 0, 1, 0, 1])
    history = recipes.fit(model, (IMAGES, labels), epochs=1, verbose=0)
    assert {"loss", "prior", "reconstruction", "perplexity"} <= set(history.history)
    ids = model.encode(IMAGES)
    assert ids.shape == (6, 5, 4) and ids.dtype == "int32" and 0 <= ids.min() and ids.max() < 8
    np.testing.assert_allclose(model.decode(ids), model.reconstruct(IMAGES), atol=1e-3)
    # drawn one by one with a cache, as the prior says of all ids at once: the likeliest when it is cold
    lots, kinds = RANDOM.random((2, 20), "float32"), np.array([0, 1], "int32")
    write = compiled(model, ("write",), lambda lots, kinds: model.write(lots, kinds, 1e-4))
    written = numpy(write(lots, kinds))
    logits = numpy(model.prior(np.concatenate([8 + kinds[:, None], written[:, :-1]], axis=1)))
    assert np.array_equal(written, logits.argmax(-1))
    for refused, word in (
        (lambda: model.decode(ids[:, :4]), "ids"),
        (lambda: model.decode(ids + 8), "ids"),
        (lambda: model.sample(2, temperature=0.0), "temperature"),
        (lambda: model.sample(2, labels=[0, 2]), "labels"),
        (lambda: recipes.vqvae((9, 8, 1), prior_width=48), "prior_width"),
    ):
        with pytest.raises(ValueError, match=word):
            refused()


def test_vectors_are_standardised():
    """Samples are in the units of the data, and un-adapted vectors are refused."""
    x = (RANDOM.normal(size=(64, 3)) * [1, 100, 0.01] + [0, 1000, 5]).astype("float32")
    model = recipes.vae((3,), width=16)
    for refused in (lambda: model.fit(x, verbose=0), lambda: model.sample(2), lambda: model.encode(x)):
        with pytest.raises(ValueError, match="standardise"):
            refused()
    recipes.fit(model, x, epochs=1, verbose=0)
    assert np.abs(model.sample(100, seed=0).mean(0) - x.mean(0)).max() < 200
    assert (np.abs(model.reconstruct(x).mean(0) - x.mean(0)) < 3 * x.std(0)).all()
