"""transformer: torch's numbers; that it learns, writes, and refuses what it cannot read.

The fixture was made by benchmarks/parity.py --fixtures from torch 2.14.1.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import CrossAttention, SinusoidPosition
from tests.pairs import VOCABULARY, answers, reversals, score, without_cache

FIXTURE = Path(__file__).parent / "fixtures" / "transformer_tiny.npz"
SMALL = {"vocabulary_size": VOCABULARY, "width": 32, "depth": 1, "heads": 2, "mlp_dim": 64, "max_length": 32}
PLAIN = {"dropout": 0.0, "label_smoothing": 0.0, "learning_rate": 5e-3}
TEST = reversals(40, seed=1)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = recipes.transformer(**SMALL, **PLAIN)
    recipes.fit(model, reversals(1024, seed=0), epochs=15, batch_size=32, verbose=0)
    return model


@pytest.mark.any_backend
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_numbers_are_those_of_torch(norm_first):
    stored, name = dict(np.load(FIXTURE)), "pre" if norm_first else "post"
    sizes = {"vocabulary_size": 11, "target_vocabulary_size": 13, "width": 8, "depth": 2, "heads": 2, "mlp_dim": 12}
    model = recipes.transformer(**sizes, norm_first=norm_first, tied=False)
    variables = sorted([v for v in model.weights if "seed" not in v.path], key=lambda v: v.path)
    assert [v.path for v in variables] == stored[f"{name}/names"].tolist()
    values = np.split(stored[f"{name}/values"], np.cumsum([np.prod(v.shape) for v in variables]))
    for variable, value in zip(variables, values, strict=False):
        variable.assign(value.reshape(variable.shape))
    found = np.array(model({"source": stored["source"], "target": stored["target"]}))
    np.testing.assert_allclose(found, stored[f"{name}/logits"], rtol=1e-4, atol=1e-5)


def test_it_learns_to_write_words_from_their_end(trained):
    found = recipes.generate(trained, TEST["source"], max_new_tokens=8, temperature=0)
    assert np.mean([a == b for a, b in zip(found, answers(TEST), strict=True)]) > 0.9


def test_token_by_token_it_writes_what_the_whole_model_says(trained):
    expected = [without_cache(trained, source, 8) for source in TEST["source"][:3]]
    assert recipes.generate(trained, TEST["source"][:3], max_new_tokens=8, temperature=0) == expected


def test_beams_find_what_is_likelier():
    model = recipes.transformer(**SMALL, **PLAIN, tied=False)  # untrained, its probabilities are so even that beams differ
    greedy = recipes.generate(model, TEST["source"], max_new_tokens=8, temperature=0)
    found = recipes.generate(model, TEST["source"], max_new_tokens=8, beams=4, length_penalty=0.6)
    scores = [score(model, TEST["source"], texts, power=0.6).mean() for texts in (found, greedy)]
    assert scores[0] > scores[1]


def test_padding_of_the_sources_does_not_matter(trained):
    rows = [row[row > 0].tolist() for row in TEST["source"][:9]]
    expected = recipes.generate(trained, rows, max_new_tokens=8, temperature=0)
    wider = np.pad(TEST["source"][:9], ((0, 0), (0, 20)))
    assert recipes.generate(trained, wider, max_new_tokens=8, temperature=0) == expected
    assert recipes.generate(trained, rows[:1], max_new_tokens=8, temperature=0) == expected[:1]


def test_one_vocabulary_has_one_table():
    paths = {v.path for v in recipes.transformer(**SMALL).weights}
    assert "embedding/embeddings" in paths and not {"logits/kernel", "source_embedding/embeddings"} & paths
    model = recipes.transformer(**SMALL, target_vocabulary_size=7, tied=False)
    shapes = {v.path: tuple(v.shape) for v in model.weights}
    assert shapes["source_embedding/embeddings"] == (9, 32) and shapes["target_embedding/embeddings"] == (7, 32)
    assert shapes["logits/kernel"] == (32, 7)


@pytest.mark.parametrize(
    "part, ids, words",
    [
        ("source", [[3, 9, 4]], "source.* spans 3..9"),
        ("target", [[1, 9, 2]], "target.* spans 1..9"),
        ("target", [[1, -1, 2]], "target.* spans -1..2"),
        ("source", [[3, 0.5, 4]], "source.* must be token ids"),
        ("source", [[3] * 33], "33 exceeds max_length 32"),
        ("target", [[1] * 33], "33 exceeds max_length 32"),
    ],
)
def test_ids_that_it_cannot_read_are_refused(part, ids, words):
    data = {"source": np.array([[3, 4, 5]]), "target": np.array([[1, 3, 2]]), part: np.array(ids)}
    with pytest.raises(ValueError, match=words):
        recipes.fit(recipes.transformer(**SMALL), data, epochs=1, verbose=0)


def test_more_than_it_can_read_is_not_written():
    model = recipes.transformer(**SMALL)
    for source, most in (([[3] * 33], 2), ([[3]], 32)):
        with pytest.raises(ValueError, match="max_length"):
            recipes.generate(model, source, max_new_tokens=most)


# The layers


@pytest.mark.any_backend
def test_places_are_the_sines_and_cosines_of_section_3_5():
    found = np.array(SinusoidPosition(50)(np.zeros((1, 50, 6))))[0]
    for place in (0, 1, 49):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(found[place, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)
    with pytest.raises(ValueError, match="51 exceeds max_length 50"):
        SinusoidPosition(50)(np.zeros((1, 51, 6)))


@pytest.mark.any_backend
def test_layers_decode_what_they_compute():
    random = np.random.default_rng(0)
    tokens, memory = random.normal(size=(2, 5, 8)).astype("float32"), random.normal(size=(2, 4, 6)).astype("float32")
    real = np.array([[True, True, True, False], [False] * 4])
    for layer, inputs in ((SinusoidPosition(9), ()), (CrossAttention(2, stddev=0.5), (memory, real))):
        expected = np.array(layer(tokens, *inputs))
        cache, found = layer.start_cache(2, 9, "float32"), []
        for start, stop in ((0, 2), (2, 3), (3, 5)):
            outputs, cache = layer.decode(tokens[:, start:stop], cache, start, *inputs)
            found.append(np.array(outputs))
            inputs = inputs and (None, *inputs[1:])  # a memory is looked at once
        np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-5)


@pytest.mark.any_backend
def test_attention_to_padding():
    layer = CrossAttention(2, stddev=0.5)
    random = np.random.default_rng(0)
    tokens, memory = random.normal(size=(1, 3, 8)), random.normal(size=(1, 4, 8))
    real = np.array([[True, True, False, False]])
    found = np.array(layer(tokens, memory, real))
    np.testing.assert_allclose(found, layer(tokens, memory[:, :2]), atol=1e-5)
    assert np.isfinite(np.array(layer(tokens, memory, ~real & real))).all()
