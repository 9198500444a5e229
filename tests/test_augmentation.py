"""Augmentation for photographs, mixing and repeats: the numbers, and that each batch is a function of its place."""

import functools

import numpy as np
import pytest

import recipes
from recipes.data import Batches
from recipes.data.augment import POLICIES, automatic, compose, flip
from recipes.data.mixing import automatic_mix, cutmix, mixup, soft_targets
from recipes.data.photo import (
    OPERATIONS,
    colour_jitter,
    rand_augment,
    random_erasing,
    random_resized_crop,
    three_augment,
)
from recipes.training.prepare import prepare

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (24, 12, 16, 3)).astype("uint8")
IDS = np.arange(24) % 4
PHOTO = [random_resized_crop, colour_jitter, rand_augment, three_augment, random_erasing]
NUMBERED = np.broadcast_to(np.arange(24, dtype="float32")[:, None, None, None], (24, 12, 16, 1))


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("function", PHOTO)
@pytest.mark.parametrize("dtype, channels", [("uint8", 3), ("uint8", 1), ("float32", 3), ("int64", 1)])
def test_shape_dtype_range_and_purity(function, dtype, channels):
    images = IMAGES[..., :channels].astype(dtype)
    before = images.copy()
    found = function(images, generator(1))
    assert found.shape == images.shape and found.dtype == images.dtype
    assert 0 <= found.min() and found.max() <= 255
    assert np.array_equal(images, before) and found is not images
    assert np.array_equal(found, function(images, generator(1)))
    assert not np.array_equal(found, function(images, generator(2)))


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_every_policy_is_a_pure_function_of_seed_epoch_and_batch(policy):
    mix = automatic_mix({"mixup": 0.8, "cutmix": 1.0}, 4)
    make = functools.partial(
        Batches, IMAGES, IDS, 6, seed=3, augment=automatic(policy, (12, 16, 3), {"erase": 0.25}), mix=mix, repeats=3
    )
    first, again, x, y = make(), make(), *make().batch(1, 2)
    for _ in first:  # using it changes nothing
        pass
    for batches in (first, again):
        assert np.array_equal(batches.batch(1, 2)[0], x) and np.array_equal(batches.batch(1, 2)[1], y)
    assert not np.array_equal(first.batch(2, 2)[0], x) and not np.array_equal(first.batch(1, 1)[0], x)
    assert not np.array_equal(make(seed=4).batch(1, 2)[0], x)


def test_arguments_of_policies_reach_the_functions():
    erased = automatic("shift", (12, 16, 1), {"erase": 1.0})
    assert np.ptp(erased(np.full((8, 12, 16, 1), 7, "uint8"), generator()), axis=(1, 2, 3)).all()
    whole = automatic("crop", (12, 16, 3), {"crop": 1.0})  # aspect ratios of 3/4 and 4/3 still cut
    assert whole(IMAGES, generator()).shape == IMAGES.shape
    with pytest.raises(ValueError, match="'magnitude'"):
        automatic("shift", (12, 16, 3), {"magnitude": 9})
    with pytest.raises(ValueError, match="augment must be one of"):
        automatic("everything", (12, 16, 3))


def test_mixed_labels_are_the_mixed_pixels():
    one_hot = np.eye(24, dtype="float32")[:, :, None, None]  # image i is class i: channel by row
    images, targets = mixup(one_hot, np.arange(24), generator(), alpha=1.0, num_classes=24)
    np.testing.assert_allclose(targets, images[..., 0, 0], atol=1e-6)
    assert 0.01 < targets[0].max() < 0.99 and (targets > 0).sum(axis=1).max() == 2
    for seed in range(20):
        images, targets = cutmix(NUMBERED, np.arange(24), generator(seed), num_classes=24)
        shares = np.stack([(images[..., 0] == i).mean(axis=(1, 2)) for i in range(24)], axis=1)
        np.testing.assert_allclose(targets, shares, atol=1e-6)


def test_mixup_rounds_whole_numbers_and_takes_soft_targets():
    soft = np.eye(4, dtype="float32")[IDS]
    images, targets = mixup(IMAGES, soft, generator(5), alpha=1.0, num_classes=4)
    rng = generator(5)
    share, partner = rng.beta(1.0, 1.0), rng.permutation(24)
    np.testing.assert_allclose(images, share * IMAGES + (1 - share) * IMAGES[partner].astype("float32"), atol=0.501)
    np.testing.assert_allclose(targets, share * soft + (1 - share) * soft[partner], atol=1e-6)
    assert np.array_equal(targets, mixup(IMAGES, IDS[:, None], generator(5), alpha=1.0, num_classes=4)[1])


def test_mixing_chooses_and_may_leave_a_batch_alone():
    mix = automatic_mix({"mixup": 1.0, "cutmix": 1.0, "probability": 0.5}, 24)
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for seed in range(200):
        images, targets = mix(NUMBERED, np.arange(24), generator(seed))
        assert targets.dtype == "float32" and targets.shape == (24, 24)
        spread = np.ptp(images, axis=(1, 2, 3)).any()
        kinds["cutmix" if spread else "none" if np.array_equal(images, NUMBERED) else "mixup"] += 1
    assert abs(kinds["none"] - 100) < 25 and abs(kinds["mixup"] - 50) < 20  # four deviations; some boxes are empty


def test_targets_without_classes_are_mixed_as_they_are():
    labels = RANDOM.integers(0, 2, (24, 5)).astype("float32")
    assert automatic_mix({"cutmix": 1.0}, None)(IMAGES, labels, generator())[1].shape == (24, 5)
    assert soft_targets(np.ones(3, "float32"), None).shape == (3,)
    with pytest.raises(ValueError, match="num_classes"):
        mixup(IMAGES, IDS, generator())


@pytest.mark.parametrize(
    "mix", [{}, {"mixup": 0}, {"mixup": -1.0}, {"mix": 1.0}, {"cutmix": 1.0, "probability": 2}, "mixup", {"mixup": "a"}]
)
def test_bad_mix(mix):
    with pytest.raises(ValueError, match="mix|alpha|probability"):
        automatic_mix(mix, 10)


def test_repeats_stand_side_by_side_and_every_image_comes_in_turn():
    x = np.arange(24)
    batches = Batches(x, x, 6, repeats=3)
    assert len(batches) == 4  # an epoch costs what it did
    for epoch in range(6):
        for i in range(4):
            rows, counts = np.unique(batches.batch(epoch, i)[0], return_counts=True)
            assert len(rows) == 2 and set(counts) == {3}
    for start in (0, 3):
        seen = np.concatenate([batches.order(epoch) for epoch in range(start, start + 3)])
        assert np.array_equal(np.bincount(seen), np.full(24, 3))
    assert not np.array_equal(batches.order(0), batches.order(3))


def test_repeats_are_augmented_differently():
    batches = Batches(IMAGES, IDS, 6, repeats=3, augment=rand_augment)
    images, ids = batches.batch(0, 0)
    assert ids[0] == ids[1] == ids[2] and not np.array_equal(images[0], images[1])


def test_repeats_that_do_not_divide():
    batches = Batches(np.arange(10), np.arange(10), 4, repeats=3)
    orders = [batches.order(epoch) for epoch in range(3)]
    assert {len(order) for order in orders} == {10} and set(np.concatenate(orders)) == set(range(10))


def test_no_repeats_keep_the_order_that_there_was():
    assert np.array_equal(Batches(IDS, IDS, 4, seed=1).order(5), Batches(IDS, IDS, 4, seed=1, repeats=1).order(5))


def test_crop_keeps_a_flat_image_and_moves_others():
    assert (random_resized_crop(np.full((8, 12, 16, 3), 9, "uint8"), generator()) == 9).all()
    assert not np.array_equal(random_resized_crop(IMAGES, generator(), scale=(0.2, 0.3)), IMAGES)


def test_jitter_is_the_closed_form():
    images = np.full((4, 6, 6, 3), 100.0, "float32")
    factor = generator(2).uniform(0.7, 1.3, (4, 1, 1, 1)).astype("float32")
    found = colour_jitter(images, generator(2), brightness=0.3, contrast=0.5, saturation=0.5)
    np.testing.assert_allclose(found, np.broadcast_to(100 * factor, found.shape), rtol=1e-5)  # flat and grey: no more
    assert np.array_equal(colour_jitter(IMAGES, generator(), 0, 0, 0), IMAGES)


def test_rand_augment_does_nothing_by_chance_and_each_operation_something():
    assert np.array_equal(rand_augment(IMAGES, generator(), probability=0.0), IMAGES)
    from PIL import Image

    ramp = (np.linspace(20, 180, 256).reshape(16, 16, 1) * [1, 0.8, 0.6]).astype("uint8")
    for pixels in (ramp, ramp[..., 0]):
        picture = Image.fromarray(pixels)
        for operation in OPERATIONS:
            for strength, sign in ((1.0, 1), (1.0, -1), (0.0, 1)):
                changed = operation(picture, strength, sign)
                assert changed.size == picture.size and changed.mode == picture.mode
    assert len(OPERATIONS) == 15


def test_three_augment_takes_one_of_three():
    found = three_augment(IMAGES, generator(), jitter=0.0)
    grey = [(image == image[..., :1]).all() for image in found]
    assert 0 < sum(grey) < 24
    kept = [np.array_equal(np.where(a < 128, a, 255 - a), b) for a, b in zip(IMAGES, found, strict=True)]
    assert 0 < sum(kept) < 24


def test_erasing_covers_the_share_that_it_says():
    images = np.full((200, 32, 32, 1), 300, "int64")  # no random pixel is 300
    shares = (random_erasing(images, generator(), probability=1.0) != 300).mean(axis=(1, 2, 3))
    assert 0.015 < shares.min() and shares.max() < 0.42 and abs(shares.mean() - 0.21) < 0.04
    none = (random_erasing(images, generator(), probability=0.25) != 300).any(axis=(1, 2, 3)).mean()
    assert abs(none - 0.25) < 0.13


def test_bad_arguments_name_themselves():
    for argument, call in (
        ("scale", lambda: random_resized_crop(IMAGES, generator(), scale=(0.0, 1.0))),
        ("brightness", lambda: colour_jitter(IMAGES, generator(), brightness=2)),
        ("magnitude", lambda: rand_augment(IMAGES, generator(), magnitude=11)),
        ("layers", lambda: rand_augment(IMAGES, generator(), layers=0)),
        ("probability", lambda: random_erasing(IMAGES, generator(), probability=-1)),
        ("channels", lambda: rand_augment(IMAGES[..., :2], generator())),
        ("raw pixels", lambda: rand_augment(IMAGES / 127.5 - 1, generator())),
        ("images", lambda: three_augment(IMAGES[0], generator())),
        ("alpha", lambda: mixup(IMAGES, IDS, generator(), alpha=0, num_classes=4)),
        ("repeats", lambda: Batches(IMAGES, IDS, 4, repeats=0)),
        ("mix", lambda: Batches(IMAGES, IDS, 4, mix="mixup")),
        ("mix", lambda: Batches(IMAGES, IDS, 4, mix=cutmix, sample_weight=np.ones(24))),
    ):
        with pytest.raises(ValueError, match=argument):
            call()


def test_the_default_recipe_only_shifts():
    """Augmentation never changes what a digit means unless asked."""
    for family in ("resnet", "vit", "convnext", "alexnet", "efficientnet"):
        model = getattr(recipes, family)((16, 16, 1), 4)
        train, _ = prepare(model, (IMAGES[:, :12, :12, :1].repeat(2, 1).repeat(2, 2)[:, :16, :16], IDS), 0.25)
        assert train.augment is automatic("shift", (16, 16, 1)) and train.mix is None and train.repeats == 1


def test_prepare_reads_the_recipe_and_the_call_overrides_it():
    model = recipes.resnet((12, 16, 3), 4, depths=(1,), widths=(4,), training="rsb_a2", learning_rate=1e-3)
    train, _ = prepare(model, (IMAGES, IDS))
    assert train.mix is not None and train.repeats == 3 and train.batch(0, 0)[1].shape == (16, 4)
    train, _ = prepare(model, (IMAGES, IDS), augment=compose(flip), mix=None)
    assert train.mix is None and train.batch(0, 0)[1].shape == (16,)
    with pytest.raises(ValueError, match="mix must be None with class_weight"):
        prepare(model, (IMAGES, IDS), class_weight={0: 1, 1: 1, 2: 1, 3: 1})
