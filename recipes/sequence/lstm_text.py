"""LSTM for texts: token ids to a class."""

import keras

from recipes.layers import LengthMask
from recipes.sequence.lstm import POOLS, pooled
from recipes.sequence.recurrent import CELLS, recurrent_stack
from recipes.training.recipe import builder, check_choice, check_classes, check_count, check_fraction, compile_model, head
from recipes.weights.lstm_names import load_weights

VARIANTS = {
    # for a few thousand texts on a CPU; ours
    "small": {"width": 128, "units": 64, "depth": 1},
    # the bidirectional LSTM with max pooling of Conneau et al., 2017, https://arxiv.org/abs/1705.02364, section 3.2, with a
    # quarter of its units
    "base": {"width": 300, "units": 512, "depth": 1},
}


@builder
def lstm_text(
    num_classes=None,
    *,
    variant="small",
    vocabulary_size=10_000,
    weights=None,
    task="classify",
    cell="lstm",
    width=None,
    units=None,
    depth=None,
    bidirectional=True,
    pool="max",
    padding_id=0,
    dropout=0.5,
    label_smoothing=0.0,
    learning_rate=2e-3,
    weight_decay=0.05,
    name="lstm_text",
):
    """Build a recurrent network that tells the class of a text from its token ids.

    Texts of different length are filled up on the right: what follows the last id that is not `padding_id` does not exist
    for the network. A text of padding alone counts as one token. On a GPU cuDNN runs the layers; with JAX it does where
    `padding_id` is `None`.

    Args:
        num_classes: Number of classes, of labels, or of targets, as `task` says.
        variant: Row of `VARIANTS`: `"small"` or `"base"`.
        vocabulary_size: Number of token ids, the padding's included.
        weights: Path of a file of a torch module that has an `nn.Embedding`, an `nn.LSTM` or `nn.GRU` of this size, and
            perhaps a linear head. `None` for random weights.
        task: `"classify"`, `"multilabel"` or `"regress"`.
        cell: `"lstm"` or `"gru"`.
        width: Length of a token's vector; `None` as the variant says.
        units: Number of units of a layer, in each direction; `None` as the variant says.
        depth: Number of layers; `None` as the variant says.
        bidirectional: Whether each layer reads the text from both ends.
        pool: How tokens become one vector: `"mean"` or `"max"` over the real ones, or `"last"`, what the last layer ends
            with in each direction.
        padding_id: Token id that fills short texts up; `None` if nothing does.
        dropout: Fraction dropped of the tokens' vectors, between the layers and before the head, in `[0, 1)`.
        label_smoothing: Share of the target spread over all classes, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: ids `(batch, length)` of any length to logits `(batch, num_classes)`, or to targets in
        their own units.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = lstm_text(2, vocabulary_size=50, width=8, units=8)
    >>> tuple(model(np.array([[4, 9, 7, 0, 0], [1, 2, 3, 4, 5]])).shape)
    (2, 2)

    Reference:
        [Conneau et al., 2017](https://arxiv.org/abs/1705.02364), sections 3.2.1 and 3.2.2.
    """
    check_choice("variant", variant, VARIANTS)
    check_classes(num_classes, task)
    check_count("vocabulary_size", vocabulary_size, minimum=2)
    check_choice("cell", cell, CELLS)
    check_choice("pool", pool, POOLS)
    check_padding_id(padding_id, vocabulary_size)
    check_fraction("dropout", dropout)
    given = {"width": width, "units": units, "depth": depth}
    width, units, depth = (VARIANTS[variant][key] if value is None else value for key, value in given.items())
    for key, value in (("width", width), ("units", units), ("depth", depth)):
        check_count(key, value)

    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = None if padding_id is None else LengthMask(padding_id, name="mask")(ids)
    normal = keras.initializers.RandomNormal(stddev=1.0)  # as torch's, which LSTMs of random words learn from at once
    x = keras.layers.Embedding(vocabulary_size, width, embeddings_initializer=normal, name="embedding")(ids)
    x = keras.layers.Dropout(dropout, name="embedding_dropout")(x)  # (batch, length, width)
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
    x = pooled(x, mask, pool)
    x = keras.layers.Dropout(dropout, name="features_dropout")(x)
    x = keras.layers.Identity(name="features")(x)
    model = keras.Model(ids, head(x, num_classes, task), name=name)
    if weights is not None:
        load_weights(model, weights)
    return compile_model(
        model,
        task,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        global_clipnorm=1.0,
        schedule="WarmupCosine",
        epochs=8,
        batch_size=64,
    )


def check_padding_id(padding_id, vocabulary_size):
    """Raise `ValueError` unless `padding_id` is `None` or a token id."""
    whole = isinstance(padding_id, int) and not isinstance(padding_id, bool)
    if padding_id is not None and not (whole and 0 <= padding_id < vocabulary_size):
        raise ValueError(
            f"padding_id must be a token id below vocabulary_size={vocabulary_size}, or None. "
            f"Received: padding_id={padding_id!r}"
        )


def lstm_text_space(hp):
    """Return keyword arguments of `lstm_text` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Int("width", 32, 256, step=2, sampling="log"),
        "units": hp.Int("units", 32, 256, step=2, sampling="log"),
        "depth": hp.Int("depth", 1, 2),
        "pool": hp.Choice("pool", list(POOLS)),
        "dropout": hp.Float("dropout", 0.0, 0.6, step=0.1),
        "learning_rate": hp.Float("learning_rate", 5e-4, 1e-2, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-4, 1e-1, sampling="log"),
    }
