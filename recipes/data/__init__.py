"""Data: folders, tables, arrays and catalogues to what `fit` takes, in batches whose order can be told in advance.

    data = recipes.data.load("digits")
    model.fit(recipes.data.Batches(*data.train, 128), validation_data=data.validation, epochs=30)

Nothing here imports Keras until `Batches`, which is a `keras.utils.PyDataset`, is first used.
"""

import importlib

_PUBLIC = {
    "load": "recipes.data.loading",
    "image_folder": "recipes.data.folder",
    "Data": "recipes.data.loading",
    "Info": "recipes.data.loading",
    "split": "recipes.data.splitting",
    "Batches": "recipes.data.batches",
    "GroupedBatches": "recipes.data.lengths",
    "mask_tokens": "recipes.data.masking",
    "windows": "recipes.data.windowing",
    "seasonal_naive": "recipes.data.windowing",
    "Tokenizer": "recipes.data.tokenizer",
}

_MODULES = ("augment", "mixing", "photo")

__all__ = [*_MODULES, *_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"recipes.data.{name}")
    else:
        raise AttributeError(f"module 'recipes.data' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
