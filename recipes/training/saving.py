"""`recipes.save` and `recipes.load_model`: a folder of plain JSON and weights, rebuilt by our own builders."""

import json
import os
import shutil
import tempfile

import keras

import recipes
import recipes.blocks  # registers quick_gelu, for .keras files
from recipes.training.recipe import get_recipe, recompile, refresh_loss, set_recipe

_RECIPE, _WEIGHTS = "recipe.json", "model.weights.h5"


def save(model, path, *, class_names=None):
    """Save a model of a builder to a folder: `recipe.json` and `model.weights.h5`, the optimizer's state included.

    The folder holds numbers and names only, nothing that runs. It is written beside `path` and moved into place, so a
    failure leaves what was there. A model that no builder made can only be saved whole: give a `path` that ends in
    `.keras`.

    Args:
        model: Keras model.
        path: Folder to write, replaced if it holds a saved model; or a file name ending in `.keras`.
        class_names: Names of the classes, for `recipes.predict`; `None` keeps those that `recipes.fit` recorded.

    Raises:
        ValueError: If the model has no recipe and `path` does not end in `.keras`, or `path` holds something else.

    Example:

    >>> model = recipes.mlp((4,), 3)
    >>> recipes.save(model, "model", class_names=["setosa", "versicolor", "virginica"])
    >>> recipes.load_model("model").recipe["class_names"][0]
    'setosa'
    """
    path = os.fspath(path)
    recipe = get_recipe(model)
    if class_names is not None:
        if len(class_names) != model.output_shape[-1]:
            raise ValueError(f"class_names must name {model.output_shape[-1]} classes. Received: {len(class_names)} names")
        recipe = {**recipe, "class_names": [str(name) for name in class_names]}
        set_recipe(model, recipe)
    if path.endswith(".keras"):
        model.save(path)
        return
    if "builder" not in recipe:
        raise ValueError(f"path must end in .keras for a model that no builder of recipes made. Received: path={path!r}")
    if os.path.exists(path) and not os.path.exists(os.path.join(path, _RECIPE)):
        raise ValueError(f"path exists and is not a folder that recipes.save wrote. Received: path={path!r}")
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    if not model.optimizer.built:  # or Keras would read its state back into another optimizer's variables
        model.optimizer.build(model.trainable_variables)
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    temporary = tempfile.mkdtemp(dir=parent, prefix=".saving-")
    try:
        with open(os.path.join(temporary, _RECIPE), "w", encoding="utf-8") as file:
            json.dump({**recipe, "frozen": frozen, "version": recipes.__version__}, file, indent=2)
        model.save_weights(os.path.join(temporary, _WEIGHTS))
        if os.path.exists(path):
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def load_model(path, *, trusted=False):
    """Load a model that `recipes.save` wrote.

    The architecture comes from the builder named in `recipe.json`, not from the file, so a folder of a stranger cannot
    run code. A `.keras` file can, and is loaded only with `trusted=True`.

    Args:
        path: Folder of `recipes.save`, or a `.keras` file.
        trusted: Whether you trust the `.keras` file as you would a program.

    Returns:
        Compiled `keras.Model`, its recipe, weights, frozen layers and optimizer state as they were saved.

    Raises:
        ValueError: If `path` is not such a folder, names no builder of ours, or its weights do not fit.
    """
    path = os.fspath(path)
    if path.endswith(".keras"):
        if not trusted:
            raise ValueError(f"A .keras file can run code when it is loaded. Pass trusted=True if you trust {path!r}.")
        return keras.saving.load_model(path)
    try:
        with open(os.path.join(path, _RECIPE), encoding="utf-8") as file:
            recipe = json.load(file)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"path must be a folder that recipes.save wrote. Received: path={path!r} ({error})") from error
    family = recipe.get("builder") if isinstance(recipe, dict) else None
    if f"{family}_space" not in recipes._PUBLIC:
        raise ValueError(f"{_RECIPE} must name a builder of recipes. Received: builder={family!r}")
    try:
        model = getattr(recipes, family)(**recipe["arguments"])
    except TypeError as error:
        raise ValueError(f"{_RECIPE} does not fit the builder {family}: {error}") from error
    frozen = set(recipe.pop("frozen", ()))
    recipe.pop("version", None)
    for layer in model.layers:
        layer.trainable = layer.name not in frozen
    set_recipe(model, recipe)
    recompile(model)
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(os.path.join(path, _WEIGHTS))
    except Exception as error:
        raise ValueError(f"{_WEIGHTS} in {path!r} is damaged or belongs to another model: {error}") from error
    return refresh_loss(model)
