"""An LSTM whose recurrent matrix is dropped out."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("recipes")
class WeightDropLSTM(keras.layers.LSTM):
    """Drops entries of the recurrent matrix: for a training step, at all of its times (DropConnect).

    The matrix is thinned out before the LSTM sees it, so that cuDNN runs it, unlike with `recurrent_dropout`, which draws
    anew at every time.

    Args:
        units: Number of units.
        weight_drop: Share of the recurrent matrix dropped in training, in `[0, 1)`.
        **kwargs: Arguments of `keras.layers.LSTM`, such as `return_sequences`.

    Call arguments:
        sequences: Float tensor of shape `(batch, length, width)`.
        initial_state, mask, training: As in `keras.layers.LSTM`.

    Returns:
        What `keras.layers.LSTM` does.

    Example:

    >>> tuple(WeightDropLSTM(4, weight_drop=0.5, return_sequences=True)(np.zeros((2, 5, 3))).shape)
    (2, 5, 4)

    Reference:
        [Merity et al., 2018](https://arxiv.org/abs/1708.02182), section 2.
    """

    def __init__(self, units, weight_drop=0.5, **kwargs):
        super().__init__(units, **kwargs)
        if self.dropout or self.recurrent_dropout:
            raise ValueError("dropout must be 0 here: put a keras.layers.Dropout before. Received: " + str(self.dropout))
        if not 0 <= weight_drop < 1:
            raise ValueError(f"weight_drop must be in [0, 1). Received: weight_drop={weight_drop}")
        self.weight_drop = weight_drop
        self.weight_seed = keras.random.SeedGenerator(kwargs.get("seed"))

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not training or not self.weight_drop:
            return super().inner_loop(sequences, initial_state, mask, training)
        matrix = ops.convert_to_tensor(self.cell.recurrent_kernel)
        keep = keras.random.uniform(matrix.shape, seed=self.weight_seed) >= self.weight_drop
        values = {id(v): ops.convert_to_tensor(v) for v in self.cell.weights}
        values[id(self.cell.recurrent_kernel)] = matrix * ops.cast(keep, matrix.dtype) / (1 - self.weight_drop)
        # a scope inside another, as JAX has it in training, sees only what it is given: all weights, not the one alone
        with keras.StatelessScope([(v, values[id(v)]) for v in self.cell.weights]):
            return super().inner_loop(sequences, initial_state, mask, training)

    def get_config(self):
        return {**super().get_config(), "weight_drop": self.weight_drop}
