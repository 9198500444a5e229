"""What only `gan` can break: gradients of two networks at once, turns, penalties, augmentation, foreign weights."""

import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import recipes
from recipes.callbacks import CollapseMonitor, WarmupCosine
from recipes.generative.augmentation import POLICIES, augment, draw_augmentation
from recipes.generative.gan_model import GAN, WassersteinGAN
from recipes.generative.gradients import input_gradient
from recipes.training.recipe import recompile
from tests.harness.gradients import differences, gradients

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def small(variant, shape=(5,), **arguments):
    return recipes.gan(shape, variant=variant, width=8, latent=3, adapt=X if len(shape) == 1 else None, **arguments)


def seeds(model):
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


@pytest.mark.parametrize(
    "variant, shape, penalty",
    [("dcgan", (8, 8, 1), 0.0), pytest.param("r3gan", (5,), 0.3, marks=pytest.mark.any_backend)],
)
def test_one_pass_gives_the_gradients_of_two(variant, shape, penalty):
    """One backward pass of the sum, and one for each network that is written out by hand; without penalty bit for bit."""
    model = small(variant, shape, penalty=penalty)
    G, D = model.generator, model.discriminator
    x = ops.convert_to_tensor(np.random.default_rng(1).uniform(-1, 1, (8, *shape)).astype("float32"))
    states = [numpy(seed) for seed in seeds(model)]

    def reset():
        for seed, state in zip(seeds(model), states, strict=True):
            seed.assign(state)

    reset()
    noise = model.random_noise(8)

    def judge(x):
        return D(x, training=True)[:, 0]

    def slope(x):
        squares = ops.square(input_gradient(judge, x, D)) if penalty else 0.0 * x
        return 0.5 * penalty * ops.mean(ops.sum(squares, axis=tuple(range(1, len(shape) + 1))))

    def of_generator():
        seen, real = judge(G(noise, training=True)), judge(x)
        return ops.mean(ops.softplus(-seen if variant == "dcgan" else real - seen))

    def of_discriminator():
        fake = ops.stop_gradient(G(noise, training=True))
        seen, real = judge(fake), judge(x)
        if variant == "dcgan":
            return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(seen))
        return ops.mean(ops.softplus(seen - real)) + slope(x) + slope(fake)

    reset()
    variables = [*G.trainable_variables, *D.trainable_variables]
    found = gradients(lambda: model.batch_loss(x, None, True), variables)
    expected = [*gradients(of_generator, G.trainable_variables), *gradients(of_discriminator, D.trainable_variables)]
    for variable, one, two in zip(variables, found, expected, strict=True):
        assert np.abs(two).max() > 0, variable.path
        largest = np.abs(one - two).max()
        assert largest <= 1e-6 * penalty, f"{variable.path} differs by {largest}"


@pytest.mark.any_backend
def test_turns_are_those_of_a_loop_written_by_hand():
    """A `fit` of seven steps, the generator's at the third and sixth; and what a saved model goes on with."""
    model, other = small("wgan_gp", n_critic=3), small("wgan_gp", n_critic=3)
    # with momentum, which must be kept; Adam would make much of rounding errors where gradients are all but 0
    recompile(model, optimizer="sgd", learning_rate=0.01, momentum=0.9)
    for variable, value in zip(other.variables, model.variables, strict=True):
        variable.assign(numpy(value))
    x = np.random.default_rng(1).normal(size=(56, 5)).astype("float32")
    assert [model.due(step) for step in range(4)] == [("critic",), ("critic",), ("critic", "generator"), ("critic",)]
    model.fit(x[:16], batch_size=8, shuffle=False, verbose=0)  # two calls: the turn is kept between them
    model.fit(x[16:], batch_size=8, shuffle=False, verbose=0)
    optimizers = {name: recipes.SGD(0.01, momentum=0.9) for name in ("critic", "generator")}
    for step in range(7):
        batch = other.to_network(x[8 * step : 8 * step + 8])
        for name, network in (("critic", other.discriminator), ("generator", other.generator)):
            if name == "critic" or step in (2, 5):
                loss = getattr(other, f"{name}_loss")
                weights = network.trainable_variables
                found = gradients(lambda loss=loss, batch=batch: loss(batch, None, True), weights)
                if keras.backend.backend() == "jax":
                    loss(batch, None, True)  # the gradient there is of a pure function: move the seeds, and the average
                optimizers[name].apply([ops.convert_to_tensor(g) for g in found], weights)
    assert int(model.optimizer.iterations) == 7
    assert int(model.optimizer.generator.iterations) == 2 and int(model.optimizer.discriminator.iterations) == 7
    for variable, value in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(numpy(variable), numpy(value), atol=2e-6, err_msg=variable.path)


@pytest.mark.any_backend
def test_a_turn_that_is_not_finite_changes_nothing():
    model = small("wgan_gp", n_critic=2)
    model.optimizer.build(model.trainable_variables)
    before = [numpy(v) for v in (*model.discriminator.trainable_variables, *model.optimizer.discriminator.variables)]
    start = [numpy(v) for v in model.generator.trainable_variables]
    model.fit(np.where(X > 2, X, np.nan), batch_size=8, epochs=2, verbose=0)
    after = [numpy(v) for v in (*model.discriminator.trainable_variables, *model.optimizer.discriminator.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    moved = [numpy(v) for v in model.generator.trainable_variables]  # it never sees the data
    assert all(np.isfinite(w).all() for w in moved) and any((a != b).any() for a, b in zip(start, moved, strict=True))


def test_penalties_are_those_of_finite_differences():
    """In float64: the gradient by the input, and the gradient of both penalties by the weights of the discriminator."""
    keras.config.set_dtype_policy("float64")
    noise, vector = keras.Input((2,), dtype="float64"), keras.Input((3,), dtype="float64")
    generator = keras.Model(noise, keras.layers.Dense(3, name="generator_dense")(noise), name="generator")
    y = keras.layers.Dense(4, "tanh", name="discriminator_dense1")(vector)
    discriminator = keras.Model(vector, keras.layers.Dense(1, name="discriminator_dense2")(y), name="discriminator")
    networks = (generator, discriminator, (3,))
    wasserstein, smooth = WassersteinGAN(*networks), GAN(*networks, penalty=0.7)
    points = keras.Variable(np.random.default_rng(0).normal(size=(4, 3)), dtype="float64", trainable=True)
    x = ops.convert_to_tensor(numpy(points))
    found = input_gradient(lambda t: discriminator(t), x, discriminator)
    expected = differences(lambda: ops.sum(discriminator(points.value)), points)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-6, atol=1e-8)

    def length_squared():
        return ops.mean(ops.sum(ops.square(input_gradient(lambda t: smooth.judge(t, None), x, discriminator)), axis=1))

    for penalty in (lambda: wasserstein.steepness(x, None), length_squared):
        weights = discriminator.trainable_variables[:3]  # the last bias has no part in a slope
        for weight, gradient in zip(weights, gradients(penalty, weights), strict=True):
            expected = differences(penalty, weight)
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8, err_msg=weight.path)
    # the slope of a linear critic is known: the penalty of WGAN-GP is (|w| - 1) ** 2
    linear = keras.Model(vector, keras.layers.Dense(1, name="discriminator_only")(vector), name="discriminator")
    length = np.linalg.norm(numpy(linear.weights[0]))
    assert float(WassersteinGAN(generator, linear, (3,)).steepness(x, None)) == pytest.approx((length - 1) ** 2, rel=1e-6)


def test_augmentation_moves_pixels_and_lets_gradients_through():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 8, 6, 2)).astype("float32")
    moved = numpy(augment(ops.convert_to_tensor(images), {"down": ops.full((3,), 2.0), "right": ops.full((3,), -1.0)}))
    expected = np.zeros_like(images)
    expected[:, 2:, :-1] = images[:, :-2, 1:]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    mirrored = numpy(augment(ops.convert_to_tensor(images), {"mirror": -ops.ones((3,))}))
    np.testing.assert_allclose(mirrored, images[:, :, ::-1], atol=1e-6)
    cut = numpy(augment(ops.ones((3, 8, 6, 2)), {"cut_row": ops.full((3,), 4.0), "cut_column": ops.full((3,), 3.0)}))
    assert (cut[:, 2:6, 2:4] == 0).all() and cut.sum() == 3 * 2 * (8 * 6 - 4 * 2)
    generator = keras.random.SeedGenerator(0)
    never = draw_augmentation(POLICIES, 3, (8, 6, 2), generator, probability=0.0)
    np.testing.assert_allclose(numpy(augment(ops.convert_to_tensor(images), never)), images, atol=1e-5)
    always = draw_augmentation(POLICIES, 3, (8, 6, 2), generator)
    variable = keras.Variable(images)
    (gradient,) = gradients(lambda: ops.sum(ops.square(augment(variable.value, always))), [variable])
    assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).mean() > 0.3


def test_what_the_discriminator_sees_is_augmented_real_and_fake():
    model = small("r3gan", (8, 8, 1), augment=("translation", "cutout"))
    x = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 1)).astype("float32")
    seen, made, judge, generate = [], [], model.judge, model.generate
    object.__setattr__(model, "judge", lambda x, *rest: seen.append(numpy(x)) or judge(x, *rest))
    object.__setattr__(model, "generate", lambda *rest: made.append(generate(*rest)) or made[-1])
    model.batch_loss(ops.convert_to_tensor(x), None, True)
    plain = (x, numpy(made[0]), numpy(made[0]))
    for view, image in zip(seen, plain, strict=True):
        assert view.shape == image.shape and not np.allclose(view, image)
        assert (view == 0).mean() >= 0.2, "cutout leaves nothing out"  # a sixteenth at the least, a quarter mostly
    assert not np.allclose(seen[1], seen[2]), "the two views of the fake images are one"


@pytest.mark.any_backend
def test_schedules_move_both_rates():
    model = small("wgan_gp", learning_rate=0.1)
    history = recipes.fit(model, X, epochs=2, batch_size=4, schedule=WarmupCosine(), verbose=0)
    assert [float(o.learning_rate) for o in model.optimizer.optimizers] == pytest.approx([0.1, 0.1])  # the peak comes back
    for name in ("generator", "discriminator"):
        assert history.history[f"learning_rate_{name}"][-1] < 0.1


def test_weights_of_a_torch_dcgan():
    """64x64 images of the generator that `gan-face-generate` uses, here with two channels and random weights."""
    stored = np.load(FIXTURES / "gan_torch.npz")
    with pytest.warns(UserWarning, match="generator alone"):
        model = recipes.gan((64, 64, 3), width=2, latent=3, weights=FIXTURES / "gan_torch.pth")
    for network in (model.generator, model.average):
        images = (numpy(network(stored["noise"], training=False)) + 1) * 127.5
        assert np.abs(images - stored["images"]).max() < 0.01
    with pytest.raises(ValueError, match="weights"):
        recipes.gan((64, 64, 3), width=4, latent=3, weights=FIXTURES / "gan_torch.pth")
    with pytest.raises(ValueError, match="weights"):
        recipes.gan((64, 64, 3), variant="r3gan", weights=FIXTURES / "gan_torch.pth")


class _Adversary(keras.Model):
    """Samples that are as told, from a model that learns nothing."""

    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def sample(self, n, seed=None):
        return self.samples[:n]


def test_the_monitor_knows_a_collapse_and_a_victory():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 2))
    repeated = rng.normal(size=(4, 2))[rng.integers(0, 4, 64)]  # a few points, again and again
    for samples, accuracy, reason in (
        (rng.normal(size=(64, 2)), 0.6, None),
        (rng.normal(size=(64, 2)), 0.995, "discriminator has won"),
        (0.01 * rng.normal(size=(64, 2)), 0.6, "samples have collapsed"),
        (repeated, 0.6, "samples have collapsed"),
    ):
        monitor = CollapseMonitor(data, patience=2, start=1)
        monitor.set_model(_Adversary(samples))
        monitor.model.stop_training = False
        monitor.on_train_begin()
        logs = [{"d_accuracy": accuracy} for _ in range(3)]
        monitor.on_epoch_end(0, logs[0])
        monitor.on_epoch_end(1, logs[1])
        assert not monitor.model.stop_training and monitor.reason is None
        if reason is None:
            monitor.on_epoch_end(2, logs[2])
            assert not monitor.model.stop_training and 0.7 < logs[2]["variety"] < 1.4
        else:
            with pytest.warns(UserWarning, match=reason):
                monitor.on_epoch_end(2, logs[2])
            assert monitor.model.stop_training and reason in monitor.reason
    for arguments in ({"samples": 2}, {"variety": 1.0}, {"accuracy": 0.4}, {"patience": 0}, {"start": -1}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            CollapseMonitor(data, **arguments)
