"""Every source of `recipes.data.load`, what it learns, and what it refuses."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from recipes.data import Data, Info, load

RNG = np.random.default_rng(0)


def sizes(data):
    return tuple(None if part is None else len(part[1]) for part in data[:3])


def rows(x):
    """The samples as a set, to see that nothing was lost or doubled."""
    return {row.tobytes() for row in x}


def refuses(message, *arguments, **keywords):
    with pytest.raises(ValueError, match=message):
        load(*arguments, **keywords)


# Bundled sets and splits


def test_import_is_light():
    heavy = "('keras', 'tensorflow', 'jax', 'torch', 'sklearn', 'PIL')"
    code = f"import recipes.data, sys; recipes.data.load; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_digits_are_images_of_0_to_255():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert isinstance(data, Data) and isinstance(data.info, Info)
    assert sizes(data) == (1258, 180, 359)
    x = np.concatenate([part[0] for part in data[:3]])
    assert x.dtype == np.uint8 and x.shape == (1797, 8, 8, 1) and (x.min(), x.max()) == (0, 255)
    grey = load_digits().images[..., None]
    assert rows(x) == rows(np.rint(grey * 255 / 16).astype("uint8"))
    assert len(np.unique(x)) == 17  # no two of the 17 values became one
    assert data.info.class_names == tuple("0123456789") and data.info.input_shape == (8, 8, 1)
    assert (data.info.task, data.info.num_classes, data.info.source) == ("classify", 10, "digits")
    assert load("digits", image_size=12).train[0].shape == (1258, 12, 12, 1)


@pytest.mark.parametrize("name, columns, classes", [("wine", 13, 3), ("breast_cancer", 30, 2), ("diabetes", 10, 1)])
def test_bundled_tables(name, columns, classes):
    data = load(name)
    x, y = data.train
    assert x.dtype == np.float32 and data.info.input_shape == (columns,) and data.info.num_classes == classes
    assert len(data.info.feature_names) == columns
    if name == "diabetes":
        assert data.info.task == "regress" and y.dtype == np.float32 and data.info.class_names is None
    else:
        assert y.dtype == np.int32 and len(data.info.class_names) == classes


def test_split_is_stratified_and_a_function_of_the_seed():
    one, same, other = load("digits", seed=1), load("digits", seed=1), load("digits", seed=2)
    for part in range(3):
        np.testing.assert_array_equal(one[part][0], same[part][0])
    assert not np.array_equal(one.train[0], other.train[0])
    for _, y in one[:3]:
        share = np.bincount(y, minlength=10) / len(y)
        assert abs(share - 0.1).max() < 0.012
    assert sizes(load("wine", validation=0, test=0)) == (178, None, None)
    assert sizes(load("wine", validation=0)) == (142, None, 36)
    assert sizes(load("wine", test=0, validation=0.5)) == (89, 89, None)


@pytest.mark.parametrize(
    "message, keywords",
    [
        ("Did you mean 'digits'", {"name_or_path": "digts"}),
        ("no file or folder 'nothing.csv'", {"name_or_path": "nothing.csv"}),
        ("must be a name or a path. Received: int", {"name_or_path": 3}),
        (r"validation must be a fraction in \[0, 1\)", {"validation": 1.0}),
        ("test must be a fraction", {"test": -0.1}),
        ("together less than 1", {"validation": 0.5, "test": 0.5}),
        ("seed must be", {"seed": -1}),
        ("task must be", {"task": "cluster"}),
        ("image_size must be", {"image_size": (8, 0)}),
        ("image_size must be", {"image_size": "8x8"}),
        ("target does not apply to 'digits'", {"target": "y"}),
        ("image_size does not apply to 'wine'", {"name_or_path": "wine", "image_size": 8}),
        ("holds out .* too few for each of 10|too few for each of 10 classes", {"test": 0.001}),
    ],
)
def test_bad_arguments(message, keywords):
    with pytest.raises(ValueError, match=message):
        load(**{"name_or_path": "digits", **keywords})


# Folders of images


def paint(path, colour, size=(6, 5), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size[1], size[0]), colour).save(path)


@pytest.fixture
def folder(tmp_path):
    for label, colour in (("dog", (200, 0, 0)), ("cat", (0, 0, 200))):
        for i in range(10):
            paint(tmp_path / "pets" / label / f"{i}.{'png' if i % 2 else 'jpg'}", colour)
    (tmp_path / "pets" / ".hidden").mkdir()
    (tmp_path / "pets" / "dog" / ".DS_Store").write_bytes(b"litter")
    (tmp_path / "pets" / "cat" / "Thumbs.db").write_bytes(b"litter")
    (tmp_path / "pets" / "README.txt").write_text("about")
    return tmp_path / "pets"


def test_folder_of_class_folders(folder):
    data = load(folder)
    assert data.info.class_names == ("cat", "dog") and data.info.input_shape == (6, 5, 3)
    assert sizes(data) == (14, 2, 4) and data.train[0].dtype == np.uint8
    for x, y in data[:3]:  # the pixels belong to the label: cats are blue
        np.testing.assert_array_equal(x.mean(axis=(1, 2))[:, 0] > 100, y == 1)
    np.testing.assert_array_equal(load(str(folder)).test[0], data.test[0])


def test_folder_of_different_sizes_needs_image_size(folder):
    paint(folder / "dog" / "big.png", (200, 0, 0), size=(12, 20))
    refuses(r"differ in size: .* is 6x5 and .*big.png is 12x20 \(height x width\). Pass image_size=", folder)
    data = load(folder, image_size=(4, 3))
    assert data.train[0].shape[1:] == (4, 3, 3)
    assert load(folder, image_size=4).info.input_shape == (4, 4, 3)


def test_resizing_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64, 3), "uint8")
    stripes[:, ::2] = 255
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.fromarray(stripes).save(tmp_path / label / f"{i}.png")
    x, _ = load(tmp_path, image_size=8, validation=0, test=0).train
    assert abs(x.astype(int) - 128).max() < 25  # stripes finer than a pixel become grey, not a pattern


def test_folder_that_brings_its_splits(tmp_path):
    for split, n in (("train", 6), ("test", 2), ("val", 1)):
        for label, colour in (("a", (250, 0, 0)), ("b", (0, 0, 250))):
            for i in range(n):
                paint(tmp_path / split / label / f"{i}.png", colour)
    data = load(tmp_path)
    assert sizes(data) == (12, 2, 4) and data.info.class_names == ("a", "b")
    paint(tmp_path / "test" / "c" / "0.png", 0)
    refuses("has classes that .*train has not: c", tmp_path)


def test_folder_whose_class_is_called_train(tmp_path):
    for label in ("plane", "train"):
        for i in range(2):
            paint(tmp_path / label / f"{i}.png", 0)
    assert load(tmp_path, validation=0, test=0).info.class_names == ("plane", "train")


def test_pixels_of_other_modes(tmp_path):
    paint(tmp_path / "a" / "grey.png", 77, mode="L")
    paint(tmp_path / "a" / "clear.png", (9, 9, 9, 0), mode="RGBA")
    paint(tmp_path / "b" / "palette.gif", 3, mode="P")
    turned = Image.fromarray(np.repeat(np.arange(30, dtype="uint8").reshape(5, 6)[..., None], 3, 2))
    exif = turned.getexif()
    exif[0x0112] = 6  # lies on its side
    turned.save(tmp_path / "b" / "turned.png", exif=exif)
    x, y = load(tmp_path, validation=0, test=0).train
    assert x.shape == (4, 6, 5, 3)
    assert (x[1] == 77).all() and (x[0] == 255).all()  # transparent: the white below
    np.testing.assert_array_equal(x[3][..., 0], np.rot90(np.asarray(turned)[..., 0], -1))
    paint(tmp_path / "b" / "deep.png", 3, mode="I;16")
    refuses(r"deep.png cannot be read as an image: .*more than 8 bits", tmp_path, validation=0, test=0)


def test_broken_folders(folder, tmp_path):
    broken = folder / "dog" / "zz.png"
    Image.fromarray(RNG.integers(0, 256, (6, 5, 3), "uint8")).save(broken)
    good = broken.read_bytes()
    for content in (b"", b"not an image", good[:40], good[: len(good) // 2], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        broken.write_bytes(content)
        refuses("zz.png cannot be read as an image", folder)
    broken.unlink()
    (folder / "dog" / "notes.txt").write_text("?")
    refuses("notes.txt is not an image by its ending", folder)
    (folder / "dog" / "notes.txt").unlink()
    (folder / "dog" / "inner").mkdir()
    refuses("must hold the images of one class. Move those in inner up", folder)
    (folder / "dog" / "inner").rmdir()
    paint(folder / "loose.png", 0)
    refuses("Move loose.png into its class", folder)
    (folder / "loose.png").unlink()
    (folder / "bird").mkdir()
    refuses("bird holds no images", folder)
    (tmp_path / "empty").mkdir()
    refuses("It holds no folder", tmp_path / "empty")
    paint(tmp_path / "alone" / "one" / "0.png", 0)
    refuses("at least two folders of images", tmp_path / "alone")


# Tables


def write(path, text):
    (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8").write(text)
    return path


def table(header, rows):
    return "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n"


@pytest.fixture
def mixed():
    """Rows of (age, city, size, target) with gaps in every feature; the target repeats every 2 rows."""
    cities = ("Bern", "Ulm", "", "Graz")
    return [(i if i % 10 else "", cities[i % 4], i * 0.5 if i % 7 else "NA", ("no", "yes")[i % 2]) for i in range(100)]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "semicolons.csv"])
def test_table_with_gaps_and_categories(tmp_path, mixed, name):
    text = table(("age", "city", "size", "target"), mixed)
    text = text.replace(",", "\t") if "tsv" in name else text.replace(",", ";") if "semi" in name else text
    data = load(write(tmp_path / name, "\ufeff" + text))
    info, (x, y) = data.info, data.train
    assert (info.task, info.class_names, info.target) == ("classify", ("no", "yes"), "target")
    assert info.input_shape == (2,) and info.feature_names == ("age", "size")
    assert info.categories == (4,) and info.category_values == {"city": ("Bern", "Graz", "Ulm")}
    assert x["numeric"].dtype == np.float32 and x["categories"].dtype == np.int32 and y.dtype == np.int32
    assert x["numeric"].shape == (70, 2) and x["categories"].shape == (70, 1)
    # row i of the file is told by whatever is not missing; check all of them against the file
    seen = 0
    for inputs, targets in data[:3]:
        for (age, size), (city,), target in zip(inputs["numeric"], inputs["categories"], targets, strict=True):
            if age != np.float32(info.filled["age"]):
                i = int(age)
                assert city == {"": 0, "Bern": 1, "Graz": 2, "Ulm": 3}[mixed[i][1]] and target == i % 2
                assert size == (np.float32(i * 0.5) if i % 7 else np.float32(info.filled["size"]))
                seen += 1
    assert seen >= 88


def test_medians_and_categories_come_from_the_training_part(tmp_path):
    rows = [(i, i * i, "common" if i < 60 else f"rare{i}", i % 2) for i in range(100)]
    rows = [(row[0], "", *row[2:]) if i % 6 == 0 else row for i, row in enumerate(rows)]
    data = load(write(tmp_path / "t.csv", table(("row", "a", "b", "target"), rows)), test=0.4)
    values, median = data.info.category_values["b"], data.info.filled["a"]
    train, held = data.train[0], [part[0] for part in data[1:3]]
    assert set(values) == {rows[int(i)][2] for i in train["numeric"][:, 0]} and (train["categories"] > 0).all()
    unseen = [i for x in held for i, _ in x["numeric"] if rows[int(i)][2] not in values]
    assert unseen and sum((x["categories"] == 0).sum() for x in held) == len(unseen)
    assert data.info.categories == (len(values) + 1,)
    assert median == np.median([a for i, a in train["numeric"] if i % 6])
    assert all(a == (i * i if i % 6 else median) for x in (train, *held) for i, a in x["numeric"])


def test_table_of_numbers_only_and_of_texts_only(tmp_path):
    numbers = load(write(tmp_path / "n.csv", table(("a", "b", "target"), [(i, -i, i % 2) for i in range(40)])))
    assert numbers.train[0].shape == (28, 2) and numbers.info.categories == () and numbers.info.filled == {}
    texts = load(write(tmp_path / "s.csv", table(("a", "target"), [("uv"[i % 2], i % 2) for i in range(40)])))
    assert set(texts.train[0]) == {"categories"} and texts.info.input_shape == (0,) and texts.info.categories == (3,)


def test_what_a_target_is_taken_for(tmp_path):
    def made(values, **keywords):
        path = write(tmp_path / "t.csv", table(("a", "y"), enumerate(values)))
        data = load(path, target="y", validation=0, test=0, **keywords)
        return data.info.task, data.info.class_names, data.train[1]

    task, names, y = made([5, 7, 5, 10] * 3)
    assert (task, names, y[:4].tolist(), y.dtype) == ("classify", ("5", "7", "10"), [0, 1, 0, 2], np.int32)
    assert made(["1.0", "2.0"] * 3)[:2] == ("classify", ("1", "2"))
    assert made(range(20))[0] == "classify" and made(range(21))[0] == "regress"
    task, names, y = made([0.5, 1, 2])
    assert (task, names, y.tolist(), y.dtype) == ("regress", None, [0.5, 1, 2], np.float32)
    assert made([1, 2] * 3, task="regress")[0] == "regress"
    assert len(made(range(30), task="classify")[1]) == 30
    assert made(["b", "a", "b"])[1:][0] == ("a", "b")
    with pytest.raises(ValueError, match="needs whole numbers or texts. The targets hold 0.5"):
        made([0.5, 1], task="classify")
    with pytest.raises(ValueError, match="needs numbers, but the targets are texts such as 'a'"):
        made(["a", "b"], task="regress")
    with pytest.raises(ValueError, match="one class only, 'a'"):
        made(["a", "a"])


@pytest.mark.parametrize(
    "text, message, keywords",
    [
        ("a,b\n1,2\n3,4\n", "target must name the column .* Columns: a, b", {}),
        ("a,b\n1,2\n3,4\n", "no column 'B'. Did you mean 'b'", {"target": "B"}),
        ("a,target\n1,2\n3\n", "line 3: the header has 2 fields, this row 1", {}),
        ("a,a,target\n1,2,3\n1,2,3\n", "several columns called 'a'", {}),
        (",target\n1,2\n3,4\n", 'column without a name, .* drop=\\[""\\]', {}),
        ("a,target\n,1\n,2\n", "column 'a' is empty", {}),
        ("a,target\ninf,1\n2,2\n", "column 'a' is infinite, or beyond float32, in row 1", {}),
        ("a,target\n1,1\n1e300,2\n", "column 'a' is infinite, or beyond float32, in row 2", {}),
        ("a,target\n1,1\n2,\n", "target 'target' is missing in 1 rows, first in row 2", {}),
        ("a,target\n1,1\n2,inf\n", "column 'target' is infinite", {}),
        ("a,target\n1,1\n", "at least two rows", {}),
        ("", "at least two rows", {}),
        ("target\n1\n2\n", "no column beside the target", {}),
        ("a,target\n1,1\n2,2\n", "drop: .* no column 'b'", {"drop": ["b"]}),
        ("a,target\n1,1\n2,2\n", "drop must not hold the target", {"drop": "target"}),
        ("a,target\n1,1\n2,2\n", "image_size does not apply", {"image_size": 8}),
        ('a,target\n"1,1\n2,2\n', "cannot be read as a table", {}),
    ],
)
def test_broken_tables(tmp_path, text, message, keywords):
    refuses(message, write(tmp_path / "t.csv", text), **keywords)


def test_identifiers_are_refused_and_can_be_dropped(tmp_path):
    rows = [(i, f"2024-01-{i}", i % 2) for i in range(60)]
    path = write(tmp_path / "t.csv", table(("a", "date", "target"), rows))
    refuses("column 'date' has 60 different texts in 60 rows, such as '2024-01-0'.*drop=\\['date'\\]", path)
    assert load(path, drop=["date"]).info.feature_names == ("a",)
    unnamed = write(tmp_path / "u.csv", table(("", "a", "target"), [(i, -i, i % 2) for i in range(20)]))
    assert load(unnamed, drop=[""], validation=0).info.feature_names == ("a",)


def test_files_that_are_not_tables(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(b"not gzip")
    refuses("cannot be read as a table", tmp_path / "t.csv.gz")
    whole = gzip.compress(b"a,target\n1,2\n3,4\n" * 50)
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    refuses("cannot be read as a table", tmp_path / "t.csv.gz")
    (tmp_path / "t.csv").write_bytes(b"a,target\n\xff\xfe,1\n2,3\n")
    refuses("is not UTF-8 text", tmp_path / "t.csv")
    (tmp_path / "t.bin").write_bytes(b"?")
    refuses("must end in .csv", tmp_path / "t.bin")


# Arrays


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def test_npz_keeps_the_test_split_it_brings(tmp_path):
    x, y = RNG.integers(0, 256, (120, 28, 28), "uint8"), np.arange(120) % 3
    path = save(tmp_path / "a.npz", x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    data = load(path)
    assert sizes(data) == (81, 9, 30) and data.train[0].dtype == np.uint8
    assert data.info.input_shape == (28, 28, 1) and data.info.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(data.test[0][..., 0], x[90:])
    np.testing.assert_array_equal(data.test[1], y[90:])
    assert rows(np.concatenate([data.train[0], data.validation[0]])) == rows(x[:90])
    with_val = save(tmp_path / "b.npz", x_train=x[:60], y_train=y[:60], x_val=x[60:90], y_val=y[60:90])
    assert sizes(load(with_val)) == (48, 30, 12)
    assert load(path, image_size=14).test[0].shape == (30, 14, 14, 1)


def test_npz_of_x_and_y(tmp_path):
    x = RNG.normal(size=(50, 29, 12))
    data = load(save(tmp_path / "a.npz", x=x, y=np.array(["u", "v"])[np.arange(50) % 2]))
    assert data.train[0].dtype == np.float32 and data.info.input_shape == (29, 12)
    assert data.info.class_names == ("u", "v") and sizes(data) == (35, 5, 10)
    regress = load(save(tmp_path / "b.npz", x=x[:, 0], y=RNG.normal(size=(50, 2))))
    assert regress.info.task == "regress" and regress.info.num_classes == 2 and regress.train[1].shape == (35, 2)
    labels = load(save(tmp_path / "c.npz", x=x[:, 0], y=np.array([1, 3, 7])[np.arange(50) % 3]))
    assert labels.info.class_names == ("1", "3", "7") and labels.train[1].max() == 2
    with pytest.warns(UserWarning, match=r"images scaled to 0..1. The builders take 0..255"):
        load(save(tmp_path / "e.npz", x=RNG.random((20, 4, 4, 3)), y=np.arange(20) % 2))
    ids = load(save(tmp_path / "d.npz", x=np.arange(500).reshape(50, 10), y=np.arange(50) % 2))
    assert np.issubdtype(ids.train[0].dtype, np.integer)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((4, 2))}, "must hold x_train, .* Received: images"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, "same number of samples"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "at least one"),
        ({"x": np.full((4, 2), np.nan), "y": np.zeros(4)}, r"x holds NaN .*first at \(0, 0\)"),
        ({"x": np.full((4, 2), 1e300), "y": np.zeros(4)}, "x holds NaN or a number beyond float32"),
        ({"x": np.zeros((4, 2), complex), "y": np.zeros(4)}, "x must be an array of numbers"),
        ({"x": np.array([["a"]] * 4), "y": np.zeros(4)}, "x must be an array of numbers"),
        ({"x": np.array([[1], [1, 2]], object), "y": np.zeros(2)}, "array x cannot be read"),
        ({"x": np.zeros((4, 3, 32, 32), "uint8"), "y": np.arange(4)}, "channels first"),
        ({"x": np.zeros((4, 2)), "y": np.array([0, 1, np.nan, 1])}, "hold NaN"),
        ({"x": np.zeros((4, 2)), "y": np.eye(4, dtype=int)}, r"y.argmax\(axis=1\)"),
    ],
)
def test_npz_refuses(tmp_path, arrays, message):
    refuses(message, save(tmp_path / "a.npz", **arrays))


def test_npz_that_is_broken(tmp_path):
    x, y = np.zeros((9, 2)), np.arange(9) % 3
    unseen = save(tmp_path / "u.npz", x_train=x, y_train=y, x_test=x[:3], y_test=np.array([0, 1, 5]))
    refuses(r"test part has classes that the training part has not: \[5\]", unseen)
    shapes = save(tmp_path / "s.npz", x_train=x, y_train=y, x_test=x[:3, :1], y_test=y[:3])
    refuses("must have one shape", shapes)
    whole = unseen.read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-30]):
        (tmp_path / "b.npz").write_bytes(content)
        refuses("is not an .npz archive, or is cut short", tmp_path / "b.npz")
    damaged = bytearray(whole)
    damaged[60:90] = b"\0" * 30
    (tmp_path / "b.npz").write_bytes(damaged)
    refuses("b.npz", tmp_path / "b.npz")


# TensorFlow Datasets, from folders that the test writes: nothing is fetched


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    features = tfds.features

    def prepare(name, spec, splits, keys):
        def info(self):
            return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(spec), supervised_keys=keys)

        def generate(self, examples):
            yield from enumerate(examples)

        body = {
            "VERSION": tfds.core.Version("1.0.0"),
            "_info": info,
            "_split_generators": lambda self, manager: {k: self._generate_examples(v) for k, v in splits.items()},
            "_generate_examples": generate,
        }
        with tfds.core.registered.skip_registration():  # so that the name is found by its files alone
            builder = type(name, (tfds.core.GeneratorBasedBuilder,), {**body, "__module__": __name__})
        builder(data_dir=str(folder)).download_and_prepare()

    def image(i, size=(8, 6, 3)):
        return {"image": np.full(size, i, "uint8"), "label": i % 2}

    folder = tmp_path_factory.mktemp("tfds")
    spec = {"image": features.Image(shape=(None, None, 3)), "label": features.ClassLabel(names=["even", "odd"])}
    keys = ("image", "label")
    prepare("Tiny", spec, {"train": [image(i) for i in range(40)], "test": [image(i) for i in range(6)]}, keys)
    prepare("Sizes", spec, {"train": [image(i, (8 + i % 2, 6, 3)) for i in range(40)]}, keys)
    prepare("Unkeyed", spec, {"train": [image(i) for i in range(4)]}, None)
    hidden = [{**image(i), "label": -1} for i in range(6)]
    prepare("Hidden", spec, {"train": [image(i) for i in range(40)], "test": hidden}, keys)
    numbers = {"x": features.Tensor(shape=(3,), dtype=np.float32), "y": features.Scalar(np.float32)}
    samples = [{"x": np.full(3, i, "float32"), "y": i / 2} for i in range(30)]
    prepare("Numbers", numbers, {"train": samples}, ("x", "y"))
    prepare("Words", {"x": features.Text(), "y": features.Scalar(np.float32)}, {"train": [{"x": "a", "y": 0}]}, ("x", "y"))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("this test must not open a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_tfds_folder(catalogue):
    data = load("tfds:tiny", data_dir=catalogue)
    assert sizes(data) == (36, 4, 6) and data.info.class_names == ("even", "odd")
    assert data.train[0].dtype == np.uint8 and data.info.input_shape == (8, 6, 3)
    for x, y in data[:3]:
        np.testing.assert_array_equal(x[:, 0, 0, 0] % 2, y)
    assert sorted(data.test[0][:, 0, 0, 0]) == list(range(6))
    np.testing.assert_array_equal(load("tfds:tiny:1.0.0", data_dir=catalogue).train[0], data.train[0])


def test_tfds_images_of_different_sizes(catalogue):
    refuses(r"differ in shape, \(8, 6, 3\) and \(9, 6, 3\). Pass image_size", "tfds:sizes", data_dir=catalogue)
    assert load("tfds:sizes", data_dir=catalogue, image_size=4).train[0].shape == (28, 4, 4, 3)


def test_tfds_numbers_and_unlabelled_parts(catalogue):
    data = load("tfds:numbers", data_dir=catalogue)
    assert data.info.task == "regress" and data.train[0].shape == (21, 3)
    np.testing.assert_array_equal(data.train[0][:, 0] / 2, data.train[1])
    with pytest.warns(UserWarning, match="test part has no labels"):
        assert sizes(load("tfds:hidden", data_dir=catalogue)) == (28, 4, 8)


def test_tfds_refuses(catalogue):
    refuses("Did you mean .*tfds:mnist", "tfds:mnits", data_dir=catalogue)
    refuses(r"which the label: \['image', 'label'\]", "tfds:unkeyed", data_dir=catalogue)
    refuses("Texts need a tokenizer", "tfds:words", data_dir=catalogue)
    refuses("target does not apply", "tfds:tiny", data_dir=catalogue, target="label")
