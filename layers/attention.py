"""What layers of attention compute: who sees whom, chunk by chunk if memory is short, and positions by rotation."""

import keras
from keras import ops


def attend(query, key, value, *, causal=False, locality=False, padding_mask=None, position=0, scale=None, chunk=None):
    """Mix values by the likeness of queries and keys.

    Args:
        query: Float tensor `(batch, n, heads, width)` of the tokens from `position` on.
        key, value: Float tensors `(batch, length, heads, width)`.
        causal: Whether a token sees only itself and what comes before it.
        locality: Whether a token does not see itself, unless there is nothing else.
        padding_mask: Bool tensor `(batch, length)`, true where a key is real, or `None`. In a row of padding alone a token
            sees all others, or if `causal` itself.
        position: Place of the first query among the keys.
        scale: Factor of the products; `None` for `width ** -0.5`.
        chunk: Queries at a time, recomputed for the gradient, so that the memory of training grows with
            `n * chunk` and not with `n * length`; `None` for all at once, which is faster. Chunks need a length that is
            known where the graph is made; the numbers are the same without them.

    Returns:
        Float tensor `(batch, n, heads, width)`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), equation 1; chunks as
        [Rabe and Staats, 2021](https://arxiv.org/abs/2112.05682), section 3.
    """
    length = query.shape[1]
    settings = {"causal": causal, "locality": locality, "padding_mask": padding_mask, "scale": scale}
    if chunk is None or length is None or length <= chunk:
        return _attend(query, key, value, position=position, **settings)
    mixed = []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        # what is not a float stays outside: TensorFlow differentiates all arguments of a remat
        seen = {**settings, "position": start}
        part = slice(0, stop if causal else length)
        if padding_mask is not None:
            seen["padding_mask"] = padding_mask[:, part]
        step = keras.remat(lambda q, k, v, seen=seen: _attend(q, k, v, **seen))
        mixed.append(step(query[:, start:stop], key[:, part], value[:, part]))
    return ops.concatenate(mixed, axis=1)


def _attend(query, key, value, *, causal, locality, padding_mask, position, scale):
    whole = isinstance(position, int) and position == 0 and query.shape[1] == key.shape[1]
    if whole and not locality and padding_mask is None:  # what fused kernels know
        return ops.dot_product_attention(query, key, value, is_causal=causal, scale=scale)
    mask = None
    if causal or locality:
        rows, columns = position + ops.arange(ops.shape(query)[1])[:, None], ops.arange(ops.shape(key)[1])
        mask = sees(rows, columns, causal, locality)[None, None]  # (1, 1, n, length)
    if padding_mask is not None:
        real = padding_mask[:, None, None]  # (batch, 1, 1, length)
        if causal:
            real = real | (rows == columns)  # (batch, 1, n, length)
        mask = real if mask is None else mask & real
    return ops.dot_product_attention(query, key, value, mask=mask, scale=scale)


def attend_cache(query, parts, *, position, locality=False, scale=None):
    """Do what a causal `attend` does for a few tokens, with keys and values as a cache holds them.

    Args:
        query: Float tensor `(batch, n, heads, width)` of the tokens from `position` on.
        parts: List of tuples `(keys, values, start)`: of the tokens from `start` on, the keys as a float tensor `(batch,
            heads, width, length)` and the values as `(batch, heads, length, width)`, both as the products want them, so
            that no step moves them about, which took two thirds of the time of long texts.
        position, locality, scale: As in `attend`.

    Returns:
        Float tensor `(batch, n, heads, width)`.
    """
    query = ops.swapaxes(query, 1, 2)  # (batch, heads, n, width)
    rows = position + ops.arange(query.shape[2])[:, None]
    products = []
    for keys, _, start in parts:
        product = ops.cast(ops.matmul(query, keys), "float32")  # (batch, heads, n, length)
        product = product * (query.shape[-1] ** -0.5 if scale is None else scale)
        columns = start + ops.arange(ops.shape(keys)[3])
        products.append(ops.where(sees(rows, columns, True, locality), product, -1e30))
    weights, mixed = ops.softmax(ops.concatenate(products, axis=-1), axis=-1), 0
    for _, values, _ in parts:
        length = ops.shape(values)[2]
        mixed = mixed + ops.matmul(ops.cast(weights[..., :length], values.dtype), values)
        weights = weights[..., length:]
    return ops.swapaxes(mixed, 1, 2)


def sees(rows, columns, causal, locality):
    """Return whether the tokens at `rows` `(n, 1)` see those at `columns` `(length,)`: bool `(n, length)`."""
    if not locality:
        return rows >= columns
    return (rows > columns) | (rows + columns == 0) if causal else rows != columns


def rotate(x, position=0, base=10000.0):
    """Turn queries or keys by angles that grow with their place, so that products depend on distances alone.

    Number `i` of the first half of a vector and number `i` of the second are the two coordinates that turn together, by
    `place * base ** (-2 i / width)`.

    Args:
        x: Float tensor `(batch, length, heads, width)`; the width is even.
        position: Place of the first token.
        base: Float that sets the slowest turn.

    Returns:
        Float tensor of the shape of `x`.

    Reference:
        [Su et al., 2021](https://arxiv.org/abs/2104.09864), equation 34, with the coordinates in another order.
    """
    half = x.shape[-1] // 2
    speed = base ** (-ops.arange(half, dtype="float32") / half)
    places = ops.cast(position + ops.arange(ops.shape(x)[1]), "float32")
    angle = (places[:, None] * speed)[:, None]  # (length, 1, width / 2)
    cosine, sine = ops.cast(ops.cos(angle), x.dtype), ops.cast(ops.sin(angle), x.dtype)
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
