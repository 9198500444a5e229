"""Dropout of whole words."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class WordDropout(keras.layers.Layer):
    """Makes the factors that drop whole words of the vocabulary: for a training step, wherever they stand in the batch.

    To multiply the vectors of the tokens by these is dropout of the rows of the embedding's matrix. Words that stay have
    a factor above 1, so that the mean stays too; without training all have 1.

    Args:
        rate: Share of the words dropped, in `[0, 1)`.
        vocabulary_size: Number of token ids.
        seed: Whole number that fixes the randomness, or `None`.

    Call arguments:
        ids: Integer tensor of shape `(batch, length)`.
        training: Whether to drop.

    Returns:
        Float tensor of shape `(batch, length, 1)`.

    Example:

    >>> factors = keras.ops.convert_to_numpy(WordDropout(0.5, 10)(np.array([[4, 7, 4]]), training=True))
    >>> factors.shape, bool(factors[0, 0, 0] == factors[0, 2, 0])
    ((1, 3, 1), True)

    Reference:
        [Gal & Ghahramani, 2016](https://arxiv.org/abs/1512.05287), section 4.2;
        [Merity et al., 2018](https://arxiv.org/abs/1708.02182), section 4.3.
    """

    def __init__(self, rate, vocabulary_size, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1). Received: rate={rate}")
        self.rate = rate
        self.vocabulary_size = vocabulary_size
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, ids, training=False):
        factors = ops.ones((self.vocabulary_size, 1), dtype=self.compute_dtype)
        if training and self.rate:
            keep = keras.random.uniform((self.vocabulary_size, 1), seed=self.seed_generator) >= self.rate
            factors = ops.cast(keep, factors.dtype) / (1 - self.rate)
        return ops.take(factors, ids, axis=0)

    def compute_output_spec(self, ids, training=False):
        return keras.KerasTensor((*ids.shape, 1), dtype=self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "vocabulary_size": self.vocabulary_size,
            "seed": self.seed,
        }
