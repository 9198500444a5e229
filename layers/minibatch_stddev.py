"""How much the examples of a batch differ, for a discriminator to see."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class MinibatchStddev(keras.layers.Layer):
    """Adds a channel with the standard deviation among a group of examples, averaged over places and channels.

    A discriminator that sees it tells a generator's samples by their being alike.

    Args:
        group: Number of examples that are compared with each other, or all of a smaller batch. Example `i` of `m` groups
            is in group `i % m`; if the batch cannot be divided, some of its first examples are counted twice.
        epsilon: Float > 0 that is added to the variance.

    Call arguments:
        inputs: Float tensor of shape `(batch, ..., channels)`.

    Returns:
        Float tensor of shape `(batch, ..., channels + 1)`.

    Example:

    >>> tuple(MinibatchStddev()(np.ones((8, 4, 4, 6))).shape)
    (8, 4, 4, 7)

    Reference:
        [Karras et al., 2018](https://arxiv.org/abs/1710.10196), section 3; groups as in
        [Karras et al., 2020](https://arxiv.org/abs/1912.04958), appendix B.
    """

    def __init__(self, group=4, epsilon=1e-8, **kwargs):
        super().__init__(**kwargs)
        if group < 2:
            raise ValueError(f"group must be at least 2. Received: group={group}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be greater than 0. Received: epsilon={epsilon}")
        self.group = group
        self.epsilon = epsilon

    def call(self, inputs):
        shape = ops.shape(inputs)
        batch = shape[0]
        group = ops.minimum(self.group, batch) if not isinstance(batch, int) else min(self.group, batch)
        groups = (batch + group - 1) // group
        index = ops.arange(groups * group) % batch
        x = inputs if self.compute_dtype == "float64" else ops.cast(inputs, "float32")
        x = ops.reshape(ops.take(x, index, axis=0), (group, groups, *inputs.shape[1:]))
        spread = ops.sqrt(ops.var(x, axis=0) + self.epsilon)  # (groups, ..., channels)
        spread = ops.mean(ops.reshape(spread, (groups, -1)), axis=1)
        spread = ops.cast(ops.take(spread, ops.arange(batch) % groups), inputs.dtype)  # (batch,)
        ones = [1] * (len(inputs.shape) - 1)
        channel = ops.broadcast_to(ops.reshape(spread, (-1, *ones)), (batch, *inputs.shape[1:-1], 1))
        return ops.concatenate([inputs, channel], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self):
        return {**super().get_config(), "group": self.group, "epsilon": self.epsilon}
