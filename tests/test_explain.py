"""Features by name and heat maps: on networks whose right answer is known, and on all families."""

import keras
import numpy as np
import pytest

import recipes
from recipes.layers import SelfAttention
from recipes.vision.explain import attention_weights, rollout
from recipes.vision.features import default_names, through
from recipes.vision.gradients import input_gradient

FAMILIES = {
    "resnet": (recipes.resnet, (16, 16, 3), {"depths": (1, 1), "widths": (4, 8)}),
    "resnet_preactivated": (
        recipes.resnet,
        (16, 16, 3),
        {"variant": "wide28x10", "depths": (1, 1), "widths": (4, 8), "squeeze_excite": True},
    ),
    "efficientnet": (recipes.efficientnet, (32, 32, 3), {"depth": 0.1, "width": 0.25}),
    "convnext": (recipes.convnext, (16, 16, 3), {"depths": (1, 1), "widths": (4, 8)}),
    "alexnet": (recipes.alexnet, (32, 32, 3), {"widths": (4, 4, 4, 4, 4), "hidden": 4}),
    "vit": (recipes.vit, (16, 12, 3), {"width": 32, "depth": 2, "patch_size": 4}),
    "vit_token": (recipes.vit, (16, 12, 3), {"variant": "tiny", "width": 64, "depth": 1, "patch_size": 4}),
}


def build(name):
    builder, shape, arguments = FAMILIES[name]
    keras.utils.set_random_seed(0)
    model = builder(shape, 3, **arguments)
    for variable in model.trainable_variables:  # a head of small weights shows little
        variable.assign(variable + 0.1 * np.random.default_rng(1).normal(size=variable.shape).astype("float32"))
    return model, np.random.default_rng(0).integers(0, 256, (3, *shape)).astype("uint8")


def channel_means(activation=None, side=8):
    """A network whose score of class c is the mean of channel c, times c + 1."""
    image = keras.Input((side, side, 2), name="image")
    same = keras.initializers.Constant(np.eye(2).reshape(1, 1, 2, 2))
    x = keras.layers.Conv2D(2, 1, use_bias=False, kernel_initializer=same, name="map")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    kernel = keras.initializers.Constant(np.diag([1.0, 2.0]))
    scores = keras.layers.Dense(2, activation, use_bias=False, kernel_initializer=kernel, name="scores")(x)
    return keras.Model(image, scores)


def two_spots():
    """Class 0 is seen above left, class 1 below right, and more of it."""
    images = np.zeros((1, 8, 8, 2), "float32")
    images[0, 1:3, 1:3, 0] = [[3, 6], [6, 3]]
    images[0, 5:8, 4:7, 1] = 4
    return images


# Features


def test_features_by_name_share_the_weights():
    model, images = build("resnet")
    one = recipes.features(model, "stem_relu")
    several = recipes.features(model, ["stage1_block1_relu", "features"])
    found = several(images)
    assert list(found) == ["stage1_block1_relu", "features"]
    assert one(images).shape == (3, *recipes.list_features(model)["stem_relu"][1:])
    expected = keras.Model(model.input, model.get_layer("features").output)(images)
    np.testing.assert_array_equal(found["features"], expected)
    assert all(any(v is w for w in model.weights) for v in several.weights) and not several.compiled
    np.testing.assert_array_equal(model.get_layer("logits")(found["features"]), model(images))


# channels: timm 1.0.31, create_model(name, features_only=True).feature_info.channels()
@pytest.mark.parametrize(
    "builder, variant, channels",
    [
        ("resnet", "18", [64, 64, 128, 256, 512]),
        ("efficientnet", "b0", [16, 24, 40, 112, 320]),
        ("convnext", "atto", [40, 80, 160, 320]),
    ],
)
def test_the_pyramid_is_that_of_timm(builder, variant, channels):
    model = getattr(recipes, builder)((224, 224, 3), 10, variant=variant)
    maps = recipes.features(model).output
    assert [tensor.shape[-1] for tensor in maps.values()] == channels
    sides = [tensor.shape[1] for tensor in maps.values()]
    assert sides == [7 << i for i in range(len(sides))][::-1]


def test_what_features_takes_without_names():
    model, images = build("vit")
    assert list(recipes.features(model)(images)) == ["block0_add2", "block1_add2"]
    assert default_names(channel_means()) == ["map"]
    alexnet, _ = build("alexnet")
    assert default_names(alexnet) == ["conv1", "conv2", "conv5", "conv5_pool"]


def test_a_nested_model_is_a_layer():
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")], name="inner")
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(inner(image))
    outer = keras.Model(image, keras.layers.Dense(2, name="scores")(x))
    images = np.ones((1, 8, 8, 3), "float32")
    assert recipes.list_features(outer) == {"inner": (None, 6, 6, 4), "pool": (None, 4), "scores": (None, 2)}
    np.testing.assert_array_equal(recipes.features(outer, "inner")(images), inner(images))
    assert recipes.features(inner)(images)["conv"].shape == (1, 6, 6, 4)
    assert recipes.explain(outer, images).shape == (1, 8, 8)


def test_only_the_inputs_that_are_needed():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    x = keras.layers.Dense(3, name="left")(a)
    both = keras.layers.Concatenate(name="both")([x, keras.layers.Dense(3, name="right")(b)])
    model = keras.Model({"a": a, "b": b}, both)
    assert recipes.features(model, "left")(np.zeros((1, 2))).shape == (1, 3)
    assert recipes.features(model, ["both"])({"a": np.zeros((1, 2)), "b": np.zeros((1, 2))})["both"].shape == (1, 6)
    with pytest.raises(ValueError, match="names must be given: .* Received: names=None"):
        recipes.features(model)


def test_everything_passes_through_what_is_no_branch():
    model, _ = build("resnet")
    names = [layer.name for layer, _ in through(model)]
    assert "stage1_block1_relu" in names and "stage1_block1_norm1" not in names and "rescale" not in names


@pytest.mark.parametrize(
    "names, message",
    [
        ("stage1_block1_rel", "names must name a layer .*'stage1_block1_relu'"),
        (["stem_relu", "stem"], "names must name a layer .*Received: names='stem'"),
        ([], "names must be the name of a layer"),
        ([3], "names must be the name of a layer"),
    ],
)
def test_unknown_features(names, message):
    with pytest.raises(ValueError, match=message):
        recipes.features(build("resnet")[0], names)


# Grad-CAM


@pytest.mark.any_backend
@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_the_map_of_a_mean_is_its_channel(activation):
    images = two_spots()
    model = channel_means(activation)
    for c in (0, 1):
        expected = images[..., c] / images[..., c].max()
        np.testing.assert_allclose(recipes.explain(model, images, classes=c), expected, atol=1e-6)
    np.testing.assert_array_equal(recipes.explain(model, images), recipes.explain(model, images, classes=[1]))
    both = recipes.explain(model, np.concatenate([images, images]), classes=np.array([0, 1]))
    np.testing.assert_array_equal(both, np.concatenate([recipes.explain(model, images, classes=c) for c in (0, 1)]))


def test_what_speaks_against_a_class_is_not_shown():
    assert (recipes.explain(channel_means(), -two_spots(), classes=0) == 0).all()


def test_maps_are_brought_to_the_size_of_the_image():
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(1, 2, 2, use_bias=False, kernel_initializer="ones", name="map")(image)
    model = keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones", name="scores")(keras.layers.Flatten()(x)))
    images = np.zeros((1, 8, 8, 1), "float32")
    images[0, 0:2, 0:2] = 1
    found = recipes.explain(model, images)
    assert found.shape == (1, 8, 8) and found[0, 0, 0] == 1 and found[0, 4:, 4:].max() == 0
    np.testing.assert_allclose(found[0, 0, :4], [1, 0.75, 0.25, 0])  # bilinear between the centres of 4 places


@pytest.mark.any_backend
def test_gradients_agree_with_finite_differences():
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    tokens = keras.Input((5, 8), name="tokens")
    y = SelfAttention(2, stddev=0.5, name="attention")(tokens)
    y = keras.layers.Activation("gelu", name="gelu")(y)
    model = keras.Model(tokens, keras.layers.Dense(3, name="scores")(keras.layers.Flatten(name="flat")(y)))
    weights = np.random.default_rng(1).normal(size=(2, 3)).astype("float32")
    found = input_gradient(model, x, weights)
    assert found.shape == x.shape and found.dtype == np.float32
    for place in [(0, 0, 0), (1, 3, 7), (0, 4, 2)]:
        sides = []
        for step in (1e-2, -1e-2):
            moved = x.copy()
            moved[place] += step
            sides.append((weights * keras.ops.convert_to_numpy(model(moved))).sum(dtype="float64"))
        assert abs(found[place] - (sides[0] - sides[1]) / 2e-2) < 1e-3


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.any_backend) if n in ("resnet", "vit") else n for n in FAMILIES]
)
def test_every_family(name):
    model, images = build(name)
    before = model.get_weights()
    for arguments in ({}, {"classes": 1}):
        found = recipes.explain(model, images, **arguments)
        assert found.shape == images.shape[:3] and found.dtype == np.float32
        assert found.min() >= 0 and set(found.max(axis=(1, 2))) <= {0, 1}
    assert found.max() == 1, "no image says anything"
    np.testing.assert_allclose(recipes.explain(model, images[1:2], classes=1), found[1:2], atol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_keras_applications():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    found = recipes.explain(model, images, layer="block_12_add", classes=[0, 3])
    assert found.shape == (2, 32, 32) and np.isfinite(found).all()


# Attention


@pytest.mark.any_backend
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("locality", [False, True])
def test_attention_weights_are_those_of_the_layer(causal, locality):
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    layer = SelfAttention(2, causal, locality, stddev=0.5)
    expected = layer(x)
    if locality:
        layer.scale.assign([0.3, 2.0])
        expected = layer(x)
    weights = attention_weights(layer, keras.ops.convert_to_tensor(x))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    value = keras.ops.convert_to_numpy(layer.qkv(x)).reshape(2, 5, 3, 2, 4)[:, :, 2]
    mixed = np.einsum("bhnm,bmhd->bnhd", weights, value).reshape(2, 5, 8)
    np.testing.assert_allclose(layer.mix(mixed), expected, atol=1e-5)


def test_rollout():
    random = np.random.default_rng(0).uniform(size=(3, 2, 4, 5, 5)).astype("float32")
    weights = list(random / random.sum(axis=-1, keepdims=True))
    total = rollout(weights)
    assert total.shape == (2, 5, 5)
    np.testing.assert_allclose(total.sum(axis=-1), 1, atol=1e-6)
    first = np.eye(5)[None, None].repeat(2, 0)
    np.testing.assert_allclose(rollout([first, first])[0], np.eye(5))
    # all of block 1 sees token 2: half of everything, and the other half of what was there
    sees = np.zeros((1, 1, 3, 3), "float32")
    sees[..., 2] = 1
    np.testing.assert_allclose(rollout([sees])[0], [[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])


@pytest.mark.parametrize("name", ["vit", "vit_token"])
def test_attention_that_sees_all_alike_gives_an_even_map(name):
    model, images = build(name)
    for layer in model.layers:
        if isinstance(layer, SelfAttention):
            layer.qkv.set_weights([np.zeros_like(w) for w in layer.qkv.get_weights()])
    np.testing.assert_allclose(recipes.explain(model, images), 1, atol=1e-6)


# What is refused


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "lime"}, "method must be one of"),
        ({"method": "attention"}, "is for transformers of recipes"),
        ({"classes": 3}, "classes must be below 3"),
        ({"classes": -1}, "classes must be a class id, or 3 of them"),
        ({"classes": [0, 1]}, "classes must be a class id, or 3 of them"),
        ({"classes": 0.5}, "classes must be a class id"),
        (
            {"layer": "stage1_block1_norm1"},
            "layer must name one .*stage1_block1_relu.*Received: layer='stage1_block1_norm1'",
        ),
        ({"images": np.zeros((3, 8, 8, 3))}, r"images x must have shape \(examples, 16, 16, 3\)"),
    ],
)
def test_bad_arguments(arguments, message):
    model, images = build("resnet")
    with pytest.raises(ValueError, match=message):
        recipes.explain(model, **{"images": images, **arguments})


def test_other_models_are_refused():
    vit, images = build("vit")
    with pytest.raises(ValueError, match="classes and layer go with method"):
        recipes.explain(vit, images, method="attention", classes=1)
    with pytest.raises(ValueError, match="must have a map"):
        recipes.explain(recipes.mlp((4,), 3, adapt=np.eye(4)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="one score a class"):
        recipes.explain(recipes.features(vit), images, method="grad_cam")
