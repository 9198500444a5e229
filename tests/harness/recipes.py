"""What every builder and every model of the package must do.

The checks of models take a `RecipeCase`, those of builders a `FamilyCase`; all raise `AssertionError`. A model that
three steps have trained is made once a case and shared: nothing may rely on how long it was trained.
"""

import dataclasses
import functools
import inspect
import json
import os
import re
import tempfile
from unittest import mock

import keras
import keras_tuner
import numpy as np

import recipes
from recipes.data.pipeline import build_optimizer
from recipes.training import recipe as recipe_module
from tests.gpu_audit import audit
from tests.harness.layers import assert_refuses
from tests.harness.state import (
    assert_close,
    assert_same,
    copy_seeds,
    dtype_policy,
    numpy_of,
    outside_of,
    paths_of,
    plain,
    record_changes,
    rows_of,
    values_of,
)

# ---------------------------------------------------------------------------------------------------- the builder

# images, tables, series; forecasts; what has no classes; token ids; token ids that have no classes
POSITIONAL = (["input_shape", "num_classes"], ["input_shape", "horizon"], ["input_shape"], ["num_classes"], [])


def check_signature(family):
    """At most two positional arguments, then plain defaults; `name` last; the docstring explains every argument."""
    parameters = list(inspect.signature(family.builder).parameters.values())
    kinds = {p.kind for p in parameters}
    assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}, "*args or **kwargs"
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional in POSITIONAL, f"positional arguments {positional}"
    options = parameters[len(positional) :]
    assert options[-1].name == "name" and {"variant", "weights", "task", "learning_rate"} & {p.name for p in options}
    for option in options:
        plain = option.default is None or isinstance(option.default, (bool, int, float, str, tuple))
        assert plain, f"the default of {option.name} is {option.default!r}, not plain"
    described = inspect.getdoc(family.builder)
    for parameter in parameters:
        assert f"{parameter.name}: " in described, f"the docstring does not explain {parameter.name}"
    for section in ("Args:", "Returns:", "Raises:", "Example:", "Reference:"):
        assert section in described, f"the docstring has no {section}"


def check_variants(family):
    """The row records a number of parameters for every variant, and no other."""
    assert list(family.presets) == recipes.list_variants(family.name)


def check_preset(family, variant):
    """A variant builds at full size with the recorded number of trainable parameters; no memory is taken for these."""
    graph_alone = keras.StatelessScope(initialize_variables=False)
    with graph_alone, mock.patch.object(recipe_module, "recompile", lambda model: model):  # an optimizer has values at once
        model = family.build(family.shape, variant=variant)
    keras.utils.clear_session(free_memory=False)  # which forgets the variables that wait for their values
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert count == family.presets[variant], f"{variant}: {count} parameters, recorded {family.presets[variant]}"


def check_space(family):
    """What the search space chooses are arguments of the builder, and models of random choices compute."""
    for model, chosen in chosen_models(family):
        outputs = model(family.zeros(family.small_shape), training=True)
        assert np.isfinite(numpy_of(outputs)).all(), f"not finite: {chosen}"


def chosen_models(family):
    """Yield three models that the search space chooses at random, and their arguments, once it is seen to be sound."""
    hp = keras_tuner.HyperParameters()
    names = set(family.space(hp))
    unknown = names - set(inspect.signature(family.builder).parameters)
    assert not unknown, f"the space chooses {unknown}, which the builder does not take"
    assert hp.space, "the space chooses nothing"
    for trial in range(3):
        for parameter in hp.space:
            hp.values[parameter.name] = parameter.random_sample(seed=trial)
        chosen = family.space(hp)
        model = family.build(family.small_shape, **{**chosen, **family.small})
        for name in names - set(family.small):
            assert model.recipe["arguments"][name] == plain(chosen[name]), f"the recipe says another {name}"
        yield model, chosen


def check_bad_arguments(family):
    """Every bad argument of the row raises a `ValueError` that names it and says what was received."""
    assert_refuses(lambda changes: family.build(family.small_shape, **changes), family.bad)


# ------------------------------------------------------------------------------------------- the model, not trained


def check_names(case):
    """Names of layers and weights do not depend on what was built before; `"features"` feeds the float32 `"logits"`."""
    model = check_own_names(case)
    logits, features = model.get_layer("logits"), model.get_layer("features")
    assert logits.input is features.output, '"features" does not feed "logits"'


def check_own_names(case):
    """Names of layers and weights do not depend on what was built before."""
    first = case.build()
    keras.models.clone_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()]))
    second = case.build()
    names = [[x.name for x in model._flatten_layers(include_self=False)] for model in (first, second)]
    assert names[0] == names[1], "a layer has no name of its own"
    assert paths_of(first) == paths_of(second), "the path of a weight depends on what was built before"
    assert len({v.path for v in first.weights}) == len(first.weights), "two weights have the same path"
    return first


def check_recipe(case):
    """`model.recipe` is plain JSON and rebuilds the same graph."""
    model = case.build()
    recipe = json.loads(json.dumps(model.recipe))
    assert recipe == model.recipe, "the recipe is not plain JSON"
    assert recipe["builder"] == case.builder.__name__ and "training" in recipe
    assert set(recipe["arguments"]) == set(inspect.signature(case.builder).parameters) - {"weights", "adapt"}
    again = case.builder(**recipe["arguments"])
    assert again.get_config() == model.get_config(), "the recipe rebuilds another model"
    assert paths_of(again) == paths_of(model)


def check_outputs(case):
    """Finite float32 of the declared shape, for one example and for many, the same eagerly and compiled."""
    model = case.build()
    assert model.output_shape == (None, *case.output), f"declared {model.output_shape}"
    for size in (1, len(case.y)):
        x = rows_of(case.x, slice(size))
        eager, compiled = numpy_of(model(x)), model.predict(x, batch_size=size, verbose=0)
        for outputs in (eager, compiled):
            expected = (size, *(case.y.shape[1] if n is None else n for n in case.output))
            assert outputs.shape == expected, f"{size} examples gave {outputs.shape}"
            assert outputs.dtype == "float32", f"outputs are {outputs.dtype}"
            assert np.isfinite(outputs).all(), "outputs are not finite"
        assert_close(compiled, eager, 1e-6, "compiled is not eager")


def check_inputs(case):
    """The first layers that learn see numbers of size 1: the model scales its raw inputs itself."""
    model = case.build()
    taken = {x.name: keras.tree.flatten(x.input)[0] for x in model.layers if x.trainable_weights}  # beside it, a mask
    first = next(name for name, tensor in taken.items() if tensor.dtype.startswith("float"))
    seen = numpy_of(keras.Model(model.input, taken[first])(case.x))
    size = float(np.sqrt(np.mean(np.square(seen, dtype="float64"))))
    assert 0.2 < size < 2, f"{first} sees numbers of size {size:.3g}: scale the raw inputs in the model"


def check_dtypes(case):
    """Inputs of any number type that holds the values give the same."""
    model = case.build()
    expected = numpy_of(model(case.x))
    integers = isinstance(case.x, np.ndarray) and case.x.dtype.kind in "iu"
    for dtype in ("float64", "int64") if integers else ("float64",):
        x = keras.tree.map_structure(lambda a, dtype=dtype: a.astype(dtype) if a.dtype.kind in "fu" else a, case.x)
        assert_close(numpy_of(model(x)), expected, 1e-6, f"{dtype} input gives something else")


def check_start(case):
    """The loss starts near that of guessing, in training and in inference."""
    model = case.build()
    for training in (True, False):
        loss = _loss(model, case, training)
        assert abs(loss - case.start) < 0.1, f"the loss starts at {loss:.3f}, not near {case.start:.3f} ({training=})"


def check_seed(case):
    """The same seed gives the same weights bit for bit; another seed, and another layer, gives others."""

    def weights(seed):
        keras.utils.set_random_seed(seed)
        return {v.path: numpy_of(v) for v in case.build().trainable_variables}

    first, again, other = weights(1), weights(1), weights(2)
    values = {}
    for path, value in first.items():
        assert np.array_equal(value, again[path]), f"{path}: the same seed gives another weight"
        if len(np.unique(value)) > 2:  # drawn; an LSTM's bias begins with zeros and ones
            assert not np.array_equal(value, other[path]), f"{path}: another seed gives the same weight"
            twin = values.setdefault(value.tobytes(), path)
            assert twin == path, f"{path} starts equal to {twin}"


def check_batch(case):
    """Every example is computed by itself: neither its neighbours nor its place change its output."""
    model = fitted(case).model
    expected = numpy_of(model(case.x))
    for i in (0, len(case.y) // 2, len(case.y) - 1):
        assert_close(numpy_of(model(rows_of(case.x, [i])))[0], expected[i], 1e-5, "alone an example gives another output")
    order = np.random.default_rng(1).permutation(len(case.y))
    assert_close(numpy_of(model(rows_of(case.x, order))), expected[order], 1e-6, "permuted examples give other outputs")


# ------------------------------------------------------------------------------------------------ the model, trained


@dataclasses.dataclass
class Fitted:
    """A model before and after three steps as built, or as many as the case says."""

    model: keras.Model
    before: dict
    after: dict
    moments: dict  # largest first moment the optimizer holds of each weight's gradient
    changed: list  # what building and training changed of what they must leave alone
    losses: list


@functools.lru_cache(maxsize=2)  # the checks of a case follow each other, and what is kept slows every collection
def fitted(case):
    """Return the `Fitted` of a case."""
    np.random.seed(12345)
    outside = outside_of(case)
    model = case.build()
    record_changes(outside, outside_of(case), changed := [])
    if getattr(case, "eager", False) and keras.backend.backend() == "tensorflow":
        model.run_eagerly = True
    before = values_of(model)
    losses = fit(model, case, getattr(case, "steps", 3)).history["loss"]
    record_changes(outside, outside_of(case), changed)
    moments = {path: float(np.abs(moment).max()) for path, moment in _moments(model)}
    return Fitted(model, before, values_of(model), moments, changed, losses)


def fit(model, case, steps, callbacks=()):
    """Train for a number of steps on the whole batch, in its order."""
    data = (case.x,) if case.y is None else (case.x, case.y)
    examples = len(keras.tree.flatten(data)[0])
    data = keras.tree.map_structure(lambda a: np.concatenate([a] * steps), data)
    build_optimizer(model)  # the tests of single parts call `fit` without
    return model.fit(*data, batch_size=examples, shuffle=False, verbose=0, callbacks=list(callbacks))


def _moments(model):
    """Yield the path of each trainable weight and the mean of its gradient that its optimizer, one or of several, holds."""
    for optimizer in getattr(model.optimizer, "optimizers", [model.optimizer]):
        slots = getattr(optimizer, "_momentums", None) or optimizer.momentums
        yield from zip((v.path for v in optimizer._trainable_variables), map(numpy_of, slots), strict=True)


def check_learns(case):
    """Fits as built; every trainable weight gets a gradient and changes, and of the others only running state does."""
    run = fitted(case)
    assert run.moments.keys() == {v.path for v in run.model.trainable_variables}, "a weight has no optimizer"
    floor = 1e-7 * max(run.moments.values())
    for path, moment in run.moments.items():
        assert np.isfinite(run.after[path]).all(), f"{path} is not finite"
        if any(re.search(pattern, path) for pattern in case.dead):
            continue
        assert moment > floor, f"{path} gets no gradient (largest moment {moment:.1e})"
        assert not np.array_equal(run.before[path], run.after[path]), f"{path} does not change"
    for path in run.before.keys() - run.moments.keys():
        running = re.search("|".join(getattr(case, "moving", (r"moving_(mean|variance)$",))), path)
        assert running or np.array_equal(run.before[path], run.after[path]), f"{path} changes and is not trainable"


def check_outside(case):
    """Building and training change no input, no argument and no global state."""
    assert not fitted(case).changed, f"building or training changed {', '.join(fitted(case).changed)}"


@functools.lru_cache(maxsize=2)
def _overfitted(case):
    """Train with regularisation off until 1 % of the loss is left. Returns the losses: before, steps, after."""
    keras.utils.set_random_seed(3)
    model = case.build(**case.plain)
    before = _loss(model, case, training=False)
    recorder = _Recorder(stop_below=0.005 * before)
    fit(model, case, case.steps, [recorder])
    return before, recorder.losses, _loss(model, case, training=True)


def check_overfits(case):
    """Without regularisation one batch is learned by heart: 99 % of the loss goes."""
    before, losses, after = _overfitted(case)
    assert after < 0.01 * before, f"the loss goes from {before:.3g} to {after:.3g} in {len(losses)} steps"


def check_saves(case):
    """A `.keras` file keeps type, outputs bit for bit, and what three more steps need, the optimizer's state included.

    Except the state of seeds, which Keras does not write: it is copied here.
    """
    model = fitted(case).model
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        try:
            loaded = keras.saving.load_model(path)
        except Exception as error:
            raise AssertionError(f"the saved model does not load: {error}") from error
    assert type(loaded) is type(model) and loaded.name == model.name
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert [type(x) for x in loaded.layers] == [type(x) for x in model.layers]
    assert type(loaded.loss) is type(model.loss) and loaded.loss.get_config() == model.loss.get_config()
    assert_same(loaded, model, "loaded")
    assert np.array_equal(numpy_of(loaded(case.x)), numpy_of(model(case.x))), "the loaded model computes something else"
    copy_seeds(model, loaded)
    for each in (loaded, model):
        fit(each, case, 3)
    assert_same(loaded, model, "after three more steps")


def check_saves_folder(case):
    """`recipes.save` and `recipes.load_model` keep outputs bit for bit and the recipe."""
    model = fitted(case).model
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        recipes.save(model, path)
        loaded = recipes.load_model(path)
    assert loaded.recipe == model.recipe, "the recipe changed"
    assert_same(loaded, model, "loaded")
    assert np.array_equal(numpy_of(loaded(case.x)), numpy_of(model(case.x))), "the loaded model computes something else"


def check_clones(case):
    """`clone_model` makes the same graph, with weights of its own."""
    model = fitted(case).model
    clone = keras.models.clone_model(model)
    assert clone.get_config() == model.get_config()
    clone.set_weights(model.get_weights())
    assert np.array_equal(numpy_of(clone(case.x)), numpy_of(model(case.x))), "the clone computes something else"
    before = values_of(model)
    clone.set_weights([np.zeros_like(w) for w in clone.get_weights()])
    assert all(np.array_equal(before[k], v) for k, v in values_of(model).items()), "the clone shares weights"


def check_head(case):
    """The head can be swapped: the rest keeps its weights, the new head its name, and the old model is left alone."""
    model = fitted(case).model
    before = values_of(model)
    classes = case.classes + 2
    swapped = recipes.replace_head(model, classes, task=model.recipe["arguments"]["task"])
    assert swapped.output_shape == (None, classes) and numpy_of(swapped(case.x)).shape == (len(case.y), classes)
    after = values_of(swapped)
    for path, value in before.items():
        if not re.search("(logits|target)/", path):
            assert np.array_equal(after[path], value), f"{path} changed"
    rebuilt = case.builder(**swapped.recipe["arguments"])
    assert paths_of(rebuilt) == paths_of(swapped) and rebuilt.output_shape == (None, classes), "its recipe is another"
    assert all(np.array_equal(before[k], v) for k, v in values_of(model).items()), "the old model changed"


def check_frozen(case):
    """What is frozen stays bit-equal while the head learns: weights, and statistics of BatchNorm too."""
    model = recipes.freeze(case.build())
    assert {v.path.split("/")[-2] for v in model.trainable_variables} == {"logits"}
    before = values_of(model)
    fit(model, case, 3)
    for path, value in values_of(model).items():
        if "logits/" in path:
            assert not np.array_equal(value, before[path]), f"{path} does not learn"
        else:
            assert np.array_equal(value, before[path]), f"{path} is frozen and changed"


def check_bfloat16(case):
    """Under mixed_bfloat16 weights and logits stay float32, and the first losses are those of float32 within 2 %."""
    with dtype_policy("mixed_bfloat16"):
        keras.utils.set_random_seed(3)
        model = case.build(**case.plain)
    assert model.get_layer("logits").compute_dtype == "float32", "the head computes in the policy's dtype"
    assert model.outputs[0].dtype == "float32" and numpy_of(model(case.x)).dtype == "float32", "outputs are not float32"
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers), "nothing computes in bfloat16"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}, "a weight is not stored as float32"
    steps = min(10, len(_overfitted(case)[1]))
    recorder = _Recorder()
    fit(model, case, steps, [recorder])
    found, expected = np.mean(recorder.losses), np.mean(_overfitted(case)[1][:steps])
    assert abs(found - expected) <= case.bfloat16 * expected, f"the first losses are {found:.4g}, not {expected:.4g}"


def check_gpu(case):
    """Every operation of the training step has a GPU kernel, and XLA takes the step."""
    audit(case.build(), case.x, case.y, run=case.compile)


class _Recorder(keras.callbacks.Callback):
    """Records the loss of each step of one epoch; ends it once the loss is below `stop_below` twice."""

    def __init__(self, stop_below=-1.0):
        super().__init__()
        self.losses, self.stop_below = [], stop_below

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)  # Keras reports the mean of the epoch so far
        self.losses.append(total - sum(self.losses))
        if max(self.losses[-2:]) < self.stop_below and batch > 10:
            self.model.stop_training = True


def _loss(model, case, training):
    outputs = model(case.x, training=training)
    return float(model.loss(keras.ops.convert_to_tensor(case.y), outputs))


OF_FAMILY = [check_signature, check_variants, check_bad_arguments, check_space]
# What the code of every row can break, and what a family shares: its first row stands for all.
OF_ROW = [
    *(check_names, check_recipe, check_outputs, check_start, check_batch, check_learns, check_overfits, check_saves),
    *(check_frozen, check_bfloat16, check_gpu),
]
OF_FIRST_ROW = [
    *(check_inputs, check_dtypes, check_seed, check_outside, check_saves_folder, check_clones, check_head),
]
# What kinds of layers can break: for a row whose layers are another's it is left to `make test-all`.
OF_LAYERS = [check_batch, check_learns, check_overfits, check_saves, check_frozen, check_bfloat16, check_gpu]
# Each compiles a step of its own, or trains for long; beyond a family's first row that is left to `make test-all`, too.
OF_PROGRAM = [check_overfits, check_frozen, check_bfloat16, check_gpu]
# What the backend decides: the rest reads the graph, or was settled on TensorFlow; saving is in tests/test_saving.py.
ON_JAX = [check_learns, check_gpu]
