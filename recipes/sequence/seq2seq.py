"""Recurrent encoder-decoders with attention: the translation systems from before the transformer."""

import keras

from recipes.layers import LengthMask
from recipes.training.language import LanguageModel
from recipes.training.recipe import builder, check_choice, check_count, check_fraction, compile_model, head

CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
ATTENTIONS = ("additive", "multiplicative", None)
# opennmt: what Klein et al., 2017, https://arxiv.org/abs/1701.02810, train by default, without input feeding.
# g2p: the network of the package g2p-en, which reads English words aloud: https://github.com/Kyubyong/g2p
VARIANTS = {
    "small": {"cell": "lstm", "attention": "additive", "bidirectional": True, "width": 256, "depth": 1, "dropout": 0.2},
    "opennmt": {
        "cell": "lstm",
        "attention": "multiplicative",
        "bidirectional": False,
        "width": 500,
        "depth": 2,
        "dropout": 0.3,
    },
    "g2p": {"cell": "gru", "attention": None, "bidirectional": False, "width": 256, "depth": 1, "dropout": 0.0},
}


@builder
def seq2seq(
    *,
    variant="small",
    vocabulary_size=50_000,
    target_vocabulary_size=None,
    cell=None,
    attention="variant",
    bidirectional=None,
    width=None,
    depth=None,
    dropout=None,
    padding_id=0,
    start_id=1,
    end_id=2,
    label_smoothing=0.1,
    learning_rate=2e-3,
    weight_decay=0.01,
    name="seq2seq",
):
    """Build a recurrent encoder-decoder: it reads a source and writes a target, looking back at the source.

    The last states of the encoder are the first of the decoder. The decoder reads the target that it should write, up to
    the token in question (teacher forcing), and with what it has come to looks for the places of the source that matter.

    The model learns from `{"source", "target"}` alone: integer ids, padded on the right. A target begins with `start_id`
    and ends with `end_id`; a source may be as you like. `recipes.generate(model, source_ids, max_new_tokens=30, beams=4)`
    writes targets.

    Args:
        variant: Row of `VARIANTS`: `"small"` to train oneself, `"opennmt"`, or `"g2p"`, without attention.
        vocabulary_size: Number of token ids of the source; 50,000 words in many a system.
        target_vocabulary_size: Number of token ids of the target; `None`: as many as of the source.
        cell: `"lstm"` or `"gru"`; `None` as the variant says.
        attention: `"additive"`, Bahdanau's; `"multiplicative"`, Luong's "general"; `None`: the decoder has only the last
            states of the encoder. `"variant"` as the variant says.
        bidirectional: Whether half of the encoder's width reads from the end; `None` as the variant says.
        width: Length of the embeddings and of the states; even if `bidirectional`. `None` as the variant says.
        depth: Number of layers of the encoder, and of the decoder; `None` as the variant says.
        dropout: Fraction dropped of what enters every layer and the head, in `[0, 1)`; `None` as the variant says.
        padding_id: Id that fills rows up on the right: unread in the source and no target.
        start_id: Id that a target begins with.
        end_id: Id that ends a target.
        label_smoothing: Share of each target spread evenly over all ids, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases.
        name: Name of the model.

    Returns:
        Compiled `recipes.LanguageModel`: `{"source": (batch, source length), "target": (batch, length)}` to logits
        `(batch, length, target_vocabulary_size)`: those at a place are for the token after it.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = seq2seq(vocabulary_size=20, width=32)
    >>> source, target = np.array([[5, 6, 7]]), np.array([[1, 7, 6, 5, 2]])
    >>> tuple(model({"source": source, "target": target}).shape)
    (1, 5, 20)

    Reference:
        [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473), equations 5 and 6 for the score;
        [Luong et al., 2015](https://arxiv.org/abs/1508.04025), equations 5 to 8, for what is done with it in both cases.
    """
    check_choice("variant", variant, VARIANTS)
    row = VARIANTS[variant]
    cell, width, depth = cell or row["cell"], width or row["width"], depth or row["depth"]
    attention = row["attention"] if attention == "variant" else attention
    bidirectional = row["bidirectional"] if bidirectional is None else bidirectional
    dropout = row["dropout"] if dropout is None else dropout
    target_vocabulary_size = vocabulary_size if target_vocabulary_size is None else target_vocabulary_size
    check_choice("cell", cell, CELLS)
    check_choice("attention", attention, ATTENTIONS)
    check_count("width", width)
    check_count("depth", depth)
    check_fraction("dropout", dropout)
    if bidirectional and width % 2:
        raise ValueError(f"width must be even, half of it for each direction of the encoder. Received: width={width}")
    check_vocabularies(vocabulary_size, target_vocabulary_size, padding_id, start_id, end_id)

    inputs = {part: keras.Input((None,), dtype="int32", name=part) for part in ("source", "target")}
    mask = LengthMask(padding_id, name="source_mask")(inputs["source"])
    x = embed(inputs["source"], vocabulary_size, width, dropout, "source")  # (batch, source length, width)
    states = []
    for i in range(depth):
        x = keras.layers.Dropout(dropout, name=f"encoder{i}_dropout")(x) if i else x
        x, last = encode(x, mask, CELLS[cell], width, bidirectional, f"encoder{i}")
        states.append(last)
    memory = x
    x = embed(inputs["target"], target_vocabulary_size, width, dropout, "target")  # (batch, length, width)
    for i in range(depth):
        x = keras.layers.Dropout(dropout, name=f"decoder{i}_dropout")(x) if i else x
        x = CELLS[cell](width, return_sequences=True, name=f"decoder{i}")(x, initial_state=states[i])
    if attention is not None:
        x = look_back(x, memory, mask, attention)
    x = keras.layers.Dropout(dropout, name="features")(x)
    model = LanguageModel(inputs, head(x, target_vocabulary_size, "language_model"), name=name)
    return compile_model(
        model,
        "language_model",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        global_clipnorm=1.0,
        padding_id=padding_id,
        schedule="WarmupCosine",
        epochs=30,
        batch_size=128,
    )


def embed(ids, size, width, dropout, prefix):
    """Turn ids into vectors of numbers of size 1, as torch begins with: `(batch, length, width)`."""
    normal = keras.initializers.RandomNormal(stddev=1.0)
    x = keras.layers.Embedding(size, width, embeddings_initializer=normal, name=f"{prefix}_embedding")(ids)
    return keras.layers.Dropout(dropout, name=f"{prefix}_dropout")(x)


def encode(x, mask, cell, width, bidirectional, name):
    """Read `(batch, length, width)`. Return the outputs, of the same shape, and the last states, `(batch, width)` each."""
    if not bidirectional:
        x, *states = cell(width, return_sequences=True, return_state=True, name=name)(x, mask=mask)
        return x, states
    one = cell(width // 2, return_sequences=True, return_state=True, name=f"{name}_rnn")
    x, *states = keras.layers.Bidirectional(one, name=name)(x, mask=mask)
    half = len(states) // 2
    joined = [
        keras.layers.Concatenate(name=f"{name}_state{i}")([states[i], states[half + i]]) for i in range(half)
    ]  # forward and backward, as the outputs are
    return x, joined


def look_back(x, memory, mask, attention):
    """Join each state of the decoder with the mean of the encoder's that the state asks for: `(batch, length, width)`."""
    width = x.shape[-1]
    additive = attention == "additive"
    key = keras.layers.Dense(width, use_bias=additive, name="attention_key")(memory)
    if additive:
        query = keras.layers.Dense(width, use_bias=False, name="attention_query")(x)
        layer = keras.layers.AdditiveAttention(name="attention")
    else:
        query, layer = x, keras.layers.Attention(name="attention")
    context = layer([query, memory, key], mask=[None, mask])
    x = keras.layers.Concatenate(name="attention_both")([context, x])
    return keras.layers.Dense(width, "tanh", use_bias=False, name="attention_vector")(x)


def check_vocabularies(source, target, padding_id, start_id, end_id):
    """Raise `ValueError` unless both vocabularies have room for the three ids, which differ."""
    check_count("vocabulary_size", source, minimum=2)
    check_count("target_vocabulary_size", target, minimum=4)
    special = {"padding_id": padding_id, "start_id": start_id, "end_id": end_id}
    for name, value in special.items():
        check_count(name, value, minimum=0)
        if value >= (min(source, target) if name == "padding_id" else target):
            raise ValueError(f"{name} must be an id of the vocabulary, 0..{target - 1}. Received: {name}={value}")
        others = [other for other in special if other != name and special[other] == value]
        if others:
            raise ValueError(f"{name} must differ from {others[0]}. Received: {name}={value}")


def seq2seq_space(hp):
    """Return keyword arguments of `seq2seq` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "cell": hp.Choice("cell", ["lstm", "gru"]),
        "attention": hp.Choice("attention", ["additive", "multiplicative"]),
        "width": hp.Choice("width", [128, 256, 512]),
        "depth": hp.Int("depth", 1, 3),
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 4e-3, sampling="log"),
    }
