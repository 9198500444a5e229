"""What `recipes.fit` trains on: data checked, split, and made batches of as the recipe says."""

import functools
import warnings

import numpy as np

from recipes.data.batches import Batches
from recipes.data.lengths import GroupedBatches
from recipes.data.shares import round_up
from recipes.data.shuffled import shuffled
from recipes.data.splitting import count
from recipes.layers import Standardize
from recipes.training.check_setup import check_batch_norm
from recipes.training.check_streams import check_stream
from recipes.training.check_targets import check_validation, count_classes, warn_one_class
from recipes.training.checks import check_arrays, warn_range
from recipes.training.language import own_targets
from recipes.training.recipe import adapt_model, check_count, get_recipe, recompile, set_recipe


def prepare(
    model,
    data,
    validation=None,
    *,
    batch_size=None,
    augment="auto",
    mix="auto",
    seed=0,
    sample_weight=None,
    class_weight=None,
    group_by_length=False,
    initial_epoch=0,
):
    """Check the data and turn them into what `model.fit` takes.

    Args:
        model: Model to train; its `Standardize` layers are adapted if they are not.
        data, validation, batch_size, augment, mix, seed, sample_weight, class_weight, group_by_length, initial_epoch: As in
            `fit`.

    Returns:
        `(train, validation)`: a `recipes.data.Batches` and `Batches` or `None`, or the datasets that came in.
    """
    from recipes.data import Data
    from recipes.data.masking import mask_tokens
    from recipes.data.mixing import automatic_mix

    training = get_recipe(model).get("training") or {"batch_size": 128, "augment": None, "task": None}
    generative, bundled = training["task"] == "generate", isinstance(data, Data)
    if bundled:
        validation = data.validation if validation is None else validation
        if data.info.class_names:
            set_recipe(model, {**get_recipe(model), "class_names": list(data.info.class_names)})
        data = data.train
        if isinstance(data, Batches):  # of image_folder(batch_size=...), for Keras; here the recipe augments
            batch_size, data = batch_size or data.batch_size, (data.x, data.y)
    if training["task"] == "language_model":
        data, validation = (_with_targets(part) for part in (data, validation))
    if generative:
        data, validation = (model.as_pair(part, bundled) for part in (data, validation))
    classes = count_classes(model)
    check = model.check_data if generative else functools.partial(check_arrays, model, classes=classes)
    if not isinstance(data, tuple):
        _check_dataset(model, data, validation, sample_weight, group_by_length)
        if isinstance(validation, tuple):
            validation = Batches(*check(*validation, name="validation"), round_up(256), shuffle=False)
        return shuffled(check_stream(model, data, "data"), seed), check_stream(model, validation, "validation")
    if len(data) != 2:
        raise ValueError(
            f"data must be (x, y), a recipes.data.Data, a tf.data.Dataset or a PyDataset. Received: {len(data)} parts"
        )
    mask = functools.partial(mask_tokens, **training["mask"]) if training.get("mask") else None
    x, y = check(*data)
    warn_range(model, x)
    warn_one_class(y, classes)
    _check_weights(y, class_weight, sample_weight, classes)
    if isinstance(validation, (int, float)):
        x, y, validation = _hold_out(x, y, validation, seed, sample_weight, classes)
    if isinstance(validation, tuple):
        validation = check(*validation, name="validation")
        check_validation(x, y, *validation, classes)
        validation = Batches(*validation, batch_size or round_up(256), shuffle=False, mix=mask)
    if any(isinstance(layer, Standardize) and not layer.adapted for layer in model.layers):
        adapt_model(model, x, y)
        recompile(model)
    if isinstance(mix, str) and mix == "auto":
        mix = mask or training.get("mix")
    if mix is not None and (class_weight is not None or sample_weight is not None):
        raise ValueError("mix must be None with class_weight or sample_weight: a mixture has no weight of its own.")
    if mix is not None and mask is None and classes is None:
        y = np.asarray(y, "float32")
    if not callable(mix):
        mix = automatic_mix(mix, classes)
    batch_size = _batch_size(model, training, batch_size, count(x))
    batches = functools.partial(GroupedBatches, **_padding(model, training["task"])) if group_by_length else Batches
    train = batches(
        x,
        y,
        batch_size,
        seed=seed,
        augment=_augmentation(model, training, augment),
        mix=mix,
        repeats=min(training.get("repeats", 1), batch_size),
        sample_weight=sample_weight,
        initial_epoch=initial_epoch,
    )
    return train, validation


def _padding(model, task):
    """Return what `GroupedBatches` must know of a model that reads padded ids."""
    recipe = get_recipe(model)
    padding_id = recipe.get("arguments", {}).get("padding_id")
    if padding_id == "variant":  # GPT's says whether there is one
        padding_id = recipe["training"].get("padding_id")
    if padding_id is None:
        raise ValueError(
            "group_by_length must be False for a model that reads no padded ids. Build it with padding_id= if it does."
        )
    return {"padding_id": padding_id, "token_targets": task in ("tokens", "language_model")}


def default_batch_size(examples, preferred):
    """Return `preferred`, halved until an epoch of `examples` has ten steps, but not below 16."""
    while preferred > 16 and examples < 10 * preferred:
        preferred //= 2
    return preferred


def _hold_out(x, y, share, seed, sample_weight, classes):
    """Return what is left of the data and the validation data, a share of them."""
    from recipes.data import split

    if not 0 < share < 1:
        raise ValueError(f"validation must be data or a fraction in (0, 1). Received: validation={share}")
    if sample_weight is not None:
        raise ValueError("validation must be data, not a fraction, when sample_weight is given: split both yourself.")
    alone = y is None
    (x, y), validation = split(x, np.zeros(count(x)) if alone else y, share, seed=seed, stratify=classes is not None)
    return (x, None, (validation[0], None)) if alone else (x, y, validation)


def _augmentation(model, training, augment):
    """Return the function that `augment` of `fit` means, or `None`."""
    from recipes.data.augment import automatic

    arguments = training.get("augment_arguments") if augment in ("auto", training["augment"]) else None
    if augment == "auto":
        augment = training["augment"]
    if augment is None or isinstance(augment, str):
        augment = automatic(augment, model.input_shape[1:], arguments) if augment else None
    return augment


def _batch_size(model, training, batch_size, examples):
    """Return the number of examples a step, and warn where a published recipe's rate belongs to another."""
    if batch_size is None:
        batch_size = default_batch_size(examples, training["batch_size"])
    check_count("batch_size", batch_size)
    check_batch_norm(model, min(batch_size, examples))
    arguments = get_recipe(model).get("arguments", {})
    published = arguments.get("training", "default") != "default"
    if published and batch_size != training["batch_size"] and arguments.get("learning_rate") is None:
        rate = training["learning_rate"] * batch_size / training["batch_size"]
        warnings.warn(
            f"training={arguments['training']!r} has the rate {training['learning_rate']} for batches of "
            f"{training['batch_size']}, and these are of {batch_size}: nothing was scaled. Build the model with "
            f"learning_rate={rate:.2g}, in proportion, or with the rate you mean.",
            stacklevel=4,
        )
    return batch_size


def _with_targets(data):
    """Return `(x, y)` of the ids alone, which are their own targets; anything else as it is."""
    if isinstance(data, tuple) and len(data) == 1:
        data = data[0]
    if isinstance(data, (np.ndarray, list, dict)):
        return data, own_targets(data)
    return data


def _check_dataset(model, data, validation, sample_weight, group_by_length):
    if isinstance(data, (np.ndarray, list, dict)):
        raise ValueError("data must be (x, y), a tuple of two arrays, to train on arrays. Received: x without y")
    if isinstance(validation, float):
        raise ValueError("validation must be data, not a fraction, unless data are arrays (x, y).")
    if group_by_length:
        raise ValueError("group_by_length must be False unless data are arrays: a dataset has batches of its own.")
    if sample_weight is not None:
        raise ValueError("sample_weight goes with arrays (x, y); let a dataset yield (x, y, sample_weight).")
    if any(isinstance(layer, Standardize) and not layer.adapted for layer in model.layers):
        raise ValueError("This model standardises its inputs: build it with adapt=(x, y) to train it on a dataset.")


def _check_weights(y, class_weight, sample_weight, classes):
    if y is None and (class_weight is not None or sample_weight is not None):
        raise ValueError("class_weight and sample_weight must be None for a model that learns from x alone.")
    if class_weight is not None:
        missing = sorted({int(c) for c in np.unique(y)} - set(class_weight)) if classes and y.ndim == 1 else []
        if missing:
            raise ValueError(f"class_weight must name every class of y. Missing: {missing}")
        if not all(np.isfinite(w) and w >= 0 for w in class_weight.values()):
            raise ValueError(f"class_weight must be finite and >= 0. Received: {class_weight}")
    if sample_weight is not None:
        weight = np.asarray(sample_weight)
        if weight.shape != (len(y),):
            raise ValueError(f"sample_weight must have shape ({len(y)},). Received: {weight.shape}")
        if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
            raise ValueError("sample_weight must be finite, >= 0 and not all zero.")
