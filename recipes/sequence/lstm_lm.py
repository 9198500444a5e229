"""LSTM language model with the regularisation of AWD-LSTM."""

import keras

from recipes.layers import WeightDropLSTM, WordDropout
from recipes.sequence.lstm_text import check_padding_id
from recipes.training.language import LanguageModel
from recipes.training.recipe import builder, check_choice, check_count, check_fraction, compile_model
from recipes.weights.lstm_names import load_weights

# "awd": Merity et al., 2018, https://arxiv.org/abs/1708.02182, section 5, words of the Penn Treebank; "awd_characters":
# https://arxiv.org/abs/1803.08240, its characters; both as https://github.com/salesforce/awd-lstm-lm trains them
VARIANTS = {
    # ours, for a few megabytes of characters on a CPU
    "small": {
        **{"width": 128, "units": 256, "depth": 2, "learning_rate": 1e-2},
        **{"input_dropout": 0.0, "hidden_dropout": 0.1, "output_dropout": 0.1, "word_dropout": 0.0, "weight_drop": 0.0},
    },
    "awd": {
        **{"width": 400, "units": 1150, "depth": 3, "learning_rate": 2e-3},
        **{"input_dropout": 0.4, "hidden_dropout": 0.25, "output_dropout": 0.4, "word_dropout": 0.1, "weight_drop": 0.5},
    },
    "awd_characters": {
        **{"width": 200, "units": 1000, "depth": 3, "learning_rate": 2e-3},
        **{"input_dropout": 0.1, "hidden_dropout": 0.25, "output_dropout": 0.1, "word_dropout": 0.0, "weight_drop": 0.5},
    },
}
DROPOUTS = ("input_dropout", "hidden_dropout", "output_dropout", "word_dropout", "weight_drop")


@builder
def lstm_lm(
    *,
    variant="small",
    vocabulary_size=256,
    weights=None,
    width=None,
    units=None,
    depth=None,
    input_dropout=None,
    hidden_dropout=None,
    output_dropout=None,
    word_dropout=None,
    weight_drop=None,
    padding_id=0,
    learning_rate=None,
    weight_decay=1.2e-6,
    name="lstm_lm",
):
    """Build a recurrent language model: after every token of a text, what comes next.

    It learns from token ids alone, `fit(ids)`, and `recipes.generate` writes with it. The last layer is as wide as a
    token's vector, and the matrix of these vectors is the head too. Dropout is locked: the same units of a text are dropped
    at all of its tokens. All of it is done before a layer runs, so that cuDNN runs the layers on a GPU.

    AWD-LSTM was trained with plain SGD at a rate of 30 and averaged weights, texts following each other from batch to
    batch. Here a text begins from nothing and Adam trains, as its authors had it for characters.

    Args:
        variant: Row of `VARIANTS`: `"small"`, `"awd"` or `"awd_characters"`.
        vocabulary_size: Number of token ids, the padding's included.
        weights: Path of a file of a torch module with an `nn.Embedding` and one `nn.LSTM` a layer, or one of all layers
            where `units` is `width`. `None` for random weights.
        width: Length of a token's vector; `None` as the variant says.
        units: Number of units of every layer but the last, which has `width`; `None` as the variant says.
        depth: Number of layers; `None` as the variant says.
        input_dropout: Fraction dropped of the tokens' vectors, in `[0, 1)`; as all of these, `None` as the variant says.
        hidden_dropout: Fraction dropped between the layers.
        output_dropout: Fraction dropped before the head.
        word_dropout: Share of the words of the vocabulary dropped for a training step.
        weight_drop: Share of the recurrent matrices dropped for a training step.
        padding_id: Token id that fills short texts up on the right, no target; `None` if nothing does.
        learning_rate: Peak learning rate of AdamW; `None` as the variant says.
        weight_decay: Decoupled weight decay; spares biases.
        name: Name of the model.

    Returns:
        Compiled `recipes.LanguageModel`: ids `(batch, length)` of any length to logits `(batch, length, vocabulary_size)`
        for the token after each.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = lstm_lm(vocabulary_size=50, width=8, units=16)
    >>> tuple(model(np.array([[4, 9, 7]])).shape)
    (1, 3, 50)

    Reference:
        [Merity et al., 2018](https://arxiv.org/abs/1708.02182), sections 2 and 4.
    """
    check_choice("variant", variant, VARIANTS)
    check_count("vocabulary_size", vocabulary_size, minimum=2)
    check_padding_id(padding_id, vocabulary_size)
    given = {"width": width, "units": units, "depth": depth, "learning_rate": learning_rate}
    given |= dict(zip(DROPOUTS, (input_dropout, hidden_dropout, output_dropout, word_dropout, weight_drop), strict=True))
    row = {**VARIANTS[variant], **{key: value for key, value in given.items() if value is not None}}
    for key in ("width", "units", "depth"):
        check_count(key, row[key])
    for key in DROPOUTS:
        check_fraction(key, row[key])

    ids = keras.Input((None,), dtype="int32", name="ids")
    # With the 0.1 of AWD-LSTM, whose SGD takes steps of 30, Adam needs hundreds of steps to see more than how often each
    # character comes: after 160 steps 4.6 bits, and 2.7 with this (60 kB of Python's manual).
    uniform = keras.initializers.RandomUniform(-0.5, 0.5)
    embedding = keras.layers.ReversibleEmbedding(
        vocabulary_size, row["width"], embeddings_initializer=uniform, name="embedding"
    )
    x = embedding(ids)  # (batch, length, width)
    if row["word_dropout"]:
        factors = WordDropout(row["word_dropout"], vocabulary_size, name="word_dropout")(ids)
        x = keras.layers.Multiply(name="kept_words")([x, factors])
    x = locked_dropout(x, row["input_dropout"], "input_dropout")
    for i in range(row["depth"]):
        last = i == row["depth"] - 1
        x = WeightDropLSTM(
            row["width"] if last else row["units"], row["weight_drop"], return_sequences=True, name=f"block{i}_lstm"
        )(x)
        x = locked_dropout(x, row["output_dropout" if last else "hidden_dropout"], f"block{i}_dropout")
    x = keras.layers.Identity(name="features")(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(embedding(x, reverse=True))
    model = LanguageModel(ids, logits, name=name)
    if weights is not None:
        load_weights(model, weights)
    return compile_model(
        model,
        "language_model",
        learning_rate=row["learning_rate"],
        weight_decay=weight_decay,
        global_clipnorm=0.25,
        schedule="WarmupCosine",
        epochs=20,
        batch_size=64,
        padding_id=padding_id,
    )


def locked_dropout(x, rate, name):
    """Drop the same units of `(batch, length, width)` at all places of a text; no layer without a rate."""
    return keras.layers.Dropout(rate, noise_shape=(None, 1, x.shape[-1]), name=name)(x) if rate else x


def lstm_lm_space(hp):
    """Return keyword arguments of `lstm_lm` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Int("width", 64, 512, step=2, sampling="log"),
        "units": hp.Int("units", 128, 1024, step=2, sampling="log"),
        "depth": hp.Int("depth", 1, 3),
        "hidden_dropout": hp.Float("hidden_dropout", 0.0, 0.5, step=0.1),
        "output_dropout": hp.Float("output_dropout", 0.0, 0.5, step=0.1),
        "weight_drop": hp.Float("weight_drop", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 5e-4, 1e-2, sampling="log"),
    }
