"""`recipes.doctor`: a minute of checks that name what is wrong with a training set-up before days are spent on it."""

import dataclasses
import random
import warnings

import keras
import numpy as np

from recipes.training import examination
from recipes.training.check_setup import check_setup
from recipes.training.check_streams import stream_errors
from recipes.training.fit import training_settings
from recipes.training.prepare import prepare
from recipes.training.recipe import check_count, get_recipe, set_recipe

# What the checks of `recipes.fit` say, by words of the message: the finding's name, and why it matters.
COMPLAINTS = (
    ("look scaled", "input_range", "Scaled twice, all images look black to the network."),
    ("training data: it cannot", "leakage", "Validation then measures memory, and early stopping never stops."),
    ("one class alone", "labels", "Whatever the network says, it is right."),
    ("learning_rate is 0", "learning_rate", "No weight moves."),
    ("learning_rate must", "learning_rate", "The first step would spoil the weights."),
    ("frozen", "nothing_to_train", "No weight would change."),
    ("no activation", "head_and_loss", "The loss reads the outputs as something they are not."),
    ("squashed twice", "head_and_loss", "The loss reads the outputs as something they are not."),
    ("validation", "validation", "What it measures would not be what the model is for."),
    (" y", "labels", "The targets are not what the outputs and the loss mean."),
    (" x", "inputs", "The model cannot read them, or reads nonsense."),
)
ADVICE = "The message says what to do; recipes.fit says the same."


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something wrong with a training set-up.

    Attributes:
        name: What kind of fault, such as `"leakage"`.
        severity: `"error"` if training cannot be right, `"warning"` if it may be.
        what: What was found.
        why: What it does to the training.
        fix: What to do.
    """

    name: str
    severity: str
    what: str
    why: str
    fix: str

    def __str__(self):
        return f"{self.severity}: {self.name}: {self.what}\n  Why: {self.why}\n  Fix: {self.fix}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What `recipes.doctor` found; `print` it.

    Attributes:
        findings: List of `Finding`, errors first; empty if all is well.
        measures: Dict of what was measured: `"loss"` and `"guessing"`, the loss at the start and that of guessing;
            `"gradients"` and `"updates"`, from matrix to the root mean square of its gradient and to that of its first
            updates in parts of its own; `"dead"`, from layer to its share of dead units; `"learning_rate"`, the rate where
            the loss falls fastest; each only where it could be measured.
    """

    findings: list
    measures: dict

    def __str__(self):
        found = [str(finding) for finding in self.findings] or ["Nothing found."]
        numbers = [f"{name} {value:.3g}" for name, value in self.measures.items() if isinstance(value, float)]
        return "\n".join([*found, *([f"Measured: {', '.join(numbers)}."] if numbers else [])])


def doctor(model, data, *, validation=None, batch_size=None, learning_rates=True, seed=0):
    """Name what is wrong with a training set-up, in less than a minute for networks of a usual size.

    A copy of the model is examined, so that nothing of `model` changes: not a weight, not the optimizer, not the rate. It
    looks at the data, the loss at the start against that of guessing, dead units, the gradient of each layer, the first
    updates against the weights, rows that stand in the training data and in the validation data, and the learning rate.

    Args:
        model: Compiled model of a builder, or any functional or Sequential one, as it would be passed to `recipes.fit`.
        data, validation: As `recipes.fit` takes them; of a stream the first batches are looked at.
        batch_size: Examples a step; `None` as the recipe says, but at most 64.
        learning_rates: Whether to try rising learning rates, which takes the longest.
        seed: Integer that decides which examples are looked at.

    Returns:
        `Report`.

    Raises:
        ValueError: If an argument is out of its range. What is wrong with model or data is found, not raised.

    Example:

    >>> x, y = recipes.data.load("wine").train
    >>> report = doctor(recipes.mlp((13,), 3), (x, y + 1), validation=0.2)
    >>> print(report)
    error: labels: data y labels span 1..3, but the model has 3 classes, 0..2. Subtract 1 from y.
      Why: The targets are not what the outputs and the loss mean.
      Fix: The message says what to do; recipes.fit says the same.
    """
    if batch_size is not None:
        check_count("batch_size", batch_size)
    state = random.getstate(), np.random.get_state()  # a copy's initial weights are drawn from them
    try:
        return _examine(model, data, validation, batch_size, learning_rates, seed)
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])


def _examine(model, data, validation, batch_size, learning_rates, seed):
    findings, measures = [], {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            patient = copy_of(model)
            training = training_settings(patient)
            size = batch_size or min(64, training["batch_size"])
            check_setup(patient, (), validation is not None)
            train, held = prepare(patient, data, validation, batch_size=size, seed=seed)
            with stream_errors(patient):
                batches = examination.first_batches(train, 8)
        except ValueError as error:
            findings.append(_complaint(str(error), "error"))
    for warning in caught:
        if issubclass(warning.category, UserWarning) and any(words in str(warning.message) for words, *_ in COMPLAINTS[:4]):
            findings.append(_complaint(str(warning.message), "warning"))
    if any(finding.severity == "error" for finding in findings):
        return Report(findings, measures)
    tests = [
        lambda: examination.duplicates(train, held),
        lambda: examination.input_range(patient, batches),
        lambda: examination.loss_at_start(patient, batches),
        lambda: examination.dead_units(patient, batches),
        lambda: examination.gradients(patient, batches),
        lambda: examination.updates(patient, batches),
        *([lambda: examination.rates(patient, batches)] if learning_rates else []),
    ]
    for test in tests:
        found, measured = test()
        findings += [Finding(*words) for words in found]
        measures |= measured
    return Report(sorted(findings, key=lambda finding: finding.severity != "error"), measures)


def _complaint(message, severity):
    for words, name, why in COMPLAINTS:
        if words in message:
            return Finding(name, severity, message, why, ADVICE)
    return Finding("setup", severity, message, "The training could not start.", ADVICE)


def copy_of(model):
    """Return a compiled model equal to `model`, recipe and optimizer settings included, that shares nothing with it."""
    if get_recipe(model).get("training", {}).get("task") == "generate":
        copy = type(model).from_config(model.get_config())
    else:
        copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    pairs = zip(model._flatten_layers(include_self=False), copy._flatten_layers(include_self=False), strict=True)
    for layer, other in pairs:  # those outside before those within
        other.trainable = layer.trainable
    if "recipe" in vars(model):
        set_recipe(copy, dict(model.recipe))
    if model.compiled:
        optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(model.optimizer))
        copy.compile(optimizer=optimizer, loss=getattr(model, "loss", None))
    return copy
