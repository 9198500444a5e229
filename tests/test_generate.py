"""`recipes.generate`: what it draws, what it finds, where it stops, and what it refuses."""

import keras
import numpy as np
import pytest

import recipes
from recipes.sequence import compiled as programs
from recipes.sequence import decoding
from recipes.sequence import generate as module
from tests.gpu_audit import missing_kernels

PROMPTS = [[3, 4, 5], [7], [1, 2, 3, 4, 5, 6]]
NEW = 5
SIZES = {"vocabulary_size": 20, "max_length": 12, "width": 16, "heads": 2, "depth": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def model():
    return lively(recipes.gpt(**SIZES))


def lively(model):
    """Give a model weights so large that no two tokens are about as likely."""
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) * 0.6 if w.ndim > 1 else w for w in model.get_weights()])
    return model


def likelihood(model, prompt, texts):
    """Logarithm of the probability of each of some texts of equal length after a prompt."""
    ids = np.array([[*prompt, *text] for text in texts])
    logits = np.array(keras.ops.convert_to_numpy(model(ids)), "float64")[:, len(prompt) - 1 : -1]
    logits[..., 0] = -np.inf  # padding
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return np.log(np.take_along_axis(shares, np.array(texts)[..., None], axis=2)).sum(axis=(1, 2))


@pytest.mark.any_backend
def test_prompts_of_different_length_get_what_they_get_alone(model):
    together = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    assert [recipes.generate(model, [p], max_new_tokens=NEW, temperature=0)[0] for p in PROMPTS] == together
    assert [len(text) for text in together] == [NEW] * 3 and len({*map(tuple, together)}) == 3
    padded = np.array([[3, 4, 5, 0, 0, 0], [7, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    assert recipes.generate(model, padded, max_new_tokens=NEW, temperature=0) == together
    drawn = recipes.generate(model, PROMPTS, max_new_tokens=NEW, seed=3)
    assert recipes.generate(model, PROMPTS[:1], max_new_tokens=NEW, seed=3) == drawn[:1]


@pytest.mark.parametrize("rotary", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_segments_change_no_text(rotary, monkeypatch):
    monkeypatch.setattr(decoding, "SEGMENT", 3)  # forked and joined several times, the last time behind the end
    model = lively(recipes.gpt(**SIZES | {"max_length": 20}, positions="rotary" if rotary else "learned"))
    texts = recipes.generate(model, PROMPTS, max_new_tokens=13, temperature=0)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        logits = keras.ops.convert_to_numpy(model(np.array([[*prompt, *text]])))[0, len(prompt) - 1 : -1]
        assert text == list(1 + logits[:, 1:].argmax(axis=-1))


def test_beams_move_no_more_than_they_need(model):
    caches = decoding.Decoder(model).start(2, 8, looped=False)  # every step of a search puts all of them in another order
    assert {leaf.shape[0] * leaf.shape[2] * leaf.shape[3] for leaf in keras.tree.flatten(caches)} == {2 * 8 * 8}


def test_the_seed_fixes_what_is_drawn(model):
    first, again, other = (recipes.generate(model, PROMPTS, max_new_tokens=NEW, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert not any(0 in text for text in first)  # padding is never written


def test_little_choice_is_none(model):
    greedy = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    for arguments in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        assert recipes.generate(model, PROMPTS, max_new_tokens=NEW, **arguments) == greedy, arguments


@pytest.mark.any_backend
def test_drawn_tokens_have_their_shares():
    shares = np.array([0.5, 0.25, 0.15, 0.1])
    lot = ((np.arange(1000) + 0.5) / 1000).astype("float32")[:, None]
    logits = np.log(np.tile(shares, (1000, 1))).astype("float32")[:, [2, 0, 3, 1]]

    def count(top_k=None, top_p=None):
        found = keras.ops.convert_to_numpy(module.pick(keras.ops.convert_to_tensor(logits), lot, top_k, top_p))
        return np.bincount(found, minlength=4)[[1, 3, 0, 2]] / 1000

    np.testing.assert_allclose(count(), shares, atol=2e-3)
    np.testing.assert_allclose(count(top_k=2), [2 / 3, 1 / 3, 0, 0], atol=2e-3)
    np.testing.assert_allclose(count(top_p=0.6), [2 / 3, 1 / 3, 0, 0], atol=2e-3)  # the one that passes it is in
    np.testing.assert_allclose(count(top_p=0.8), shares[[0, 1, 2, 3]] * [1, 1, 1, 0] / 0.9, atol=2e-3)
    np.testing.assert_allclose(count(top_k=3, top_p=0.6), [2 / 3, 1 / 3, 0, 0], atol=2e-3)


@pytest.mark.any_backend
def test_beams_find_a_likelier_text(model):
    greedy = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    beams = recipes.generate(model, PROMPTS, max_new_tokens=NEW, beams=5)
    gains = [np.diff(likelihood(model, p, both))[0] for p, *both in zip(PROMPTS, greedy, beams, strict=True)]
    assert min(gains) > -1e-4 and max(gains) > 0.01
    wide = recipes.generate(model, [[7]], max_new_tokens=2, beams=19)[0]  # so many are all there are of one token
    all_texts = [[a, b] for a in range(1, 20) for b in range(1, 20)]
    assert wide == all_texts[likelihood(model, [7], all_texts).argmax()]


@pytest.mark.any_backend
def test_stop_ids_end_a_text(model):
    greedy = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    stop = greedy[0][2]
    expected = [text[: text.index(stop)] if stop in text else text for text in greedy]
    stopped = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0, stop_ids=[stop])
    assert stopped == expected and len(stopped[0]) < NEW
    assert module.search(model, module.prepare(model, PROMPTS, NEW, (stop,)), beams=1) == expected
    assert (
        len(recipes.generate(model, [[3, 4, stop]], max_new_tokens=NEW, temperature=0)[0]) == NEW
    )  # in a prompt it is text


def test_length_penalty_favours_long_texts(model):
    stop = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)[0][0]
    short, long = (
        recipes.generate(model, PROMPTS[:1], max_new_tokens=NEW, beams=4, stop_ids=[stop], length_penalty=power)[0]
        for power in (0.0, 5.0)
    )
    assert len(short) < len(long)


@pytest.mark.any_backend
def test_recurrent_layers_remember():
    model = lively(recipes.lstm_lm(vocabulary_size=20, width=8, units=12, depth=2))
    texts = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        logits = np.array(keras.ops.convert_to_numpy(model(np.array([prompt + text]))))[0, len(prompt) - 1 : -1, 1:]
        assert (logits.argmax(axis=-1) + 1).tolist() == text


def test_weights_may_change_between_calls(model):
    before = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    weights = model.get_weights()
    model.set_weights([w[::-1] for w in weights])
    after = recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)
    model.set_weights(weights)
    assert after != before == recipes.generate(model, PROMPTS, max_new_tokens=NEW, temperature=0)


@pytest.mark.parametrize("family, choice", [("gpt", {"top_k": 5, "top_p": 0.9}), ("lstm_lm", {"beams": 2})])
def test_a_gpu_and_xla_take_the_program(family, choice, monkeypatch):
    import tensorflow as tf

    def compile_twice(model, function):
        plain, program = tf.function(function), tf.function(function, jit_compile=True)

        def run(*arguments):
            assert not missing_kernels(plain.get_concrete_function(*arguments).graph)
            return program(*arguments)

        return run

    monkeypatch.setattr(decoding, "loops_copy", lambda: False)  # as on a GPU
    monkeypatch.setitem(programs._COMPILE, "tensorflow", compile_twice)
    model = recipes.gpt(**SIZES) if family == "gpt" else recipes.lstm_lm(vocabulary_size=20, width=8, units=8, depth=1)
    texts = recipes.generate(model, PROMPTS, max_new_tokens=NEW, stop_ids=[3], **choice)
    assert len(texts) == 3 and max(map(len, texts)) <= NEW


@pytest.mark.parametrize(
    "ids, arguments, words",
    [
        ([], {}, "ids must be a list of prompts"),
        ([3, 4], {}, "ids must be a list of prompts"),
        ("text", {}, "ids must be a list of prompts"),
        (["text"], {}, "tokenizer"),
        ([[3], []], {}, r"ids\[1\] is empty"),
        (np.zeros((2, 3), "int32"), {}, r"ids\[0\] is empty"),
        ([[3, 20]], {}, r"ids\[0\] spans 3..20, but .* 20 token ids, 0..19"),
        ([[3, -1]], {}, r"ids\[0\] spans -1..3"),
        ([[3.0]], {}, r"ids\[0\] must be token ids, integers. Received: dtype float64"),
        ([[0, 3]], {}, r"ids\[0\] has the padding id 0 before its end"),
        ([[3] * 9], {}, "max_new_tokens=5 after a prompt of 9 tokens exceeds max_length=12"),
        ([[3]], {"max_new_tokens": 0}, "max_new_tokens must be"),
        ([[3]], {"temperature": -1}, "temperature must be"),
        ([[3]], {"top_k": 0}, "top_k must be"),
        ([[3]], {"top_p": 1.5}, "top_p must be"),
        ([[3]], {"beams": 0}, "beams must be"),
        ([[3]], {"beams": 2, "top_k": 3}, "beams must be 1"),
        ([[3]], {"length_penalty": -1.0}, "length_penalty must be"),
        ([[3]], {"stop_ids": [20]}, "stop_ids must be"),
        ([[3]], {"stop_ids": 3}, "stop_ids must be"),
        ([[3]], {"seed": -1}, "seed must be"),
    ],
)
def test_bad_arguments(model, ids, arguments, words):
    with pytest.raises(ValueError, match=words):
        recipes.generate(model, ids, **{"max_new_tokens": NEW, **arguments})


def test_models_that_cannot_write():
    with pytest.raises(ValueError, match="must be a language model .* Received: mlp"):
        recipes.generate(recipes.mlp((4,), 3), [[3]], max_new_tokens=2)
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(20, 8)(ids)
    for layer in (keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)), recipes.layers.SelfAttention(2)):
        with pytest.raises(ValueError, match="must compute a token from those before it|causal must be True"):
            recipes.generate(keras.Model(ids, layer(x)), [[3]], max_new_tokens=2)


# What else is made of a language model's logits


def test_evaluate(model):
    ids = np.array([[3, 4, 5, 0], [7, 1, 2, 9]])
    found = recipes.evaluate(model, ids, batch_size=1)
    logits = np.array(model.predict(ids, verbose=0), "float64")
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    places = [(0, 0, 4), (0, 1, 5), (1, 0, 1), (1, 1, 2), (1, 2, 9)]
    loss = -np.mean([np.log(shares[place]) for place in places])
    right = np.mean([shares[row, i].argmax() == token for row, i, token in places])
    assert found == pytest.approx({"loss": loss, "perplexity": np.exp(loss), "accuracy": right}, rel=1e-4)


def test_predict_says_what_to_use_instead(model):
    with pytest.raises(ValueError, match="recipes.generate"):
        recipes.predict(model, np.array([[3, 4]]))


@pytest.mark.parametrize(
    "ids, words",
    [
        (np.full((4, 5), 20), r"spans 20..20, but the model was built for 20 token ids"),
        (np.full((4, 5), -1), r"spans -1..-1"),
        (np.full((4, 5), 1.5), "must be token ids, integers. Received: dtype float64"),
        (np.full((4, 13), 1), "sequence length 13 exceeds max_length 12; truncate or rebuild"),
        (np.ones((4, 0), "int32"), "must have at least one token a row"),
    ],
)
def test_fit_refuses_bad_ids(model, ids, words):
    with pytest.raises(ValueError, match=words):
        recipes.fit(model, ids, epochs=1, verbose=0)
