"""Weight files of Keras: the networks of keras.applications in every layout, and files that are broken or hostile."""

import os

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.efficientnet import EfficientNet
from keras.src.applications.efficientnet_v2 import EfficientNetV2
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from keras.src.legacy.saving import legacy_h5_format

import recipes
from recipes.vision import efficientnet as efficientnet_family
from recipes.vision import resnet as resnet_family
from recipes.weights import UnsafeFileError, keras_file, read_shapes, read_state_dict
from tests.test_weights import refused

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 5, 6, 3)).astype("uint8").repeat(8, axis=1).repeat(8, axis=2)
SHAPE = IMAGES.shape[1:]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# ---- what writes them


def write_weights(model, path):
    """Keras 3."""
    model.save_weights(path)


def write_legacy(model, path):
    """Keras 3, as what keras.applications downloads."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def write_model(model, path):
    """Keras 3, a whole model with its optimizer."""
    model.compile("adam", "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(path)


def write_keras_2(model, path):
    """The layout of Keras 2, which called kernels and heads otherwise, and its strings had a fixed length."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name.encode() for layer in model.layers])
        for layer in model.layers:
            name = "probs" if layer.name == "predictions" else layer.name
            group = file.create_group(name)
            if isinstance(layer, keras.layers.Dropout):
                continue
            kinds = {"kernel": "depthwise_kernel"} if isinstance(layer, keras.layers.DepthwiseConv2D) else {}
            variables = {f"{name}/{kinds.get(v.name, v.name)}:0": np.asarray(v) for v in layer.weights}
            group.attrs["weight_names"] = np.array([key.encode() for key in variables])
            for key, array in variables.items():
                group.create_dataset(key, data=array)


def write_by_name(model, path):
    """Keras 3 as it was for some versions: groups bear the layers' names."""
    with h5py.File(path, "w") as file:
        for layer in model.layers:
            for i, variable in enumerate(layer.weights):
                file.create_dataset(f"layers/{layer.name}/vars/{i}", data=np.asarray(variable))


WRITERS = {
    "keras.weights.h5": write_weights,
    "legacy.h5": write_legacy,
    "model.h5": write_model,
    "keras_2.h5": write_keras_2,
    "named.weights.h5": write_by_name,
}


# ---- what they hold


def shaken(model):
    """Give every vector other values than those they begin with."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.startswith("normalization") and layer.weights:
            layer.adapt_mean.assign(MEAN)
            layer.adapt_variance.assign(np.square(STD))
            layer.finalize_state()
            continue
        for variable in layer.weights:
            if len(variable.shape) == 1:
                positive = variable.name in ("gamma", "moving_variance")
                variable.assign(random.uniform(*((0.5, 1.5) if positive else (-0.2, 0.2)), variable.shape))
    return model


# blocks, kernel, stride, expansion, channels of each stage; the first two of V2 are fused
STAGES = ((1, 3, 1, 1, 8), (2, 3, 2, 4, 8), (1, 3, 2, 4, 16))


def their_b0():
    keys = ("repeats", "kernel_size", "strides", "expand_ratio", "filters_out")
    stages = [dict(zip(keys, row, strict=True), filters_in=width) for row, width in zip(STAGES, (32, 8, 8), strict=True)]
    stages = [{**stage, "se_ratio": 0.25, "id_skip": True} for stage in stages]
    sizes = {"blocks_args": stages, "input_shape": SHAPE, "classes": 3, "classifier_activation": None}
    return EfficientNet(1.0, 1.0, 64, weights=None, name="efficientnetb0", **sizes)


def their_v2(name="efficientnetv2-b0"):
    keys = ("num_repeat", "kernel_size", "strides", "expand_ratio", "output_filters")
    stages = [dict(zip(keys, row, strict=True), input_filters=8, conv_type=1, se_ratio=0) for row in STAGES]
    stages[2] |= {"conv_type": 0, "se_ratio": 0.25}
    sizes = {"blocks_args": stages, "input_shape": SHAPE, "classes": 3, "classifier_activation": None}
    return EfficientNetV2(1.0, 1.0, 64, weights=None, name=name, **sizes)


def their_resnet():
    def stack(x):
        x = stack_residual_blocks_v1(x, 8, 2, stride1=1, name="conv2")
        return stack_residual_blocks_v1(x, 16, 1, name="conv3")

    return ResNet(stack, False, True, weights=None, input_shape=SHAPE, classes=3, classifier_activation=None)


def our_resnet(path, classes=3):
    sizes = {"depths": (2, 1), "widths": (8, 16), "stem": "imagenet"}
    return recipes.resnet(SHAPE, classes, variant="micro50v1", weights=path, **sizes)


def our_efficientnet(variant):
    return lambda path: recipes.efficientnet(SHAPE, 3, variant=f"micro_{variant}", weights=path)


FAMILIES = {
    "resnet": (their_resnet, our_resnet),
    "b0": (their_b0, our_efficientnet("b0")),
    "v2b0": (their_v2, our_efficientnet("v2b0")),
}


@pytest.fixture(autouse=True)
def micro_variants(monkeypatch):
    """Those of keras.applications have wide stems and tops."""
    v1, variants = resnet_family.VARIANTS["50v1"], efficientnet_family.VARIANTS
    monkeypatch.setitem(resnet_family.VARIANTS, "micro50v1", {**v1, "stem_width": 64})
    monkeypatch.setitem(variants, "micro_b0", {**variants["b0"], "stages": STAGES})
    for name in ("v2b0", "v2s"):
        monkeypatch.setitem(variants, f"micro_{name}", {**variants[name], "stages": STAGES, "fused": 2, "stem": 8})


@pytest.fixture(scope="module")
def theirs():
    """Return a function that gives a network of keras.applications and what it says of `IMAGES`, once for all tests."""
    made = {}

    def make(family):
        if family not in made:
            model = shaken(FAMILIES[family][0]())
            pixels = IMAGES.astype("float32")
            pixels = keras.applications.resnet.preprocess_input(pixels) if family == "resnet" else pixels
            for layer in model.layers:
                layer.momentum = 0.0
            model(pixels, training=True)  # BatchNorm gets the statistics of the images, or all would look the same
            made[family] = model, np.asarray(model(pixels, training=False))
        return made[family]

    return make


@pytest.mark.parametrize("file", WRITERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_networks_of_keras_applications_in_every_layout(tmp_path, theirs, family, file):
    model, expected = theirs(family)
    WRITERS[file](model, tmp_path / file)
    ours = FAMILIES[family][1](tmp_path / file)
    difference = np.abs(ours(IMAGES, training=False) - expected).max() / expected.std()
    assert difference < 2e-5
    assert np.ptp(expected, axis=0).min() > 0.01  # the images differ


def test_pixels_of_the_larger_v2(tmp_path):
    model = shaken(their_v2("efficientnetv2-s"))
    write_legacy(model, tmp_path / "s.h5")
    ours, expected = our_efficientnet("v2s")(tmp_path / "s.h5"), np.asarray(model(IMAGES.astype("float32")))
    assert np.abs(ours(IMAGES) - expected).max() / expected.std() < 2e-5


def test_files_without_the_head(tmp_path, theirs):
    model, _ = theirs("resnet")
    headless = keras.Model(model.input, model.get_layer("avg_pool").output)
    write_legacy(headless, tmp_path / "notop.h5")
    with pytest.warns(UserWarning, match="left random.*logits/kernel, logits/bias"):
        our_resnet(tmp_path / "notop.h5")
    write_legacy(model, tmp_path / "whole.h5")
    with pytest.warns(UserWarning, match="left random"):
        assert our_resnet(tmp_path / "whole.h5", classes=5).output_shape == (None, 5)


@pytest.mark.parametrize("file", ["keras.weights.h5", "legacy.h5"])
def test_another_network_is_named(tmp_path, theirs, file):
    WRITERS[file](theirs("v2b0")[0], tmp_path / file)
    for build in (our_resnet, our_efficientnet("b0")):
        with pytest.raises(ValueError, match="do not fit.*Pass the file of this very variant"):
            build(tmp_path / file)


def test_pixels_that_are_not_imagenets(tmp_path):
    write_legacy(their_b0(), tmp_path / "b0.h5")  # mean 0, variance 1
    with pytest.raises(ValueError, match="normalization has mean .*0.485"):
        our_efficientnet("b0")(tmp_path / "b0.h5")


def test_numbers_that_are_not_finite(tmp_path, theirs):
    write_legacy(theirs("v2b0")[0], tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file["top_bn/top_bn/beta"][0] = np.nan
    with pytest.raises(ValueError, match="'top_bn/beta' has values that are not finite"):
        our_efficientnet("v2b0")(tmp_path / "w.h5")


# ---- the reader


def small_model():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 1, name="first")(inputs)
    x = keras.layers.DepthwiseConv2D(2, use_bias=False, name="middle")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(x)  # owns a seed, which is no weight
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("file", WRITERS)
def test_reads_what_was_written(tmp_path, file):
    model = shaken(small_model())
    WRITERS[file](model, tmp_path / file)
    names = {}
    if file == "keras.weights.h5":
        names = {"first": "conv2d", "middle": "depthwise_conv2d", "norm": "batch_normalization", "head": "dense"}
    expected = {
        f"{names.get(layer.name, layer.name)}/{v.name}": np.asarray(v) for layer in model.layers for v in layer.weights
    }
    read = read_state_dict(tmp_path / file)
    assert set(read) == set(expected) and len(read) == 9
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array)
    assert read_shapes(tmp_path / file) == {name: (array.shape, array.dtype) for name, array in read.items()}


ARRAY = np.arange(6, dtype="float32").reshape(2, 3)


def write(path, change=lambda file: None, **options):
    """Write a file that is fine, then change it."""
    with h5py.File(path, "w", **options) as file:
        file.create_dataset("conv/conv/kernel", data=ARRAY)
        file.create_dataset("conv/conv/bias", data=np.ones(3, "float32"))
        change(file)
    return path


def test_a_plain_file_is_fine(tmp_path):
    read = read_state_dict(write(tmp_path / "w.h5"))
    np.testing.assert_array_equal(read["conv/kernel"], ARRAY)
    doubled = write(tmp_path / "d.h5", lambda file: file.create_dataset("n/n/count", data=np.int64(3)))
    assert read_state_dict(doubled)["n/count"] == 3
    big = write(tmp_path / "b.h5", lambda file: file.create_dataset("n/n/gamma", data=ARRAY.astype(">f8")))
    np.testing.assert_array_equal(read_state_dict(big)["n/gamma"], ARRAY)


def virtual(file):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (6,))
    file.create_virtual_dataset("n/n/gamma", layout)


def unallocated(file, shape=(1 << 28,)):
    file.create_dataset("n/n/gamma", shape, "f4", fillvalue=1.0)


def shared(file):
    """Ten thousand arrays that are one."""
    for i in range(10):
        file[f"n/n/{i}"] = file["conv/conv/kernel"]


def cycle(file):
    file["conv/conv/again"] = file["conv"]


def add(**arguments):
    return lambda file: file.create_dataset("n/n/gamma", **arguments)


def link(target, name="n"):
    def change(file):
        file[name] = target

    return change


BOMB = {"shape": (1 << 28,), "dtype": "f4", "compression": "gzip", "chunks": (1 << 20,)}
HOSTILE = {
    "compressed bomb": (add(**BOMB), "compressed or in chunks"),
    "chunks": (add(data=ARRAY, chunks=True), "compressed or in chunks"),
    "shape bomb": (unallocated, "needs 1073741824 bytes, 0 are there"),
    "shape out of proportion": (lambda file: unallocated(file, (0, 1 << 60)), "shape .* needs 0 bytes"),
    "external link": (link(h5py.ExternalLink("/etc/passwd", "/")), "link to elsewhere"),
    "external link for a layer": (link(h5py.ExternalLink("other.h5", "/conv"), "conv/conv/x"), "link to elsewhere"),
    "soft link": (link(h5py.SoftLink("/conv")), "link to elsewhere"),
    "soft link to nothing": (link(h5py.SoftLink("/nowhere"), "conv/x"), "link to elsewhere"),
    "soft link named layers": (link(h5py.SoftLink("/conv"), "layers"), "link to elsewhere"),
    "external storage": (add(shape=(6,), dtype="f4", external=[("/etc/passwd", 0, 24)]), "in another file"),
    "virtual array": (virtual, "in another file"),
    "cycle": (cycle, "under two names"),
    "one array many times": (shared, "under two names"),
    "compound": (add(data=np.zeros(2, [("a", "f4"), ("b", "f4")])), "not plain numbers"),
    "complex": (add(data=np.zeros(2, "c8")), "not plain numbers"),
    "strings": (add(data=np.array([b"abc"])), "not plain numbers"),
    "lists": (add(shape=(2,), dtype=h5py.vlen_dtype("f4")), "not plain numbers"),
    "references": (add(shape=(2,), dtype=h5py.ref_dtype), "not plain numbers"),
    "truths": (add(data=np.array([True])), "not plain numbers"),
    "quadruple precision": (add(data=np.zeros(2, np.longdouble)), "not plain numbers"),
    "no shape": (add(data=h5py.Empty("f4")), "no shape"),
    "named type": (link(np.dtype("f4"), "conv/type"), "neither a group nor an array"),
    "array outside": (lambda file: file.create_dataset("gamma", data=ARRAY), "not in a layer"),
    "same name": (lambda file: file.create_dataset("conv/other/kernel", data=ARRAY), "the same name"),
    "same number": (
        lambda file: [file.create_dataset(f"layers/dense/vars/{i}", data=ARRAY) for i in ("0", "00")],
        "the same name",
    ),
    "long name": (lambda file: file.create_dataset("n" * 300, data=ARRAY), "malformed name"),
    "dots": (lambda file: file.create_group("conv/x").move("/conv/conv", "/conv/.."), "malformed name"),
    "nothing": (lambda file: file.clear(), "holds no weights"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_files(tmp_path, monkeypatch, attack):
    monkeypatch.chdir(tmp_path)
    change, rule = HOSTILE[attack]
    refused(write(tmp_path / "w.h5", change), rule)
    assert os.listdir(tmp_path) == ["w.h5"]


def test_arrays_that_overlap(tmp_path):
    """Three arrays at one place, in a file that is cut behind the first: a way to make a small file large."""

    def three(file):
        arrays = [file.create_dataset(f"n/n/{i}", (10_000,), "f4") for i in range(3)]
        for array in arrays:  # only now do they get their places, behind everything else
            array[:] = 1.0

    path = write(tmp_path / "w.h5", three)
    with h5py.File(path) as file:
        places = [file[f"n/n/{i}"].id.get_offset() for i in range(3)]
    whole, end = path.read_bytes(), places[0] + 40_000
    for before, after in ((places[1], places[0]), (places[2], places[0]), (len(whole), end)):
        assert whole.count(before.to_bytes(8, "little")) == 1
        whole = whole.replace(before.to_bytes(8, "little"), after.to_bytes(8, "little"))
    path.write_bytes(whole[:end])
    refused(path, "its arrays need")


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_file, "MAX_MEMBERS", 50)
    refused(
        write(tmp_path / "wide.h5", lambda file: [file.create_group(f"g{i}") for i in range(51)]), "more than 50 members"
    )
    refused(write(tmp_path / "deep.h5", lambda file: file.create_group("/".join("g" * 50))), "more than 50 members")


def test_bytes_before_the_start(tmp_path):
    path = write(tmp_path / "w.h5", userblock_size=512)
    refused(path, "not a torch file")  # whatever the block says it is
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes()[10:])
    refused(path, "not a torch file")


def test_names_with_a_slash(tmp_path):
    path = write(tmp_path / "w.h5", lambda file: file.create_dataset("conv/a_b", data=ARRAY))
    path.write_bytes(path.read_bytes().replace(b"a_b\0", b"a/b\0"))
    refused(path, "malformed name")


def test_truncations_are_refused(tmp_path):
    whole = write(tmp_path / "w.h5").read_bytes()
    for length in range(8, len(whole), 61):
        (tmp_path / "cut.h5").write_bytes(whole[:length])
        with pytest.raises(UnsafeFileError):
            read_state_dict(tmp_path / "cut.h5")


def test_changed_bytes_are_refused_or_read(tmp_path):
    """HDF5 has no checksum here, so some changes only change a number. None may do anything else."""
    whole = bytearray(write(tmp_path / "w.h5").read_bytes())
    path = tmp_path / "changed.h5"
    refusals = 0
    for position in range(0, len(whole), 31):
        flip = (0x01, 0x80, 0xFF)[position % 3]
        whole[position] ^= flip
        path.write_bytes(whole)
        whole[position] ^= flip
        try:
            tensors = read_state_dict(path)
        except UnsafeFileError:
            refusals += 1
            continue
        assert sum(array.nbytes for array in tensors.values()) <= len(whole)
    assert refusals > 5
