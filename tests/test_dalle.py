"""DALL-E: the relaxation of its codes, its two stages in one fit, what its losses are, and what it draws."""

import keras
import numpy as np
import pytest
from keras import ops

import recipes
from recipes.generative import discrete_vae
from recipes.generative.picturing import likelihood_scores
from recipes.generative.resting import RestingAdamW
from recipes.generative.text_to_image import OPEN
from recipes.layers import GumbelCodebook
from tests.harness.gradients import gradients

COLOURS = np.array([[250, 30, 30], [30, 200, 30], [30, 30, 250], [240, 240, 60]], "float32")
CAPTIONS = np.array([[1, 4, 2, 0], [1, 5, 2, 0], [1, 6, 7, 2], [1, 7, 2, 0]], "int32")
KIND = np.arange(32) % 4
IDS, IMAGES = CAPTIONS[KIND], np.broadcast_to(COLOURS[KIND][:, None, None], (32, 8, 8, 3)).astype("uint8")
SMALL = {"variant": "tiny", "vocabulary_size": 9, "max_length": 4, "codes": 16, "width": 32, "depth": 1}


def build(**changes):
    return recipes.dalle((8, 8, 3), **{**SMALL, **changes})


def numpy(value):
    return ops.convert_to_numpy(value)


# ---------------------------------------------------------------------------------------------------------- the codes


@pytest.mark.any_backend
def test_gumbel_softmax_at_its_limits():
    shares = np.array([0.5, 0.3, 0.2])
    logits = np.tile(np.log(shares), (4000, 1)).astype("float32")
    book = GumbelCodebook(3, 2)
    book.build(logits.shape)

    def relax(temperature, hard=False):
        book.generator.state.assign([1, 1])  # the same noise each time
        return book.relax(ops.convert_to_tensor(logits), temperature, straight_through=hard)

    warm, cold, hot, hard = numpy(relax(1.0)), numpy(relax(1e-5)), numpy(relax(1e5)), numpy(relax(1.0, hard=True))
    drawn = warm.argmax(axis=-1)
    np.testing.assert_allclose(cold, np.eye(3)[drawn], atol=1e-3)  # one code, drawn
    np.testing.assert_allclose(hot, 1 / 3, atol=1e-3)
    np.testing.assert_allclose(np.bincount(drawn) / 4000, shares, atol=0.025)  # with the probabilities of the logits
    np.testing.assert_allclose(hard, np.eye(3)[drawn], atol=1e-6)
    expected = numpy(book.embedding)[0]
    likeliest = numpy(book(logits, temperature=1e-5))  # in inference
    np.testing.assert_array_equal(likeliest, np.tile(expected, (4000, 1)))

    variable = keras.Variable(logits[:5])
    logits = variable  # relax reads it
    slope = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))
    soft, through = (gradients(lambda hard=hard: ops.sum(relax(0.7, hard) * slope), [variable])[0] for hard in (False, True))
    assert np.abs(soft).max() > 0.01
    np.testing.assert_allclose(through, soft, rtol=1e-5)


def test_closed_forms():
    """The density of a pixel integrates to 1, the divergence is that of its definition, the temperature goes 1 to 1/16."""
    pixels = np.linspace(-1 / 0.8, 1 / 0.8, 200_001)[1:-1]  # all of (0, 1) on the scale where 0..255 is MARGIN..1 - MARGIN
    outputs = np.tile(np.array([0.4, np.log(0.7)], "float32"), (len(pixels), 1, 1, 1))
    p = pixels * 0.4 + 0.5
    density = np.exp(-np.abs(np.log(p / (1 - p)) - 0.4) / 0.7) / (2 * 0.7 * p * (1 - p))
    assert abs(np.trapezoid(density, p) - 1) < 1e-3
    chosen = slice(20_000, 180_000, 10_000)
    found = discrete_vae.misfit(pixels[chosen].reshape(-1, 1, 1, 1).astype("float32"), outputs[chosen], "laplace")
    np.testing.assert_allclose(numpy(found), -np.log(density[chosen]).mean(), rtol=1e-4)
    gaussian = discrete_vae.misfit(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.5), "gaussian")
    assert float(gaussian) == 0.25

    q = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    expected = (q * np.log(q / (1 / 3))).sum(axis=-1).mean()
    np.testing.assert_allclose(numpy(discrete_vae.surplus(ops.convert_to_tensor(np.log(q)))), expected, atol=1e-6)
    ends = [float(discrete_vae.temperature(ops.convert_to_tensor(float(x)))) for x in (0, 0.5, 1)]
    np.testing.assert_allclose(ends, [1, (1 + 1 / 16) / 2, 1 / 16], atol=1e-6)


def test_resting():
    """With gradients it is AdamW; without, a weight and its moments rest, and later it starts as a new one would."""
    random = np.random.default_rng(0)
    steps = random.normal(size=(4, 2, 3)).astype("float32")

    def run(optimizer, sequence):
        weight = keras.Variable(np.ones((2, 3), "float32"))
        for gradient in sequence:
            optimizer.apply([ops.convert_to_tensor(gradient)], [weight])
        return numpy(weight)

    settings = {"learning_rate": 0.1, "weight_decay": 0.3, "beta_2": 0.95}
    expected = run(recipes.AdamW(**settings), steps)
    optimizer = RestingAdamW(**settings)
    np.testing.assert_allclose(run(optimizer, steps), expected, rtol=1e-5)
    late = RestingAdamW(**settings)
    np.testing.assert_allclose(run(late, [0 * steps[0], *steps]), expected, rtol=1e-5)
    moments = [numpy(v) for v in (late._momentums[0], late._velocities[0], late._steps[0])]
    late.apply([ops.zeros((2, 3))])
    again = [numpy(v) for v in (late._momentums[0], late._velocities[0], late._steps[0])]
    assert all(np.array_equal(a, b) for a, b in zip(moments, again, strict=True)) and moments[2] == 4
    np.testing.assert_array_equal(numpy(late._trainable_variables[0]), run(RestingAdamW(**settings), [0 * steps[0], *steps]))
    assert RestingAdamW.from_config(RestingAdamW(warmup=7).get_config()).warmup == 7


# --------------------------------------------------------------------------------------------------------- the stages


class Look(keras.callbacks.Callback):
    """Keeps the weights, and the optimizer's state of each, after each of some steps."""

    def __init__(self, *steps):
        super().__init__()
        self.steps, self.seen, self.statistics = steps, [], []

    def on_train_batch_end(self, batch, logs=None):
        model = self.model
        if int(model.steps) in self.steps:
            optimizer = model.optimizer
            slots = (optimizer._momentums, optimizer._velocities, optimizer._steps)
            weights = enumerate(model.trainable_variables)
            self.statistics.append([numpy(v) for v in model.encoder.non_trainable_variables])
            self.seen.append([[numpy(v), *(numpy(slot[i]) for slot in slots)] for i, v in weights])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of four captions, one colour each, trained in a directory, and what `Look` saw."""
    keras.utils.set_random_seed(0)
    model, look = build(learning_rate=1e-2, weight_decay=0.1), Look(1, 2, 60, 61, 62)
    kept = {"directory": tmp_path_factory.mktemp("run")}
    history = recipes.fit(model, (IDS, IMAGES), epochs=100, batch_size=16, verbose=0, callbacks=[look], **kept)
    return model, look, history.history


@pytest.mark.any_backend
def test_captions_get_their_pictures(trained):
    model, look, history = trained
    seen = look.seen
    assert (int(model.steps), int(model.first_steps)) == (200, 60)
    first = {id(v) for part in (model.encoder, model.codebook, model.decoder) for v in part.trainable_variables}
    for before, after, on in ((seen[0], seen[1], True), (seen[2], seen[3], False), (seen[3], seen[4], False)):
        for i, variable in enumerate(model.trainable_variables):
            same = [np.array_equal(a, b) for a, b in zip(before[i], after[i], strict=True)]
            learns = (id(variable) in first) == on
            assert not any(same) if learns else all(same), variable.path
    moved = [[np.array_equal(a, b) for a, b in zip(look.statistics[i], look.statistics[i + 1], strict=True)] for i in (0, 2)]
    assert len(moved[0]) == 2 and not any(moved[0]) and all(moved[1])
    assert history["reconstruction"][0] > history["reconstruction"][29] and history["text_loss"][29] == 0
    assert history["reconstruction"][30] == history["kl"][30] == 0 < history["image_loss"][99] < history["image_loss"][30]

    order = [2, 0, 3, 1]
    asked = [CAPTIONS[2].tolist(), [1, 4, 2], [1, 7, 2, 0], [1, 5, 2]]
    drawn = recipes.generate(model, asked, temperature=0.3, guidance=2.0)
    assert drawn.shape == (4, 8, 8, 3) and drawn.dtype == "float32" and 0 <= drawn.min() <= drawn.max() <= 255
    distance = np.abs(drawn.mean(axis=(1, 2))[:, None] - COLOURS).mean(axis=-1)
    assert distance.argmin(axis=1).tolist() == order and distance.min(axis=1).max() < 40


def test_losses(trained):
    model = trained[0]
    found = model.evaluate({"text": IDS[:4], "image": IMAGES[:4]}, verbose=0, return_dict=True)
    codes = model.encode(IMAGES[:4]).reshape(4, -1)
    tokens = np.where(CAPTIONS == 0, 9 + np.arange(4), CAPTIONS)  # each place has a padding of its own
    features = model.transformer(np.concatenate([tokens, codes + 9 + 4], axis=1))
    text, image = (numpy(ops.log_softmax(head(features))) for head in (model.text_head, model.image_head))
    places = [(row, place) for row in range(4) for place in range(3) if CAPTIONS[row, place + 1]]
    counted = [-text[row, place, CAPTIONS[row, place + 1]] for row, place in places]
    assert len(counted) == 9  # of 12 places, three are padding
    coded = -np.take_along_axis(image[:, 3:-1], codes[..., None], axis=-1)
    np.testing.assert_allclose([found["text_loss"], found["image_loss"]], [np.mean(counted), coded.mean()], rtol=1e-4)
    np.testing.assert_allclose(found["loss"], (found["text_loss"] + 7 * found["image_loss"]) / 8, rtol=1e-5)

    model = build(kl_weight=2.0)
    model.run_eagerly = True
    found = model.evaluate({"text": IDS[:4], "image": IMAGES[:4]}, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], found["reconstruction"], rtol=1e-6)  # its weight rises from 0
    model.steps.assign(10)
    model.first_steps.assign(20)
    found = model.evaluate({"text": IDS[:4], "image": IMAGES[:4]}, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], found["reconstruction"] + 2 * 4 / 192 * found["kl"], rtol=1e-5)


def test_the_first_fit_decides_and_a_later_one_goes_on(trained):
    model = build()
    assert int(model.first_steps) == OPEN
    with pytest.raises(ValueError, match="steps_per_epoch"):
        plan = model_plan(model, None)
        plan.on_train_begin()
    model_plan(model, 5).on_train_begin()
    assert int(model.first_steps) == 3  # of 10, the share .3
    model_plan(model, 50).on_train_begin()
    assert int(model.first_steps) == 3


def model_plan(model, steps):
    from recipes.generative.text_to_image import PlanStages

    plan = PlanStages()
    plan.set_model(model)
    plan.set_params({"epochs": 2, "steps": steps})
    return plan


# ------------------------------------------------------------------------------------------------------ what is drawn


def test_a_cache_changes_nothing(trained):
    model = trained[0]
    text = model.fill(CAPTIONS)
    codes = np.zeros((4, 0), "int32")
    for _ in range(model.length):
        features = model.transformer(ops.concatenate([text, codes + 9 + 4], axis=1))
        chosen = numpy(ops.argmax(model.image_head(features[:, -1]), axis=-1))
        codes = np.concatenate([codes, chosen[:, None].astype("int32")], axis=1)
    expected = model.decode(codes.reshape(4, 2, 2))
    np.testing.assert_allclose(recipes.generate(model, CAPTIONS, temperature=0), expected, atol=1e-3)
    np.testing.assert_array_equal(model.sample(2, labels=CAPTIONS[1], seed=3), model.generate(CAPTIONS[[1, 1]], seed=3))


def test_of_candidates_the_fitting_one_is_taken(trained):
    model = trained[0]
    codes = model.encode(IMAGES[:4]).reshape(4, -1)
    scores = likelihood_scores(model, np.repeat(CAPTIONS, 4, axis=0), np.tile(codes, (4, 1))).reshape(4, 4)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3] and (np.diag(scores) > 0).all()  # of pictures for a caption
    drawn = recipes.generate(model, CAPTIONS[:1], rank="likelihood", temperature=3.0, candidates=2, seed=1)
    both = recipes.generate(model, CAPTIONS[[0, 0]], temperature=3.0, seed=1)
    assert sum(np.array_equal(drawn[0], image) for image in both) == 1

    clip = recipes.clip((8, 8, 3), vocabulary_size=9, max_length=5, width=32, depth=1, end_id=2)
    drawn = recipes.generate(model, CAPTIONS[:2], rank=clip, temperature=3.0, candidates=2, seed=1)
    both = recipes.generate(model, CAPTIONS[[0, 0, 1, 1]], temperature=3.0, seed=1)
    pairs = clip.predict({"image": both, "text": np.pad(CAPTIONS[[0, 0, 1, 1]], ((0, 0), (0, 1)))}, verbose=0)
    best = (pairs[:, 0] * pairs[:, 1]).sum(axis=-1).reshape(2, 2).argmax(axis=1) + [0, 2]
    np.testing.assert_array_equal(drawn, both[best])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"beams": 2}, "beams must be 1 for a model of images"),
        ({"max_new_tokens": 3}, "max_new_tokens must be None"),
        ({"candidates": 2}, "rank must be"),
        ({"candidates": 2, "rank": "best"}, "rank must be"),
        ({"guidance": -1.0}, "guidance must be >= 0"),
        ({"top_k": 0}, "top_k must be an integer"),
        ({"ids": [[1, 2, 3, 4, 5]]}, "sequence length 5 exceeds max_length 4"),
        ({"ids": [[1, 9]]}, "ids"),
    ],
)
def test_what_cannot_be_drawn_is_refused(trained, changes, message):
    with pytest.raises(ValueError, match=message):
        recipes.generate(trained[0], changes.pop("ids", CAPTIONS), **changes)


def test_what_is_not_learned_is_refused():
    model = build(text_dropout=0.0)
    with pytest.raises(ValueError, match="text_dropout"):
        model.generate(CAPTIONS, guidance=2.0)
    with pytest.raises(ValueError, match="guidance must be 1.0 for a language model"):
        gpt = recipes.gpt(vocabulary_size=9, max_length=8, width=16, heads=2, depth=1)
        recipes.generate(gpt, CAPTIONS, max_new_tokens=2, guidance=2.0)
    for data, message in (
        ((IDS + 5, IMAGES), "spans"),
        ((IDS[:3], IMAGES), "as many captions as images"),
        ((IDS, IMAGES / 255.0), "raw"),
        ((np.ones((32, 5), "int32"), IMAGES), "exceeds max_length 4"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.fit(model, data, epochs=1)
