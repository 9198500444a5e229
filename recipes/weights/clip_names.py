"""What the variables of our CLIP are called in transformers."""

import re
import warnings

import numpy as np

from recipes.weights.assigning import assign
from recipes.weights.errors import LeftRandom
from recipes.weights.reading import find_file, read_config, read_state_dict
from recipes.weights.vit_names import resize_positions

# ours -> transformers
LAYERS = {
    "image_patch": "vision_model.embeddings.patch_embedding",
    "image_class_token": "vision_model.embeddings.class_embedding",
    "image_position_embedding": "vision_model.embeddings.position_embedding",
    "image_pre_norm": "vision_model.pre_layrnorm",
    "image_norm": "vision_model.post_layernorm",
    "image_projection": "visual_projection",
    "text_token_embedding": "text_model.embeddings.token_embedding",
    "text_position_embedding": "text_model.embeddings.position_embedding",
    "text_norm": "text_model.final_layer_norm",
    "text_projection": "text_projection",
    "logit_scale": "logit_scale",
}
BLOCK = {
    "norm1": "layer_norm1",
    "attention/qkv": "self_attn.qkv",
    "attention/output": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp1": "mlp.fc1",
    "mlp2": "mlp.fc2",
}
TOWERS = {"image": "vision_model", "text": "text_model"}
VARIABLES = {"kernel": ".weight", "gamma": ".weight", "embeddings": ".weight", "bias": ".bias", "beta": ".bias"}
CLASS_TOKEN, POSITIONS = "vision_model.embeddings.class_embedding", "vision_model.embeddings.position_embedding.weight"
UNUSED = r"(embeddings\.position_ids|num_batches_tracked)$"  # the numbers 0, 1, 2, ...


def load_weights(model, path, grid):
    """Give `model` the weights of a file or folder of transformers.

    Args:
        model: One of `recipes.clip`.
        path: The file or folder, of `CLIPModel` or `CLIPVisionModelWithProjection`.
        grid: `(rows, columns)` of the patches of the model. Positions for another grid are interpolated.
    """
    from recipes.vision.features import features

    tensors = our_tensors(read_state_dict(path))
    positions = tensors.get(POSITIONS, np.zeros(0))
    if positions.ndim == 2:  # or `assign` will say what is wrong
        tensors[POSITIONS] = resize_positions(positions, grid, prefix=1)
    if not any(name.startswith(("text_", "logit_scale")) for name in tensors):
        whole, model = model, features(model, "image_embedding")
        there = {variable.path for variable in model.weights}
        left = [variable.path for variable in whole.weights if variable.path not in there]
        text = "weights: left random, as the file has the image half only: the text half and logit_scale"
        warnings.warn(LeftRandom(text, left))
    return assign(model, transformers_names(model), tensors)


def read_settings(path, heads, epsilon):
    """Return `activation` and `end_id` as `config.json` beside the weights says.

    Raises:
        ValueError: If it says something that no tensor shows and that our CLIP with so many heads in either tower, and
            this epsilon, is not.
    """
    config = read_config(find_file(path))
    if config.get("model_type") not in ("clip", "clip_vision_model"):
        return {"activation": "quick_gelu"}
    vision, text = (config.get(f"{part}_config") or {} for part in ("vision", "text"))
    if config["model_type"] == "clip_vision_model":
        vision = config
    activations = {part.get("hidden_act", "quick_gelu") for part in (vision, text)[: 1 if vision is config else 2]}
    said = {
        "hidden_act": activations if len(activations) > 1 else activations.pop(),
        "num_attention_heads": (vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8)),
        "layer_norm_eps": (vision.get("layer_norm_eps", epsilon), text.get("layer_norm_eps", epsilon)),
    }
    ours = {"hidden_act": ("quick_gelu", "gelu"), "num_attention_heads": tuple(heads), "layer_norm_eps": (epsilon,) * 2}
    if vision is config:  # nothing is said about texts
        said["num_attention_heads"] = (said["num_attention_heads"][0], heads[1])
    for key, value in said.items():
        if value != ours[key] and not (key == "hidden_act" and value in ("quick_gelu", "gelu")):
            raise ValueError(
                f"weights were made with {key}={value!r} (config.json), this variant has {ours[key]!r}. "
                f"Pass another variant. Received: weights={str(path)!r}"
            )
    end_id = text.get("eos_token_id", None)
    if end_id == 2 or not isinstance(end_id, int):  # 2 was written by mistake: transformers takes the highest id then
        end_id = None
    return {"activation": said["hidden_act"], "end_id": end_id}


def our_tensors(tensors):
    """Return the tensors under the names of `transformers_names`; queries, keys and values in one."""
    found = {name: tensor for name, tensor in tensors.items() if not re.search(UNUSED, name)}
    for query in [name for name in found if re.search(r"self_attn\.q_proj\.(weight|bias)$", name)]:
        parts = [query.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in found for part in parts) and len({found[part].shape for part in parts}) == 1:
            found[query.replace(".q_proj.", ".qkv.")] = np.concatenate([found.pop(part) for part in parts])
    if found.get(CLASS_TOKEN, np.zeros(0)).size:
        found[CLASS_TOKEN] = found[CLASS_TOKEN].reshape(1, 1, -1)
    return found


def transformers_names(model):
    """Return `{variable path: (name in transformers, axes that bring it into our order)}`, as `assign` takes it."""
    names = {}
    for path in (variable.path for variable in model.weights):
        layer, variable = path.rsplit("/", 1)
        block = re.fullmatch(r"(image|text)_block(\d+)_(.+)", layer)
        name = f"{TOWERS[block[1]]}.encoder.layers.{block[2]}.{BLOCK[block[3]]}" if block else LAYERS[layer]
        ending = ".weight" if layer.endswith("position_embedding") else VARIABLES.get(variable, "")
        axes = None
        if variable == "kernel":  # torch has (out, in, height, width) and (out, in)
            axes = (2, 3, 1, 0) if layer == "image_patch" else (1, 0)
        names[path] = (name + ending, axes)
    return names
