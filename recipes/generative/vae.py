"""Variational autoencoders, dense and convolutional."""

import functools
import math

import keras
import numpy as np
from keras import ops

from recipes.generative.autoencoder import check_amount, check_codes, coder_row
from recipes.generative.coders import vector_decoder, vector_encoder
from recipes.generative.densities import bernoulli_nll, gaussian_kl, gaussian_nll, mixture_nll
from recipes.generative.model import GenerativeModel, adapt_vectors, label_vector
from recipes.training.recipe import builder, check_choice, check_fraction, compile_model

# small: 4x4 convolutions with stride 2 as Burgess et al., 2018, https://arxiv.org/abs/1804.03599, appendix A, but more
# channels where the grid is smaller; base: twice as wide, with residual blocks.
# 128 components: after 4 epochs of Fashion-MNIST the distance of benchmarks/generative.py was 7.2 with them, 14.0 with one.
# dense: after Kingma & Welling, 2014, https://arxiv.org/abs/1312.6114, section 5, which has one layer of 500 units.
VARIANTS = {
    "small": {"width": 32, "depth": 0, "latent": 32, "components": 128, "dense": False},
    "base": {"width": 64, "depth": 1, "latent": 64, "components": 128, "dense": False},
    "dense": {"width": 256, "depth": 2, "latent": 16, "components": 32, "dense": True},
}
LIKELIHOODS = ("gaussian", "bernoulli")


@builder
def vae(
    input_shape,
    num_classes=None,
    *,
    variant=None,
    adapt=None,
    latent=None,
    width=None,
    depth=None,
    components=None,
    likelihood="gaussian",
    beta=1.0,
    kl_warmup=0.0,
    free_bits=0.0,
    learning_rate=3e-3,
    weight_decay=0.0,
    name="vae",
):
    """Build a variational autoencoder: data to a distribution of short vectors and back.

    The loss is the negative evidence bound in nats an example, `reconstruction + beta * kl`; both parts are metrics. The
    Gaussian likelihood learns its standard deviation, one for images and one for each column of vectors, so that `beta=1`
    needs no tuning to the size of the data.

    Args:
        input_shape: `(height, width, channels)` of images, at least 8 pixels a side, or `(features,)` of vectors.
        num_classes: Number of classes of a conditional model, trained with `fit(x, labels)`; `None` for data alone.
        variant: `"small"` or `"base"`, of convolutions, or `"dense"`; `None` for `"small"` of images and `"dense"` of
            vectors, which take nothing else.
        adapt: Vectors to standardise by; `None` leaves it to `recipes.fit`.
        latent: Length of the vector between; `None` as the variant says, but not more than a vector has features.
        width: Channels after the first halving, or units of a hidden layer; `None` as the variant says.
        depth: Residual blocks a halving, or hidden layers; `None` as the variant says.
        components: Normal distributions whose mixture the vectors are drawn from. 1 is the standard normal; more are
            learned, and let groups of data stand apart, which one normal joins by bridges. `None` as the variant says.
        likelihood: `"gaussian"`, or `"bernoulli"` for images that are nearly black and white.
        beta: Weight of the divergence, at least 0: more makes the parts of the vector independent, and images blurred.
        kl_warmup: Share of the run of `recipes.fit` in which the weight of the divergence rises from 0, in `[0, 1)`;
            with a plain `fit` pass `recipes.callbacks.KLAnnealing`.
        free_bits: Nats of divergence that each part of the vector has for free, at least 0: against parts that say nothing.
            With several components the divergence is one number, and has `latent` times as much for free.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        name: Name of the model.

    Returns:
        Compiled `VAE` with `encode`, `decode`, `reconstruct`, `interpolate` and `sample`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = vae((8, 8, 1), width=8, latent=4)
    >>> model.sample(3).shape
    (3, 8, 8, 1)

    Reference:
        [Kingma & Welling, 2014](https://arxiv.org/abs/1312.6114); beta as
        [Higgins et al., 2017](https://openreview.net/forum?id=Sy2fzU9gl), equation 4; free bits as
        [Kingma et al., 2016](https://arxiv.org/abs/1606.04934), equation 15; the learned deviation as
        [Rybkin et al., 2021](https://arxiv.org/abs/2006.13202), section 3; the mixture as
        [Tomczak & Welling, 2018](https://arxiv.org/abs/1705.07120), section 3, "MoG".
    """
    row = coder_row(
        VARIANTS, input_shape, num_classes, variant, latent=latent, width=width, depth=depth, components=components
    )
    check_choice("likelihood", likelihood, LIKELIHOODS)
    check_amount("beta", beta)
    check_amount("free_bits", free_bits)
    check_fraction("kl_warmup", kl_warmup)
    if likelihood == "bernoulli" and len(input_shape) == 1:
        raise ValueError('likelihood must be "gaussian" for vectors. Received: likelihood="bernoulli"')
    conditions = [
        label_vector(num_classes, 16, name=f"{part}_label") if num_classes else None for part in ("encoder", "decoder")
    ]
    model = VAE(
        vector_encoder(input_shape, 2 * row["latent"], row, conditions[0]),
        vector_decoder(input_shape, row["latent"], row, conditions[1]),
        data_shape=input_shape,
        num_classes=num_classes,
        components=row["components"],
        likelihood=likelihood,
        beta=beta,
        kl_warmup=kl_warmup,
        free_bits=free_bits,
        name=name,
    )
    adapt_vectors(model, adapt)
    vectors = len(input_shape) == 1
    return compile_model(
        model,
        "generate",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        # The rate of 1e-3 of pythae's examples led, in 3 epochs of 6,000 pictures of Fashion-MNIST, to a bound of 562 nats
        # and 3e-3 to one of 178; in 150 epochs of scikit-learn's digits to 15.8 and 10.7 on the test set (one seed each).
        # The first gradient of the deviation is 50 times the later ones: .999 would remember it for 1000 steps
        beta_2=0.95,
        epochs=100 if vectors else 30,
        batch_size=256 if vectors else 64,
    )


@keras.saving.register_keras_serializable("recipes")
class VAE(GenerativeModel):
    """What `vae` returns.

    Args:
        encoder: Network from data, or `[data, label]`, to `(batch, 2 * latent)`: means and log-variances.
        decoder: Network from `(batch, latent)`, or `[vector, label]`, to data, or their logits.
        data_shape: Shape of an example.
        num_classes: Number of classes, or `None`.
        components, likelihood, beta, kl_warmup, free_bits: As in `vae`.
        **kwargs: `name` and `dtype` of `keras.Model`.

    Attributes:
        kl_weight: Factor of the divergence besides `beta`, a variable that `KLAnnealing` moves; 1 otherwise.
    """

    def __init__(
        self,
        encoder,
        decoder,
        *,
        data_shape,
        num_classes=None,
        components=1,
        likelihood="gaussian",
        beta=1.0,
        kl_warmup=0.0,
        free_bits=0.0,
        **kwargs,
    ):
        super().__init__(data_shape, num_classes, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.components = components
        self.likelihood = likelihood
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.latent = decoder.get_layer("code").output.shape[-1]
        # for the vector, for the component, and for what the mean of data leaves out
        self.noise_shape = (self.latent + 1 + (0 if self.images else self.data_shape[0]),)
        add = functools.partial(self.add_weight, dtype="float32", autocast=False)
        if components > 1:
            shape, normal = (components, self.latent), keras.initializers.RandomNormal(stddev=1.0)
            self.prior_mean = add(name="prior_mean", shape=shape, initializer=normal)
            narrow = keras.initializers.Constant(-1.0)
            self.prior_log_scale = add(name="prior_log_scale", shape=shape, initializer=narrow)
            self.prior_logits = add(name="prior_logits", shape=shape[:1], initializer="zeros")
        if likelihood == "gaussian":
            shape = () if self.images else self.data_shape
            # begins at .14: at 1 the code would say too little of the data to be worth its divergence, and never begin to
            start = keras.initializers.Constant(-2.0)
            self.log_scale = add(name="log_scale", shape=shape, initializer=start)
        self.kl_weight = add(name="kl_weight", shape=(), initializer="ones", trainable=False)
        self.random = keras.random.SeedGenerator()
        self.reconstruction = keras.metrics.Mean(name="reconstruction")
        self.kl = keras.metrics.Mean(name="kl")

    def fit_callbacks(self):
        """Return the callbacks that `recipes.fit` adds: `KLAnnealing` if there is a warm-up."""
        from recipes.callbacks import KLAnnealing

        return [KLAnnealing(self.kl_warmup)] if self.kl_warmup else []

    def call(self, inputs, training=None):
        if training or self.num_classes is not None:
            return inputs
        return self._reconstruct(inputs, None)

    def batch_loss(self, x, labels, training):
        mean, log_variance = self.posterior(x, labels, training)
        code = mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=self.random)
        outputs = self.outputs(code, labels, training)
        if self.likelihood == "bernoulli":
            reconstruction = ops.mean(bernoulli_nll((x + 1) / 2, outputs))
        else:
            reconstruction = ops.mean(gaussian_nll(x, outputs, ops.convert_to_tensor(self.log_scale)))
        kl = ops.mean(self.divergence(code, mean, log_variance), axis=0)  # (latent,), or (1,) of a mixture
        self.reconstruction.update_state(reconstruction)
        self.kl.update_state(ops.sum(kl))
        if self.free_bits:
            kl = ops.maximum(kl, self.free_bits * self.latent / kl.shape[0])
        return reconstruction + self.beta * self.kl_weight * ops.sum(kl)

    def make_optimizer(self, settings, **extra):
        # few numbers that have far to go from where they begin
        fast = [(r"(^|/)(prior_(mean|log_scale|logits)|log_scale)$", 3.0)]
        return super().make_optimizer(settings, **{"lr_multipliers": fast, **extra})

    def divergence(self, code, mean, log_variance):
        """Return the divergence from the prior: exact `(batch, latent)`, of a mixture by one draw, `code`: `(batch, 1)`."""
        if self.components == 1:
            return gaussian_kl(mean, log_variance)
        prior = mixture_nll(code, self.prior_mean, self.prior_log_scale, self.prior_logits)
        return (prior - gaussian_nll(code, mean, 0.5 * log_variance))[:, None]

    def posterior(self, x, labels=None, training=False):
        """Return mean and log-variance `(batch, latent)` of the vectors of a batch in the network's scale."""
        code = self.encoder(x if labels is None else [x, labels], training=training)
        return code[:, : self.latent], code[:, self.latent :]

    def outputs(self, code, labels=None, training=False):
        """Return what the decoder makes of vectors: means, or logits."""
        return self.decoder(code if labels is None else [code, labels], training=training)

    def means(self, code, labels=None):
        """Return the mean data of vectors `(batch, latent)`, in the network's scale."""
        outputs = self.outputs(code, labels)
        return 2 * ops.sigmoid(outputs) - 1 if self.likelihood == "bernoulli" else outputs

    def generate_batch(self, noise, labels, seed):
        code = noise[:, : self.latent]
        if self.components > 1:
            lot = 0.5 * (1 + ops.erf(noise[:, self.latent, None] / math.sqrt(2)))  # (batch, 1), uniform in 0..1
            before = ops.cumsum(ops.softmax(self.prior_logits))[:-1]
            which = ops.sum(ops.cast(before <= lot, "int32"), axis=1)  # (batch,)
            scale = ops.exp(ops.take(ops.convert_to_tensor(self.prior_log_scale), which, axis=0))
            code = ops.take(ops.convert_to_tensor(self.prior_mean), which, axis=0) + scale * code
        x = self.means(code, labels)
        # what the mean leaves out belongs to a vector; in images it would be grain
        return x if self.images else x + ops.exp(self.log_scale) * noise[:, self.latent + 1 :]

    def encode(self, x, *, labels=None):
        """Return the mean vectors of data.

        Args:
            x: Array `(n, *data_shape)`.
            labels: Their class ids `(n,)`, of a conditional model.

        Returns:
            Float32 array `(n, latent)`.
        """
        self.check_adapted()
        x, labels = self.check_data(x, labels)
        return self._run("encode", lambda x, labels: self.posterior(self.to_network(x), labels)[0], x, labels)

    def decode(self, codes, *, labels=None):
        """Return the mean data of vectors.

        Args:
            codes: Array `(n, latent)`.
            labels: Class ids, one or `n`, of a conditional model; `None` takes the classes in turn.

        Returns:
            Float32 array `(n, *data_shape)`.
        """
        self.check_adapted()
        codes = check_codes(self.decoder, codes)
        labels = self.sample_labels(labels, len(codes))
        return self._run("decode", lambda z, labels: self.to_data(self.means(z, labels)), codes, labels)

    def reconstruct(self, x, *, labels=None):
        """Return data as they come back from their mean vectors; arguments as in `encode`."""
        self.check_adapted()
        x, labels = self.check_data(x, labels)
        return self._run("reconstruct", self._reconstruct, x, labels)

    def interpolate(self, first, second, *, steps=8, labels=None):
        """Return what lies between data: the vectors on the straight line between theirs, decoded.

        Args:
            first, second: Arrays `(n, *data_shape)`.
            steps: Number of places on each line, both ends included, at least 2.
            labels: Class ids `(n,)` of both, of a conditional model.

        Returns:
            Float32 array `(n, steps, *data_shape)`.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
            raise ValueError(f"steps must be an integer >= 2. Received: steps={steps!r}")
        if len(first) != len(second):
            raise ValueError(f"first and second must be equally long. Received: {len(first)} and {len(second)}")
        ends = [self.encode(x, labels=labels)[:, None] for x in (first, second)]
        share = np.linspace(0, 1, steps, dtype="float32")[:, None]
        codes = ends[0] * (1 - share) + ends[1] * share  # (n, steps, latent)
        labels = None if labels is None else np.repeat(labels, steps)
        data = self.decode(codes.reshape(-1, self.latent), labels=labels)
        return data.reshape(len(first), steps, *self.data_shape)

    def _reconstruct(self, x, labels):
        return self.to_data(self.means(self.posterior(self.to_network(x), labels)[0], labels))

    def _run(self, name, function, x, labels):
        if self.num_classes is None:
            return self.run(name, lambda x: function(x, None), x)
        return self.run(name, function, x, np.reshape(labels, -1).astype("int32"))

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "components": self.components,
            "likelihood": self.likelihood,
            "beta": self.beta,
            "kl_warmup": self.kl_warmup,
            "free_bits": self.free_bits,
        }


def vae_space(hp):
    """Return keyword arguments of `vae` chosen by `hp`, a `keras_tuner.HyperParameters`."""
    return {
        "latent": hp.Choice("latent", [8, 16, 32, 64]),
        "width": hp.Choice("width", [16, 32, 64]),
        "beta": hp.Float("beta", 0.25, 4.0, sampling="log"),
        "free_bits": hp.Choice("free_bits", [0.0, 0.05, 0.2]),
        "learning_rate": hp.Float("learning_rate", 3e-4, 3e-3, sampling="log"),
    }
