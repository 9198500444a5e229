"""Noise for what chance decides in an image."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class NoiseInjection(keras.layers.Layer):
    """Adds one random image to all channels, times a learned number that starts at 0.

    In training every example has its own noise at every step, outside training all have the same fixed one, which is
    stored with the weights.

    Args:
        seed: Integer, or `None` for a random one.

    Call arguments:
        inputs: Float tensor of shape `(batch, height, width, channels)`; height and width must be static.
        training: Whether to draw new noise.

    Returns:
        Float tensor of the shape of `inputs`.

    Example:

    >>> tuple(NoiseInjection(seed=0)(np.ones((2, 8, 8, 4))).shape)
    (2, 8, 8, 4)

    Reference:
        [Karras et al., 2019](https://arxiv.org/abs/1812.04948), section 2; one strength for all channels as in
        [Karras et al., 2020](https://arxiv.org/abs/1912.04958), section 2.2.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        self.strength = self.add_weight(name="strength", shape=(), initializer="zeros")
        normal = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.noise = self.add_weight(name="noise", shape=(*input_shape[1:3], 1), initializer=normal, trainable=False)

    def call(self, inputs, training=False):
        noise = ops.convert_to_tensor(self.noise)
        if training:
            shape = (ops.shape(inputs)[0], *inputs.shape[1:3], 1)
            noise = keras.random.normal(shape, dtype=inputs.dtype, seed=self.seed_generator)
        return inputs + noise * ops.cast(self.strength, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
