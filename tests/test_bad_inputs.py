"""Every bad input is answered in words that say what to do; valid unusual ones train as their plain copies do."""

import warnings

import keras
import numpy as np
import pytest

import recipes
from tests.bad_inputs import ELSEWHERE, GOOD, ROWS, Parts, X, Y, table


def backends(row):
    """From 62 on it is builders, layers and files that answer, the same on every backend."""
    return [pytest.mark.any_backend] if row.words and row.number < 62 else []


CASES = [pytest.param(row, id=f"{row.number} {row.what}", marks=backends(row)) for row in ROWS]


@pytest.mark.parametrize("row", CASES)
def test_bad_input(row):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model did not come from|.*did not come from a builder")
        if row.words is None:
            row.do()
        elif issubclass(row.kind, Warning):
            with pytest.warns(row.kind, match=row.words):
                row.do()
        else:
            with pytest.raises(row.kind, match=row.words):
                row.do()


def test_the_catalogue_is_complete():
    numbers = {row.number for row in ROWS} | set(ELSEWHERE)
    assert numbers == set(range(1, 83))


def whole(x):
    return np.round(x).astype("int64")


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


UNUSUAL = {
    "float16": lambda x: (x / 100).astype("float16"),
    "bfloat16": lambda x: keras.ops.convert_to_numpy(keras.ops.cast(x, "bfloat16")),
    "int64": whole,
    "bool": lambda x: x > x.mean(axis=0),
    "columns first": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": read_only,
}


def test_unusual_arrays_train_bit_equal():
    """Rows 27 and 31."""
    model = table()
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]  # with the seed of the dropout
    start = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    plain = {}

    def trained(x):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        recipes.fit(model, (x, Y), epochs=1, batch_size=89, verbose=0)
        return b"".join(w.tobytes() for w in model.get_weights())

    for name, change in UNUSUAL.items():
        unusual = change(X)
        copy = np.ascontiguousarray(unusual).astype("float32")
        before = unusual.tobytes()
        if copy.tobytes() not in plain:
            plain[copy.tobytes()] = trained(copy)
        assert trained(unusual) == plain[copy.tobytes()], name
        assert unusual.tobytes() == before, name
    assert len(set(plain.values())) == 5  # float16, bfloat16, int64, bool and X itself


@pytest.mark.any_backend
def test_streams_are_checked_batch_by_batch():
    nan = X[:16].copy()
    nan[2, 5] = np.nan
    with pytest.raises(ValueError, match=r"data batch 3 x\[2, 5\] = nan"):
        recipes.fit(table(), Parts(GOOD, GOOD, GOOD, (nan, Y[:16])), epochs=2, verbose=0)
    with pytest.raises(ValueError, match=r"validation batch 1 y labels span"):
        recipes.fit(table(), Parts(GOOD, GOOD), validation=Parts(GOOD, (X[:16], Y[:16] + 3)), epochs=1, verbose=0)


def test_datasets_of_tensorflow():
    import tensorflow as tf

    def dataset(x=X, y=Y):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(64)

    recipes.fit(table(), dataset(), validation=dataset(), epochs=2, verbose=0)
    with pytest.raises(ValueError, match="no end.*take"):
        recipes.fit(table(), dataset().repeat(), epochs=1, verbose=0)
    nan = X.copy()
    nan[70, 5] = np.nan
    with pytest.raises(ValueError, match=r"data batch 1 x\[6, 5\] = nan") as raised:
        recipes.fit(table(), dataset(nan), epochs=1, verbose=0)
    assert "tensorflow" not in str(raised.value)
    once = iter(list(dataset()))
    again = tf.data.Dataset.from_generator(lambda: once, output_signature=dataset().element_spec)
    with pytest.raises(ValueError, match=r"0 batches in epoch 2 and 3 before"):
        recipes.fit(table(), again, epochs=2, schedule=None, verbose=0)
