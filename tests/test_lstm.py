"""The recurrent families: torch's numbers, padding, what cuDNN takes, regularisation, and forecasts.

The fixtures were made by benchmarks/parity.py --fixtures from torch 2.14.1.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import LengthMask, MaskedPool, Standardize, WeightDropLSTM
from recipes.weights import read_state_dict
from recipes.weights.lstm_names import our_tensors
from tests import torch_files

FIXTURES = Path(__file__).parent / "fixtures"
LSTM, GRU = FIXTURES / "lstm_torch.pth", FIXTURES / "gru_torch.safetensors"
SIZES = {"units": 4, "depth": 2, "pool": "mean"}


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FIXTURES / "lstm_tiny.npz"))


def text_model(**arguments):
    return recipes.lstm_text(3, **{"vocabulary_size": 11, "width": 5, **SIZES, **arguments})


def series_model(**arguments):
    return recipes.lstm((None, 5), 3, **{"cell": "gru", "standardize": False, **SIZES, **arguments})


# The reference


@pytest.mark.any_backend
def test_the_numbers_of_torch(stored):
    for model, x, expected in (
        (text_model(weights=LSTM), stored["ids"], stored["lstm"]),
        (series_model(weights=GRU), stored["series"], stored["gru"]),
    ):
        assert np.ptp(expected, axis=0).min() > 0.05  # the rows differ
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)


def test_every_variable_has_its_own_tensor():
    for model, path in ((text_model(), LSTM), (series_model(), GRU)):
        paths = {variable.path for variable in model.weights}
        assert set(our_tensors(read_state_dict(path), list(paths))) == paths


def test_a_language_model_of_torch(tmp_path):
    random = np.random.default_rng(0)
    tensors = {"encoder.weight": random.normal(size=(9, 5)).astype("float32")}
    for i, (width, units) in enumerate([(5, 7), (7, 5)]):
        for name, shape in {"weight_ih": (4 * units, width), "weight_hh": (4 * units, units)}.items():
            tensors[f"rnns.{i}.{name}_l0"] = random.normal(size=shape).astype("float32")
            tensors[f"rnns.{i}.{name.replace('weight', 'bias')}_l0"] = random.normal(size=shape[:1]).astype("float32")
    tied = {"decoder.weight": tensors["encoder.weight"], "decoder.bias": np.zeros(9, "float32")}
    sizes = {"vocabulary_size": 9, "width": 5, "units": 7, "depth": 2}
    model = recipes.lstm_lm(**sizes, weights=torch_files.write_state_dict(tmp_path / "lm.pth", {**tensors, **tied}))
    second = model.get_layer("block1_lstm").cell
    np.testing.assert_array_equal(second.kernel, tensors["rnns.1.weight_ih_l0"].T)
    np.testing.assert_allclose(second.bias, tensors["rnns.1.bias_ih_l0"] + tensors["rnns.1.bias_hh_l0"], rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("embedding").embeddings, tensors["encoder.weight"])
    tied["decoder.bias"] = np.ones(9, "float32")  # ours has none
    with pytest.raises(ValueError, match=r"tensors without a variable: decoder\.weight, decoder\.bias"):
        recipes.lstm_lm(**sizes, weights=torch_files.write_state_dict(tmp_path / "lm.pth", {**tensors, **tied}))


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="do not fit .*block0_lstm/forward_block0_lstm/lstm_cell/kernel"):
        text_model(weights=LSTM, units=5)
    with pytest.raises(ValueError, match="do not fit .*block1"):
        text_model(weights=LSTM, depth=1)
    with pytest.raises(ValueError, match="do not fit"):
        text_model(weights=LSTM, bidirectional=False)
    with pytest.raises(ValueError, match="do not fit"):
        series_model(weights=GRU, cell="lstm")
    tensors = {name: np.array(t) for name, t in read_state_dict(GRU).items() if not name.startswith("head")}
    with pytest.warns(UserWarning, match="left random.*logits/kernel"):
        series_model(weights=torch_files.write_state_dict(tmp_path / "body.pth", tensors))


# Padding


def test_only_what_follows_the_last_real_step_is_padding():
    ids = np.array([[3, 0, 5, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
    mask = keras.ops.convert_to_numpy(LengthMask(0)(ids))
    assert mask.sum(axis=1).tolist() == [3, 1, 5] and (np.diff(mask.astype(int), axis=1) <= 0).all()
    series = np.where(ids[..., None] == 0, -1.0, [[[0.0, 1.0]]])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(LengthMask(-1.0)(series)), mask)
    assert keras.ops.convert_to_numpy(LengthMask(None)(ids)).all()


def test_pooling_leaves_padding_out():
    x = np.array([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]], [[5.0, 5.0], [6.0, 6.0], [7.0, 7.0]]])
    mask = np.array([[True, True, False], [False, False, False]])
    for mode, expected in (("mean", [[2, -3], [0, 0]]), ("max", [[3, -2], [0, 0]])):
        assert keras.ops.convert_to_numpy(MaskedPool(mode)(x, mask=mask)).tolist() == expected


def test_statistics_leave_padding_out():
    x = np.array([[[1.0, 10.0], [3.0, 30.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    layer = Standardize(padding_value=0.0)
    layer.adapt(x)
    np.testing.assert_allclose(layer.mean, [2, 40 / 3], rtol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("pool", ["max", "last"])
def test_an_utterance_does_not_know_its_padding(pool, stored):
    model = series_model(pool=pool, depth=1)
    x = stored["series"]
    lengths = (x != 0).any(axis=-1).sum(axis=1)
    expected = np.array(model(x))
    for i in (1, 3):
        assert lengths[i] < 6
        np.testing.assert_allclose(model(x[i : i + 1, : lengths[i]])[0], expected[i], atol=1e-6)
    assert np.isfinite(model(np.zeros((2, 6, 5)))).all()


# What cuDNN takes


def test_cudnn_takes_every_recurrent_layer():
    sizes = {"units": 4, "depth": 2, "dropout": 0.3}
    models = [
        *(recipes.lstm((6, 3), 3, cell=cell, **sizes) for cell in ("lstm", "gru")),
        recipes.lstm_text(3, vocabulary_size=9, width=4, **sizes),
        recipes.lstm_forecast((6, 3), 2, **sizes),
        recipes.lstm_lm(vocabulary_size=9, width=4, units=4, depth=2, weight_drop=0.3, hidden_dropout=0.3),
    ]
    for model in models:
        layers = [part for layer in model.layers for part in layer._flatten_layers() if isinstance(part, keras.layers.RNN)]
        assert len(layers) in (2, 4)
        for layer in layers:
            assert layer.activation is keras.activations.tanh and layer.recurrent_activation is keras.activations.sigmoid
            assert not layer.recurrent_dropout and not layer.unroll and layer.use_bias and layer.use_cudnn == "auto"
            assert getattr(layer, "reset_after", True)


# Regularisation


def test_weight_drop_thins_out_the_recurrent_matrix_and_nothing_else():
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    layer, plain = WeightDropLSTM(4, 0.5), keras.layers.LSTM(4)
    plain.build(x.shape)
    expected = layer(x)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(plain(x), expected, atol=1e-6)
    kernel = np.array(layer.cell.recurrent_kernel)
    thin = layer(x, training=True)
    assert np.abs(np.array(thin) - np.array(expected)).max() > 1e-3
    np.testing.assert_array_equal(layer.cell.recurrent_kernel, kernel)
    layer.cell.recurrent_kernel.assign(0 * kernel)
    np.testing.assert_allclose(layer(x, training=True), layer(x), atol=1e-6)  # nothing left to drop


def test_dropout_is_locked_in_time_and_to_words():
    model = recipes.lstm_lm(
        vocabulary_size=9, width=32, units=4, depth=1, input_dropout=0.5, word_dropout=0.5, output_dropout=0.0
    )
    ids = np.array([[3, 3, 4, 4, 3]])
    outputs = [model.get_layer(name).output for name in ("input_dropout", "kept_words")]
    dropped, words = (np.array(a) for a in keras.Model(model.input, outputs)(ids, training=True))
    for kept in ((words != 0).any(axis=-1),):
        assert kept[0, 0] == kept[0, 1] == kept[0, 4] and kept[0, 2] == kept[0, 3]
    lost = (dropped == 0) & (words != 0)
    assert lost.any() or not words.any()
    seen = [place for place in range(5) if words[0, place].any()]
    assert all((lost[0, place] == lost[0, seen[0]]).all() for place in seen)


# Forecasts


@pytest.mark.any_backend
def test_a_forecaster_begins_as_the_seasonal_naive():
    random = np.random.default_rng(0)
    series, known = random.normal(size=(60, 3)).cumsum(axis=0) * [1, 10, 0.1] + [5, 900, 0], random.normal(size=(60, 2))
    data = recipes.data.windows(series, 9, 5, targets=[1, 2], future=known, validation=0, test=20)
    model = recipes.lstm_forecast((9, 5), 5, targets=2, future=2, season=3, units=8, adapt=data.train)
    head = model.get_layer("logits")
    head.set_weights([np.zeros_like(w) for w in head.get_weights()])
    x, y = data.test
    naive = recipes.data.seasonal_naive(x, 5, 3, targets=2)
    np.testing.assert_allclose(model.predict(x, verbose=0), naive, rtol=1e-4, atol=1e-4)
    found = recipes.evaluate(model, data)
    assert found["mae"] == pytest.approx(found["naive_mae"], rel=1e-4) == pytest.approx(np.abs(naive - y).mean(), rel=1e-4)


def test_forecasts_in_their_own_units():
    x = np.random.default_rng(0).normal(size=(20, 6, 2)) * [3, 1] + [700, 0]
    model = recipes.lstm_forecast((6, 2), 4, units=8, adapt=(x, x[:, 2:, 0]))
    assert model.output_shape == (None, 4)
    assert abs(model.predict(x, verbose=0).mean() - 700) < 3


# Bad input


def test_ids_that_are_none():
    model = text_model()
    for ids, words in (
        (np.full((4, 5), 11), "spans 11..11"),
        (np.full((4, 5), -1), "spans -1..-1"),
        (np.full((4, 5), 0.5), "token ids, integers"),
    ):
        with pytest.raises(ValueError, match=words):
            recipes.fit(model, (ids, np.zeros(4, "int32")), epochs=1, verbose=0)
