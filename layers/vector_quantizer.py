"""The nearest of some vectors, which are averages of what chose them."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class VectorQuantizer(keras.layers.Layer):
    """Replaces each vector by the nearest of a codebook.

    No gradient passes: a model that wants one past it computes `x + stop_gradient(layer(x) - x)`. Nor do gradients train
    the codebook. Of each step, with `n_k` of `n` vectors nearest to code `k`, it keeps moving
    averages of the shares and of the sums,

    - `usage_k = decay * usage_k + (1 - decay) * n_k / n`,
    - `sums_k = decay * sums_k + (1 - decay) * (sum of these vectors) / n`,

    and the vector of the code is `sums_k / usage_k`. Shares instead of counts make it the same on one device and on
    several. A code that hardly any vector chooses takes the place of a random vector of the batch.

    Args:
        codes: Number of codes, at least 2.
        decay: Float in `[0, 1)`, of the averages.
        restart: A code is dead whose usage is below this part of an even share, `1 / codes`; 0 leaves dead codes alone.
        seed: Integer that fixes which vectors dead codes get, or `None`.

    Call arguments:
        x: Float tensor `(batch, ..., width)`.
        training: Whether the codebook learns from `x`.

    Returns:
        Tensor of the same shape.

    Example:

    >>> layer = VectorQuantizer(codes=16)
    >>> x = np.random.normal(size=(2, 3, 3, 4))
    >>> tuple(layer(x).shape), tuple(layer.nearest(x).shape)
    ((2, 3, 3, 4), (2, 3, 3))

    Reference:
        [van den Oord et al., 2017](https://arxiv.org/abs/1711.00937), equations 1 and 2, appendix A.1 for the averages;
        restarts as [Dhariwal et al., 2020](https://arxiv.org/abs/2005.00341), section 3.1.
    """

    def __init__(self, codes, decay=0.99, restart=0.1, seed=None, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})  # neighbours need all digits
        if codes < 2:
            raise ValueError(f"codes must be at least 2. Received: codes={codes}")
        for name, value in (("decay", decay), ("restart", restart)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1). Received: {name}={value}")
        self.codes = codes
        self.decay = decay
        self.restart = restart
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        state = {"trainable": False, "aggregation": "mean", "dtype": "float32", "autocast": False}
        even = keras.initializers.Constant(1 / self.codes)
        normal = keras.initializers.RandomNormal(stddev=1 / self.codes, seed=self.seed)
        self.usage = self.add_weight(name="usage", shape=(self.codes,), initializer=even, **state)
        self.sums = self.add_weight(name="sums", shape=(self.codes, input_shape[-1]), initializer=normal, **state)

    def call(self, x, training=False):
        ids = self.nearest(x)
        nearest = self.look_up(ids)
        if training:
            self.update(x, ids)
        return ops.cast(nearest, self.compute_dtype)

    @property
    def table(self):
        """The vectors of the codes, `(codes, width)`."""
        return ops.convert_to_tensor(self.sums) / ops.maximum(self.usage, 1e-8)[:, None]

    def nearest(self, x):
        """Return the ids of the nearest codes of `x` `(batch, ..., width)`: int32 `(batch, ...)`."""
        rows = ops.reshape(ops.cast(x, "float32"), (-1, x.shape[-1]))
        table = self.table
        distance = ops.sum(ops.square(table), axis=1) - 2 * ops.matmul(rows, ops.transpose(table))  # (rows, codes)
        ids = ops.cast(ops.argmin(distance, axis=1), "int32")
        return ops.reshape(ids, (-1, *x.shape[1:-1]))

    def look_up(self, ids):
        """Return the vectors of ids `(batch, ...)`: float32 `(batch, ..., width)`."""
        return ops.stop_gradient(ops.take(self.table, ids, axis=0))

    def update(self, x, ids):
        """Move the codebook towards `x` `(batch, ..., width)`, whose nearest codes are `ids`."""
        rows = ops.stop_gradient(ops.reshape(ops.cast(x, "float32"), (-1, x.shape[-1])))
        chosen = ops.one_hot(ops.reshape(ids, (-1,)), self.codes, dtype="float32")  # (rows, codes)
        count = ops.cast(ops.shape(rows)[0], "float32")
        share, total = ops.mean(chosen, axis=0), ops.matmul(ops.transpose(chosen), rows) / count
        usage = self.decay * self.usage + (1 - self.decay) * share
        sums = self.decay * self.sums + (1 - self.decay) * total
        if self.restart:
            lot = keras.random.uniform((self.codes,), seed=self.generator)
            place = ops.minimum(ops.cast(lot * count, "int32"), ops.shape(rows)[0] - 1)
            dead = usage < self.restart / self.codes
            sums = ops.where(dead[:, None], ops.take(rows, place, axis=0) / self.codes, sums)
            usage = ops.where(dead, 1 / self.codes, usage)
        self.usage.assign(usage)
        self.sums.assign(sums)

    def shares(self, ids):
        """Return the share that each code has in `ids`: float32 `(codes,)`."""
        return ops.mean(ops.one_hot(ops.reshape(ids, (-1,)), self.codes, dtype="float32"), axis=0)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"codes": self.codes, "decay": self.decay, "restart": self.restart, "seed": self.seed}
        return {**super().get_config(), **config}
