"""Pictures of what a generative model makes, epoch by epoch."""

import math
import os

import keras
import numpy as np
from PIL import Image

from recipes.training.recipe import check_count


class SampleGrid(keras.callbacks.Callback):
    """Saves a grid of samples as a PNG file every so many epochs, and before the first.

    The samples are always those of the same seed, so the pictures `epoch_0000.png`, `epoch_0001.png` ... show the same
    noise becoming something.

    Args:
        folder: Where the pictures go; made if it is not there.
        n: Number of samples.
        labels: Class id of each sample, for a conditional model; `None` takes the classes in turn.
        every: Number of epochs from one picture to the next, at least 1. The last epoch has one too.
        scale: Pixels a side that a pixel becomes.
        seed: Integer that fixes the noise.
        arguments: Dict of more arguments of the model's `sample`, such as the number of steps of a sampler.

    Raises:
        ValueError: If an argument is out of its range, or the model has no `sample` that makes images.

    Example:

    >>> grid = SampleGrid("samples", n=16, every=5)
    """

    def __init__(self, folder, *, n=16, labels=None, every=1, scale=2, seed=0, arguments=None):
        super().__init__()
        for name, value in (("n", n), ("every", every), ("scale", scale)):
            check_count(name, value)
        self.folder = os.fspath(folder)
        self.n, self.labels, self.every, self.scale, self.seed = n, labels, every, scale, seed
        self.arguments = dict(arguments or {})

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "sample"):
            raise ValueError(f"SampleGrid needs a model with a method sample. Received: {type(self.model).__name__}")
        self._saved = None
        self._save(0)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        if self._epoch % self.every == 0:
            self._save(self._epoch)

    def on_train_end(self, logs=None):
        if getattr(self, "_epoch", None) != self._saved:
            self._save(self._epoch)

    def _save(self, epoch):
        labels = {} if self.labels is None else {"labels": self.labels}
        samples = self.model.sample(self.n, seed=self.seed, **labels, **self.arguments)
        save_grid(samples, os.path.join(self.folder, f"epoch_{epoch:04d}.png"), scale=self.scale)
        self._saved = epoch


def save_grid(images, path, *, columns=None, scale=1):
    """Save images side by side as one PNG file.

    Args:
        images: Array `(n, height, width, channels)` in 0..255, of 1 or 3 channels.
        path: File to write; its folder is made if it is not there.
        columns: Images in a row; `None` for as many rows as columns, if need be one less.
        scale: Pixels a side that a pixel becomes.

    Returns:
        The picture, uint8 `(height, width, channels)`.

    Raises:
        ValueError: If these are no such images.

    Example:

    >>> save_grid(np.zeros((6, 8, 8, 1)), "grid.png").shape  # 2 rows, 3 columns, a pixel between
    (17, 26, 1)
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(f"images must be (n, height, width, 1 or 3). Received: shape {images.shape}")
    check_count("scale", scale)
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    check_count("columns", columns)
    rows = math.ceil(n / columns)
    grid = np.full((rows, columns, height + 1, width + 1, channels), 255, "uint8")
    places = grid.reshape(rows * columns, height + 1, width + 1, channels)
    places[:n, :height, :width] = np.clip(np.round(images), 0, 255)
    picture = grid.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), columns * (width + 1), channels)[:-1, :-1]
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    temporary = f"{os.fspath(path)}.part"  # a viewer never sees half a picture
    Image.fromarray(picture[..., 0] if channels == 1 else picture).save(temporary, format="png", optimize=True)
    os.replace(temporary, path)
    return picture
