"""Images of a folder that are decoded when they are asked for: which, in what order, and what becomes of broken ones."""

import threading
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import recipes
from recipes.data import Batches, image_folder, load, split
from recipes.data import folder as module
from recipes.data.augment import automatic
from recipes.training.prepare import prepare

COLOURS = {"blue": (0, 0, 250), "green": (0, 250, 0), "red": (250, 0, 0)}
ENDINGS = ("png", "jpg", "webp", "bmp", "gif")


@pytest.fixture
def colours(tmp_path):
    """10 images a class in five formats, of different sizes; brighter from file to file."""
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for i in range(10):
            pixel = tuple(c * (i + 10) // 20 for c in colour)
            Image.new("RGB", (8 + i, 20 - i), pixel).save(tmp_path / name / f"{i}.{ENDINGS[i % 5]}")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, in a list that grows."""
    seen, decode = [], module.decode

    def watched(file, *arguments, **keywords):
        seen.append(str(file))
        return decode(file, *arguments, **keywords)

    monkeypatch.setattr(module, "decode", watched)
    return seen


def refuses(message, path, **arguments):
    with pytest.raises(ValueError, match=message):
        image_folder(path, **{"image_size": 8, **arguments})


def noise(side, channels=3):
    return np.random.default_rng(0).integers(0, 256, (side, side, channels), "uint8")


# What it returns


def test_images_act_as_an_array(colours, decoded):
    data = image_folder(colours, image_size=(12, 8), validation=0.2, test=0.1)
    x, y = data.train
    assert data.info.class_names == ("blue", "green", "red") and data.info.input_shape == (12, 8, 3)
    assert [len(part[1]) for part in data[:3]] == [21, 6, 3] and y.dtype == np.int32
    assert x.shape == (21, 12, 8, 3) and x.ndim == 4 and x.dtype == np.uint8 and len(x) == 21
    decoded.clear()
    rows = x[[4, 0, 20]]
    assert rows.shape == (3, 12, 8, 3) and rows.dtype == np.uint8 and decoded == list(x.files[[4, 0, 20]])
    np.testing.assert_array_equal(rows[1], x[0])
    np.testing.assert_array_equal(x[:2], np.stack([x[0], x[1]]))
    np.testing.assert_array_equal(np.asarray(x.subset([4, 0, 20])), rows)
    for images, labels in data[:3]:  # blue is brightest in the last channel, and so on
        np.testing.assert_array_equal(2 - np.asarray(images).mean(axis=(1, 2)).argmax(axis=1), labels)


def test_the_files_are_those_of_load_and_squash_gives_its_pixels(colours):
    lazy = image_folder(colours, image_size=12, validation=0.2, test=0.2, resize="squash", seed=3)
    loaded = load(colours, image_size=12, validation=0.2, test=0.2, seed=3)
    for (x, y), (expected, labels) in zip(lazy[:3], loaded[:3], strict=True):
        np.testing.assert_array_equal(np.asarray(x), expected)
        np.testing.assert_array_equal(y, labels)


def test_the_split_is_stratified_and_a_function_of_the_seed(colours):
    one, same, other = (image_folder(colours, image_size=8, validation=0.2, seed=seed) for seed in (1, 1, 2))
    assert list(one.train[0].files) == list(same.train[0].files) != list(other.train[0].files)
    assert np.bincount(one.validation[1]).tolist() == [2, 2, 2] and one.test is None
    assert not set(one.train[0].files) & set(one.validation[0].files)


def test_grey_and_chosen_classes(colours):
    data = image_folder(colours, image_size=8, channels=1, classes=["red", "blue"], validation=0)
    assert data.info.class_names == ("red", "blue") and data.train[0].shape == (20, 8, 8, 1)
    assert ["red" in file for file in data.train[0].files] == [label == 0 for label in data.train[1]]
    assert abs(data.train[0][0].mean() - 0.299 * 125) < 2


def test_splits_that_the_folder_brings(tmp_path):
    for part, n in (("train", 4), ("val", 2)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (9, 9)).save(tmp_path / part / name / f"{i}.webp")
    data = image_folder(tmp_path, image_size=8)
    assert (len(data.train[1]), len(data.validation[1]), data.test) == (8, 4, None)


@pytest.mark.parametrize("resize, left, top", [("crop", 100, 100), ("squash", 0, 100), ("pad", -1, 100)])
def test_resizing(tmp_path, resize, left, top):
    wide = np.zeros((20, 60, 3), "uint8")
    wide[:, :, 1] = np.repeat([0, 100, 200], 20)  # three squares
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(wide).save(tmp_path / name / "0.png")
    x = image_folder(tmp_path, image_size=30, resize=resize, validation=0).train[0][0][..., 1]
    assert x.shape == (30, 30)
    if resize == "crop":
        assert (x[:, 5:-5] == 100).all()
    elif resize == "squash":
        assert (x[:, :5] == 0).all() and (x[:, 13:17] == 100).all() and (x[:, -5:] == 200).all()
    else:
        assert (
            (x[:10] == 0).all() and (x[20:] == 0).all() and (x[10:20, 13:17] == 100).all() and (x[10:20, -5:] == 200).all()
        )


def test_orientation_frames_and_large_jpegs(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    ramp = Image.fromarray(np.repeat(np.arange(240, dtype="uint8")[:, None, None], 240, 1).repeat(3, 2))
    exif = ramp.getexif()
    exif[0x0112] = 6  # lies on its side
    ramp.save(tmp_path / "a" / "turned.jpg", exif=exif, quality=95)
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(tmp_path / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    x, _ = image_folder(tmp_path, image_size=8, validation=0).train
    turned = x[0][..., 0].astype(int)
    assert (np.diff(turned, axis=1) < -20).all() and np.ptp(turned, axis=0).max() < 6  # upright: falls to the right
    np.testing.assert_allclose(turned[0], np.arange(240).reshape(8, 30).mean(axis=1)[::-1], atol=4)
    assert abs(x[1].astype(int) - 10).max() < 3


# Training


@pytest.mark.any_backend
def test_recipes_fit_decodes_nothing_before_the_first_step(colours, decoded):
    data = image_folder(colours, image_size=8, validation=0.2)
    decoded.clear()
    model = recipes.resnet((8, 8, 3), 3, depths=(1,), widths=(8,))
    prepare(model, data)
    prepare(model, data.train, 0.2)
    assert not decoded
    history = recipes.fit(model, data, epochs=2, verbose=0)
    assert len(history.history["val_accuracy"]) == 2 and model.recipe["class_names"] == ["blue", "green", "red"]
    assert set(decoded) == {*data.train[0].files, *data.validation[0].files}
    x, y = data.validation
    found = recipes.predict(model, x, batch_size=4)
    np.testing.assert_allclose(found.values, recipes.predict(model, np.asarray(x)).values, atol=1e-6)
    assert recipes.evaluate(model, (x, y)) == recipes.evaluate(model, (np.asarray(x), y))


def test_batches_of_a_lazy_array_are_those_of_the_loaded_one(colours):
    flip = automatic("shift", (8, 8, 3))
    lazy, loaded = (
        Batches(*data.train, 7, seed=3, augment=flip)
        for data in (
            image_folder(colours, image_size=8, resize="squash", validation=0.2),
            load(colours, image_size=8, validation=0.2, test=0),
        )
    )
    for epoch, index in ((0, 0), (0, 3), (2, 1)):
        for found, expected in zip(lazy.batch(epoch, index), loaded.batch(epoch, index), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_parts_for_keras(colours):
    data = image_folder(colours, image_size=8, validation=0.2, test=0.1, batch_size=4, seed=5)
    assert all(isinstance(part, Batches) for part in data[:3]) and data.train.shuffle and not data.validation.shuffle
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, name="logits")])
    model.compile("sgd", loss=recipes.CrossEntropy())
    history = model.fit(data.train, validation_data=data.validation, epochs=1, verbose=0)
    assert np.isfinite(history.history["val_loss"][0])
    train, _ = prepare(model, data)  # what recipes.fit trains on
    assert train.batch_size == 4 and train.x is data.train.x
    assert set(recipes.evaluate(model, data)) >= {"accuracy"}
    again = image_folder(colours, image_size=8, validation=0.2, test=0.1, batch_size=4, seed=5)
    for epoch in (0, 3):
        np.testing.assert_array_equal(data.train.batch(epoch, 1)[0], again.train.batch(epoch, 1)[0])
    assert not np.array_equal(data.train.order(0), data.train.order(1))


def test_split_stays_lazy(colours, decoded):
    x, y = image_folder(colours, image_size=8, validation=0).train
    decoded.clear()
    (kept, y_kept), (held, y_held) = split(x, y, 0.2)
    assert not decoded and len(kept) == 24 and len(held) == 6
    assert ["red" in file for file in held.files] == [label == 2 for label in y_held]
    assert sorted([*kept.files, *held.files]) == sorted(x.files)


def test_batches_are_decoded_on_several_threads(colours, monkeypatch):
    x, _ = image_folder(colours, image_size=8, validation=0).train
    names = set()
    decode = module.decode
    both = threading.Barrier(2, timeout=20)

    def watched(*arguments, **keywords):
        names.add(threading.current_thread().name)
        both.wait()  # comes back only when two threads decode at once
        return decode(*arguments, **keywords)

    monkeypatch.setattr(module, "decode", watched)
    if module.os.cpu_count() > 1:
        x[:4]
        assert len(names) > 1


# Broken files


def write_broken(folder):
    """Broken files, and what the message says of each."""
    whole = {}
    for ending in ("png", "jpg", "webp", "bmp", "gif"):
        Image.fromarray(noise(40)).save(folder / f"good.{ending}")
        whole[ending] = (folder / f"good.{ending}").read_bytes()
        for share in (0.3, 0.95):
            (folder / f"cut{share}.{ending}").write_bytes(whole[ending][: int(share * len(whole[ending]))])
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 255
    (folder / "flipped.png").write_bytes(flipped)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.webp").write_text("not an image")
    (folder / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (folder / "behind.jpg").write_bytes(whole["jpg"] + b"something behind the end")  # is whole
    Image.fromarray(noise(8, 1)[..., 0].astype("uint16")).save(folder / "deep.png")
    (folder / "notes.txt").write_text("?")
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if name.split(".")[0] not in ("good", "behind") and name[0].isalpha()}


def test_broken_files_are_named_and_refused_or_skipped(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "0.png")
    broken = write_broken(tmp_path / "a") - {"0.png"}
    refuses("notes.txt is not an image by its ending", tmp_path)
    with pytest.warns(UserWarning, match=f"skipped {len(broken)} files") as caught:
        data = image_folder(tmp_path, image_size=8, validation=0, broken="skip")
    message = str(caught[0].message)
    assert {name for name in broken if f"/{name}: " in message.replace("\\", "/")} == broken
    assert len(data.train[0]) == 2 + 5 + 1 and np.asarray(data.train[0]).shape == (8, 8, 8, 3)
    (tmp_path / "a" / "notes.txt").unlink()
    refuses(r'files cannot be read as images.*broken="skip"', tmp_path)
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no image of class 'b' can be read"):
        image_folder(tmp_path, image_size=8, broken="skip")


def test_bombs_are_refused(colours, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    Image.new("RGB", (20, 20)).save(colours / "red" / "bomb.png")
    refuses("bomb.png: it has 20x20 pixels, more than PIL.Image.MAX_IMAGE_PIXELS", colours)
    with pytest.raises(ValueError, match="bomb.png cannot be read as an image: it has 20x20 pixels"):
        load(colours, image_size=8)


def test_a_file_that_breaks_later_is_named(colours):
    data = image_folder(colours, image_size=8, validation=0, batch_size=30)
    (colours / "red" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="0.png cannot be read as an image"):
        data.train[0]


def test_nothing_is_left_changed(colours):
    before = list(warnings.filters)
    image_folder(colours, image_size=8).train[0][:]
    assert warnings.filters == before


@pytest.mark.parametrize(
    "message, arguments",
    [
        ("image_size must be", {"image_size": 0}),
        ("channels must be 1 or 3. Received: channels=4", {"channels": 4}),
        ("resize must be 'crop' or", {"resize": "stretch"}),
        ("broken must be 'refuse' or 'skip'", {"broken": "ignore"}),
        ("validation must be a fraction", {"validation": 1.0}),
        ("together less than 1", {"validation": 0.5, "test": 0.5}),
        ("seed must be", {"seed": -1}),
        ("classes must name folders of .*blue, green, red. Received: 'black'", {"classes": ["red", "black"]}),
        ("classes must be a list of different", {"classes": ["red", "red"]}),
        ("classes must be a list of different", {"classes": "red"}),
        ("at least two folders", {"classes": ["red"]}),
        ("batch_size must be", {"batch_size": 0}),
        ("path must be a folder of class folders", {"path": "nowhere"}),
    ],
)
def test_bad_arguments(colours, message, arguments):
    refuses(message, arguments.pop("path", colours), **arguments)
