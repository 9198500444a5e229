"""GPT: a transformer that predicts the next token, from a character model for one evening to GPT-2."""

import keras

from recipes.blocks import transformer_block
from recipes.layers import PositionEmbedding
from recipes.training.language import LanguageModel
from recipes.training.recipe import (
    builder,
    check_choice,
    check_count,
    check_fraction,
    compile_model,
    training_row,
)
from recipes.weights.gpt_names import check_config, load_weights

EPSILON = 1e-5  # of the layer normalisations
GPT2 = {
    "vocabulary_size": 50257,
    "max_length": 1024,
    "dropout": 0.1,
    "use_bias": True,
    "activation": "gelu_tanh",
    "padding_id": None,  # each of its ids is a token
}
# compact: ours, for a few megabytes of characters on a CPU. character: nanoGPT's config/train_shakespeare_char.py,
# https://github.com/karpathy/nanoGPT. The others: Radford et al., 2019, table 2, with the heads and the dropout of
# https://github.com/openai/gpt-2 and transformers' GPT2Config.
VARIANTS = {
    "compact": {
        **{"vocabulary_size": 256, "max_length": 128, "width": 128, "depth": 4, "heads": 4, "dropout": 0.1},
        **{"use_bias": True, "activation": "gelu", "padding_id": 0},
    },
    "character": {
        **{"vocabulary_size": 256, "max_length": 256, "width": 384, "depth": 6, "heads": 6, "dropout": 0.2},
        **{"use_bias": False, "activation": "gelu", "padding_id": 0},
    },
    "gpt2": {"width": 768, "depth": 12, "heads": 12, **GPT2},
    "gpt2-medium": {"width": 1024, "depth": 24, "heads": 16, **GPT2},
    "gpt2-large": {"width": 1280, "depth": 36, "heads": 20, **GPT2},
    "gpt2-xl": {"width": 1600, "depth": 48, "heads": 25, **GPT2},
}
# Warm-up as a share of the run. default: ours, for "compact". character, gpt2, fine_tune: nanoGPT's
# config/train_shakespeare_char.py (5,000 steps of 64 x 256 characters, of about a million), train.py (600,000 steps of
# 480 x 1024 tokens; dropout=0.0 belongs to it) and config/finetune_shakespeare.py (20 steps of 32 x 1024 tokens).
ADAMW = {"weight_decay": 0.1, "momentum": 0.9, "global_clipnorm": 1.0}
TRAINING = {
    "default": {
        **ADAMW,
        **{"learning_rate": 2e-3, "beta_2": 0.99, "batch_size": 64, "epochs": 20},
        **{"schedule": "WarmupCosine", "schedule_arguments": {"warmup": 0.05, "floor": 0.1}},
    },
    "character": {
        **ADAMW,
        **{"learning_rate": 1e-3, "beta_2": 0.99, "batch_size": 64, "epochs": 82},
        **{"schedule": "WarmupCosine", "schedule_arguments": {"warmup": 100 / 5000, "floor": 0.1}},
    },
    "gpt2": {
        **ADAMW,
        **{"learning_rate": 6e-4, "beta_2": 0.95, "batch_size": 480, "epochs": 1},
        **{"schedule": "WarmupCosine", "schedule_arguments": {"warmup": 2000 / 600000, "floor": 0.1}},
    },
    "fine_tune": {
        **ADAMW,
        **{"learning_rate": 3e-5, "beta_2": 0.95, "batch_size": 32, "epochs": 2},
        **{"schedule": None, "schedule_arguments": None},
    },
}


@builder
def gpt(
    *,
    variant="compact",
    vocabulary_size=None,
    max_length=None,
    weights=None,
    width=None,
    depth=None,
    heads=None,
    positions="learned",
    chunk=None,
    dropout=None,
    use_bias=None,
    padding_id="variant",
    training="default",
    learning_rate=None,
    weight_decay=None,
    name="gpt",
):
    """Build a GPT: after every token of a text, what comes next.

    It learns from token ids alone, `recipes.fit(model, ids)`, and `recipes.generate` writes with it. The matrix of the
    tokens' vectors is the head too.

    Args:
        variant: Row of `VARIANTS`: `"compact"`; `"character"`, which wants a GPU or patience; `"gpt2"`, `"gpt2-medium"`,
            `"gpt2-large"` or `"gpt2-xl"`.
        vocabulary_size: Number of token ids, the padding's included; `None` as the variant says, 256 or GPT-2's 50,257.
        max_length: Number of tokens it reads at most; `None` as the variant says.
        weights: Path of a file or folder of transformers' `GPT2LMHeadModel`, or `None` for random weights. Where the file
            knows more positions than `max_length`, the first are taken.
        width: Length of a token's vector; `None` as the variant says.
        depth: Number of blocks; `None` as the variant says.
        heads: Number of heads of the attention, which must divide the width; `None` as the variant says, or with another
            width one for every 64 of it, for `"compact"` 32, if that divides it.
        positions: `"learned"`, or `"rotary"`: queries and keys turn by their place.
        chunk: Tokens whose attention is computed at a time, for long texts: the memory of training grows with
            `max_length * chunk` then, and not with the square of `max_length`; 256 is a fair number. `None` for all at
            once, which is faster.
        dropout: Fraction dropped of the tokens' vectors and of what every branch puts out, in `[0, 1)`; `None` as the
            variant says.
        use_bias: Whether matrices and normalisations have biases; `None` as the variant says.
        padding_id: Token id that fills short texts up on the right, no target; `None` if nothing does; `"variant"` as the
            variant says, 0 or for GPT-2 none.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("gpt")`.
        learning_rate: Peak learning rate of AdamW; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases, norms and positions; `None` as `training` says.
        name: Name of the model.

    Returns:
        Compiled `recipes.LanguageModel`: ids `(batch, length)` of any length up to `max_length` to float32 logits
        `(batch, length, vocabulary_size)` for the token after each.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = gpt(vocabulary_size=50, max_length=32, depth=1)
    >>> tuple(model(np.array([[4, 9, 7]])).shape)
    (1, 3, 50)

    Reference:
        [Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
        section 2.3; rotary positions as [Su et al., 2021](https://arxiv.org/abs/2104.09864), section 3.2.
    """
    check_choice("variant", variant, VARIANTS)
    check_choice("positions", positions, ("learned", "rotary"))
    if weights is not None and positions != "learned":
        raise ValueError(f'positions must be "learned" to load weights of GPT-2. Received: positions={positions!r}')
    row = VARIANTS[variant]
    given = {
        **{"vocabulary_size": vocabulary_size, "max_length": max_length, "width": width, "depth": depth},
        **{"dropout": dropout, "use_bias": use_bias},
    }
    heads = heads or (row["heads"] if width in (None, row["width"]) else usual_heads(width, row))
    row = {**row, **{key: value for key, value in given.items() if value is not None}, "heads": heads}
    padding_id = row["padding_id"] if padding_id == "variant" else padding_id
    settings = training_row(TRAINING, training, learning_rate=learning_rate, weight_decay=weight_decay)
    check_sizes(row, positions, chunk, padding_id)

    width, depth = row["width"], row["depth"]
    ids = keras.Input((None,), dtype="int32", name="ids")
    normal = keras.initializers.RandomNormal(stddev=0.02)
    embedding = keras.layers.ReversibleEmbedding(
        row["vocabulary_size"], width, embeddings_initializer=normal, name="token_embedding"
    )
    x = embedding(ids)  # (batch, length, width)
    if positions == "learned":
        x = PositionEmbedding(length=row["max_length"], name="position_embedding")(x)
    if row["dropout"]:
        x = keras.layers.Dropout(row["dropout"], name="embedding_dropout")(x)
    for i in range(depth):
        x = transformer_block(
            x,
            heads,
            4 * width,
            f"block{i}",
            dropout=row["dropout"],
            epsilon=EPSILON,
            causal=True,  # padding stands on the right, where no token looks: no mask is needed
            rotary=positions == "rotary",
            chunk=chunk,
            activation=row["activation"],
            output_stddev=0.02 / (2 * depth) ** 0.5,
            use_bias=row["use_bias"],
        )
    x = keras.layers.LayerNormalization(epsilon=EPSILON, center=row["use_bias"], name="norm")(x)
    x = keras.layers.Identity(name="features")(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(embedding(x, reverse=True))
    model = LanguageModel(ids, logits, name=name)
    if weights is not None:
        check_config(weights, heads, EPSILON, row["activation"])
        load_weights(model, weights, row["max_length"])
    return compile_model(model, "language_model", padding_id=padding_id, **settings)


def usual_heads(width, row):
    """Return the number of heads as wide as the variant's, or 1 if they do not fill the width."""
    check_count("width", width)
    head_width = row["width"] // row["heads"]
    return width // head_width if width % head_width == 0 else 1


def check_sizes(row, positions, chunk, padding_id):
    """Raise `ValueError` unless the sizes fit each other."""
    for key, least in {"vocabulary_size": 2, "max_length": 1, "width": 1, "depth": 1, "heads": 1}.items():
        check_count(key, row[key], minimum=least)
    if row["width"] % row["heads"]:
        raise ValueError(f"heads must divide the width, {row['width']}. Received: heads={row['heads']}")
    if positions == "rotary" and row["width"] // row["heads"] % 2:
        raise ValueError(
            f'positions="rotary" needs heads of an even width. Received: width={row["width"]}, heads={row["heads"]}'
        )
    if chunk is not None:
        check_count("chunk", chunk)
    check_fraction("dropout", row["dropout"])
    if padding_id is not None:
        check_count("padding_id", padding_id, minimum=0)
        if padding_id >= row["vocabulary_size"]:
            raise ValueError(
                f"padding_id must be an id of the vocabulary, 0..{row['vocabulary_size'] - 1}, or None. "
                f"Received: padding_id={padding_id}"
            )


def gpt_space(hp):
    """Return keyword arguments of `gpt` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Choice("width", [64, 128, 256, 384]),
        "depth": hp.Int("depth", 2, 8),
        "positions": hp.Choice("positions", ["learned", "rotary"]),
        "dropout": hp.Float("dropout", 0.0, 0.3, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 4e-3, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-2, 0.3, sampling="log"),
    }
