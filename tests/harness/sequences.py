"""What models of sequences must do besides; a row of `tests/cases.py` names the checks that apply in `also`."""

import keras
import numpy as np

from tests.harness.recipes import fitted


def check_ids_alone(case):
    """A language model learns the same from its ids alone as with them for targets."""
    models = []
    for y in (None, case.y):
        keras.utils.set_random_seed(3)
        model = case.build()
        model.fit(case.x, y, batch_size=len(case.y), shuffle=False, verbose=0)
        models.append(model)
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        assert np.array_equal(_numpy(one), _numpy(other)), f"{one.path} learns something else from ids alone"


def check_causal(case):
    """A later token changes nothing earlier."""
    model = fitted(case).model
    expected = _numpy(model(case.x))
    for place in (1, case.y.shape[1] - 1):
        x = _changed(case, lambda ids, place=place: np.where(np.arange(ids.shape[1]) >= place, ids[:, :1], ids))
        found = _numpy(model(x))
        assert np.abs(found[:, :place] - expected[:, :place]).max() < 1e-6, f"token {place} changes what is before it"
        assert np.abs(found[:, place:] - expected[:, place:]).max() > 1e-6, f"token {place} changes nothing at all"


def check_padding(case):
    """More padding on the right changes no output of the tokens before it, and a row of padding alone gives numbers."""
    model = fitted(case).model
    padding = case.arguments.get("padding_id", 0)
    keys = ["source", "target"] if isinstance(case.x, dict) else [None]
    expected = _numpy(model(case.x))
    for key in keys:
        ids = case.x[key] if key else case.x
        wider = np.concatenate([ids, np.full((len(ids), 3), padding, ids.dtype)], axis=1)
        found = _numpy(model({**case.x, key: wider} if key else wider))
        if found.ndim == 3:
            found = found[:, : expected.shape[1]]
        real = (case.y != padding) if found.ndim == 3 and case.y.ndim == 2 else np.ones(found.shape[:-1], bool)
        assert np.abs(found - expected)[real].max() < 1e-5, "padding changes the output"
        empty = np.full_like(ids, padding)
        assert np.isfinite(_numpy(model({**case.x, key: empty} if key else empty))).all(), "padding alone is not finite"


def _changed(case, change):
    """The inputs of `case` with the ids of the target, which is all of them in a decoder alone, changed."""
    return {**case.x, "target": change(case.x["target"])} if isinstance(case.x, dict) else change(case.x)


def _numpy(value):
    return np.array(keras.ops.convert_to_numpy(value))
