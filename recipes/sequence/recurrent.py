"""The stack of recurrent layers that the LSTM families share."""

import keras

CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def recurrent_stack(x, mask, *, units, depth, cell="lstm", bidirectional=True, dropout=0.0, sequences=True):
    """Put `depth` recurrent layers on a sequence: `(batch, length, width)`.

    tanh, sigmoid, no recurrent dropout and padding on the right: on a GPU cuDNN runs them, with JAX without a mask only.

    Args:
        x: Float tensor `(batch, length, channels)`.
        mask: Bool tensor `(batch, length)` of `LengthMask`, true where a step is real; `None` if all are.
        units: Number of units of a layer, in each direction.
        depth: Number of layers.
        cell: `"lstm"` or `"gru"`.
        bidirectional: Whether each layer reads the sequence from both ends; the width is `2 * units` then.
        dropout: Fraction dropped between the layers, in `[0, 1)`.
        sequences: Whether the last layer puts out every step, or what it ends with, `(batch, width)`: the forward half
            after the last real step, the backward half after the first.

    Returns:
        Float tensor `(batch, length, width)` or `(batch, width)`.
    """
    for i in range(depth):
        if i and dropout:
            x = keras.layers.Dropout(dropout, name=f"block{i - 1}_dropout")(x)
        layer = CELLS[cell](units, return_sequences=sequences or i < depth - 1, name=f"block{i}_{cell}")
        if bidirectional:  # of the same name, because a model that is loaded knows the inner one alone in its paths
            layer = keras.layers.Bidirectional(layer, name=f"block{i}_{cell}")
        x = layer(x) if mask is None else layer(x, mask=mask)
    return x
