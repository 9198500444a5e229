"""What the `config.json` of a `.keras` file may ask Keras to make: layers and their like, of plain numbers and names.

Keras makes whatever object a configuration names, and some of them run code, read files or load libraries. A stranger's
file could name these even for a reader that means only to look, so everything is checked before anything is made.
"""

import importlib
import re
import sys

import keras

import recipes

MAX_LAYERS = 5_000  # that one list may hold; EfficientNetV2-L has 1,028
MAX_STRING = 2_000
MODULES = {
    "keras.layers",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.losses",
    "keras.metrics",
    "keras.optimizers",
    "keras.optimizers.schedules",
    "keras.dtype_policies",
    "keras.random",
    "keras.src.models.functional",
}
TOP = {"Sequential", "Model", "Functional", "DTypePolicy", "FloatDTypePolicy", "InputSpec", "Variable"}
FUNCTION_MODULES = {"builtins", "keras.activations", "keras.losses", "keras.metrics", "keras.initializers"}
HARMFUL = {  # they run code that the file holds, or load another file
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "FeatureSpace",
}
SIZES = {"units", "filters", "input_dim", "output_dim", "hidden_dim", "num_heads", "key_dim", "value_dim"}
VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"}
DTYPES = {"bool", "bfloat16"} | {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)}
PATHS = re.compile(r"(.*_)?(path|file|filepath|filename|fname|dir|directory|folder|url|uri|vocabulary|weights)", re.I)
NAME = re.compile(r"[A-Za-z_]\w{0,100}")
REMEDY = "Build the model yourself and give it the weights alone: recipes.load_weights(model, path)."


def check_config(config, refuse, elements):
    """Refuse a configuration that asks for more than layers, losses, metrics and optimizers of plain settings.

    Args:
        config: Dict, what `config.json` says.
        refuse: Function of a rule, a member and a remedy that raises `UnsafeFileError`.
        elements: Number of weights that the file can have at most.
    """
    stack = [("config.json", config)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, str):
            _check_string(place, value, refuse)
        elif isinstance(value, list):
            if len(value) > MAX_LAYERS and any(isinstance(item, dict) for item in value):
                refuse(f"it lists {len(value)} objects, more than {MAX_LAYERS}", place, REMEDY)
            tokens = place.endswith(".vocabulary") and all(isinstance(item, str) for item in value)  # words, not names
            stack += [] if tokens else [(place, item) for item in value]
        elif isinstance(value, dict):
            if "class_name" in value:
                place = f"{place[:80]}>{str(value['class_name'])[:40]}"
                _check_object(place, value, refuse)
            for key, item in value.items():
                if isinstance(item, str) and item and PATHS.fullmatch(key):
                    refuse(f"{ascii(key)[:60]} names a file: {ascii(item)[:80]}", place, REMEDY)
                if key in SIZES and isinstance(item, int) and item > elements:
                    refuse(f"{key}={item} needs more variables than the file has", place, REMEDY)
                stack.append((f"{place}.{key[:40]}", item))


def _check_string(place, text, refuse):
    if len(text) > MAX_STRING:
        refuse(f"a text of {len(text)} characters is no setting", place, REMEDY)
    if re.search(r"[/\\\0]|^\.\.?$|://", text):
        refuse(f"{ascii(text)[:80]} looks like a path", place, REMEDY)


def _check_object(place, value, refuse):
    """Refuse an object that is neither Keras' and harmless nor registered by code that already runs."""
    kind, module, registered = value["class_name"], value.get("module"), value.get("registered_name")
    if not isinstance(kind, str) or not NAME.fullmatch(kind):
        refuse("a class has no name", place, REMEDY)
    if kind in VALUES:
        said = value.get("config")
        dtype = said.get("dtype", "float32") if isinstance(said, dict) else None
        if kind in ("__tensor__", "__numpy__") and dtype not in DTYPES:
            refuse(f"numbers of type {ascii(dtype)[:40]}", place, REMEDY)
        return
    if kind.startswith("__"):
        refuse(f"{kind} holds code or another thing that is no layer", place, REMEDY)
    if kind in HARMFUL:
        refuse(f"a layer {kind} runs code or loads a file of its own", place, REMEDY)
    if module is not None and not isinstance(module, str) or registered is not None and not isinstance(registered, str):
        refuse("its module and registered name must be texts", place, REMEDY)
    name = value.get("config") if kind == "function" else kind
    if not isinstance(name, str):
        refuse("a function has no name", place, REMEDY)
    known = [_registered(key) for key in {name, registered} - {None}]
    for thing in filter(None, known):
        _check_own(thing, place, refuse)
    if any(known):
        return
    if kind == "function":
        fine = module in FUNCTION_MODULES and _is_function(module, name)
    else:
        fine = module in MODULES or (module == "keras" and kind in TOP) or str(module).startswith("keras.src.ops.")
        fine = fine and isinstance(getattr(sys.modules.get(module), kind, None), type)
    if not fine or (registered or name) != name:
        shown = f"{module}.{name}" if module else registered or name
        rule = f"it asks for {ascii(shown)[:100]}, which is neither a layer of Keras nor registered"
        refuse(rule, place, f"Import the code that registers it, if you trust that. {REMEDY}")


def _is_function(module, name):
    """Whether Keras has a function of that name where it looks for one; it calls its own modules `builtins`."""
    modules = FUNCTION_MODULES - {"builtins"} if module == "builtins" else {module}
    return any(callable(getattr(sys.modules.get(place), name, None)) for place in modules)


def _registered(name):
    """Return what is registered under a name, once all that ours has is registered."""
    if name.startswith("recipes>") and keras.saving.get_registered_object(name) is None:
        for module in sorted({*recipes._PUBLIC.values(), "recipes.blocks", "recipes.layers", "recipes.callbacks"}):
            importlib.import_module(module)
    return keras.saving.get_registered_object(name)


def _check_own(thing, place, refuse):
    """Refuse a class under our name that is not ours."""
    name = keras.saving.get_registered_name(thing)
    if name.startswith("recipes>") and not thing.__module__.startswith("recipes."):
        refuse(f"{name} is registered by {thing.__module__}, which is not ours", place, "Register it under another name.")
