"""`group_by_length`: texts of like length share a batch, nothing but padding is cut, and training goes on bit for bit."""

from unittest import mock

import keras
import numpy as np
import pytest

import recipes
from recipes.data import Batches, GroupedBatches
from recipes.data.lengths import count_tokens
from recipes.training import state

any_backend = pytest.mark.any_backend


def texts(rows, longest, seed=0):
    """Ids 3..9 of random lengths up to `longest`, padded with 0 to two tokens more."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, 10, (rows, longest + 2)).astype("int32")
    return np.where(np.arange(longest + 2) < rng.integers(1, longest + 1, rows)[:, None], ids, 0)


@any_backend
def test_every_text_once_beside_texts_of_its_length_and_only_padding_is_cut():
    ids = texts(205, 40)
    batches, plain = GroupedBatches(ids, np.arange(205), 4, padding_id=0, seed=3), Batches(ids, np.arange(205), 4, seed=3)
    seen, sizes = [], []
    for x, rows in (batches.batch(1, i) for i in range(len(batches))):
        np.testing.assert_array_equal(x, ids[rows][:, : x.shape[1]])
        assert not ids[rows][:, x.shape[1] :].any() and (x.shape[1] % 8 == 0 or x.shape[1] == 42)
        seen += rows.tolist()
        sizes.append(x.size)
    assert sorted(seen) == list(range(205)) and len(rows) == 5  # a last batch of one joins the one before it
    assert sum(sizes) < 0.7 * sum(plain.batch(1, i)[0].size for i in range(len(plain)))
    lengths = [len(x[0]) for x, _ in (batches.batch(1, i) for i in range(len(batches)))]
    assert lengths != sorted(lengths) and lengths != sorted(lengths, reverse=True)
    assert np.array_equal(batches.order(1), GroupedBatches(ids, None, 4, padding_id=0, seed=3).order(1))
    first, second = ({frozenset(batches.batch(epoch, i)[1].tolist()) for i in range(len(batches))} for epoch in (1, 2))
    assert len(first & second) < 5  # others meet in the next epoch


def test_counts_the_padding_on_the_right_alone():
    assert count_tokens([[1, 0, 2, 0], [0, 0, 0, 0], [1, 1, 1, 1]], 0).tolist() == [3, 0, 4]
    (x,) = GroupedBatches(np.zeros((3, 20), "int64"), None, 3, padding_id=0)[0]
    assert x.shape == (3, 8)  # a text without a token is one all the same


@any_backend
def test_each_array_of_a_pair_is_cut_by_itself_and_targets_with_theirs():
    x = {"source": texts(9, 30), "target": texts(9, 14, seed=1)}
    batches = GroupedBatches(x, x["target"], 9, padding_id=0, token_targets=True, sample_weight=np.ones(9))
    inputs, y, weight = batches[0]
    assert (inputs["source"].shape, inputs["target"].shape, y.shape, weight.shape) == ((9, 32), (9, 16), (9, 16), (9,))
    assert batches.shapes(0) == [(None, None), (None, None), (None, None), (None,)]
    labels = np.eye(9, 16)  # as wide as a text, but no targets of tokens
    assert GroupedBatches(x["target"], labels, 3, padding_id=0)[0][1].shape == (3, 16)


@pytest.mark.parametrize("name", [pytest.param("transformer", marks=any_backend), "masked", "tokens", "lstm_text"])
def test_a_cut_batch_has_the_loss_of_the_whole_one(name):
    ids, labels = texts(6, 9), np.arange(6) % 2
    sizes = {"vocabulary_size": 12, "width": 32}
    if name == "transformer":
        model, x = recipes.transformer(**sizes, depth=1), {"source": ids, "target": texts(6, 7, seed=1)}
        labels = x["target"]
    elif name == "masked":
        model, x = recipes.bert(task="language_model", mask_id=11, max_length=16, depth=1, heads=2, **sizes), ids
        labels = np.where(ids > 6, ids, -1)
    elif name == "tokens":
        model, x = recipes.bert(3, task="tokens", max_length=16, depth=1, heads=2, **sizes), ids
        labels = np.where(ids > 0, ids % 3, -1)
    else:
        model, x = recipes.lstm_text(2, units=8, **sizes), ids
    cut = GroupedBatches(x, labels, 6, padding_id=0, token_targets=labels.ndim == 2, shuffle=False)[0]
    assert len(keras.tree.flatten(cut[0])[0][0]) < len(keras.tree.flatten(x)[0][0])
    whole = model.evaluate(x, labels, batch_size=6, verbose=0, return_dict=True)
    for key, value in model.test_on_batch(*cut, return_dict=True).items():
        assert value == pytest.approx(whole[key], rel=1e-5), key


@any_backend
def test_fit_learns_and_goes_on_bit_for_bit(tmp_path):
    labels = np.arange(64) % 2
    ids = texts(64, 13)
    ids = np.where(ids > 0, 3 + ids % 3 + 3 * labels[:, None], 0)

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])
            if len(seen) == stop:
                raise InterruptedError

    def train(directory, **changed):
        keras.utils.set_random_seed(0)
        model = recipes.lstm_text(2, vocabulary_size=12, width=8, units=8, learning_rate=0.05)
        arguments = {"group_by_length": True, "directory": directory, "save_steps": 1, "epochs": 4, "batch_size": 16}
        history = recipes.fit(model, (ids, labels), callbacks=[Steps()], verbose=0, **{**arguments, **changed})
        return history, state.read_variables(state.model_variables(model))

    seen, stop = [], None
    history, expected = train(tmp_path / "whole")
    assert len(seen) == 16 and history.history["accuracy"][-1] > 0.9
    seen, stop = [], 6
    with pytest.raises(InterruptedError):
        train(tmp_path / "stopped")
    _, found = train(tmp_path / "stopped")
    assert len(seen) in (16, 17)  # the step that was broken off may be done again
    assert all(found[key].tobytes() == value.tobytes() for key, value in expected.items())
    with pytest.raises(ValueError, match="group_by_length"):
        train(tmp_path / "whole", group_by_length=False)


def test_a_transformer_is_traced_once_for_all_lengths():
    pairs = {"source": texts(64, 30), "target": texts(64, 20, seed=1)}
    model, traces = recipes.transformer(vocabulary_size=12, width=16, heads=2, depth=1), []
    call = model.compute_loss
    model.compute_loss = lambda *args, **kwargs: (traces.append(1), call(*args, **kwargs))[1]
    history = recipes.fit(model, pairs, group_by_length=True, epochs=2, batch_size=8, verbose=0)
    assert len(traces) == 1 and history.history["loss"][1] < history.history["loss"][0]


def test_fine_tuning_reads_cut_batches():
    ids, labels = texts(64, 30), np.arange(64) % 3
    model = recipes.bert(task="embed", vocabulary_size=12, max_length=32, width=16, depth=1, heads=2)
    seen, arguments = [], {"epochs": 2, "batch_size": 8, "group_by_length": True, "verbose": 0}
    original = GroupedBatches.batch
    with mock.patch.object(GroupedBatches, "batch", lambda *place: seen.append(original(*place)) or seen[-1]):
        model, history = recipes.fine_tune(model, (ids, labels), **arguments)
    lengths = {x.shape[1] for x, _ in seen}
    assert model.output_shape == (None, 3) and np.isfinite(history.history["loss"]).all()
    assert len(lengths) > 1 and max(lengths) <= 32 and len(seen) >= 16
    with pytest.raises(ValueError, match="group_by_length must be False .* reads no padded ids"):
        recipes.fine_tune(recipes.mlp((3,), 2, adapt=np.eye(3)), (np.eye(3), np.arange(3)), group_by_length=True)


def test_refuses_what_has_no_padded_ids():
    with pytest.raises(ValueError, match=r"group_by_length must be False .* reads no padded ids"):
        recipes.fit(recipes.mlp((3,), 2, adapt=np.eye(3)), (np.eye(3), np.arange(3) % 2), group_by_length=True, epochs=1)
    with pytest.raises(ValueError, match="group_by_length must be False .* reads no padded ids"):
        recipes.fit(recipes.gpt(variant="gpt2", width=64, depth=1), texts(8, 9), group_by_length=True, epochs=1)
    with pytest.raises(ValueError, match="unless data are arrays"):
        batches = Batches(texts(8, 9), np.arange(8) % 2, 4)
        recipes.fit(recipes.lstm_text(2, vocabulary_size=12), batches, group_by_length=True, epochs=1)
    with pytest.raises(ValueError, match="x must be ids"):
        GroupedBatches(np.zeros((3, 4)), None, 2, padding_id=0)
