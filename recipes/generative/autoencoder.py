"""Autoencoders, plain and denoising: embeddings without labels, and scores of what is unusual."""

import keras
from keras import ops

from recipes.generative.coders import vector_decoder, vector_encoder
from recipes.generative.model import GenerativeModel, adapt_vectors, check_arguments
from recipes.training.recipe import builder, check_count, compile_model

# Rows of `vae`. Hinton & Salakhutdinov's layers, 2006, https://doi.org/10.1126/science.1127647, are larger and were
# trained layer by layer.
VARIANTS = {
    "small": {"width": 32, "depth": 0, "latent": 32, "dense": False},
    "base": {"width": 64, "depth": 1, "latent": 64, "dense": False},
    "dense": {"width": 256, "depth": 2, "latent": 16, "dense": True},
}


@builder
def autoencoder(
    input_shape,
    *,
    variant=None,
    adapt=None,
    latent=None,
    width=None,
    depth=None,
    noise=0.0,
    learning_rate=1e-3,
    weight_decay=0.0,
    name="autoencoder",
):
    """Build an autoencoder: data to a short vector and back, with as little lost as can be.

    `model.encode(x)` gives the vectors, `model.reconstruct(x)` what comes back, and `model.anomaly_scores(x)` how much is
    lost: data unlike those it was trained on come back worse.

    Args:
        input_shape: `(height, width, channels)` of images, at least 8 pixels a side, or `(features,)` of vectors.
        variant: `"small"` or `"base"`, of convolutions, or `"dense"`; `None` for `"small"` of images and `"dense"` of
            vectors, which take nothing else.
        adapt: Vectors to standardise by; `None` leaves it to `recipes.fit`.
        latent: Length of the vector between; `None` as the variant says, but not more than a vector has features.
        width: Channels after the first halving, or units of a hidden layer; `None` as the variant says.
        depth: Residual blocks a halving, or hidden layers; `None` as the variant says.
        noise: Standard deviation of noise that is added to the input in training and not to the target, at least 0, where
            images are -1..1 and vectors have the standard deviation 1. 0.3 makes a denoising autoencoder.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        name: Name of the model.

    Returns:
        Compiled `Autoencoder`; train it with `fit(x)` or `recipes.fit(model, x)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = autoencoder((8, 8, 1), width=8, latent=4)
    >>> model.encode(np.zeros((2, 8, 8, 1), "uint8")).shape
    (2, 4)

    Reference:
        [Hinton & Salakhutdinov, 2006](https://doi.org/10.1126/science.1127647); noise as
        [Vincent et al., 2010](https://www.jmlr.org/papers/v11/vincent10a.html), section 3.
    """
    row = coder_row(VARIANTS, input_shape, None, variant, latent=latent, width=width, depth=depth)
    check_amount("noise", noise)
    model = Autoencoder(
        vector_encoder(input_shape, row["latent"], row),
        vector_decoder(input_shape, row["latent"], row),
        data_shape=input_shape,
        noise=noise,
        name=name,
    )
    adapt_vectors(model, adapt)
    return compile_model(
        model,
        "generate",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        epochs=30,
        batch_size=64,
    )


def coder_row(variants, input_shape, num_classes, variant, **given):
    """Return the row of `variants` that the arguments of a builder mean, checked."""
    if variant is None and len(input_shape) in (1, 3):
        variant = "dense" if len(input_shape) == 1 else "small"
    check_arguments(input_shape, num_classes, variant, variants)
    row = dict(variants[variant])
    if len(input_shape) == 1 and "latent" in row:
        row["latent"] = min(row["latent"], input_shape[0])  # vectors need no more numbers than they have
    row |= {key: value for key, value in given.items() if value is not None}
    if len(input_shape) == 1 and not row["dense"]:
        raise ValueError(f'variant must be "dense" for vectors, or None. Received: variant={variant!r}')
    for key in given:
        check_count(key, row[key], minimum=0 if key == "depth" else 1)
    return row


def check_amount(name, value):
    """Raise `ValueError` unless `value` is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number >= 0. Received: {name}={value!r}")


@keras.saving.register_keras_serializable("recipes")
class Autoencoder(GenerativeModel):
    """What `autoencoder` returns.

    Args:
        encoder: Network from data `(batch, *data_shape)` to `(batch, latent)`.
        decoder: Network back.
        data_shape: Shape of an example.
        noise: Standard deviation of the noise on the input in training.
        **kwargs: `name` and `dtype` of `keras.Model`.
    """

    def __init__(self, encoder, decoder, *, data_shape, noise=0.0, **kwargs):
        super().__init__(data_shape, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.noise_level = noise
        self.random = keras.random.SeedGenerator()

    def call(self, inputs, training=None):
        return inputs if training else self.to_data(self.decoder(self.encoder(self.to_network(inputs))))

    def batch_loss(self, x, labels, training):
        seen = x
        if training and self.noise_level:
            seen = x + self.noise_level * keras.random.normal(ops.shape(x), seed=self.random)
        back = self.decoder(self.encoder(seen, training=training), training=training)
        return ops.mean(ops.square(back - x))

    def encode(self, x):
        """Return the vectors of data `(n, *data_shape)`: float32 `(n, latent)`."""
        self.check_adapted()
        x, _ = self.check_data(x)
        return self.run("encode", lambda x: self.encoder(self.to_network(x)), x)

    def decode(self, codes):
        """Return the data that vectors `(n, latent)` stand for: float32 `(n, *data_shape)`."""
        self.check_adapted()
        return self.run("decode", lambda z: self.to_data(self.decoder(z)), check_codes(self.decoder, codes))

    def reconstruct(self, x):
        """Return data `(n, *data_shape)` as they come back: float32 of the same shape."""
        self.check_adapted()
        x, _ = self.check_data(x)
        return self.run("reconstruct", self.call, x)

    def anomaly_scores(self, x):
        """Return how badly each of data `(n, *data_shape)` comes back: float32 `(n,)`.

        It is the mean squared difference in the network's scale. Data unlike those of the training have higher scores.
        """
        self.check_adapted()
        x, _ = self.check_data(x)

        def score(x):
            x = self.to_network(x)
            return ops.mean(ops.square(self.decoder(self.encoder(x)) - x), axis=tuple(range(1, len(x.shape))))

        return self.run("anomaly_scores", score, x)

    def sample(self, n, *, labels=None, seed=None, batch_size=64):
        """Raise `ValueError`: an autoencoder does not know which vectors stand for data."""
        raise ValueError(
            "An autoencoder cannot sample. Build recipes.vae, which learns codes that are normally distributed."
        )

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "noise": self.noise_level,
        }


def check_codes(decoder, codes):
    """Return `codes` as float32 `(n, latent)`; raise `ValueError` if the decoder does not take them."""
    codes = ops.convert_to_numpy(codes).astype("float32")
    latent = decoder.get_layer("code").output.shape[-1]
    if codes.ndim != 2 or codes.shape[1] != latent or not len(codes):
        raise ValueError(f"codes must have the shape (n, {latent}). Received: {codes.shape}")
    return codes


def autoencoder_space(hp):
    """Return keyword arguments of `autoencoder` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "latent": hp.Choice("latent", [8, 16, 32, 64]),
        "width": hp.Choice("width", [16, 32, 64]),
        "noise": hp.Float("noise", 0.0, 0.5, step=0.1),
        "learning_rate": hp.Float("learning_rate", 3e-4, 3e-3, sampling="log"),
    }
