"""What the variables of our BERT are called in transformers, and what the files beside the weights say of the model."""

import json
import os
import re
import warnings

import keras
import numpy as np

from recipes.weights import hub
from recipes.weights.assigning import assign
from recipes.weights.errors import LeftRandom, UnsafeFileError
from recipes.weights.reading import find_file, read_config, read_shapes, read_state_dict

# ours -> transformers, without the prefix "bert."
LAYERS = {
    "token_embedding": "embeddings.word_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
    "logits": "classifier",
}
BLOCK = {
    "attention/qkv": "attention.self.qkv",
    "attention/output": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp1": "intermediate.dense",
    "mlp2": "output.dense",
    "norm2": "output.LayerNorm",
}
# of the head that guesses masked tokens
GUESSES = {
    "mlm_dense": "cls.predictions.transform.dense",
    "features": "cls.predictions.transform.LayerNorm",
    "logits": "cls.predictions",
}
VARIABLES = {"kernel": "weight", "embeddings": "weight", "embedding": "weight", "gamma": "weight", "beta": "bias"}
# The numbers 0, 1, 2, ...; and a loss that our BERT does not have.
UNUSED = r"(embeddings\.(position_ids|token_type_ids)|cls\.seq_relationship\.(weight|bias))$"
# Files before 2019, such as that of bert-base-uncased, say gamma and beta.
RENAMED = ((r"^bert\.", ""), (r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
HEADS = ("pooler.", "classifier.", "cls.predictions.")
TIED = {  # a second name of a tensor
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
BESIDE = ("modules.json", "1_Pooling/config.json")  # files of sentence-transformers
SIZES = ("vocabulary_size", "max_length", "width", "depth", "heads", "mlp_dim", "epsilon")
POOLS = {"mean": "mean", "cls": "token", "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "token"}


def load_weights(model, path):
    """Give `model`, one of `recipes.bert`, the weights of a file or folder of transformers or sentence-transformers.

    Heads that the model does not have are left in the file. A head that the file does not have stays random, and a
    warning says so. Of positions the first are taken if the model has fewer. `path` may also be another such model.
    """
    if isinstance(path, keras.Model):
        return copy_weights(model, path)
    names = transformers_names(model)
    tensors = our_tensors(read_state_dict(path))
    wanted = {name for name, _ in names.values()}
    for head in HEADS:
        if not any(name.startswith(head) for name in wanted):
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(head)}
    positions, places = "embeddings.position_embeddings.weight", model.get_layer("position_embedding").embedding.shape[0]
    if tensors.get(positions, np.zeros(0)).ndim == 2:
        tensors[positions] = tensors[positions][:places]
    pooler = {path for path in names if path.startswith("pooler/")}
    if pooler and not any(name.startswith("pooler.") for name in tensors):
        text = f"weights: left random, as the file has no pooler: {', '.join(sorted(pooler))}"
        warnings.warn(LeftRandom(text, pooler))
        for variable in model.get_layer("pooler").weights:
            name, axes = names[variable.path]
            value = keras.ops.convert_to_numpy(variable)
            tensors[name] = value if axes is None else value.transpose(axes)
    return assign(model, names, tensors, optional_head=("logits", "target", "mlm_dense", "features"))


def copy_weights(model, source):
    """Give `model` the weights of `source`, another model of `recipes.bert`, that have the same names."""
    paths = {variable.path for variable in model.weights}
    tensors = {v.path: keras.ops.convert_to_numpy(v) for v in source.weights if v.path in paths}
    names = {path: (path, None) for path in paths}
    return assign(model, names, tensors, optional_head=("pooler", "logits", "target", "mlm_dense", "features"))


def read_settings(path, heads, padding_id):
    """Return what `config.json`, and the files of sentence-transformers beside it, say of the model.

    Args:
        path: File, folder, name of the hub, or a model of `recipes.bert`.
        heads, padding_id: What the caller wants, or `None`: no tensor shows them, so another value is refused.

    Returns:
        Dict with some of the keyword arguments of `recipes.bert`, and `"class_names"`.

    Raises:
        ValueError: If the files belong to a model that our BERT is not.
    """
    if isinstance(path, keras.Model):
        recipe = getattr(path, "recipe", {})
        if recipe.get("builder") != "bert" or heads not in (None, recipe["arguments"]["heads"]):
            raise ValueError(
                f"weights must be a model of recipes.bert with as many heads, or files. Received: {path.name!r}, made by "
                f"{recipe.get('builder')!r} with heads={recipe.get('arguments', {}).get('heads')!r}"
            )
        return {key: recipe["arguments"][key] for key in SIZES}
    if hub.is_name(path):
        hub.download(path, beside=BESIDE)
    config = read_config(path)
    if not config:
        return {}
    said = {
        "model_type": config.get("model_type", "bert"),
        "hidden_act": config.get("hidden_act", "gelu"),
        "position_embedding_type": config.get("position_embedding_type", "absolute"),
        "is_decoder": config.get("is_decoder", False),
        "num_attention_heads": config.get("num_attention_heads", 12),
        "pad_token_id": config.get("pad_token_id", 0),
    }
    ours = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    ours |= {"is_decoder": False, "num_attention_heads": heads, "pad_token_id": padding_id}
    for key, value in ours.items():
        if value is not None and said[key] != value:
            raise ValueError(
                f"weights were made with {key}={said[key]!r} (config.json), this model has {value!r}. "
                f"Received: weights={str(path)!r}"
            )
    numbers = {
        "vocabulary_size": config.get("vocab_size", 30522),
        "max_length": config.get("max_position_embeddings", 512),
        "width": config.get("hidden_size", 768),
        "depth": config.get("num_hidden_layers", 12),
        "heads": said["num_attention_heads"],
        "mlp_dim": config.get("intermediate_size", 3072),
        "epsilon": config.get("layer_norm_eps", 1e-12),
    }
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ValueError(f"weights: config.json must have a number > 0 for {key}. Received: {value!r}")
    _check_sizes(path, numbers)
    settings = {**numbers, **_pooling(path)}
    if any(str(name).endswith("Classification") for name in config.get("architectures") or ()):
        labels = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves two out
        settings["num_classes"] = len(labels)
        names = [str(labels[key]) for key in sorted(labels, key=int)]
        if names != [f"LABEL_{i}" for i in range(len(names))]:
            settings["class_names"] = names
    return settings


def _check_sizes(path, numbers):
    """Refuse sizes that the tensors do not have, before a model of these sizes takes the memory."""
    shapes = {}
    for name, (shape, _) in read_shapes(path).items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        shapes[name] = tuple(shape)
    width, embeddings = numbers["width"], "embeddings.{}_embeddings.weight"
    wanted = {
        embeddings.format("word"): (numbers["vocabulary_size"], width),
        embeddings.format("position"): (numbers["max_length"], width),
        "encoder.layer.0.intermediate.dense.weight": (numbers["mlp_dim"], width),
    }
    for name, shape in wanted.items():
        if shapes.get(name) != shape:
            rule = f"config.json says that {name} is {shape}, the file has {shapes.get(name, 'no such tensor')}"
            raise UnsafeFileError(path, "config.json", rule, "Download or copy the whole folder again.")
    depth = sum(bool(re.fullmatch(r"encoder\.layer\.\d+\.output\.dense\.weight", name)) for name in shapes)
    if depth != numbers["depth"]:
        rule = f"config.json says that there are {numbers['depth']} layers, the file has {depth}"
        raise UnsafeFileError(path, "config.json", rule, "Download or copy the whole folder again.")


def _pooling(path):
    """Return `pool` and `normalize` of a folder of sentence-transformers; `{}` for any other."""
    folder = path if os.path.isdir(path) else os.path.dirname(find_file(path))
    modules = read_object(os.path.join(folder, "modules.json"), list)
    if modules is None:
        return {}
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules if isinstance(module, dict)]
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown or "Pooling" not in kinds:
        raise ValueError(
            f"weights: modules.json must name Transformer, Pooling and perhaps Normalize, which is what our BERT can do. "
            f"Received: {kinds}"
        )
    where = str(modules[kinds.index("Pooling")].get("path", "1_Pooling"))
    pooling = read_object(os.path.join(folder, os.path.basename(where), "config.json"), dict) or {}
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
    modes = modes or np.atleast_1d(pooling.get("pooling_mode", "mean")).tolist()
    if len(modes) != 1 or modes[0] not in POOLS:
        raise ValueError(f"weights: {where}/config.json must pool the mean or the first token. Received: {modes}")
    return {"pool": POOLS[modes[0]], "normalize": "Normalize" in kinds}


def read_object(path, kind):
    """Return the JSON `dict` or `list` in a file, or `None` if there is no file."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        text = file.read((1 << 20) + 1)
    try:
        contents = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        contents = None
    if not isinstance(contents, kind):
        raise UnsafeFileError(path, None, "it is not the JSON that sentence-transformers writes", "Download it again.")
    return contents


def our_tensors(tensors):
    """Return the tensors under the names of `transformers_names`; queries, keys and values in one."""
    found = {}
    for name, tensor in tensors.items():
        if re.search(UNUSED, name):
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if name in found:
            raise ValueError(f"weights: two tensors mean {name}. Pass a file of one model only.")
        found[name] = tensor
    for name, twin in TIED.items():
        if name in found and twin in found:
            if not np.array_equal(found.pop(name), found[twin]):
                raise ValueError(f"weights: {name} must equal {twin}, as our BERT has one for both. It is another.")
        elif name in found and twin.startswith("cls."):
            found[twin] = found.pop(name)
    for query in [name for name in found if re.search(r"attention\.self\.query\.(weight|bias)$", name)]:
        parts = [query.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in found for part in parts) and len({found[part].shape for part in parts}) == 1:
            found[query.replace(".query.", ".qkv.")] = np.concatenate([found.pop(part) for part in parts])
    return found


def transformers_names(model):
    """Return `{variable path: (name in transformers, axes that bring it into our order)}`, as `assign` takes it."""
    guesses = any(layer.name == "mlm_dense" for layer in model.layers)
    names = {}
    for path in (variable.path for variable in model.weights):
        layer, variable = path.rsplit("/", 1)
        block = re.fullmatch(r"block(\d+)_(.+)", layer)
        if block:
            name = f"encoder.layer.{block[1]}.{BLOCK[block[2]]}"
        elif guesses and layer in GUESSES:
            name = GUESSES[layer]
        elif layer in LAYERS:
            name = LAYERS[layer]
        else:  # the scale of a regression, which the file does not have
            continue
        names[path] = (f"{name}.{VARIABLES.get(variable, variable)}", (1, 0) if variable == "kernel" else None)
    return names
