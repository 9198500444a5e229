"""Multilayer perceptron for tables: numeric columns, integer categories, or both."""

import keras

from recipes.layers import CategoryEmbedding, Standardize
from recipes.training.recipe import (
    adapt_model,
    builder,
    check_choice,
    check_classes,
    check_count,
    check_fraction,
    compile_model,
    head,
)

VARIANTS = {
    # RealMLP-TD: three layers of 256 units (Holzmüller et al., 2024, https://arxiv.org/abs/2407.04491, table A.1)
    "small": {"hidden": (256, 256, 256)},
    # the larger end of what Gorishniy et al., 2021, https://arxiv.org/abs/2106.11959, search over
    "base": {"hidden": (512, 512, 512, 512)},
}


@builder
def mlp(
    input_shape,
    num_classes,
    *,
    variant="small",
    task="classify",
    categories=(),
    adapt=None,
    hidden=None,
    activation="selu",
    dropout=0.15,
    label_smoothing=0.0,
    learning_rate=1e-3,
    weight_decay=0.02,
    name="mlp",
):
    """Build a multilayer perceptron for a table.

    Numeric columns are standardised inside the model. The statistics come from `adapt`, or from the training data when
    `recipes.fit` trains the model; without either, `fit` raises.

    Args:
        input_shape: `(columns,)`: the number of numeric columns, 0 if there are only categories.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"small"` or `"base"`.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        categories: Number of categories of each categorical column. With it the inputs are the dict
            `{"numeric": (batch, columns), "categories": (batch, len(categories)) of integers}`.
        adapt: Training data `x` or `(x, y)` to take the statistics from; `"regress"` needs `y` too.
        hidden: Units of each hidden layer; `None` as the variant says.
        activation: Activation of the hidden layers.
        dropout: Fraction of units dropped after each hidden layer, in `[0, 1)`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: `(batch, columns)` to logits `(batch, num_classes)`, or to targets in their own units.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = mlp((4,), 3)
    >>> model.output_shape
    (None, 3)

    Reference:
        [Holzmüller et al., 2024](https://arxiv.org/abs/2407.04491), table A.1 (width, depth, activation, dropout,
        decay).
    """
    if len(input_shape) != 1 or not isinstance(input_shape[0], int) or input_shape[0] + len(categories) < 1:
        raise ValueError(f"input_shape must be (columns,), one integer. Received: input_shape={input_shape}")
    check_choice("variant", variant, VARIANTS)
    check_classes(num_classes, task)
    check_fraction("dropout", dropout)
    hidden = VARIANTS[variant]["hidden"] if hidden is None else hidden
    for i, units in enumerate(hidden):
        check_count(f"hidden[{i}]", units)
    for i, size in enumerate(categories):
        check_count(f"categories[{i}]", size)

    inputs, parts = {}, []
    if input_shape[0]:
        inputs["numeric"] = keras.Input(input_shape, name="numeric")
        parts.append(Standardize(dtype="float32", name="standardize")(inputs["numeric"]))
    if categories:
        inputs["categories"] = keras.Input((len(categories),), dtype="int32", name="categories")
        parts.append(CategoryEmbedding(categories, name="embedding")(inputs["categories"]))
    x = parts[0] if len(parts) == 1 else keras.layers.Concatenate(name="columns")(parts)  # (batch, columns + 8 * categories)
    for i, units in enumerate(hidden, start=1):
        x = keras.layers.Dense(units, kernel_initializer="lecun_normal", name=f"block{i}_dense")(x)
        x = keras.layers.Activation(activation, name=f"block{i}_activation")(x)
        x = keras.layers.Dropout(dropout, name=f"block{i}_dropout")(x)
    x = keras.layers.Identity(name="features")(x)
    outputs = head(x, num_classes, task)
    model = keras.Model(inputs if categories else inputs["numeric"], outputs, name=name)
    if adapt is not None:
        adapt_model(model, *(adapt if isinstance(adapt, tuple) else (adapt,)))
    return compile_model(
        model,
        task,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        beta_2=0.95,
        schedule="WarmupCosine",
        epochs=100,
        batch_size=256,
    )


def mlp_space(hp):
    """Return keyword arguments of `mlp` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    width, depth = hp.Int("width", 64, 512, step=2, sampling="log"), hp.Int("depth", 1, 4)
    return {
        "hidden": (width,) * depth,
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.05),
        "learning_rate": hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-4, 1e-1, sampling="log"),
    }
