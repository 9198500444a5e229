"""Normalisation whose scale and shift come from a second input."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class AdaptiveNorm(keras.layers.Layer):
    """Normalises, then scales and shifts each channel of each example as a second input says; owns no weights.

    The scale is `1 + scale`, so a `Dense` that starts at zero and puts out `[scale, shift]` leaves the normalised input
    alone at first.

    Args:
        groups: Number of groups of neighbouring channels that are normalised over all positions, as in group
            normalisation; must divide the channels. `None`: all channels of each position, as in layer normalisation.
        epsilon: Float > 0 that is added to the variance.

    Call arguments:
        inputs: Float tensor of shape `(batch, ..., channels)`.
        modulation: Float tensor of shape `(batch, 2 * channels)`: scales, then shifts. Optional: without it the input is
            only normalised.

    Returns:
        Float tensor of the shape of `inputs`.

    Example:

    >>> norm = AdaptiveNorm(groups=2)
    >>> tuple(norm(np.ones((3, 8, 8, 4)), np.zeros((3, 8))).shape)
    (3, 8, 8, 4)

    Reference:
        [Dhariwal & Nichol, 2021](https://arxiv.org/abs/2105.05233), section 3 (groups);
        [Peebles & Xie, 2023](https://arxiv.org/abs/2212.09748), section 3.2 (layers).
    """

    def __init__(self, groups=None, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        if groups is not None and groups < 1:
            raise ValueError(f"groups must be at least 1, or None. Received: groups={groups}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be greater than 0. Received: epsilon={epsilon}")
        self.groups = groups
        self.epsilon = epsilon

    def build(self, inputs_shape, modulation_shape=None):
        channels = inputs_shape[-1]
        if self.groups is not None and channels % self.groups:
            raise ValueError(f"groups must divide the channels, {channels}. Received: groups={self.groups}")
        if modulation_shape is not None and modulation_shape[-1] != 2 * channels:
            raise ValueError(f"modulation must have {2 * channels} columns. Received: shape {tuple(modulation_shape)}")

    def call(self, inputs, modulation=None):
        x = inputs if self.compute_dtype == "float64" else ops.cast(inputs, "float32")
        mean, spread = self.statistics(x)
        factor = 1 / spread
        if modulation is None:
            factor, offset = factor, -mean * factor
        else:
            one_each = (-1, *[1] * (len(x.shape) - 2), x.shape[-1])  # (batch, 1, ..., channels)
            scale, shift = (ops.reshape(part, one_each) for part in ops.split(ops.cast(modulation, x.dtype), 2, axis=-1))
            factor = factor * (1 + scale)
            offset = shift - mean * factor
        return inputs * ops.cast(factor, inputs.dtype) + ops.cast(offset, inputs.dtype)

    def statistics(self, x):
        """Return mean and standard deviation, of shapes that broadcast with `x`."""
        if self.groups is None:
            mean, variance = ops.moments(x, axes=-1, keepdims=True)
            return mean, ops.sqrt(variance + self.epsilon)
        # by channel first: one pass over the positions, and what is left is small
        places, channels = tuple(range(1, len(x.shape) - 1)), x.shape[-1]
        mean, square = (ops.mean(part, axis=places) for part in (x, ops.square(x))) if places else (x, ops.square(x))
        mean, square = (
            ops.mean(ops.reshape(part, (-1, self.groups, channels // self.groups)), axis=-1) for part in (mean, square)
        )
        spread = ops.sqrt(ops.maximum(square - ops.square(mean), 0.0) + self.epsilon)
        one_each = (-1, *[1] * len(places), channels)
        return tuple(ops.reshape(ops.repeat(s, channels // self.groups, axis=-1), one_each) for s in (mean, spread))

    def compute_output_shape(self, inputs_shape, modulation_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}
