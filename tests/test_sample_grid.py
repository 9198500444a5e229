"""`SampleGrid`: which pictures it saves, and that they show the model's samples."""

import keras
import numpy as np
import pytest
from PIL import Image

from recipes.callbacks import SampleGrid
from recipes.callbacks.sample_grid import save_grid

pytestmark = pytest.mark.any_backend


@keras.saving.register_keras_serializable("tests")
class Grey(keras.Model):
    """Makes images of one grey, which it learns, plus noise of the seed."""

    def __init__(self):
        super().__init__()
        self.grey = self.add_weight(name="grey", shape=(), initializer="zeros")
        self.asked = []

    def call(self, x):
        return self.grey + 0 * x

    def sample(self, n, *, labels=None, seed=None, brightness=0):
        self.asked.append((labels, seed))
        noise = np.random.default_rng(seed).uniform(0, 9, (n, 4, 5, 1))
        return (float(self.grey) + noise + brightness).astype("float32")


def fit(callback, epochs):
    model = Grey()
    model.compile(keras.optimizers.SGD(0.25), "mse")
    x = np.zeros((4, 1), "float32")
    model.fit(x, x + 100, batch_size=4, epochs=epochs, verbose=0, callbacks=[callback])
    return model


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_saves_the_same_noise_while_the_model_learns(tmp_path):
    model = fit(SampleGrid(tmp_path / "new", n=3, every=2, scale=3, seed=7, arguments={"brightness": 5}), epochs=3)
    found = pictures(tmp_path / "new")
    assert list(found) == ["epoch_0000.png", "epoch_0002.png", "epoch_0003.png"]
    assert model.asked == [(None, 7)] * 3
    samples = np.round(model.sample(3, seed=7, brightness=5))[..., 0]
    last = found["epoch_0003.png"][1::3, 1::3]  # 2 x 2 places of 4 x 5, a white line between
    assert last.shape == (9, 11)
    assert np.array_equal(last[:4, :5], samples[0]) and np.array_equal(last[:4, 6:], samples[1])
    assert np.array_equal(last[5:, :5], samples[2]) and (last[4] == 255).all() and (last[:, 5] == 255).all()
    grown = last[:4, :5] - found["epoch_0000.png"][1:12:3, 1:15:3].astype(int)
    assert len(np.unique(grown)) <= 2 and grown.min() > 80  # 100 * (1 - .5 ** 3), rounded: the noise is the same


def test_asks_for_labels_and_keeps_the_picture_of_the_last_epoch(tmp_path):
    model = fit(SampleGrid(tmp_path, n=2, labels=[4, 2], every=5), epochs=1)
    assert list(pictures(tmp_path)) == ["epoch_0000.png", "epoch_0001.png"]
    assert model.asked[0] == ([4, 2], 0)


def test_colours_are_kept_and_values_are_clipped(tmp_path):
    images = np.zeros((1, 2, 2, 3))
    images[0, 0, 0] = [300, -5, 127.6]
    save_grid(images, tmp_path / "one.png")
    found = pictures(tmp_path)["one.png"]
    assert found.shape == (2, 2, 3) and found[0, 0].tolist() == [255, 0, 128] and not found[1:].any()


def test_what_it_cannot_do_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="SampleGrid needs a model with a method sample. Received: Sequential"):
        model.fit(np.zeros((2, 1)), np.zeros((2, 1)), verbose=0, callbacks=[SampleGrid(tmp_path)])
    with pytest.raises(ValueError, match="every must be an integer >= 1"):
        SampleGrid(tmp_path, every=0)
    with pytest.raises(ValueError, match=r"images must be \(n, height, width, 1 or 3\). Received: shape \(9, 2\)"):
        save_grid(np.zeros((9, 2)), tmp_path / "no.png")
    assert not list(tmp_path.iterdir())
