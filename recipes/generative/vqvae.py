"""VQ-VAE: an autoencoder whose code is a grid of ids, and a transformer that writes such ids."""

import math

import keras
import numpy as np
from keras import ops

from recipes.blocks import transformer_block
from recipes.generative.autoencoder import check_amount, coder_row
from recipes.generative.coders import dense, grids, grow, shrink
from recipes.generative.model import ROWS, GenerativeModel, adapt_vectors
from recipes.layers import PositionEmbedding, VectorQuantizer
from recipes.sequence.decoding import Decoder
from recipes.sequence.generate import pick
from recipes.training.checks import check_arrays
from recipes.training.recipe import builder, check_fraction, compile_model

# small, base: 512 codes as van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, section 4.1, who have 256 channels
# and a PixelCNN; a transformer as prior is that of Esser et al., 2021, https://arxiv.org/abs/2012.09841, much smaller. It
# does two thirds of the work of a step of "small", which is cut to what two cores do in minutes.
VARIANTS = {
    "small": {"width": 32, "depth": 1, "codes": 512, "prior_width": 128, "prior_depth": 3, "dense": False},
    "base": {"width": 128, "depth": 2, "codes": 512, "prior_width": 256, "prior_depth": 8, "dense": False},
    "dense": {"width": 256, "depth": 2, "codes": 64, "prior_width": 64, "prior_depth": 2, "dense": True},
}
CODE_WIDTH = 16  # few, so that many codes are near to something: Yu et al., 2022, https://arxiv.org/abs/2110.04627, 3.2
HEAD_WIDTH = 32


@builder
def vqvae(
    input_shape,
    num_classes=None,
    *,
    variant=None,
    adapt=None,
    codes=None,
    width=None,
    depth=None,
    prior_width=None,
    prior_depth=None,
    commitment=0.25,
    dropout=0.1,
    learning_rate=1e-3,
    weight_decay=0.01,
    name="vqvae",
):
    """Build a VQ-VAE: data to a grid of ids from a codebook and back, and a transformer that writes new ids.

    One `fit` trains both. The autoencoder learns by its own loss alone; the transformer, the prior, learns beside it to
    guess each id from those before it, and has the last steps, when the ids hardly change any more, to get them right.

    Args:
        input_shape: `(height, width, channels)` of images, at least 8 pixels a side, or `(features,)` of vectors.
        num_classes: Number of classes that the prior is told, trained with `fit(x, labels)`; `None` for data alone.
        variant: `"small"` or `"base"`, of convolutions, or `"dense"`; `None` for `"small"` of images and `"dense"` of
            vectors, which take nothing else.
        adapt: Vectors to standardise by; `None` leaves it to `recipes.fit`.
        codes: Number of codes in the codebook; `None` as the variant says.
        width: Channels after the first halving, or units of a hidden layer; `None` as the variant says.
        depth: Residual blocks a halving, or hidden layers; `None` as the variant says.
        prior_width: Length of the prior's vectors, a multiple of 32; `None` as the variant says.
        prior_depth: Number of the prior's blocks; `None` as the variant says.
        commitment: Weight of the squared distance of what the encoder puts out from its code, at least 0.
        dropout: Fraction dropped in the prior, in `[0, 1)`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        name: Name of the model.

    Returns:
        Compiled `VQVAE` with `encode`, `decode`, `reconstruct` and `sample`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = vqvae((8, 8, 1), codes=16, width=8, prior_width=32, prior_depth=1)
    >>> model.encode(np.zeros((2, 8, 8, 1), "uint8")).shape
    (2, 4, 4)

    Reference:
        [van den Oord et al., 2017](https://arxiv.org/abs/1711.00937), equation 3, and appendix A.1 for the codebook.
    """
    given = {"codes": codes, "width": width, "depth": depth, "prior_width": prior_width, "prior_depth": prior_depth}
    row = coder_row(VARIANTS, input_shape, num_classes, variant, **given)
    check_amount("commitment", commitment)
    check_fraction("dropout", dropout)
    if row["codes"] < 2:
        raise ValueError(f"codes must be an integer >= 2. Received: codes={row['codes']}")
    if row["prior_width"] % HEAD_WIDTH:
        raise ValueError(f"prior_width must be a multiple of {HEAD_WIDTH}. Received: prior_width={row['prior_width']}")
    encoder = encode_to_grid(input_shape, row)
    grid = encoder.output.shape[1:]
    model = VQVAE(
        encoder,
        decode_grid(input_shape, grid, row),
        code_prior(math.prod(grid[:-1]), row, num_classes, dropout),
        data_shape=input_shape,
        num_classes=num_classes,
        codes=row["codes"],
        commitment=commitment,
        name=name,
    )
    adapt_vectors(model, adapt)
    vectors = len(input_shape) == 1
    return compile_model(
        model,
        "generate",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        beta_2=0.99,
        global_clipnorm=1.0,
        epochs=100 if vectors else 30,
        batch_size=256 if vectors else 64,
    )


def encode_to_grid(input_shape, row):
    """Build the network from data to vectors of length `CODE_WIDTH`, each of norm `sqrt(CODE_WIDTH)`, one for each id."""
    data = x = keras.Input(input_shape, name="data")
    if row["dense"]:
        x = keras.layers.Flatten(name="flat")(x)
        x = dense(x, row["width"], row["depth"], "encoder")
        length = min(16, max(2, math.prod(input_shape)))
        x = keras.layers.Dense(length * CODE_WIDTH, name="code")(x)
        x = keras.layers.Reshape((length, CODE_WIDTH), name="code_shape")(x)
    else:
        x = shrink(x, row["width"], row["depth"])
        x = keras.layers.Conv2D(CODE_WIDTH, 1, name="code")(x)
    # as long as the codes are when they begin, so that none is out of reach
    x = keras.layers.LayerNormalization(center=False, scale=False, dtype="float32", name="code_norm")(x)
    return keras.Model(data, x, name="encoder")


def decode_grid(input_shape, grid, row):
    """Build the network from the vectors of ids, of shape `grid`, to data."""
    code = x = keras.Input(grid, name="code")
    if row["dense"]:
        x = dense(keras.layers.Flatten(name="flat")(x), row["width"], row["depth"], "decoder")
        x = keras.layers.Dense(math.prod(input_shape), dtype="float32", name="data")(x)
        if len(input_shape) == 3:
            x = keras.layers.Reshape(input_shape, dtype="float32", name="image")(x)
    else:
        channels = row["width"] << (len(grids(input_shape)) - 2)
        x = keras.layers.Conv2D(channels, 3, padding="same", name="grid")(x)
        x = grow(x, input_shape, row["width"], row["depth"])
    return keras.Model(code, x, name="decoder")


def code_prior(length, row, num_classes, dropout):
    """Build the network that guesses ids: `(batch, length)`, of which the first tells the class, to logits of the codes."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    width, depth = row["prior_width"], row["prior_depth"]
    x = keras.layers.Embedding(row["codes"] + (num_classes or 1), width, name="token_embedding")(ids)
    x = PositionEmbedding(length=length, name="position_embedding")(x)
    for i in range(depth):
        x = transformer_block(
            x,
            width // HEAD_WIDTH,
            4 * width,
            f"block{i}",
            dropout=dropout,
            causal=True,
            output_stddev=0.02 / (2 * depth) ** 0.5,
        )
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(ids, keras.layers.Dense(row["codes"], dtype="float32", name="logits")(x), name="prior")


@keras.saving.register_keras_serializable("recipes")
class VQVAE(GenerativeModel):
    """What `vqvae` returns.

    Args:
        encoder: Network from data to vectors `(batch, *grid, width)`.
        decoder: Network back.
        prior: Causal network from ids `(batch, length)` to logits `(batch, length, codes)`; the first id is `codes`, or that
            plus the class.
        data_shape: Shape of an example.
        num_classes: Number of classes, or `None`.
        codes: Number of codes.
        commitment: Weight of the distance of the vectors from their codes.
        **kwargs: `name` and `dtype` of `keras.Model`.
    """

    def __init__(self, encoder, decoder, prior, *, data_shape, num_classes=None, codes=512, commitment=0.25, **kwargs):
        super().__init__(data_shape, num_classes, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.codes = codes
        self.commitment = commitment
        self.grid = encoder.output.shape[1:-1]
        self.length = math.prod(self.grid)
        self.quantizer = VectorQuantizer(codes, dtype="float32", name="quantizer")
        self.quantizer.build((None, *encoder.output.shape[1:]))
        if not self.images:  # the variance that the decoder leaves out, for samples
            state = {"trainable": False, "aggregation": "mean", "dtype": "float32", "autocast": False}
            self.residual = self.add_weight(name="residual", shape=self.data_shape, initializer="ones", **state)
        self.reconstruction = keras.metrics.Mean(name="reconstruction")
        self.prior_loss = keras.metrics.Mean(name="prior")
        self.perplexity = keras.metrics.Mean(name="perplexity")

    def call(self, inputs, training=None):
        return inputs if training else self._reconstruct(inputs)

    def batch_loss(self, x, labels, training):
        vectors = self.encoder(x, training=training)
        ids = self.quantizer.nearest(vectors)
        nearest = self.quantizer.look_up(ids)
        back = self.decoder(vectors + ops.stop_gradient(nearest - vectors), training=training)
        errors = ops.square(back - x)
        loss = ops.mean(errors) + self.commitment * ops.mean(ops.square(vectors - nearest))
        sequence = ops.reshape(ids, (-1, self.length))
        first = ops.full_like(sequence[:, :1], self.codes) + (0 if labels is None else labels[:, None])
        logits = self.prior(ops.concatenate([first, sequence[:, :-1]], axis=1), training=training)
        prior = ops.mean(ops.sparse_categorical_crossentropy(sequence, logits, from_logits=True))
        if training:
            self.quantizer.update(vectors, ids)
            if not self.images:
                self.residual.assign(0.99 * self.residual + 0.01 * ops.stop_gradient(ops.mean(errors, axis=0)))
        share = self.quantizer.shares(ids)
        self.reconstruction.update_state(ops.mean(errors))
        self.prior_loss.update_state(prior)
        self.perplexity.update_state(ops.exp(-ops.sum(share * ops.log(share + 1e-10))))
        return loss + prior

    def noise(self, generator):
        lots = generator.random(self.length, "float32")
        rest = generator.standard_normal(0 if self.images else self.data_shape[0], "float32")
        return np.concatenate([np.minimum(lots, np.float32(1 - 2**-23)), rest])  # below 1 even after rounding

    def sample(self, n, *, labels=None, seed=None, temperature=1.0, batch_size=ROWS):
        """Make new data; arguments as in `GenerativeModel.sample`, and:

        Args:
            temperature: Number > 0 that divides the prior's logits: below 1 the samples are likelier and less varied.
        """
        check_amount("temperature", temperature)
        if not temperature:
            raise ValueError("temperature must be > 0. Received: temperature=0")
        return self.draw(n, labels, seed, batch_size, temperature=temperature)

    def generate_batch(self, noise, labels, seed, temperature=1.0):
        x = self.means(ops.reshape(self.write(noise, labels, temperature), (-1, *self.grid)))
        return x if self.images else x + ops.sqrt(ops.convert_to_tensor(self.residual)) * noise[:, self.length :]

    def write(self, lots, labels, temperature):
        """Return new ids `(batch, length)`, one after the other by the lots `(batch, length or more)` in [0, 1)."""
        rows = lots.shape[0]
        decoder = Decoder(self.prior)
        first = ops.full((rows, 1), self.codes, dtype="int32") + (0 if labels is None else labels[:, None])

        def choose(ids, position, logits):
            lot = ops.slice(lots, (0, position), (rows, 1))
            chosen = pick(logits / temperature, lot, None, None)
            return ops.slice_update(ids, (0, position), chosen[:, None])

        def body(position, ids, caches):
            last = ops.slice(ids, (0, position - 1), (rows, 1))
            logits, caches = decoder.step(last, caches, position)
            return position + 1, choose(ids, position, logits), caches

        logits, caches = decoder.step(first, decoder.start(rows, self.length), 0)
        ids = choose(ops.zeros((rows, self.length), "int32"), 0, logits)
        state = ops.convert_to_tensor(1, "int32"), ids
        return decoder.loop(lambda position, *_: position < self.length, body, state, caches, 1)[1]

    def means(self, ids):
        """Return the data of ids `(batch, *grid)`, in the network's scale."""
        return self.decoder(self.quantizer.look_up(ids))

    def encode(self, x):
        """Return the ids of data `(n, *data_shape)`: int32 `(n, *grid)`."""
        self.check_adapted()
        x, _ = check_arrays(self, x, None)
        self.check_pixels(x)
        return self.run("encode", lambda x: self.quantizer.nearest(self.encoder(self.to_network(x))), x)

    def decode(self, ids):
        """Return the data of ids `(n, *grid)`: float32 `(n, *data_shape)`."""
        self.check_adapted()
        ids = np.asarray(ids)
        if ids.shape[1:] != tuple(self.grid) or ids.dtype.kind not in "iu" or not len(ids):
            raise ValueError(f"ids must be integers of shape (n, {', '.join(map(str, self.grid))}). Received: {ids.shape}")
        if ids.min() < 0 or ids.max() >= self.codes:
            raise ValueError(f"ids must be in 0..{self.codes - 1}. Received: {ids.min()}..{ids.max()}")
        return self.run("decode", lambda ids: self.to_data(self.means(ids)), ids.astype("int32"))

    def reconstruct(self, x):
        """Return data `(n, *data_shape)` as their ids give them back: float32 of the same shape."""
        self.check_adapted()
        x, _ = check_arrays(self, x, None)
        self.check_pixels(x)
        return self.run("reconstruct", self._reconstruct, x)

    def _reconstruct(self, x):
        return self.to_data(self.means(self.quantizer.nearest(self.encoder(self.to_network(x)))))

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "prior": keras.saving.serialize_keras_object(self.prior),
            "codes": self.codes,
            "commitment": self.commitment,
        }


def vqvae_space(hp):
    """Return keyword arguments of `vqvae` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "codes": hp.Choice("codes", [64, 128, 256, 512]),
        "width": hp.Choice("width", [32, 64, 128]),
        "prior_width": hp.Choice("prior_width", [64, 128, 256]),
        "prior_depth": hp.Int("prior_depth", 1, 6),
        "dropout": hp.Float("dropout", 0.0, 0.3, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 3e-3, sampling="log"),
    }
