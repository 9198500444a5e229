"""What models of sequences must do besides; a row of `tests/cases.py` names the checks that apply in `also`."""

import keras
import numpy as np

import recipes
from recipes.sequence import generate
from tests.harness.recipes import fitted


def check_ids_alone(case):
    """A language model learns the same from its ids alone as with them for targets."""
    models = []
    for y in (None, case.y):
        keras.utils.set_random_seed(3)
        model = case.build()
        model.run_eagerly = True  # tracing takes longer than a step
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


def check_series_padding(case):
    """More padding changes nothing in a model of series; nor does a series of it alone give anything but numbers."""
    model = fitted(case).model
    if model.input_shape[1] is None:
        wider = np.concatenate([case.x, np.zeros_like(case.x[:, :3])], axis=1)
        assert np.abs(_numpy(model(wider)) - _numpy(model(case.x))).max() < 1e-5, "padding changes the output"
    for i in range(1, case.x.shape[1]):  # alone, without what fills it up
        short = [row for row in range(len(case.x)) if not case.x[row, i:].any()][:1]
        if short and model.input_shape[1] is None:
            found = _numpy(model(case.x[short][:, :i]))
            assert np.abs(found - _numpy(model(case.x[short]))).max() < 1e-5, "padding changes the output"
    assert np.isfinite(_numpy(model(np.zeros_like(case.x)))).all(), "padding alone is not finite"


def check_cached(case):
    """Text written with a cache is what the whole model says token by token, and one beam writes the same."""
    model = fitted(case).model
    facts, most = generate.read_facts(model), 3
    if isinstance(case.x, dict):  # sources; what is written comes after the token that begins a target
        prompts = [ids[ids != facts["padding_id"]].tolist() for ids in case.x["source"][:3]]
        given = [[facts["start_id"]]] * len(prompts)
    else:
        prompts = given = [ids[ids != facts["padding_id"]][:n].tolist() for ids, n in zip(case.x, (3, 1, 4), strict=False)]
    written = recipes.generate(model, prompts, max_new_tokens=most, temperature=0)
    assert generate.search(model, generate.prepare(model, prompts, most), beams=1) == written, "one beam is not greedy"
    for prompt, start, text in zip(prompts, given, written, strict=True):
        ids = np.array([start + text])
        logits = _numpy(model({"source": np.array([prompt]), "target": ids} if isinstance(case.x, dict) else ids))[0]
        if facts["padding_id"] is not None:
            logits[:, facts["padding_id"]] = -np.inf
        expected = text if len(text) == most else [*text, facts["end_id"]]
        for place, token in enumerate(expected, start=len(start) - 1):  # within rounding the largest
            assert logits[place].max() - logits[place, token] < 1e-4, "the cache changes what is written"


def _changed(case, change):
    """The inputs of `case` with the ids of the target, which is all of them in a decoder alone, changed."""
    return {**case.x, "target": change(case.x["target"])} if isinstance(case.x, dict) else change(case.x)


def _numpy(value):
    return np.array(keras.ops.convert_to_numpy(value))
