"""The transformer: the encoder-decoder of "Attention Is All You Need"."""

import keras

from recipes.blocks import add_branch
from recipes.layers import CrossAttention, LengthMask, SelfAttention, SinusoidPosition
from recipes.sequence.seq2seq import check_vocabularies
from recipes.training.language import LanguageModel
from recipes.training.recipe import builder, check_choice, check_count, check_fraction, compile_model, head, training_row

# base, big: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, table 3. tiny: ours, for little data on a CPU.
VARIANTS = {
    "tiny": {"width": 128, "depth": 3, "heads": 4, "mlp_dim": 512, "dropout": 0.1, "norm_first": True},
    "base": {"width": 512, "depth": 6, "heads": 8, "mlp_dim": 2048, "dropout": 0.1, "norm_first": False},
    "big": {"width": 1024, "depth": 6, "heads": 16, "mlp_dim": 4096, "dropout": 0.3, "norm_first": False},
}

# vaswani: section 5, for base: 4,000 steps of warm-up to (512 * 4000) ** -0.5, batches of about 25,000 tokens, 100,000
# steps, which is some 20 passes over 4.5 million pairs; no weight decay. big: learning_rate=5e-4, three times as long.
TRAINING = {
    "default": {
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "beta_2": 0.98,
        "global_clipnorm": 1.0,
        "label_smoothing": 0.1,
        "schedule": "WarmupCosine",
        "epochs": 30,
        "batch_size": 128,
    },
    "vaswani": {
        "learning_rate": 7e-4,
        "weight_decay": 0.0,
        "beta_2": 0.98,
        "label_smoothing": 0.1,
        "schedule": "WarmupInverseSqrt",
        "schedule_arguments": {"warmup": 4000},
        "epochs": 20,
        "batch_size": 1024,
    },
}
EPSILON = 1e-5  # of the layer normalisations


@builder
def transformer(
    *,
    variant="tiny",
    vocabulary_size=37_000,
    target_vocabulary_size=None,
    max_length=512,
    width=None,
    depth=None,
    heads=None,
    mlp_dim=None,
    dropout=None,
    norm_first=None,
    tied=True,
    padding_id=0,
    start_id=1,
    end_id=2,
    training="default",
    label_smoothing=None,
    learning_rate=None,
    weight_decay=None,
    name="transformer",
):
    """Build a transformer of encoder and decoder: it reads a source and writes a target, token by token.

    The model learns from `{"source", "target"}` alone: integer ids, padded on the right. A target begins with `start_id`
    and ends with `end_id`; a source may be as you like. `recipes.generate(model, source_ids, max_new_tokens=30, beams=4)`
    writes targets.

    Args:
        variant: Row of `VARIANTS`: `"tiny"` to train oneself, `"base"` or `"big"`.
        vocabulary_size: Number of token ids of the source; 37,000 in the paper.
        target_vocabulary_size: Number of token ids of the target; `None`: source and target share one vocabulary, and the
            table of its embeddings.
        max_length: Largest length in tokens of a source or a target.
        width: Length of a token's vector, even; `None` as the variant says.
        depth: Number of blocks of the encoder, and of the decoder; `None` as the variant says.
        heads: Number of heads of the attention; must divide the width. `None` as the variant says.
        mlp_dim: Width of the hidden layer of the MLPs; `None` as the variant says.
        dropout: Fraction dropped of the embeddings and of what every branch puts out, in `[0, 1)`; `None` as the variant
            says.
        norm_first: Whether a branch normalises what it reads, which trains more easily, and not the sum behind it, as in
            the paper; `None` as the variant says.
        tied: Whether the embeddings of the target are the matrix of the logits too.
        padding_id: Id that fills rows up on the right: unseen in the source and no target.
        start_id: Id that a target begins with.
        end_id: Id that ends a target.
        training: Row of `TRAINING`, how `recipes.fit` trains: `recipes.list_training("transformer")`.
        label_smoothing: Share of each target spread evenly over all ids, in `[0, 1)`; `None` as `training` says.
        learning_rate: Peak learning rate of AdamW, for the batch size of `training`; `None` as `training` says.
        weight_decay: Decoupled weight decay; spares biases and norms; `None` as `training` says.
        name: Name of the model.

    Returns:
        Compiled `recipes.LanguageModel`: `{"source": (batch, source length), "target": (batch, length)}` to logits
        `(batch, length, target_vocabulary_size)`: those at a place are for the token after it.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = transformer(vocabulary_size=20, width=32, depth=1)
    >>> source, target = np.array([[5, 6, 7]]), np.array([[1, 7, 6, 5, 2]])
    >>> tuple(model({"source": source, "target": target}).shape)
    (1, 5, 20)

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3; `norm_first` as
        [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), figure 1.
    """
    check_choice("variant", variant, VARIANTS)
    row = VARIANTS[variant]
    width, depth, heads, mlp_dim = (
        width or row["width"],
        depth or row["depth"],
        heads or row["heads"],
        mlp_dim or row["mlp_dim"],
    )
    dropout = row["dropout"] if dropout is None else dropout
    norm_first = row["norm_first"] if norm_first is None else norm_first
    shared = target_vocabulary_size is None
    target_vocabulary_size = vocabulary_size if shared else target_vocabulary_size
    settings = training_row(
        TRAINING, training, label_smoothing=label_smoothing, learning_rate=learning_rate, weight_decay=weight_decay
    )
    for key, value in {"max_length": max_length, "width": width, "depth": depth, "heads": heads, "mlp_dim": mlp_dim}.items():
        check_count(key, value)
    check_fraction("dropout", dropout)
    if width % 2:
        raise ValueError(f"width must be even, for sines and cosines of the place. Received: width={width}")
    if width % heads:
        raise ValueError(f"heads must divide the width, {width}. Received: heads={heads}")
    check_vocabularies(vocabulary_size, target_vocabulary_size, padding_id, start_id, end_id)

    block = {"heads": heads, "mlp_dim": mlp_dim, "dropout": dropout, "norm_first": norm_first}
    inputs = {part: keras.Input((None,), dtype="int32", name=part) for part in ("source", "target")}
    table = token_table(target_vocabulary_size, width, "embedding" if shared else "target_embedding")
    source_table = table if shared else token_table(vocabulary_size, width, "source_embedding")
    mask = LengthMask(padding_id, name="source_mask")(inputs["source"])
    x = place(source_table(inputs["source"]), max_length, dropout, "source")  # (batch, source length, width)
    for i in range(depth):
        x = encoder_block(x, mask, f"encoder{i}", **block)
    memory = norm(x, "encoder_norm") if norm_first else x
    x = place(table(inputs["target"]), max_length, dropout, "target")  # (batch, length, width)
    for i in range(depth):
        x = decoder_block(x, memory, mask, f"decoder{i}", **block)
    x = norm(x, "decoder_norm") if norm_first else x
    x = keras.layers.Activation("linear", name="features")(x)
    if tied:
        x = keras.layers.Activation("linear", dtype="float32", name="logits")(table(x, reverse=True))
    else:
        x = head(x, target_vocabulary_size, "language_model")
    model = LanguageModel(inputs, x, name=name)
    return compile_model(model, "language_model", padding_id=padding_id, **settings)


def token_table(size, width, name):
    """Return the layer of the embeddings, which are of length 1: section 3.4."""
    normal = keras.initializers.RandomNormal(stddev=width**-0.5)
    return keras.layers.ReversibleEmbedding(size, width, embeddings_initializer=normal, reverse_dtype="float32", name=name)


def place(x, max_length, dropout, prefix):
    """Scale embeddings to numbers of size 1 and say where they stand: sections 3.4 and 3.5."""
    x = keras.layers.Rescaling(x.shape[-1] ** 0.5, name=f"{prefix}_scale")(x)
    x = SinusoidPosition(max_length, name=f"{prefix}_position")(x)
    return keras.layers.Dropout(dropout, name=f"{prefix}_dropout")(x)


def encoder_block(x, mask, name, *, heads, mlp_dim, dropout, norm_first):
    """Attention to the tokens that `mask` calls real, and MLP, each with a residual: `(batch, length, width)`."""
    stddev = x.shape[-1] ** -0.5  # Xavier's
    attention = SelfAttention(heads, stddev=stddev, name=f"{name}_attention")
    x = branch(x, lambda y: attention(y, mask), dropout, norm_first, name, 1)
    return branch(x, lambda y: mlp(y, mlp_dim, name), dropout, norm_first, name, 2)


def decoder_block(x, memory, mask, name, *, heads, mlp_dim, dropout, norm_first):
    """Attention to what comes before and to the memory, and MLP, each with a residual: `(batch, length, width)`."""
    stddev = x.shape[-1] ** -0.5
    attention = SelfAttention(heads, causal=True, stddev=stddev, name=f"{name}_attention")
    cross = CrossAttention(heads, stddev, name=f"{name}_cross")
    x = branch(x, attention, dropout, norm_first, name, 1)
    x = branch(x, lambda y: cross(y, memory, mask), dropout, norm_first, name, 2)
    return branch(x, lambda y: mlp(y, mlp_dim, name), dropout, norm_first, name, 3)


def branch(x, function, dropout, norm_first, name, number):
    """Add `function` of the normalised `x`, or normalise after the sum."""
    if norm_first:
        return add_branch(x, function(norm(x, f"{name}_norm{number}")), dropout, 0.0, name, number)
    return norm(add_branch(x, function(x), dropout, 0.0, name, number), f"{name}_norm{number}")


def mlp(x, hidden, name):
    y = keras.layers.Dense(hidden, "relu", name=f"{name}_mlp1")(x)
    return keras.layers.Dense(x.shape[-1], name=f"{name}_mlp2")(y)


def norm(x, name):
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def transformer_space(hp):
    """Return keyword arguments of `transformer` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Choice("width", [64, 128, 256]),
        "depth": hp.Int("depth", 2, 6),
        "heads": hp.Choice("heads", [2, 4, 8]),
        "mlp_dim": hp.Choice("mlp_dim", [256, 512, 1024]),
        "dropout": hp.Float("dropout", 0.0, 0.4, step=0.1),
        "norm_first": hp.Boolean("norm_first"),
        "learning_rate": hp.Float("learning_rate", 3e-4, 3e-3, sampling="log"),
    }
