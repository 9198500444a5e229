"""What people pass by mistake, a row each, and what each must get: an error that says the fix, a warning, or a result.

The numbers are those of the catalogue of bad inputs that the library promises to answer. Models are tiny, built once and
never trained by a row that is refused.
"""

import dataclasses
import functools
import os
import tempfile
import typing

import keras
import numpy as np
from sklearn.datasets import load_wine

import recipes

X, Y = load_wine(return_X_y=True)
X = X.astype("float32")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype("uint8")
LABELS = np.arange(6) % 3


@dataclasses.dataclass(frozen=True)
class Row:
    """One bad input.

    Attributes:
        number: Its number in the catalogue.
        what: The mistake, in words.
        do: Function without arguments that makes it; a row without `words` asserts by itself what is defined.
        words: Regular expression that the message must match, or `None`.
        kind: What is raised or warned.
    """

    number: int
    what: str
    do: typing.Callable
    words: str | None = None
    kind: type = ValueError


# The models, and what trains them


@functools.cache
def table():
    return recipes.mlp((13,), 3, hidden=(8,), adapt=X)


@functools.cache
def images(size=16):
    return recipes.resnet((size, size, 3), 3, depths=(1,), widths=(4,))


@functools.cache
def texts():
    return recipes.lstm_text(2, vocabulary_size=10, width=4, units=4)


@functools.cache
def gpt():
    return recipes.gpt(vocabulary_size=10, max_length=8, width=8, heads=2, depth=1)


@functools.cache
def labels():
    return recipes.mlp((13,), 3, task="multilabel", hidden=(8,), adapt=X)


@functools.cache
def autoencoder():
    return recipes.vae((8, 8, 1), latent=2, width=4, depth=1)


@functools.cache
def stranger(loss="sparse_categorical_crossentropy", units=3, activation="softmax"):
    inputs = keras.Input((13,), name="x")
    hidden = keras.layers.Dense(4, name="hidden")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(units, activation, name="last")(hidden))
    model.compile("sgd", loss if isinstance(loss, str) else loss(), metrics=["accuracy"])
    return model


def fit(x=X, y=Y, model=table, **arguments):
    """Return a function that trains `model` on `(x, y)`, with everything but one thing right."""
    return lambda: recipes.fit(model(), (x, y), **{"epochs": 1, "verbose": 0, **arguments})


def images_of(*shape, dtype="uint8", value=9):
    return fit(np.full(shape, value, dtype), np.arange(shape[0]) % 3, images)


def tokens(ids):
    ids = np.array(ids)
    return fit(ids, np.arange(len(ids)) % 2, texts)


def strange(y=Y, **arguments):
    return fit(y=y, model=functools.partial(stranger, **arguments))


class Parts(keras.utils.PyDataset):
    """Batches of a list; one that is an exception is raised."""

    def __init__(self, *parts, length=None):
        super().__init__()
        self.parts, self.length = parts, length

    @property
    def num_batches(self):
        return len(self.parts) if self.length is None else self.length()

    def __getitem__(self, index):
        part = self.parts[index]
        if isinstance(part, Exception):
            raise part
        return part


GOOD = (X[:16], Y[:16])


def stream(*parts, model=table, **arguments):
    return lambda: recipes.fit(model(), Parts(GOOD, GOOD, *parts), epochs=1, schedule=None, verbose=0, **arguments)


def changed(value, place=(3, 2), array=X):
    array = array.astype("float64")
    array[place] = value
    return array


def table_file(text):
    def load():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "table.csv")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            recipes.data.load(path, target="y")

    return load


def in_a_file(act):
    """Return a function that gives `act` a path below something that is a file."""

    def call():
        with tempfile.NamedTemporaryFile() as file:
            act(os.path.join(file.name, "model.keras"))

    return call


def with_rate(rate):
    def call():
        model = recipes.mlp((13,), 3, hidden=(4,), adapt=X)
        model.optimizer.learning_rate = rate
        recipes.fit(model, (X, Y), epochs=0)

    return call


# What is defined, where there is nothing to refuse


def both_kinds_of_labels():
    ids, rows = (table().evaluate(X, y, verbose=0) for y in (Y, np.eye(3)[Y]))
    np.testing.assert_allclose(ids, rows, rtol=1e-6)


def head_and_loss_belong_together():
    logits = table().predict(X, verbose=0).astype("float64")
    mean = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(Y)), Y])
    np.testing.assert_allclose(table().evaluate(X, Y, batch_size=len(Y), verbose=0)[0], mean, rtol=1e-5)


def targets_with_and_without_an_axis():
    model = recipes.mlp((13,), 1, task="regress", hidden=(4,), adapt=(X, X[:, 0]))
    flat = model.evaluate(X, X[:, 0], verbose=0)
    recipes.training.recipe.recompile(model)  # Keras' losses take one of the two a compilation
    assert flat == model.evaluate(X, X[:, :1], verbose=0)


def the_last_example_is_not_alone():
    train = recipes.data.Batches(np.arange(9), np.arange(9), 4)
    assert [len(y) for _, y in train] == [4, 5]


def raw_pixels_are_scaled_inside():
    loss = images().evaluate(IMAGES, LABELS, verbose=0)[0]
    assert abs(loss - np.log(3)) < 0.2


def zero_epochs():
    before = [w.copy() for w in table().get_weights()]
    history = recipes.fit(table(), (X, Y), epochs=0, verbose=0)
    assert history.history == {}
    assert all(np.array_equal(a, b) for a, b in zip(before, table().get_weights(), strict=True))


def numbers_the_model_deals_with():
    inputs = keras.Input(X.shape[1:])
    outputs = keras.layers.Dense(3, activation="softmax")(keras.ops.nan_to_num(inputs) / 1000)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    recipes.fit(model, (changed(np.nan), Y), epochs=1, schedule=None, allow_nonfinite=True, verbose=0)
    assert np.array_equal(recipes.predict(model, changed(np.nan)).values, model.predict(changed(np.nan), verbose=0))
    layer = recipes.layers.Standardize()
    layer.adapt([[1.0], [np.nan], [3.0]])
    assert keras.ops.convert_to_numpy(layer.mean) == 2


def lists_are_arrays():
    checked, _ = recipes.training.checks.check_arrays(table(), X.tolist(), Y.tolist())
    assert np.array_equal(checked.astype("float32"), X)


def nothing_to_attend_to():
    layer, pool = recipes.layers.SelfAttention(heads=2), recipes.layers.MaskedPool()
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    mask = np.array([[False] * 3, [True, True, False]])
    attended = layer(x, padding_mask=mask)
    assert np.isfinite(keras.ops.convert_to_numpy(attended)).all()
    pooled = keras.ops.convert_to_numpy(pool(attended, mask=mask))
    assert not pooled[0].any() and pooled[1].all()


def nothing_to_average():
    for mode in ("mean", "max"):
        pooled = recipes.layers.MaskedPool(mode)(np.ones((1, 3, 2), "float32"), mask=np.zeros((1, 3), bool))
        assert not keras.ops.convert_to_numpy(pooled).any()


def only_padding():
    logits = texts().predict(np.zeros((2, 4), int), verbose=0)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[0], texts().predict(np.zeros((2, 1), int), verbose=0)[0], rtol=1e-5)


def padding_is_not_read():
    short, long = (texts().predict(np.array(ids), verbose=0) for ids in ([[5, 3]], [[5, 3, 0, 0]]))
    np.testing.assert_allclose(short, long, atol=1e-6)


def another_number_of_classes():
    model = recipes.replace_head(table(), 5)
    assert model.output_shape == (None, 5)
    first, second = (keras.ops.convert_to_numpy(m.get_layer("block1_dense").kernel) for m in (table(), model))
    assert np.array_equal(first, second)


def frozen_and_thawed():
    """72 and 73: a frozen normalisation keeps its statistics, and unfreezing takes effect without a word more."""
    model = recipes.freeze(keras.models.clone_model(stranger()), "norm")
    model.compile("sgd", "sparse_categorical_crossentropy")
    hidden, norm = model.get_layer("hidden"), model.get_layer("norm")
    before = [keras.ops.convert_to_numpy(v).copy() for v in (hidden.kernel, norm.moving_mean, norm.moving_variance)]
    model.fit(X[:32], Y[:32], verbose=0)
    after = [keras.ops.convert_to_numpy(v) for v in (hidden.kernel, norm.moving_mean, norm.moving_variance)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    recipes.unfreeze(model, batch_norm=True).fit(X[:32], Y[:32], verbose=0)
    after = [keras.ops.convert_to_numpy(v) for v in (hidden.kernel, norm.moving_mean, norm.moving_variance)]
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def weights_know_their_pixels():
    from recipes.vision import vit

    assert vit.VARIANTS["deit_tiny"]["mean"] != vit.VARIANTS["tiny"]["mean"]
    assert all({"mean", "std"} <= set(row) for row in vit.VARIANTS.values())


def float16_overflows():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="last")])
    model.compile("sgd", "mse")
    recipes.fit(model, (np.ones((32, 4)), np.full(32, 200.0)), epochs=1, batch_size=16, schedule=None, verbose=0)


def a_step_too_many():
    model = recipes.diffusion((2,), variant="ddpm", width=16, depth=1, adapt=X[:, :2])
    model.add_noise(X[:, :2], 1000)


def samples_alike():
    """A generator whose weights are zero makes the same of all noise."""
    model = recipes.gan((2,), width=4, latent=2, adapt=X[:, :2])
    for variable in model.variables:
        if "standardize" not in variable.path and "seed" not in variable.path:
            variable.assign(np.zeros(variable.shape))
    monitor = recipes.callbacks.CollapseMonitor(X[:, :2], samples=8, patience=1, start=0)
    monitor.set_model(model)
    monitor.on_train_begin()
    monitor.on_epoch_end(0, {"d_accuracy": 0.5})
    assert model.stop_training


def foreign_names():
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        save_file({"conv1.kernel": np.zeros((3, 3), "float32")}, path)
        recipes.lstm_text(2, vocabulary_size=10, width=4, units=4, weights=path)


def raises_in_an_epoch():
    stream(OSError("the disk is gone"))()


def masked():
    fit(np.ma.masked_array(X, X > 5))()


ROWS = [
    Row(1, "a column is missing", fit(X[:, :12]), r"shape \(examples, 13\)\. Received: \(178, 12\)"),
    Row(2, "an axis too many", fit(X[:, None]), r"Reshape them with x\[:, 0, :\]"),
    Row(2, "an axis too few", fit(X[:, 0]), r"Reshape one example with x\[None\], one column with x\[:, None\]"),
    Row(3, "x and y of different length", fit(y=Y[:9]), "x has 178 examples and y has 9"),
    Row(4, "NaN in x", fit(changed(np.nan)), r"x\[3, 2\] = nan is not finite"),
    Row(4, "NaN in x, allowed", numbers_the_model_deals_with),
    Row(5, "infinity in x", fit(changed(np.inf)), r"x\[3, 2\] = inf is not finite"),
    Row(6, "a number beyond float32", fit(changed(1e300)), r"x\[3, 2\] = 1e\+300 overflows float32"),
    Row(7, "NaN in y", fit(y=changed(np.nan, 5, Y)), r"y\[5\] = nan is not finite"),
    Row(8, "no examples", fit(X[:0], Y[:0]), "0 examples"),
    Row(9, "a label of no class", fit(y=Y + 5), r"labels span 5\.\.7, but the model has 3 classes, 0\.\.2.*num_classes=8"),
    Row(10, "a negative label", fit(y=Y - 1), r"labels span -1\.\.1.*Number the classes from 0"),
    Row(11, "labels from 1", fit(y=Y + 1), r"labels span 1\.\.3.*Subtract 1"),
    Row(12, "fractional labels", fit(y=Y + 0.5), "whole class ids"),
    Row(13, "texts for labels", fit(y=np.array(["ale", "porter"])[Y % 2]), "'ale', 'porter'; encode them with"),
    Row(14, "a number a class for ids", strange(np.eye(3)[Y]), r"pass y\.argmax"),
    Row(14, "a number a class, our loss", both_kinds_of_labels),
    Row(15, "ids for a number a class", strange(loss="categorical_crossentropy"), r"to_categorical\(y, 3\)"),
    Row(16, "softmax of one class", lambda: recipes.mlp((13,), 1), "num_classes must be an integer >= 2"),
    Row(16, "softmax over one unit", strange(Y * 0, units=1), "softmax over one unit is always 1"),
    Row(17, "labels -1 and 1", fit(y=np.eye(3)[Y] * 2 - 1, model=labels), r"labels must be 0/1.*-1\.0\.\.1\.0"),
    Row(18, "labels 0 and 255", fit(y=np.eye(3)[Y] * 255, model=labels), "labels must be 0/1"),
    Row(
        18,
        "labels 0 and 255, a stranger",
        strange((Y > 0) * 255, loss="binary_crossentropy", units=1, activation="sigmoid"),
        "labels must be 0/1",
    ),
    Row(19, "head and loss that disagree: ours cannot", head_and_loss_belong_together),
    Row(19, "logits taken for probabilities", strange(activation=None), "compile with from_logits=True"),
    Row(19, "probabilities taken for logits", strange(loss=recipes.CrossEntropy), "squashed twice"),
    Row(20, "data of one class", fit(y=Y * 0, epochs=0), "one class alone, 0, of 3", UserWarning),
    Row(21, "several labels for softmax", fit(y=np.ones((178, 3))), "probabilities that sum to 1 a row"),
    Row(22, "targets without an axis", targets_with_and_without_an_axis),
    Row(23, "batches of one and normalisation", fit(model=stranger, batch_size=1), "batch_size must be at least 2: norm"),
    Row(24, "a last batch of one", the_last_example_is_not_alone),
    Row(25, "raw pixels", raw_pixels_are_scaled_inside),
    Row(
        26,
        "pixels that are scaled already",
        fit(IMAGES.astype("float32") / 255, LABELS, images, epochs=0),
        "look scaled.*Multiply them by 255",
        UserWarning,
    ),
    Row(28, "complex x", fit(X.astype("complex64")), "must be real numbers"),
    Row(29, "ragged x", fit([[1.0, 2.0], [3.0]], Y[:2]), r"rows of shapes \(2,\), \(1,\)"),
    Row(29, "objects", fit(X.astype(object)), "dtype object"),
    Row(30, "a masked array", masked, r"mask would be ignored.*filled"),
    Row(32, "lists", lists_are_arrays),
    Row(32, "lists of the wrong length", fit(X[:, :12].tolist()), r"^data x must have shape \(examples, 13\)\. Rec.{0,30}$"),
    Row(33, "a generator", lambda: recipes.fit(table(), (GOOD for _ in range(3))), "ends after one pass.*PyDataset"),
    Row(34, "a stream of nothing", lambda: recipes.fit(table(), Parts()), "0 batches"),
    Row(35, "a stream that breaks", raises_in_an_epoch, "the disk is gone", OSError),
    Row(36, "another shape in a stream", stream((X[:16, :12], Y[:16])), r"data batch 2 x must have shape \(examples, 13\)"),
    Row(37, "a stream without end", lambda: recipes.fit(table(), Parts(GOOD, length=lambda: None)), "no end"),
    Row(38, "all for validation", fit(validation=1.0), r"fraction in \(0, 1\)"),
    Row(38, "too few for validation", fit(X[::20], Y[::20], validation=0.1), "too few for each of 3 classes"),
    Row(39, "no validation examples", fit(validation=(X[:0], Y[:0])), "validation x holds 0 examples"),
    Row(40, "validation labels of no class", fit(validation=(X, Y + 1)), r"validation y labels span 1\.\.3"),
    Row(40, "validation labels nobody learns", fit(X[:100], Y[:100], validation=(X[100:], Y[100:])), r"no training.*\[2\]"),
    Row(41, "validation on the training data", fit(validation=(X, Y), epochs=0), "holds the training data", UserWarning),
    *(Row(42, f"batch_size={n}", fit(batch_size=n), f"batch_size.*{n}") for n in (0, -1, 7.5)),
    Row(43, "epochs=-1", fit(epochs=-1), "epochs must be an integer >= 0.*-1"),
    Row(43, "epochs=0", zero_epochs),
    Row(44, "class_weight without a class", fit(class_weight={0: 1.0}), r"class_weight.*Missing: \[1, 2\]"),
    Row(45, "class_weight NaN", fit(class_weight={0: np.nan, 1: 1, 2: 1}), "class_weight must be finite and >= 0"),
    Row(45, "class_weight < 0", fit(class_weight={0: -1, 1: 1, 2: 1}), "class_weight must be finite and >= 0"),
    Row(45, "sample_weight < 0", fit(sample_weight=-np.ones(178)), "sample_weight must be finite, >= 0"),
    Row(46, "sample_weight all zero", fit(sample_weight=np.zeros(178)), "not all zero"),
    Row(46, "sample_weight too short", fit(sample_weight=np.ones(9)), r"sample_weight must have shape \(178,\)"),
    Row(47, "learning rate NaN", with_rate(float("nan")), "learning_rate must be finite and >= 0"),
    Row(47, "learning rate < 0", with_rate(-1.0), "learning_rate must be finite and >= 0"),
    Row(47, "learning rate 0", with_rate(0.0), "learning_rate is 0", UserWarning),
    Row(
        48,
        "a warmup longer than the run",
        fit(schedule=recipes.callbacks.WarmupCosine(warmup=1000)),
        "warmup is longer than the run of",
    ),
    Row(
        49,
        "a monitor that nobody reports",
        fit(validation=0.2, callbacks=[keras.callbacks.EarlyStopping("val_los")]),
        "Did you mean 'val_loss'",
    ),
    Row(49, "a monitor without validation", fit(callbacks=[keras.callbacks.EarlyStopping()]), "needs validation data"),
    Row(50, "nothing to train", lambda: fit(model=frozen)(), r"nothing to train.*recipes\.unfreeze"),
    Row(51, "prediction of NaN", lambda: recipes.predict(table(), changed(np.nan)), r"x\[3, 2\] = nan is not finite"),
    Row(
        52,
        "patches that do not divide",
        lambda: recipes.vit((30, 30, 3), 3, variant="tiny"),
        "multiple of patch_size=16.*height 16 or 32",
    ),
    Row(53, "images too small", lambda: recipes.alexnet((8, 8, 3), 3), "at least 16 pixels a side"),
    Row(54, "channels first", images_of(5, 3, 16, 16), r"channels first: transpose them"),
    Row(55, "grey images for colour", images_of(5, 16, 16, 1), r"repeat the channel"),
    Row(56, "images of another size", images_of(5, 20, 20, 3), "Resize the images to 16x16, or build"),
    Row(57, "a token id too high", tokens([[1, 2], [3, 10]]), r"spans 1\.\.10, but the model was built for 10 token ids"),
    Row(58, "a token id of -1", tokens([[1, 2], [3, -1]]), r"spans -1\.\.3, but the model was built for 10 token ids"),
    Row(59, "token ids with fractions", tokens([[1.5, 2], [3, 4]]), "must be token ids, integers"),
    Row(
        60,
        "a text too long",
        lambda: recipes.fit(gpt(), np.ones((2, 12), int)),
        "sequence length 12 exceeds max_length 8; truncate or rebuild",
    ),
    Row(61, "a text without tokens", tokens(np.zeros((2, 0), int)), "at least one token"),
    Row(62, "attention to nothing", nothing_to_attend_to),
    Row(63, "the mean of nothing", nothing_to_average),
    Row(64, "an LSTM that reads nothing", only_padding),
    Row(65, "padding", padding_is_not_read),
    Row(
        65,
        "a mask of numbers",
        lambda: recipes.layers.MaskedPool()(np.ones((1, 2, 2)), mask=np.array([[1, 0]])),
        "mask must be bool.*mask == 0 where 1 means padding",
    ),
    Row(66, "heads that do not divide", lambda: recipes.gpt(width=8, heads=3, depth=1), "heads.*Received: .*3"),
    Row(66, "a width of no whole heads", lambda: recipes.vit((16, 16, 3), 3, width=50), "width must be a multiple of 32"),
    *(Row(67, f"{n} units", lambda n=n: recipes.mlp((4,), 2, hidden=(n,)), r"hidden\[0\].*integer") for n in (0, -3, 4.0)),
    Row(67, "dropout 1.5", lambda: recipes.mlp((4,), 2, dropout=1.5), r"dropout must be in \[0, 1\)"),
    Row(68, "dropout 1", lambda: recipes.mlp((4,), 2, dropout=1.0), r"dropout must be in \[0, 1\)"),
    Row(69, "another number of classes", another_number_of_classes),
    Row(70, "weights of another network", foreign_names, r"conv1\.kernel|embedding"),
    Row(71, "pixels of another scale", weights_know_their_pixels),
    Row(72, "unfrozen, not compiled again; frozen normalisation", frozen_and_thawed),
    Row(
        74,
        "generated images are 0..255",
        lambda: recipes.fit(autoencoder(), np.linspace(-1, 1, 128).reshape(2, 8, 8, 1)),
        r"raw images, 0\.\.255.*-1\.0\.\.1\.0",
    ),
    Row(75, "shares of noise that are none", lambda: recipes.diffusion((2,), betas=(0.1, 1.5)), r"betas.*each in \(0, 1\)"),
    Row(75, "a step that no schedule has", a_step_too_many, r"level must be an integer, 0\.\.999.*level=1000"),
    Row(76, "samples that are all alike", samples_alike, "the samples have collapsed", UserWarning),
    Row(77, "float16 overflows in every step", float16_overflows, "steps of epoch 1 were left out", FloatingPointError),
    Row(78, "a dict of other inputs", fit({"table": X}), r"keys \['numeric'\]\. Received: \['table'\]"),
    Row(79, "two columns of a name", table_file("a,a,y\n1,2,0\n3,4,1\n"), "several columns called 'a'. Rename"),
    Row(79, "a column without a name", table_file(",a,y\n1,2,0\n3,4,1\n"), "without a name.*drop="),
    Row(80, "batches of four parts", stream((X, Y, Y, Y)), "data batch 2 must be .x, y. or .x, y, sample_weight.*4 parts"),
    Row(80, "batches without targets", stream((X[:16], None)), "data batch 2 has no targets"),
    Row(81, "no such file", lambda: recipes.data.load("no/table.csv", target="y"), r"no/table\.csv"),
    Row(81, "no such model", lambda: recipes.load_model("no/model"), "not a folder that recipes.save wrote"),
    Row(
        81,
        "a checkpoint that cannot be written",
        in_a_file(lambda path: fit(callbacks=[keras.callbacks.ModelCheckpoint(path)])()),
        "is not a folder",
    ),
    Row(81, "a directory below a file", in_a_file(lambda path: fit(directory=path)()), "ot a directory", OSError),
    Row(82, "a name with a slash", lambda: recipes.mlp((4,), 2, name="a/b"), "name.*/"),
]


@functools.cache
def frozen():
    model = recipes.mlp((13,), 3, hidden=(4,), adapt=X)
    model.trainable = False
    return model


ELSEWHERE = {
    27: "test_unusual_arrays_train_bit_equal",
    31: "test_unusual_arrays_train_bit_equal",
    73: "row 72",
}
