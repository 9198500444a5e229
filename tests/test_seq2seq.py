"""seq2seq: what it computes, written out; that it learns, writes, and refuses what it cannot read."""

import keras
import numpy as np
import pytest

import recipes
from tests.pairs import VOCABULARY, answers, reversals, score, without_cache

SMALL = {"vocabulary_size": VOCABULARY, "width": 32, "dropout": 0.0, "label_smoothing": 0.0, "learning_rate": 1e-2}
TEST = reversals(40, seed=1)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = recipes.seq2seq(**SMALL)
    recipes.fit(model, reversals(512, seed=0), epochs=12, batch_size=32, verbose=0)
    return model


def test_it_learns_to_write_words_from_their_end(trained):
    found = recipes.generate(trained, TEST["source"], max_new_tokens=8, temperature=0)
    assert np.mean([a == b for a, b in zip(found, answers(TEST), strict=True)]) > 0.9


def test_token_by_token_it_writes_what_the_whole_model_says(trained):
    expected = [without_cache(trained, source, 8) for source in TEST["source"][:3]]
    assert recipes.generate(trained, TEST["source"][:3], max_new_tokens=8, temperature=0) == expected


def test_beams_find_what_is_likelier():
    model = recipes.seq2seq(**SMALL)  # untrained, its probabilities are so even that beams differ
    greedy = recipes.generate(model, TEST["source"], max_new_tokens=8, temperature=0)
    found = recipes.generate(model, TEST["source"], max_new_tokens=8, beams=4, length_penalty=1.0)
    scores = [score(model, TEST["source"], texts).mean() for texts in (found, greedy)]
    assert scores[0] > scores[1]


def test_padding_of_the_sources_does_not_matter(trained):
    rows = [row[row > 0].tolist() for row in TEST["source"][:9]]
    expected = recipes.generate(trained, rows, max_new_tokens=8, temperature=0)
    wider = np.pad(TEST["source"][:9], ((0, 0), (0, 20)))
    assert recipes.generate(trained, wider, max_new_tokens=8, temperature=0) == expected
    assert recipes.generate(trained, rows[:1], max_new_tokens=8, temperature=0) == expected[:1]


@pytest.mark.any_backend
def test_without_attention_it_is_two_gru_layers():
    model = recipes.seq2seq(variant="g2p", vocabulary_size=9, width=6)
    weights = {v.path: np.random.default_rng(i).normal(size=v.shape) for i, v in enumerate(model.weights)}
    for variable in model.weights:
        variable.assign(weights[variable.path])
    x = {"source": np.array([[3, 4, 5]]), "target": np.array([[1, 6, 7, 8]])}
    states = np.zeros((1, 6))
    outputs = []
    for part, layer in (("source", "encoder0"), ("target", "decoder0")):
        for token in x[part][0]:
            states = gru(weights[f"{part}_embedding/embeddings"][[token]], states, weights, f"{layer}/gru_cell")
            outputs.append(states)
    logits = np.concatenate(outputs[3:]) @ weights["logits/kernel"] + weights["logits/bias"]
    np.testing.assert_allclose(np.array(model(x))[0], logits, rtol=1e-4, atol=1e-4)


def gru(x, state, weights, name):
    read = x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"][0]
    kept = state @ weights[f"{name}/recurrent_kernel"] + weights[f"{name}/bias"][1]
    (update, reset, new), (old_update, old_reset, old) = np.split(read, 3, axis=1), np.split(kept, 3, axis=1)
    update, reset = (1 / (1 + np.exp(-z)) for z in (update + old_update, reset + old_reset))
    return update * state + (1 - update) * np.tanh(new + reset * old)


@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_attention_is_that_of_the_papers(attention):
    model = recipes.seq2seq(vocabulary_size=9, width=6, attention=attention, bidirectional=False)
    x = {"source": np.array([[3, 4, 5, 0]]), "target": np.array([[1, 6, 7]])}
    names = ("encoder0", "decoder0", "features")
    tensors = [model.get_layer(name).output for name in names]
    memory, states, features = (np.array(t) for t in keras.Model(model.input, [tensors[0][0], *tensors[1:]])(x))
    weights = {v.path.removeprefix("attention_"): np.array(v) for v in model.weights}
    key = (memory @ weights["key/kernel"])[0, :3]  # of what is real
    if attention == "additive":
        hidden = np.tanh((states @ weights["query/kernel"])[0, :, None] + key + weights["key/bias"])
        scores = hidden @ weights["attention/scale"]
    else:
        scores = states[0] @ key.T
    share = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    both = np.concatenate([share @ memory[0, :3], states[0]], axis=-1)
    np.testing.assert_allclose(features[0], np.tanh(both @ weights["vector/kernel"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_last_real_states_of_the_encoder_start_the_decoder(bidirectional):
    """Without attention nothing else of the source is seen, and more padding must not be read."""
    model = recipes.seq2seq(vocabulary_size=9, width=8, attention=None, bidirectional=bidirectional, depth=2)
    target = np.array([[1, 6, 7]])
    sources = np.array([[3, 4, 5, 0]]), np.array([[3, 4, 5]]), np.array([[8, 4, 5]]), np.array([[3, 4, 8]])
    same, found, first, last = (np.array(model({"source": source, "target": target})) for source in sources)
    np.testing.assert_allclose(same, found, atol=1e-6)
    assert min(np.abs(found - other).max() for other in (first, last)) > 1e-5


@pytest.mark.parametrize(
    "part, ids, words",
    [
        ("source", [[3, 9, 4]], "source.* spans 3..9"),
        ("target", [[1, 9, 2]], "target.* spans 1..9"),
        ("source", [[3, -1, 4]], "source.* spans -1..4"),
        ("source", [[3, 0.5, 4]], "source.* must be token ids"),
        ("source", np.zeros((1, 0), "int32"), "at least one token"),
    ],
)
def test_ids_that_it_does_not_know_are_refused(part, ids, words):
    data = {"source": np.array([[3, 4, 5]]), "target": np.array([[1, 3, 2]]), part: np.array(ids)}
    with pytest.raises(ValueError, match=words):
        recipes.fit(recipes.seq2seq(**SMALL), data, epochs=1, verbose=0)


def test_sources_that_it_cannot_read_are_refused():
    model = recipes.seq2seq(**SMALL)
    for source, words in (([[3, 9]], "spans 3..9"), ([[3], []], r"ids\[1\] is empty"), (["abc"], "must be token ids")):
        with pytest.raises(ValueError, match=words):
            recipes.generate(model, source, max_new_tokens=2)
