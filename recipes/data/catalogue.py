"""Datasets of TensorFlow Datasets."""

import difflib
import warnings

import numpy as np

from recipes.data.arrays import check_inputs
from recipes.data.images import resize
from recipes.data.loading import Source
from recipes.data.targets import encode_targets

SPLITS = {"train": "train", "test": "test", "validation": "validation", "val": "validation", "valid": "validation"}


def read_tfds(name, task, image_size, data_dir):
    """Read a supervised dataset of TensorFlow Datasets, which prepares it first if need be."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name.split("/")[0].split(":")[0], known, n=3)
        raise ValueError(
            f"name_or_path: tensorflow_datasets knows no {name!r}"
            + (f" and none lies in data_dir={str(data_dir)!r}" if data_dir is not None else "")
            + (f". Did you mean {', '.join('tfds:' + other for other in near)}?" if near else ".")
        ) from error
    keys = builder.info.supervised_keys
    features = builder.info.features
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            f"tfds:{name} does not say which of its features is the input and which the label: {sorted(features)}. "
            "Only datasets with supervised keys can be loaded; prepare others with tensorflow_datasets yourself."
        )
    builder.download_and_prepare()
    found = {SPLITS[split]: split for split in builder.info.splits if split in SPLITS}
    if "train" not in found:
        raise ValueError(f"tfds:{name} has no split 'train'. Splits: {', '.join(builder.info.splits)}")
    inputs, targets = {}, {}
    for part, split in found.items():
        pairs = list(tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True)))
        if not pairs:
            raise ValueError(f"tfds:{name}: the split {split!r} is empty.")
        inputs[part] = _stack(f"tfds:{name}", [x for x, _ in pairs], image_size)
        targets[part] = np.array([y for _, y in pairs])
    label = features[keys[1]]
    if isinstance(label, tfds.features.ClassLabel) and task != "regress":
        parts = {part: (x, targets[part].astype("int32")) for part, x in inputs.items()}
        for part in [part for part, (_, y) in parts.items() if y.min() < 0]:
            warnings.warn(f"tfds:{name}: the {part} part has no labels (they are -1) and is left out.", stacklevel=4)
            del parts[part]
        return Source(parts, "classify", label.num_classes, tuple(label.names))
    targets, task, class_names, num_classes = encode_targets(targets, task)
    return Source({part: (x, targets[part]) for part, x in inputs.items()}, task, num_classes, class_names)


def _stack(name, samples, image_size):
    if not all(isinstance(sample, (np.ndarray, np.number)) for sample in samples):
        raise ValueError(
            f"{name}: the input must be an image or numbers. Received: {type(samples[0]).__name__}. "
            "Texts need a tokenizer first, and tables of several features a .csv."
        )
    if image_size is not None:
        return resize(samples, image_size)
    shapes = sorted({sample.shape for sample in samples})
    if len(shapes) > 1:
        raise ValueError(f"{name}: the samples differ in shape, {shapes[0]} and {shapes[-1]}. Pass image_size=")
    return check_inputs(np.stack(samples), name)
