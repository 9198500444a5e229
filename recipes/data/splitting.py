"""Splits that depend on the seed alone and keep the share of every class."""

import numpy as np


class LazyRows:
    """What acts as an array with one row a sample, and makes rows only when `x[rows]` asks for them.

    It has `shape`, `dtype`, `len()`, `x[rows]`, which gives an array, and `x.subset(rows)`, which stays lazy.
    """


def split(x, y, fraction, seed=0, stratify=None):
    """Split samples at random into a part to keep and a part to hold out.

    The same arguments give the same split. Duplicates are left where they fall: remove them before, or the same sample
    may stand on both sides.

    Args:
        x: Array, dict or tuple of arrays, all with one row a sample.
        y: Targets of shape `(samples,)` or `(samples, columns)`.
        fraction: Share of the samples to hold out, in (0, 1), rounded to whole samples, at least one.
        seed: Whole number that decides which.
        stratify: Whether both parts have every class in its share; `None`: yes if `y` are integer ids or texts. Rows of
            more than one column count as the class of their largest number.

    Returns:
        `((x_kept, y_kept), (x_held, y_held))`: copies, in random order.

    Raises:
        ValueError: If the parts cannot be made: lengths that differ, nothing left on one side, or a class too small to
            stand in both.

    Example:

    >>> import numpy as np
    >>> (x, y), (x_held, y_held) = split(np.arange(10), np.repeat([0, 1], 5), 0.2)
    >>> sorted(y_held.tolist())
    [0, 1]
    """
    x, y = as_arrays(x), np.asarray(y)
    n = count(x, y)
    check_fraction("fraction", fraction)
    if fraction == 0:
        raise ValueError("fraction must be in (0, 1): 0 would hold nothing out. Received: fraction=0")
    if stratify is None:
        stratify = y.dtype.kind in "iubUS" and y.size == n
    kept, held = split_rows(y, held_count(fraction, n), seed, stratify, "fraction")
    part = type(x).subset if isinstance(x, LazyRows) else take
    return (part(x, kept), y[kept]), (part(x, held), y[held])


def split_rows(y, held, seed, stratify, argument):
    """Row numbers `(kept, held)` of a split that holds out `held` rows; errors name `argument`, what the user gave."""
    from sklearn.model_selection import train_test_split

    n = len(y)
    if not 0 < held < n:
        raise ValueError(f"{argument} holds out {held} of {n} samples: some must be left on both sides. Lower it.")
    check_seed(seed)
    if not stratify:
        return train_test_split(np.arange(n), test_size=held, random_state=seed)
    classes = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(n)
    names, sizes = np.unique(classes, return_counts=True)
    if sizes.min() < 2:
        raise ValueError(
            f"{argument}: class {names[sizes.argmin()].item()!r} is left with one sample and cannot stand on both "
            "sides of a split. Add samples, leave the class out, or split by yourself with "
            "recipes.data.split(..., stratify=False)."
        )
    if min(held, n - held) < len(names):
        raise ValueError(
            f"{argument} divides {n} samples into {n - held} and {held}: too few for each of {len(names)} classes to "
            f"stand on both sides. Choose a fraction that holds out at least {len(names)}, or split by yourself with "
            "recipes.data.split(..., stratify=False)."
        )
    return train_test_split(np.arange(n), test_size=held, random_state=seed, stratify=classes)


def held_count(fraction, n):
    """`fraction` of `n` samples, rounded, at least one."""
    return max(1, round(fraction * n))


def as_arrays(x):
    """The same dict or tuple with NumPy arrays for leaves, in this machine's byte order; arrays are not copied."""
    if isinstance(x, dict):
        return {name: as_arrays(part) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(as_arrays(part) for part in x)
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError("Masked arrays are not supported: the mask would be ignored. Pass x.filled(...) instead.")
    if isinstance(x, LazyRows):
        return x
    x = np.asarray(x)
    if x.ndim == 0:
        raise ValueError(f"Data must be arrays with one row a sample. Received: {x.item()!r}")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def take(x, rows):
    """The chosen rows of every array in `x`; a copy unless `rows` is a slice."""
    if isinstance(x, dict):
        return {name: take(part, rows) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(take(part, rows) for part in x)
    return x[rows]


def leaves(x):
    """All arrays in `x`, a list."""
    if isinstance(x, (dict, tuple)):
        return [leaf for part in (x.values() if isinstance(x, dict) else x) for leaf in leaves(part)]
    return [x]


def count(x, y=None):
    """Number of samples, the same in every array of `x` and in `y`."""
    lengths = [len(leaf) for leaf in leaves(x)]
    if not lengths or len(set(lengths)) > 1 or (y is not None and len(y) != lengths[0]):
        found = f"x {lengths}" + ("" if y is None else f", y {len(y)}")
        raise ValueError(f"x and y must have the same number of samples. Received: {found}")
    if lengths[0] == 0:
        raise ValueError("x has 0 samples.")
    return lengths[0]


def check_fraction(argument, value):
    """Raise unless `value` is a fraction in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < 1:
        raise ValueError(f"{argument} must be a fraction in [0, 1), such as 0.1. Received: {argument}={value!r}")


def check_seed(seed):
    """Raise unless `seed` is a whole number that every generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number in [0, 2**32). Received: seed={seed!r}")
