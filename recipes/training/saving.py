"""`recipes.save` and `recipes.load_model`: a folder of plain JSON and weights, rebuilt by our own builders."""

import glob
import json
import math
import os
import shutil
import tempfile
import warnings

import keras
import numpy as np

import recipes
import recipes.blocks  # registers quick_gelu, for .keras files
from recipes.training.recipe import get_recipe, recompile, refresh_loss, set_recipe
from recipes.weights import keras_file
from recipes.weights.budget import variables_within
from recipes.weights.errors import UnsafeFileError
from recipes.weights.keras_archive import check_archive
from recipes.weights.manifest import RECIPE, WEIGHTS, check_folder, sync, write_manifest
from recipes.weights.own_names import plain_shape, state_names
from recipes.weights.zip_archive import MAGIC

TRUST = "A .keras file says what Keras is to make, and can say it so that code runs. Pass trusted=True if you trust it."
WEIGHTS_ONLY = "Build the model yourself and give it the weights alone: recipes.load_weights(model, path)."
LARGEST = 1 << 20  # that a number in a recipe may be, or as large as the file has elements
ATTEMPTS = 100  # to move a folder into place while another process does the same


def save(model, path, *, class_names=None):
    """Save a model of a builder to a folder: `recipe.json`, `model.weights.h5` and `manifest.json`.

    The optimizer's state is included. The folder holds numbers and names only, nothing that runs; the manifest has the
    sha256 of the other two, so that `load_model` notices every change. It is written beside `path`, brought to the disk
    and then moved into place: whenever the power fails, the old model or the new one is there whole. A model that no builder
    made can only be saved whole: give a `path` that ends in `.keras`.

    Args:
        model: Keras model.
        path: Folder to write, replaced if it holds a saved model; or a file name ending in `.keras`.
        class_names: Names of the classes, for `recipes.predict`; `None` keeps those that `recipes.fit` recorded.

    Raises:
        ValueError: If the model has no recipe and `path` does not end in `.keras`, `path` holds something else, or a weight
            is not finite. What was at `path` is still there then.

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
    keras_archive = path.endswith(".keras")
    if not keras_archive and "builder" not in recipe:
        raise ValueError(f"path must end in .keras for a model that no builder of recipes made. Received: path={path!r}")
    if not keras_archive and os.path.exists(path) and not os.path.exists(os.path.join(path, RECIPE)):
        raise ValueError(f"path exists and is not a folder that recipes.save wrote. Received: path={path!r}")
    _check_finite(model)
    if class_names is not None:
        set_recipe(model, recipe)
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(dir=parent, prefix=".saving-")
    try:
        if getattr(model, "optimizer", None) is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)  # or a reader would find less state than it has
        if keras_archive:
            whole = os.path.join(temporary, "model.keras")
            model.save(whole)
            sync(whole)
            os.replace(whole, path)
        else:
            _write_folder(model, recipe, temporary)
            _move_into_place(temporary, path)
        sync(parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_model(path, *, trusted=False):
    """Load a model that `recipes.save` wrote.

    The architecture comes from the builder named in `recipe.json`, not from the file, so a folder of a stranger cannot
    run code. Its files must be those that the manifest lists, byte for byte, the weights exactly those of the model that
    the recipe builds, and all of them finite. A `.keras` file can ask for more than that, and is loaded only with
    `trusted=True`, and even then not if it asks for code, for other files or for more than it has weights for.

    Args:
        path: Folder of `recipes.save`, or a `.keras` file.
        trusted: Whether you trust the `.keras` file to say what is made.

    Returns:
        Compiled `keras.Model`, its recipe, weights, frozen layers and optimizer state as they were saved.

    Raises:
        UnsafeFileError: A `ValueError` with `path`, `member`, `rule` and `remedy`, if the file breaks a rule.
        ValueError: If the recipe says what its builder refuses.
    """
    path = os.fspath(path)
    if os.path.isfile(path):
        return _load_archive(path, trusted)
    model = _load_folder(_find_folder(path))
    return refresh_loss(model)


# A folder


def _check_finite(model):
    for variable in model.weights:
        if "float" in keras.backend.standardize_dtype(variable.dtype):
            if not np.all(np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))):
                raise ValueError(
                    f"model has weights that are not finite, {variable.path} first, and was not saved. Load the last good "
                    "one, and train with a smaller learning rate or global_clipnorm."
                )


def _write_folder(model, recipe, folder):
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    facts = {"frozen": frozen, "version": recipes.__version__}
    if any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
        facts["resumable"] = False  # Keras adds LoRA's matrices to the kernels, so the optimizer has other variables
    with open(os.path.join(folder, RECIPE), "w", encoding="utf-8") as file:
        json.dump({**recipe, **facts}, file, indent=2)
    model.save_weights(os.path.join(folder, WEIGHTS))
    write_manifest(folder, {"recipes": recipes.__version__, "keras": keras.__version__, "backend": keras.backend.backend()})


def _move_into_place(folder, path):
    """Give `folder` the name `path`. A model that is there is moved aside first, and deleted once the new one stands."""
    aside = _aside(path) + os.path.basename(folder).removeprefix(".saving-")
    error = None
    for _ in range(ATTEMPTS):  # another process may put its own there in between: the last one wins
        if os.path.exists(path):
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                pass
        try:
            os.rename(folder, path)
            break
        except OSError as caught:
            error = caught
            shutil.rmtree(aside, ignore_errors=True)
            if not os.path.exists(path):
                raise
    else:
        raise error
    shutil.rmtree(aside, ignore_errors=True)


def _aside(path):
    """Return how the names begin that a model has which is being replaced."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(parent, f".replaced-{name}-")


def _find_folder(path):
    """Return `path`, or where the model is that the power failed to replace."""
    if not os.path.lexists(path):
        for folder in sorted(glob.glob(glob.escape(_aside(path)) + "*"), key=os.path.getmtime, reverse=True):
            warnings.warn(f"{path!r} is not there: a save was interrupted. Loading the model before it, {folder!r}.")
            return folder
    return path


def _load_folder(path):
    def refuse(rule, member=None, remedy="Copy the whole folder again, or save the model again."):
        raise UnsafeFileError(path, member, rule, remedy)

    recipe = check_folder(path)
    weights = os.path.join(path, WEIGHTS)
    with keras_file.open_members(weights) as arrays:
        saved = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        _check_values(arrays, refuse)
    family, arguments = recipe.get("builder"), recipe.get("arguments")
    if not isinstance(family, str) or f"{family}_space" not in recipes._PUBLIC or not isinstance(arguments, dict):
        refuse(f"it must name a builder of recipes and its arguments. Received: builder={family!r}", RECIPE)
    _check_arguments(arguments, saved, refuse)
    build = getattr(recipes, family)
    try:
        with variables_within([shape for shape, _ in saved.values()], lambda rule: refuse(rule, RECIPE)):
            model = build(**arguments)
    except TypeError as error:
        refuse(f"it does not fit the builder {family}: {error}", RECIPE)
    frozen = set(recipe.pop("frozen", ()))
    recipe.pop("version", None)
    resumable = recipe.pop("resumable", True) is not False
    for layer in model.layers:
        layer.trainable = layer.name not in frozen
    set_recipe(model, recipe)
    recompile(model)
    model.optimizer.build(model.trainable_variables)
    _check_fit(model, saved, refuse, resumable)
    model.load_weights(weights, objects_to_skip=None if resumable else [model.optimizer])
    return model


def _check_arguments(arguments, saved, refuse):
    """Refuse numbers that would make a builder work for hours or fill the memory before it has a variable."""
    largest = max(LARGEST, sum(math.prod(shape) for shape, _ in saved.values()))
    stack = [*arguments.items()]
    while stack:
        name, value = stack.pop()
        if isinstance(value, (list, dict)):
            stack += [(name, item) for item in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, int) and abs(value) > largest:
            refuse(f"the argument {name}={value} is out of all proportion", RECIPE)


def _check_values(arrays, refuse):
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.all(np.isfinite(array[()])):
            refuse("it has values that are not finite", name, "Load the model of an earlier step.")


def _check_fit(model, saved, refuse, resume=True):
    """Refuse arrays that are not exactly the state of `model`; without `resume` the optimizer's may be missing."""
    wanted = {name: plain_shape(value) for name, value in state_names(model).items()}
    if not resume and _optimizer(wanted) != _optimizer(saved):
        warnings.warn("weights file: it does not have the state of the model's optimizer, which starts anew.")
        wanted, saved = (_without_optimizer(state) for state in (wanted, saved))
    for name in sorted(wanted.keys() | saved.keys()):
        mine, given = wanted.get(name), saved.get(name)
        same = mine and given and mine[0] == given[0]
        if not same or (mine[1] != given[1] and "float" in mine[1] + given[1]):  # seeds and counts: a type a backend
            rule = f"it belongs to another model: the file has {_show(given)}, the model {_show(mine)}"
            refuse(rule, f"{WEIGHTS}, {name}")


def _optimizer(state):
    return {name: found[0] for name, found in state.items() if name.startswith("optimizer/")}


def _without_optimizer(state):
    return {name: found for name, found in state.items() if not name.startswith("optimizer/")}


def _show(found):
    return "none" if found is None else f"{found[0]} {found[1]}"


# A .keras file


def _load_archive(path, trusted):
    def refuse(rule, member=None, remedy=WEIGHTS_ONLY):
        raise UnsafeFileError(path, member, rule, remedy)

    with open(path, "rb") as file:
        start = file.read(16)
    if not start.startswith(MAGIC):
        rule = f"this is neither a folder that recipes.save wrote nor a .keras archive (first bytes {start!r})"
        refuse(rule, remedy=f"For a file of weights: {WEIGHTS_ONLY}")
    if not trusted:
        refuse("it is not trusted", remedy=f"{TRUST} {WEIGHTS_ONLY}")
    data = check_archive(path)
    with keras_file.open_members(path, data) as arrays:
        saved = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        _check_values(arrays, refuse)
    del data
    try:
        with variables_within([shape for shape, _ in saved.values()], lambda rule: refuse(rule, "config.json")):
            model = keras.saving.load_model(path)
            _check_fit(model, saved, refuse, resume=False)
            return model
    except UnsafeFileError:
        raise
    except Exception as error:  # of whatever kind, from wherever in Keras it comes
        raise UnsafeFileError(path, None, f"Keras cannot load it ({str(error)[:200]})", WEIGHTS_ONLY) from error
