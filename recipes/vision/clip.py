"""CLIP: an image tower and a text tower that learn to agree on what belongs together."""

import keras

from recipes.blocks import transformer_block
from recipes.layers import ClassToken, EndToken, LogitScale, PositionEmbedding
from recipes.training.recipe import builder, check_choice, check_count, check_images, compile_model
from recipes.vision.pixels import check_pretrained_channels, standard_pixels
from recipes.vision.vit import check_patch_size, check_width, compact_patch
from recipes.weights.clip_names import load_weights, read_settings

# times 255: https://github.com/openai/CLIP, clip/clip.py
PIXELS = {"mean": (122.7709383, 116.7460125, 104.09373615), "std": (68.5005327, 66.6321579, 70.32316305)}
# Radford et al., 2021, https://arxiv.org/abs/2103.00020, table 20
OPENAI = {"head_width": 64, "mlp_ratio": 4}
VARIANTS = {
    "tiny": {
        "patch_size": None,
        "width": 128,
        "depth": 4,
        "text_width": 128,
        "text_depth": 4,
        "embedding_width": 128,
        "head_width": 32,
        "mlp_ratio": 4,
    },
    "base32": {
        "patch_size": 32,
        "width": 768,
        "depth": 12,
        "text_width": 512,
        "text_depth": 12,
        "embedding_width": 512,
        **OPENAI,
    },
    "base16": {
        "patch_size": 16,
        "width": 768,
        "depth": 12,
        "text_width": 512,
        "text_depth": 12,
        "embedding_width": 512,
        **OPENAI,
    },
    "large14": {
        "patch_size": 14,
        "width": 1024,
        "depth": 24,
        "text_width": 768,
        "text_depth": 12,
        "embedding_width": 768,
        **OPENAI,
    },
}
EPSILON = 1e-5  # of the layer normalisations


@builder
def clip(
    input_shape=(224, 224, 3),
    num_classes=None,
    *,
    variant="tiny",
    weights=None,
    patch_size=None,
    width=None,
    depth=None,
    vocabulary_size=49408,
    max_length=77,
    end_id=None,
    activation=None,
    learning_rate=5e-4,
    weight_decay=0.2,
    name="clip",
):
    """Build CLIP: images and texts become vectors that point the same way if they belong together.

    The model takes `{"image", "text"}` and puts out both embeddings of each pair; `recipes.features(model,
    "image_embedding")` and `recipes.features(model, "text_embedding")` are the towers alone. It learns from pairs, with
    ids as targets: pairs of the same id count as alike, so pass `numpy.arange(len(images))` where every caption is of
    its own. A loss of this kind wants batches as large as the memory allows.

    Args:
        input_shape: `(height, width, channels)`, at least 8 pixels a side. Patches must divide both sides.
        num_classes: `None`: classes are told by their texts. All builders of images have this argument.
        variant: Row of `VARIANTS`: `"tiny"` to train oneself; `"base32"`, `"base16"` and `"large14"` are OpenAI's.
        weights: Path of a file or folder of transformers' `CLIPModel`, or of its image half
            (`CLIPVisionModelWithProjection`): the text half stays random then, and a warning says so. Positions of
            another grid of patches are interpolated. `None` for random weights.
        patch_size: Side in pixels of a patch; `None` as the variant says, for `"tiny"` the largest power of 2 up to 16
            that leaves at least 7 a side.
        width: Length of a token's vector in both towers, and of the embeddings, a multiple of 64, for `"tiny"` of 32;
            `None` as the variant says.
        depth: Number of blocks in either tower; `None` as the variant says.
        vocabulary_size: Number of token ids.
        max_length: Length of the texts in tokens; shorter ones are filled up on the right, with any id below the one that
            ends them.
        end_id: Token id that ends a text; `None`: the highest in each text, or what the `config.json` beside the weights
            says.
        activation: `"quick_gelu"`, `x * sigmoid(1.702 x)`, or `"gelu"`. `None`: the first, or what the `config.json`
            beside the weights says.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay; spares biases, norms, positions, the class token and the scale.
        name: Name of the model.

    Returns:
        Compiled `keras.Model`: `{"image": (batch, height, width, channels), raw 0..255, "text": (batch, max_length)}` to
        `(batch, 2, width)`: `[:, 0]` are the embeddings of the images, of length 1 times the learned scale, `[:, 1]`
        those of the texts, of length 1. `pairs[:, 0] @ pairs[:, 1].T` are the logits of every text for every image.

    Raises:
        ValueError: If an argument is out of its range, or the weights are unsafe or of another architecture.

    Example:

    >>> model = clip((28, 28, 1), depth=2, vocabulary_size=256, max_length=20)
    >>> images, texts = np.zeros((2, 28, 28, 1)), np.ones((2, 20), "int32")
    >>> tuple(model({"image": images, "text": texts}).shape)
    (2, 2, 128)
    >>> tuple(recipes.features(model, "image_embedding")(images).shape)
    (2, 128)

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020), sections 2.3 to 2.5, table 18.
    """
    arguments = dict(locals())
    check_images(input_shape, minimum=8)
    if num_classes is not None:
        raise ValueError(
            "num_classes must be None: CLIP tells classes by their texts. To classify with its image tower, use "
            f'recipes.replace_head(recipes.features(model, "image_norm"), classes). Received: num_classes={num_classes!r}'
        )
    check_choice("variant", variant, VARIANTS)
    check_pretrained_channels(input_shape, weights)
    row = VARIANTS[variant]
    patch_size = patch_size or row["patch_size"] or compact_patch(input_shape)
    widths = [width or row[part] for part in ("width", "text_width", "embedding_width")]
    depths = [depth or row[part] for part in ("depth", "text_depth")]
    for value in widths[:2]:
        check_width(value, row["head_width"])
    check_count("depth", min(depths))
    check_patch_size(patch_size, input_shape, stem="patches")
    check_count("vocabulary_size", vocabulary_size, minimum=2)
    check_count("max_length", max_length, minimum=2)
    if end_id is not None and not 0 <= end_id < vocabulary_size:
        raise ValueError(f"end_id must be a token id below vocabulary_size={vocabulary_size}. Received: end_id={end_id!r}")
    check_choice("activation", activation, (None, "quick_gelu", "gelu"))
    if activation is None:  # the recipe must remember what the files say: nobody passes weights to build it again
        heads = [value // row["head_width"] for value in widths[:2]]
        said = {"activation": "quick_gelu"} if weights is None else read_settings(weights, heads, EPSILON)
        return clip(**{**arguments, **said, **({} if end_id is None else {"end_id": end_id})})

    inputs = {
        "image": keras.Input(input_shape, name="image"),
        "text": keras.Input((max_length,), dtype="int32", name="text"),
    }
    block = {"activation": activation, "epsilon": EPSILON, "mlp_ratio": row["mlp_ratio"], "head_width": row["head_width"]}
    image, grid = image_tower(inputs["image"], widths[0], depths[0], patch_size, **block)
    text = text_tower(inputs["text"], widths[1], depths[1], vocabulary_size, end_id, **block)
    image, text = (embed(x, widths[2], name) for x, name in ((image, "image"), (text, "text")))
    scaled = LogitScale(dtype="float32", name="logit_scale")(image)
    pairs = [
        keras.layers.Reshape((1, widths[2]), dtype="float32", name=f"{part}_row")(x)
        for part, x in (("image", scaled), ("text", text))
    ]
    pairs = keras.layers.Concatenate(axis=1, dtype="float32", name="pairs")(pairs)  # (batch, 2, width)
    model = keras.Model(inputs, pairs, name=name)
    if weights is not None:
        load_weights(model, weights, grid)
    return compile_model(
        model,
        "contrastive",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        beta_2=0.98,
        global_clipnorm=1.0,
        schedule="WarmupCosine",
        epochs=32,
        batch_size=128,
    )


def image_tower(x, width, depth, patch_size, **block):
    """Return the class token `(batch, width)` of a transformer over patches, and the grid `(rows, columns)` of these."""
    x = standard_pixels(x, **PIXELS)
    x = keras.layers.Conv2D(
        width, patch_size, patch_size, use_bias=False, kernel_initializer="lecun_normal", name="image_patch"
    )(x)
    grid = x.shape[1:3]  # (batch, rows, columns, width)
    x = keras.layers.Reshape((grid[0] * grid[1], width), name="image_tokens")(x)
    x = ClassToken(width**-0.5, name="image_class_token")(x)  # (batch, 1 + length, width)
    x = PositionEmbedding(width**-0.5, name="image_position_embedding")(x)
    x = norm(x, "image_pre_norm")
    x = blocks(x, depth, "image", **block)
    x = keras.layers.Cropping1D((0, x.shape[1] - 1), name="image_token")(x)  # the first one: (batch, 1, width)
    return norm(keras.layers.Reshape((width,), name="image_token_vector")(x), "image_norm"), grid


def text_tower(ids, width, depth, vocabulary_size, end_id, **block):
    """Return what a causal transformer says at the token that ends the text: `(batch, width)`."""
    normal = keras.initializers.RandomNormal(stddev=0.02)
    x = keras.layers.Embedding(vocabulary_size, width, embeddings_initializer=normal, name="text_token_embedding")(ids)
    x = PositionEmbedding(0.01, name="text_position_embedding")(x)  # (batch, length, width)
    x = norm(blocks(x, depth, "text", causal=True, **block), "text_norm")
    end = EndToken(end_id, name="text_end")(ids)  # (batch, length)
    return keras.layers.Dot(axes=1, name="text_token_vector")([end, x])


def blocks(x, depth, prefix, *, mlp_ratio, head_width, **arguments):
    """Put `depth` blocks on tokens `(batch, length, width)`."""
    width = x.shape[-1]
    for i in range(depth):
        x = transformer_block(
            x, width // head_width, mlp_ratio * width, f"{prefix}_block{i}", stddev=width**-0.5, **arguments
        )
    return x


def embed(x, width, prefix):
    """Project a tower's vector to an embedding of length 1, `(batch, width)`, in float32."""
    normal = keras.initializers.RandomNormal(stddev=x.shape[-1] ** -0.5)
    x = keras.layers.Dense(width, use_bias=False, kernel_initializer=normal, name=f"{prefix}_projection")(x)
    return keras.layers.UnitNormalization(dtype="float32", name=f"{prefix}_embedding")(x)


def norm(x, name):
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def clip_space(hp):
    """Return keyword arguments of `clip` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "width": hp.Choice("width", [64, 128, 192]),
        "depth": hp.Int("depth", 2, 8),
        "learning_rate": hp.Float("learning_rate", 1e-4, 3e-3, sampling="log"),
        "weight_decay": hp.Float("weight_decay", 1e-3, 0.2, sampling="log"),
    }
