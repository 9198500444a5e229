"""LSTM for series of numbers: several channels in time to a class."""

import keras

from recipes.layers import LengthMask, MaskedPool, Standardize
from recipes.sequence.recurrent import CELLS, recurrent_stack
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
from recipes.weights.lstm_names import load_weights

VARIANTS = {
    # about the size of the bidirectional network of Graves & Schmidhuber, 2005, section 4
    # (https://doi.org/10.1016/j.neunet.2005.06.042): 93 units in each direction
    "small": {"units": 96, "depth": 1},
    # the deep ones of Graves et al., 2013, https://arxiv.org/abs/1303.5778, table 1
    "deep": {"units": 250, "depth": 3},
}
POOLS = ("mean", "max", "last")


@builder
def lstm(
    input_shape,
    num_classes,
    *,
    variant="small",
    weights=None,
    task="classify",
    cell="lstm",
    units=None,
    depth=None,
    bidirectional=True,
    pool="mean",
    padding_value=0.0,
    standardize=True,
    adapt=None,
    noise=0.0,
    dropout=0.3,
    label_smoothing=0.0,
    learning_rate=1e-2,
    weight_decay=0.01,
    name="lstm",
):
    """Build a recurrent network that tells the class of a series, such as the speaker of a sound.

    Series of different length are filled up on the right, with steps that have `padding_value` in every channel: what
    follows the last other step does not exist for the network. A series of padding alone counts as one step. The channels
    are standardised inside the model. The statistics, which leave padding out, come from `adapt`, or from the training data
    when `recipes.fit` trains the model; without either, `fit` raises. On a GPU cuDNN runs the layers; with JAX it does where
    `padding_value` is `None`.

    Args:
        input_shape: `(length, channels)`; `(None, channels)` for any length.
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"small"` or `"deep"`.
        weights: Path of a file with a torch `nn.LSTM` or `nn.GRU` of this size, alone or within a module, whose linear
            layer becomes the head if it fits. Build with `standardize=False` if its inputs were not standardised by us.
            `None` for random weights.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        cell: `"lstm"` or `"gru"`.
        units: Number of units of a layer, in each direction; `None` as the variant says.
        depth: Number of layers; `None` as the variant says.
        bidirectional: Whether each layer reads the series from both ends.
        pool: How steps become one vector: `"mean"` or `"max"` over the real ones, or `"last"`, what the last layer ends with
            in each direction.
        padding_value: Number that fills short series up; `None` if nothing does.
        standardize: Whether channels get mean 0 and standard deviation 1 inside the model.
        adapt: Training data `x` or `(x, y)` to take the statistics from; `"regress"` needs `y` too.
        noise: Standard deviation of the noise added to the channels in training, which are standardised then: 0.6 in
            Graves & Schmidhuber, 2005.
        dropout: Fraction dropped between the layers and before the head, in `[0, 1)`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: `(batch, length, channels)` to logits `(batch, num_classes)`, or to targets in their own
        units.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = lstm((50, 3), 4, units=16)
    >>> model.output_shape
    (None, 4)

    Reference:
        [Hochreiter & Schmidhuber, 1997](https://doi.org/10.1162/neco.1997.9.8.1735);
        [Graves et al., 2013](https://arxiv.org/abs/1303.5778), sections 2 and 3.
    """
    check_series(input_shape)
    check_choice("variant", variant, VARIANTS)
    check_classes(num_classes, task)
    check_choice("cell", cell, CELLS)
    check_choice("pool", pool, POOLS)
    check_fraction("noise", noise)
    check_fraction("dropout", dropout)
    units, depth = (
        VARIANTS[variant][key] if value is None else value for key, value in (("units", units), ("depth", depth))
    )
    check_count("units", units)
    check_count("depth", depth)

    inputs = keras.Input(input_shape, name="series")
    mask = None if padding_value is None else LengthMask(padding_value, dtype="float32", name="mask")(inputs)
    x = inputs
    if standardize:
        x = Standardize(padding_value=padding_value, dtype="float32", name="standardize")(x)
    if noise:
        x = keras.layers.GaussianNoise(noise, name="noise")(x)
    x = recurrent_stack(
        x,
        mask,
        units=units,
        depth=depth,
        cell=cell,
        bidirectional=bidirectional,
        dropout=dropout,
        sequences=pool != "last",
    )
    x = pooled(x, mask, pool)  # (batch, width)
    x = keras.layers.Dropout(dropout, name="features_dropout")(x)
    x = keras.layers.Identity(name="features")(x)
    model = keras.Model(inputs, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights)
    if adapt is not None:
        adapt_model(model, *(adapt if isinstance(adapt, tuple) else (adapt,)))
    return compile_model(
        model,
        task,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        global_clipnorm=1.0,
        schedule="WarmupCosine",
        epochs=60,
        batch_size=64,
    )


def check_series(input_shape):
    """Raise `ValueError` unless `input_shape` is `(length, channels)`."""
    known = len(input_shape) == 2 and all(isinstance(n, int) and n > 0 for n in (input_shape[0] or 1, input_shape[1]))
    if not known or input_shape[0] == 0:
        raise ValueError(
            "input_shape must be (length, channels), positive integers, or (None, channels) for any length. "
            f"Received: input_shape={input_shape}"
        )


def pooled(x, mask, pool):
    """Make one vector `(batch, width)` of what a recurrent stack puts out."""
    if pool == "last":
        return x  # already one
    layer = MaskedPool(pool, name="pool")
    return layer(x) if mask is None else layer(x, mask=mask)


def lstm_space(hp):
    """Return keyword arguments of `lstm` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "units": hp.Int("units", 32, 256, step=2, sampling="log"),
        "depth": hp.Int("depth", 1, 3),
        "pool": hp.Choice("pool", list(POOLS)),
        "noise": hp.Float("noise", 0.0, 0.6, step=0.2),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 5e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-4, 1e-1, sampling="log"),
    }
