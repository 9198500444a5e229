"""The data sets that scikit-learn brings along: real data without a download."""

import numpy as np

from recipes.data.images import resize
from recipes.data.loading import Source


def read_bundled(name, image_size):
    """Read one of scikit-learn's sets; `image_size` is for the digits."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    if name == "digits":
        # 4-bit grey to 8-bit: 16 becomes 255, every value another one
        x = np.rint(bunch.images * (255 / 16)).astype("uint8")[..., None]  # (1797, 8, 8, 1)
        x = x if image_size is None else resize(x, image_size)
        names = tuple(str(label) for label in bunch.target_names)
        return Source({"train": (x, bunch.target.astype("int32"))}, "classify", len(names), names)
    if image_size is not None:
        raise ValueError(f"image_size does not apply to {name!r}, a table. Received: image_size={image_size}")
    x = bunch.data.astype("float32")
    columns = tuple(str(column) for column in bunch.feature_names)
    if name == "diabetes":
        return Source({"train": (x, bunch.target.astype("float32"))}, "regress", 1, None, columns)
    names = tuple(str(label) for label in bunch.target_names)
    return Source({"train": (x, bunch.target.astype("int32"))}, "classify", len(names), names, columns)
