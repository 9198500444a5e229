"""What every generative model must do, besides what `tests/harness/recipes.py` asks of every model.

The checks take a `GenerativeCase`, those of builders a `FamilyCase`; all raise `AssertionError`. On TensorFlow the steps
run eagerly: tracing takes longer than a step of a tiny model. That a step can be traced and compiled is what `check_gpu`
sees, and that `fit` does so the examples of the builders.
"""

import os
import tempfile

import keras
import numpy as np

import recipes
from tests.gpu_audit import audit
from tests.harness import recipes as shared
from tests.harness.recipes import fit, fitted
from tests.harness.state import assert_close, assert_same, copy_seeds, dtype_policy, numpy_of, seeds_of, values_of

# ------------------------------------------------------------------------------------------------------ the builder


def check_space(family):
    """What the search space chooses are arguments of the builder, and models of random choices have a finite loss."""
    for model, chosen in shared.chosen_models(family):
        found = loss(model, family.zeros(family.small_shape))
        assert np.isfinite(found), f"the loss is {found}: {chosen}"


# ------------------------------------------------------------------------------------------------------ the training


def check_learns(case):
    """One `fit` with finite losses, in which every trainable weight learns, and of the others only what should moves."""
    assert np.isfinite(fitted(case).losses).all(), f"the losses are {fitted(case).losses}"
    shared.check_learns(case)


def check_recipes_fit(case):
    """`recipes.fit` takes the data of `fit`, with labels as `(x, labels)`, and reports the rate if there is a schedule."""
    model = case.build()
    history = recipes.fit(eager(model), case.x if case.y is None else (case.x, case.y), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all(), f"the losses are {history['loss']}"
    scheduled = model.recipe["training"]["schedule"] is not None
    assert ("learning_rate" in history) == scheduled, f"the history is of {sorted(history)}"


def check_seed(case):
    """The same seed gives the same weights before and after training, bit for bit; another seed gives others."""
    shared.check_seed(case)
    first, again = (values_of(_trained(case, 1)) for _ in range(2))
    for path, value in first.items():
        assert np.array_equal(value, again[path]), f"{path}: after training the same seed gives another weight"


def check_inputs(case):
    """Raw integers and the same numbers as floats give the same loss."""
    model = fitted(case).model
    floats = keras.tree.map_structure(lambda a: a.astype("float32") if a.dtype == "uint8" else a, case.x)
    states = [numpy_of(seed) for seed in seeds_of(model)]
    losses = []
    for x in (case.x, floats):
        for seed, state in zip(seeds_of(model), states, strict=True):
            seed.assign(state)
        losses.append(loss(model, x, case.y))
    assert losses[0] == losses[1], f"the loss is {losses[0]}, of the same numbers as floats {losses[1]}"


def check_bfloat16(case):
    """Under mixed_bfloat16 weights are stored as float32, samples are float32, and the loss is that of float32, nearly."""
    models = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(3)
        with dtype_policy(policy):
            models.append(case.build())
    plain, mixed = models
    assert any(layer.compute_dtype == "bfloat16" for layer in mixed._flatten_layers()), "nothing computes in bfloat16"
    assert {v.dtype for v in mixed.trainable_variables} == {"float32"}, "a weight is not stored as float32"
    expected, found = loss(plain, case.x, case.y), loss(mixed, case.x, case.y)
    assert abs(found - expected) <= case.bfloat16 * max(1e-3, abs(expected)), f"the loss is {found:.4g}, not {expected:.4g}"
    losses = fit(eager(mixed), case, 1).history["loss"]
    assert np.isfinite(losses).all(), f"the losses are {losses}"
    if case.samples:
        check_sample(case, sample(case, mixed, 1, 1))


def check_gpu(case):
    """Every operation of the training step has a GPU kernel, and XLA takes the step."""
    audit(case.build(), case.x, case.y, run=case.compile)


# ------------------------------------------------------------------------------------------------------- the samples


def check_samples(case):
    """Finite float32 of the declared shape and range, the same for the same seed, whatever the batch; nothing changes."""
    model = fitted(case).model
    before, state = values_of(model), np.random.get_state()[1].copy()
    samples = sample(case, model, 5, 1)
    check_sample(case, samples)
    assert len(samples) == 5, f"5 samples are {len(samples)}"
    assert np.array_equal(samples, sample(case, model, 5, 1)), "the same seed gives other samples"
    assert not np.array_equal(samples, sample(case, model, 5, 2)), "another seed gives the same samples"
    assert np.array_equal(state, np.random.get_state()[1]), "sampling moves numpy's random state"
    assert all(np.array_equal(before[k], v) for k, v in values_of(model).items()), "sampling changes weights"


def check_labels(case):
    """Labels decide what is drawn, each its own sample, and are checked."""
    model = fitted(case).model
    zeros, ones = np.zeros(3, "int32"), np.ones(3, "int32")
    drawn = [model.sample(3, labels=labels, seed=1, **case.sample) for labels in (zeros, ones, zeros + [0, 0, 1])]
    for index, which in enumerate((0, 0, 1)):
        assert_close(drawn[2][index], drawn[which][index], 1e-4, "a sample depends on the labels of its neighbours")
        assert not np.array_equal(drawn[0][index], drawn[1][index]), "the labels make no difference"
    for labels in (zeros[:2], zeros + case.classes, zeros - 1):
        try:
            model.sample(3, labels=labels, seed=1, **case.sample)
        except ValueError as error:
            assert "labels" in str(error), f"the error does not name labels: {error}"
        else:
            raise AssertionError(f"the labels {labels} of {case.classes} classes are accepted")


def check_sample(case, samples):
    """What is drawn is finite float32 of the declared shape; images are in 0..255."""
    assert isinstance(samples, np.ndarray) and samples.dtype == "float32", "samples are no float32 arrays"
    assert samples.shape[1:] == tuple(case.shape), f"samples have the shape {samples.shape[1:]}"
    assert np.isfinite(samples).all(), "a sample is not finite"
    if len(case.shape) == 3:
        assert samples.min() >= 0 and samples.max() <= 255, f"samples are in {samples.min()}..{samples.max()}"


def sample(case, model, n, seed):
    """Draw `n` samples, of all classes in turn, or of the labels of the case."""
    labels = case.labels if case.y is None else np.arange(5) % case.classes
    labels = {} if labels is None else {"labels": labels[:n]}
    return model.sample(n, seed=seed, **labels, **case.sample)


# -------------------------------------------------------------------------------------------------------- the saving


def check_saves(case):
    """A `.keras` file keeps samples bit for bit and what more steps need, the state of all optimizers included."""
    model = fitted(case).model
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        try:
            loaded = keras.saving.load_model(path)
        except Exception as error:
            raise AssertionError(f"the saved model does not load: {error}") from error
    assert type(loaded) is type(model) and loaded.name == model.name
    assert loaded.optimizer.get_config() == model.optimizer.get_config(), "the optimizer has another configuration"
    _assert_equal_models(case, loaded, model, "loaded")
    copy_seeds(model, loaded)
    for each in (loaded, model):
        fit(eager(each), case, 2)
    _assert_equal_models(case, loaded, model, "after two more steps", samples=False)


def check_saves_folder(case):
    """`recipes.save` and `recipes.load_model` keep the recipe, weights, and the state of all optimizers."""
    model = fitted(case).model
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        recipes.save(model, path)
        loaded = recipes.load_model(path)
    assert loaded.recipe == model.recipe, "the recipe changed"
    _assert_equal_models(case, loaded, model, "loaded", samples=False)  # which follow from the recipe and the weights


def _assert_equal_models(case, found, expected, when, samples=True):
    assert_same(found, expected, when)
    variables = [model.optimizer.variables for model in (expected, found)]
    assert len(variables[0]) == len(variables[1]), f"{when}: the optimizer has {len(variables[1])} variables"
    for value, other in zip(*variables, strict=True):
        assert np.array_equal(numpy_of(value), numpy_of(other)), f"{when}: the optimizer's {value.path} differs"
    if samples and case.samples:
        drawn = [sample(case, model, 5, 1) for model in (expected, found)]  # compiled for as many already
        assert np.array_equal(*drawn), f"{when}: other samples"


def _trained(case, seed):
    keras.utils.set_random_seed(seed)
    model = case.build()
    fit(eager(model), case, 2)
    return model


def eager(model):
    """Return `model`, whose steps are not compiled from now on."""
    model.run_eagerly = True
    model.train_function = model.test_function = None
    return model


def loss(model, x, y=None):
    """Return the loss of one batch, without training."""
    batch = len(keras.tree.flatten(x)[0])
    return eager(model).evaluate(x, y, batch_size=batch, verbose=0, return_dict=True)["loss"]


OF_FAMILY = [shared.check_signature, shared.check_variants, shared.check_bad_arguments, check_space]
# What kinds of layers and the class of the model can break: for a row whose layers are another's it is left to
# `make test-all`.
OF_LAYERS = [check_saves, check_bfloat16, check_gpu]
OF_ROW = [shared.check_own_names, shared.check_recipe, check_learns, check_samples, check_labels, *OF_LAYERS]
OF_FIRST_ROW = [check_inputs, check_seed, check_recipes_fit, shared.check_outside, check_saves_folder]
OF_SAMPLES = [check_samples, check_labels]
ON_JAX = [check_learns, check_samples]
