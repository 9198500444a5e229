"""DALL-E: text to image with a discrete VAE and a transformer over the tokens of the text and of the image."""

import keras

from recipes.blocks import transformer_block
from recipes.generative.discrete_vae import LIKELIHOODS, image_decoder, image_encoder
from recipes.generative.text_to_image import TextToImage
from recipes.layers import GridPosition, GumbelCodebook
from recipes.training.recipe import builder, check_choice, check_count, check_fraction, check_images, compile_model
from recipes.vision.vit import check_width

# tiny, small: ours, for drawings of about 16 and 32 pixels a side on a CPU. base: what
# https://github.com/lucidrains/DALLE-pytorch trains by default, `train_vae.py` and `train_dalle.py`, for 128 pixels and a
# GPU; the paper's own has 12 billion parameters.
VARIANTS = {
    "tiny": {
        **{"patch_size": 4, "codes": 64, "code_width": 16, "hidden": 32, "blocks": 1},
        **{"width": 64, "depth": 2, "head_width": 32, "max_length": 16},
    },
    "small": {
        **{"patch_size": 4, "codes": 256, "code_width": 64, "hidden": 128, "blocks": 2},
        **{"width": 192, "depth": 4, "head_width": 32, "max_length": 32},
    },
    "base": {
        **{"patch_size": 8, "codes": 8192, "code_width": 512, "hidden": 256, "blocks": 2},
        **{"width": 512, "depth": 2, "head_width": 64, "max_length": 256},
    },
}
IMAGE_WEIGHT = 7.0  # Ramesh et al., section 2.2: an eighth of the loss for the text, the rest for the image
EPSILON = 1e-5  # of the layer normalisations


@builder
def dalle(
    input_shape,
    *,
    variant="small",
    vocabulary_size=8000,
    max_length=None,
    padding_id=0,
    patch_size=None,
    codes=None,
    width=None,
    depth=None,
    likelihood="gaussian",
    kl_weight=0.0,
    first_stage=0.3,
    dropout=0.0,
    text_dropout=0.1,
    learning_rate=2e-3,
    weight_decay=0.05,
    name="dalle",
):
    """Build DALL-E: it learns from captions and images to draw what a caption says.

    One fit has two stages. In the first a discrete VAE learns to write an image as a small grid of codes and to draw it
    from these. In the second the VAE rests, its weights bit for bit, and a transformer learns to write the codes of an image
    after the tokens of its caption. Which stage is on is counted in the model: the first fit divides its steps, and a later
    fit goes on with the second. `loss` is that of the stage that is on; `reconstruction` and `kl` are the parts of the
    first, `text_loss` and `image_loss`, in nats a token, those of the second, and 0 while it waits.

    Captions are token ids, `recipes.data.Tokenizer.train(texts).encode(texts)`:

        recipes.fit(model, (ids, images))  # or model.fit({"text": ids, "image": images}, epochs=...)
        images = recipes.generate(model, tokenizer.encode(["red circle"]))

    Args:
        input_shape: `(height, width, channels)` of the images, multiples of `patch_size`.
        variant: Row of `VARIANTS`: `"tiny"`, for drawings of about 16 pixels a side; `"small"`, for 32; or `"base"`.
        vocabulary_size: Number of token ids of the captions, the padding's included.
        max_length: Tokens of a caption at most; `None` as the variant says.
        padding_id: Token id that fills short captions up on the right. Each of its places has a vector of its own.
        patch_size: Side in pixels of what becomes one code, a power of 2; `None` as the variant says.
        codes: Number of codes; `None` as the variant says.
        width: Length of a token's vector in the transformer, a multiple of 32, for `"base"` of 64; `None` as the variant
            says.
        depth: Number of blocks of the transformer; `None` as the variant says.
        likelihood: What the discrete VAE takes for the distribution of a pixel: `"gaussian"`, which is the squared error,
            the better one for short runs; or `"laplace"`, the paper's logit-Laplace with a spread that it learns.
        kl_weight: Weight of the divergence of the codes from uniform ones, at least 0: 1 for the evidence lower bound, 6.6
            in the paper, 0 in many others.
        first_stage: Share of the steps of the first fit that the discrete VAE gets, in (0, 0.5].
        dropout: Fraction dropped in the transformer of the tokens' vectors and of what every branch puts out, in `[0, 1)`.
        text_dropout: Share of captions that are left out in training, in `[0, 1)`, so that the model knows images without
            one: for `recipes.generate(guidance=)` and its `rank="likelihood"`.
        learning_rate: Peak learning rate of AdamW, in either stage.
        weight_decay: Decoupled weight decay; spares biases, norms and positions.
        name: Name of the model.

    Returns:
        Compiled `TextToImage`, a `keras.Model`. Besides `fit` it has `sample(n, labels=ids)`, `encode(images)` to codes
        `(images, rows, columns)` and `decode(codes)`. Images are raw 0..255.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = dalle((16, 16, 3), variant="tiny", vocabulary_size=30, max_length=4)
    >>> images = recipes.generate(model, [[5, 7, 9], [4]], seed=1)
    >>> images.shape, str(images.dtype)
    ((2, 16, 16, 3), 'float32')

    Reference:
        [Ramesh et al., 2021](https://arxiv.org/abs/2102.12092), section 2, with full attention instead of sparse.
    """
    check_choice("variant", variant, VARIANTS)
    given = {"patch_size": patch_size, "codes": codes, "width": width, "depth": depth, "max_length": max_length}
    row = {**VARIANTS[variant], **{key: value for key, value in given.items() if value is not None}}
    check_sizes(input_shape, row, vocabulary_size, padding_id)
    check_choice("likelihood", likelihood, LIKELIHOODS)
    if not 0 <= kl_weight < float("inf"):
        raise ValueError(f"kl_weight must be a finite number >= 0. Received: kl_weight={kl_weight!r}")
    if not 0 < first_stage <= 0.5:
        raise ValueError(f"first_stage must be in (0, 0.5]. Received: first_stage={first_stage!r}")
    check_fraction("dropout", dropout)
    check_fraction("text_dropout", text_dropout)

    halvings, channels = row["patch_size"].bit_length() - 1, input_shape[-1]
    encoder = image_encoder(input_shape, row["codes"], row["hidden"], halvings, row["blocks"])
    codebook = GumbelCodebook(row["codes"], row["code_width"], name="codebook")
    codebook.build(encoder.output_shape)
    grid = encoder.output_shape[1:3]
    maps = LIKELIHOODS[likelihood] * channels
    decoder = image_decoder(grid, row["code_width"], maps, row["hidden"], halvings, row["blocks"])
    transformer = token_transformer(vocabulary_size, grid, dropout, **row)
    heads = []
    for part, size in (("text", vocabulary_size), ("image", row["codes"])):
        normal = keras.initializers.RandomNormal(stddev=0.01)
        head = keras.layers.Dense(size, kernel_initializer=normal, dtype="float32", name=f"{part}_logits")
        head.build((None, None, row["width"]))
        heads.append(head)
    settings = {"likelihood": likelihood, "kl_weight": kl_weight, "image_weight": IMAGE_WEIGHT}
    settings |= {"text_dropout": text_dropout, "first_stage": first_stage}
    model = TextToImage(
        input_shape,
        encoder,
        codebook,
        decoder,
        transformer,
        *heads,
        vocabulary_size,
        row["max_length"],
        padding_id,
        settings,
        name=name,
    )
    return compile_model(
        model,
        "generate",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        beta_2=0.99,  # less to remember: the stages of a small run have some hundred steps
        global_clipnorm=1.0,
        schedule="CosineRestarts",  # each stage from the peak to almost nothing
        schedule_arguments={"cycles": 2, "multiplier": (1 - first_stage) / first_stage, "floor": 0.02},
        epochs=100,
        batch_size=64,
    )


def token_transformer(vocabulary_size, grid, dropout, *, max_length, codes, width, depth, head_width, **others):
    """Build the causal transformer from tokens `(batch, length)` to features `(batch, length, width)`."""
    ids = keras.Input((None,), dtype="int32", name="tokens")
    normal = keras.initializers.RandomNormal(stddev=0.02)
    size = vocabulary_size + max_length + codes  # text, padding for each place, image
    x = keras.layers.Embedding(size, width, embeddings_initializer=normal, name="token_embedding")(ids)
    x = GridPosition(max_length, grid, name="position")(x)  # (batch, length, width)
    if dropout:
        x = keras.layers.Dropout(dropout, name="embedding_dropout")(x)
    for i in range(depth):
        x = transformer_block(
            x,
            width // head_width,
            4 * width,
            f"block{i}",
            dropout=dropout,
            epsilon=EPSILON,
            causal=True,
            stddev=width**-0.5,  # Xavier's; .02 would be too little for a small width
            output_stddev=(2 * depth * width) ** -0.5,
        )
    x = keras.layers.LayerNormalization(epsilon=EPSILON, name="features")(x)
    return keras.Model(ids, x, name="transformer")


def check_sizes(input_shape, row, vocabulary_size, padding_id):
    """Raise `ValueError` unless the sizes fit each other."""
    for key, least in {"patch_size": 1, "codes": 2, "depth": 1, "max_length": 2}.items():
        check_count(key, row[key], minimum=least)
    check_width(row["width"], row["head_width"])
    check_images(input_shape, minimum=row["patch_size"])
    if row["patch_size"] & (row["patch_size"] - 1):
        raise ValueError(f"patch_size must be a power of 2. Received: patch_size={row['patch_size']}")
    if any(side % row["patch_size"] for side in input_shape[:2]):
        raise ValueError(
            f"input_shape must be a multiple of patch_size={row['patch_size']} in height and width. Resize the images, or "
            f"pass a patch_size that divides both. Received: input_shape={tuple(input_shape)}"
        )
    check_count("vocabulary_size", vocabulary_size, minimum=2)
    check_count("padding_id", padding_id, minimum=0)
    if padding_id >= vocabulary_size:
        raise ValueError(
            f"padding_id must be an id of the vocabulary, 0..{vocabulary_size - 1}. Received: padding_id={padding_id}"
        )


def dalle_space(hp):
    """Return keyword arguments of `dalle` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "codes": hp.Choice("codes", [128, 256, 512, 1024]),
        "width": hp.Choice("width", [128, 192, 256, 384]),
        "depth": hp.Int("depth", 2, 6),
        "likelihood": hp.Choice("likelihood", list(LIKELIHOODS)),
        "kl_weight": hp.Choice("kl_weight", [0.0, 0.1, 1.0]),
        "dropout": hp.Float("dropout", 0.0, 0.2, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 3e-3, sampling="log"),
    }
