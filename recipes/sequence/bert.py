"""BERT: a transformer that reads a text in both directions, to classify it, to label or guess its tokens, to embed it."""

import keras

from recipes.blocks import post_norm_block
from recipes.layers import Bias, FirstToken, MaskedPool, PaddingMask, PositionEmbedding, SegmentEmbedding
from recipes.training.recipe import (
    TASKS,
    builder,
    check_choice,
    check_classes,
    check_count,
    check_fraction,
    compile_model,
    get_recipe,
    head,
    set_recipe,
)
from recipes.weights.bert_names import load_weights, read_settings

DEVLIN = {"head_width": 64, "mlp_ratio": 4, "vocabulary_size": 30522, "max_length": 512}
# tiny to small: Turc et al., 2019, https://arxiv.org/abs/1908.08962, table 1 and the code's README; base, large: Devlin et
# al., 2019, https://arxiv.org/abs/1810.04805, section 3; minilm: config.json of nreimers/MiniLM-L6-H384-uncased, every
# second layer of the 12 of Wang et al., 2020, https://arxiv.org/abs/2002.10957
VARIANTS = {
    "tiny": {"width": 128, "depth": 2, **DEVLIN},
    "mini": {"width": 256, "depth": 4, **DEVLIN},
    "small": {"width": 512, "depth": 4, **DEVLIN},
    "base": {"width": 768, "depth": 12, **DEVLIN},
    "large": {"width": 1024, "depth": 24, **DEVLIN},
    "minilm": {"width": 384, "depth": 6, **DEVLIN, "head_width": 32},
}
COMMON = {"schedule": "WarmupLinear", "global_clipnorm": 1.0}
SETTINGS = {
    # Devlin et al., 2019, appendix A.3 (batches of 16 or 32, 2e-5 to 5e-5, 2 to 4 epochs), and run_classifier.py of its code
    "fine_tune": {"learning_rate": 5e-5, "batch_size": 32, "epochs": 3, "schedule_arguments": {"warmup": 0.1}},
    # appendix A.2: 10,000 of a million steps, about 40 epochs
    "pretrain": {"learning_rate": 1e-4, "batch_size": 256, "epochs": 40, "schedule_arguments": {"warmup": 0.01}},
    # ours, for a few thousand texts and a small variant
    "scratch": {"learning_rate": 5e-4, "batch_size": 32, "epochs": 10, "schedule_arguments": {"warmup": 0.1}},
}
POOLS = ("pooler", "token", "mean")
NO_CLASSES = ("embed", "language_model")


@builder
def bert(
    num_classes=None,
    *,
    variant="tiny",
    vocabulary_size=None,
    max_length=None,
    task="classify",
    weights=None,
    width=None,
    depth=None,
    heads=None,
    mlp_dim=None,
    epsilon=None,
    pool=None,
    normalize=None,
    padding_id=0,
    separator_id=None,
    mask_id=None,
    special_ids=(),
    dropout=0.1,
    learning_rate=None,
    weight_decay=0.01,
    name="bert",
):
    """Build BERT, with a head for the task.

    A folder of the Hugging Face hub says in its `config.json` how large the model is, which counts more than `variant`;
    `recipes.data.Tokenizer.load(folder)` makes ids of texts for it. Where `None` below stands for what the files say, a
    model without files has what the variant says.

    Training follows the paper: fine-tuning for three epochs at 5e-5 with `weights`, pre-training with
    `task="language_model"`; other models from random weights learn at 5e-4 for ten epochs.

    Args:
        num_classes: Number of classes, of labels, or of targets; `None`: as the files of a classifier say. `"embed"` and
            `"language_model"` have none.
        variant: Row of `VARIANTS`.
        vocabulary_size: Number of token ids; `None` as the files or the variant say.
        max_length: Most tokens a text may have; `None` as the files or the variant say. Fewer than the files say will do.
        task: `"classify"`, `"multilabel"` or `"regress"` for a text; `"tokens"` to classify each of its tokens, with
            targets `(batch, length)` that are -1 where none counts; `"embed"` for a vector; `"language_model"` to guess
            masked tokens: `recipes.fit(model, ids)` hides others in every batch.
        weights: Path of a file or folder of transformers or sentence-transformers, or `"owner/name@<40 hexadecimal
            digits>"` of the hub: any of BERT's models there. Or a model of this function, to go on from what it learnt.
            `None` for random weights.
        width: Length of a token's vector; `None` as the files or the variant say.
        depth: Number of blocks; `None` as the files or the variant say.
        heads: Number of heads of the attention, which divides the width; `None` as the files or the variant say.
        mlp_dim: Width of the hidden layer of each block's MLP; `None` as the files or the variant say.
        epsilon: Of the layer normalisations; `None` as the files say, or 1e-12.
        pool: How tokens become one vector: `"token"`, that of the first; `"pooler"`, the same through a dense layer;
            `"mean"`, over the tokens that are not padding. `None` as the files of sentence-transformers say, or the mean
            for `"embed"` and else the pooler.
        normalize: Whether that vector is brought to length 1; `None`: for `"embed"`, if the files say so.
        padding_id: Token id that fills up short texts on the right.
        separator_id: Token id that ends each text of a pair, `102` in BERT's own vocabulary, so that the second of
            `[CLS] text [SEP] text [SEP]` is told apart; `None` if rows are single texts.
        mask_id: Token id that hides another, for `"language_model"`.
        special_ids: Token ids that are never hidden, besides the padding, for `"language_model"`.
        dropout: Fraction dropped of the embeddings, of what the branches put out and before the head, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW; `None` as said above.
        weight_decay: Decoupled weight decay; spares biases, norms and positions.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: ids `(batch, length)` of any length up to `max_length` to logits `(batch, num_classes)`,
        `(batch, length, num_classes)` for `"tokens"`, `(batch, length, vocabulary_size)` for `"language_model"`, or to
        vectors `(batch, width)` for `"embed"`. A row of padding alone gets finite numbers.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = bert(2, vocabulary_size=50, max_length=16)
    >>> tuple(model(np.array([[2, 9, 7, 3, 0, 0], [2, 8, 4, 6, 5, 3]])).shape)
    (2, 2)

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3 and appendix A; embeddings:
        [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), section 3.
    """
    arguments = dict(locals())
    check_choice("variant", variant, VARIANTS)
    check_choice("task", task, (*TASKS, "tokens", *NO_CLASSES))
    check_choice("pool", pool, (None, *POOLS))
    check_fraction("dropout", dropout)
    if task in NO_CLASSES and num_classes is not None:
        raise ValueError(f"num_classes must be None for task={task!r}. Received: num_classes={num_classes!r}")
    if None in (vocabulary_size, max_length, width, depth, heads, mlp_dim, epsilon, pool, normalize):
        # the recipe must remember what the files say: nobody passes weights to build it again
        said = {} if weights is None else read_settings(weights, heads, padding_id)
        class_names = said.pop("class_names", None)
        model = bert(**{**arguments, **_resolve(arguments, said)})
        if class_names and model.output_shape[-1] == len(class_names) and task not in NO_CLASSES:
            set_recipe(model, {**get_recipe(model), "class_names": class_names})
        return model
    if task == "tokens":
        check_count("num_classes", num_classes, minimum=2)
    elif task not in NO_CLASSES:
        check_classes(num_classes, task)
    check_sizes(vocabulary_size, max_length, width, depth, heads, mlp_dim, epsilon)
    check_ids(vocabulary_size, task, padding_id, separator_id, mask_id, special_ids)

    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = PaddingMask(padding_id, name="padding_mask")(ids)
    normal = keras.initializers.RandomNormal(stddev=0.02)
    table = keras.layers.ReversibleEmbedding if task == "language_model" else keras.layers.Embedding
    table = table(vocabulary_size, width, embeddings_initializer=normal, name="token_embedding")
    segments = SegmentEmbedding(width, separator_id, padding_id, name="segment_embedding")(ids)
    x = keras.layers.Add(name="embedding_add")([table(ids), segments])  # (batch, length, width)
    x = PositionEmbedding(length=max_length, name="position_embedding")(x)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="embedding_norm")(x)
    x = keras.layers.Dropout(dropout, name="embedding_dropout")(x)
    for i in range(depth):
        x = post_norm_block(x, heads, mlp_dim, f"block{i}", padding_mask=mask, dropout=dropout, epsilon=epsilon)

    if task == "language_model":
        x = keras.layers.Dense(width, "gelu", kernel_initializer=normal, name="mlm_dense")(x)
        x = keras.layers.LayerNormalization(epsilon=epsilon, name="features")(x)
        x = Bias(dtype="float32", name="logits")(table(x, reverse=True))  # (batch, length, vocabulary_size)
    elif task == "tokens":
        x = head(keras.layers.Dropout(dropout, name="features")(x), num_classes, task)
    else:
        x = pooled(x, mask, pool, normalize)  # (batch, width)
        if task != "embed":
            x = head(keras.layers.Dropout(dropout, name="features")(x), num_classes, task)
    model = keras.Model(ids, x, name=name)
    if weights is not None:
        load_weights(model, weights)
    settings = SETTINGS["pretrain" if task == "language_model" else "scratch" if weights is None else "fine_tune"]
    guesses = {"mask_id": mask_id, "vocabulary_size": vocabulary_size, "special_ids": sorted({padding_id, *special_ids})}
    return compile_model(
        model,
        task,
        **{**COMMON, **settings, **({} if learning_rate is None else {"learning_rate": learning_rate})},
        weight_decay=weight_decay,
        mask=guesses if task == "language_model" else None,
    )


def pooled(x, mask, pool, normalize):
    """Make one vector `(batch, width)` of tokens `(batch, length, width)`, in float32 unless a pooler is what ends it."""
    if pool == "mean":
        x = MaskedPool(dtype="float32", name="pool")(x, mask=mask)  # zeros for a row of padding alone
    else:
        x = FirstToken(dtype="float32", name="pool")(x)
    if pool == "pooler":
        normal = keras.initializers.RandomNormal(stddev=0.02)
        x = keras.layers.Dense(x.shape[-1], "tanh", kernel_initializer=normal, dtype="float32", name="pooler")(x)
    return keras.layers.UnitNormalization(dtype="float32", name="embedding")(x) if normalize else x


def _resolve(arguments, said):
    """Return the arguments that are `None` as the files say, or else the variant."""
    task, row = arguments["task"], VARIANTS[arguments["variant"]]
    known = {key: value for key, value in arguments.items() if value is not None}
    if task not in NO_CLASSES and "num_classes" in said:
        known.setdefault("num_classes", said["num_classes"])
    if task != "embed":  # a head learns from the vector as it is
        said = {**said, "normalize": False}
    known = {"epsilon": 1e-12, "normalize": False, "pool": "mean" if task == "embed" else "pooler", **row, **said, **known}
    if not known.get("heads"):
        if known["width"] % row["head_width"]:
            raise ValueError(
                f"width must be a multiple of {row['head_width']}, the width of a head, or heads must be given. "
                f"Received: width={known['width']!r}"
            )
        known["heads"] = known["width"] // row["head_width"]
    known.setdefault("mlp_dim", row["mlp_ratio"] * known["width"])
    return {key: known.get(key) for key in arguments}


def check_sizes(vocabulary_size, max_length, width, depth, heads, mlp_dim, epsilon):
    """Raise `ValueError` unless the sizes are counts and the heads divide the width."""
    check_count("vocabulary_size", vocabulary_size, minimum=2)
    for key, value in {"max_length": max_length, "width": width, "depth": depth, "heads": heads, "mlp_dim": mlp_dim}.items():
        check_count(key, value)
    if width % heads:
        raise ValueError(f"heads must divide the width, {width}. Received: heads={heads}")
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be in (0, 1). Received: epsilon={epsilon!r}")


def check_ids(vocabulary_size, task, padding_id, separator_id, mask_id, special_ids):
    """Raise `ValueError` unless the ids are in the vocabulary and a language model knows what hides a token."""
    if task == "language_model" and mask_id is None:
        raise ValueError(
            'mask_id must be the id that hides a token for task="language_model", such as tokenizer.mask_id. Received: None'
        )
    named = {"padding_id": [padding_id], "separator_id": [separator_id], "mask_id": [mask_id], "special_ids": special_ids}
    for key, ids in named.items():
        for value in ids:
            if value is None and key in ("separator_id", "mask_id"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocabulary_size:
                raise ValueError(
                    f"{key} must be in the vocabulary, integers in 0..{vocabulary_size - 1}. Received: {key}={value!r}"
                )


def bert_space(hp):
    """Return keyword arguments of `bert` chosen by `hp`, a `keras_tuner.HyperParameters`, to train from random weights."""
    return {
        "width": hp.Choice("width", [64, 128, 256]),
        "depth": hp.Int("depth", 1, 6),
        "dropout": hp.Float("dropout", 0.0, 0.3, step=0.1),
        "learning_rate": hp.Float("learning_rate", 1e-4, 2e-3, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
