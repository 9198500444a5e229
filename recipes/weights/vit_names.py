"""What the variables of our ViT are called in timm and transformers, and positions for another size of image."""

import math
import re

import numpy as np

from recipes.weights.assigning import assign
from recipes.weights.reading import find_file, read_config, read_state_dict

# ours -> timm
TOKENS = {"class_token": "cls_token", "position_embedding": "pos_embed"}
LAYERS = {
    "patch": "patch_embed.proj",
    "norm": "norm",
    "logits": "head",
    # within block i
    "norm1": "norm1",
    "attention/qkv": "attn.qkv",
    "attention/output": "attn.proj",
    "norm2": "norm2",
    "mlp1": "mlp.fc1",
    "mlp2": "mlp.fc2",
    "scale1": "ls1",
    "scale2": "ls2",
}
VARIABLES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "scale": "gamma"}
# transformers -> timm; the second of two names is that of a state dict which transformers 5 has in memory
TRANSFORMERS = (
    (r"^(vit\.)?embeddings\.cls_token$", "cls_token"),
    (r"^(vit\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(vit\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(vit\.)?layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"^(vit\.)?(encoder\.layer|layers)\.(\d+)\.", r"blocks.\3."),
    (r"(?<=\d\.)layernorm_before\.", "norm1."),
    (r"(?<=\d\.)attention\.(attention\.query|q_proj)\.", "attn.q."),
    (r"(?<=\d\.)attention\.(attention\.key|k_proj)\.", "attn.k."),
    (r"(?<=\d\.)attention\.(attention\.value|v_proj)\.", "attn.v."),
    (r"(?<=\d\.)attention\.(output\.dense|o_proj)\.", "attn.proj."),
    (r"(?<=\d\.)layernorm_after\.", "norm2."),
    (r"(?<=\d\.)intermediate\.dense\.", "mlp.fc1."),
    (r"(?<=\d\.)output\.dense\.", "mlp.fc2."),
)
UNUSED = r"^(vit\.)?(pooler\.|embeddings\.mask_token$)"  # of tasks that our ViT does not have


def load_weights(model, path, grid):
    """Give `model` the weights of a file or folder of timm or transformers.

    Args:
        model: One of `recipes.vit`.
        path: The file or folder.
        grid: `(rows, columns)` of the patches of the model. Positions for another grid are interpolated.
    """
    tensors = timm_tensors(read_state_dict(path))
    positions = tensors.get("pos_embed", np.zeros(0))
    if positions.ndim == 3 and len(positions) == 1:  # or `assign` will say what is wrong
        positions, prefix = positions[0], int("cls_token" in tensors)
        if prefix and "blocks.0.ls1.gamma" in tensors and math.isqrt(len(positions)) ** 2 == len(positions):
            positions = np.concatenate([np.zeros_like(positions[:1]), positions])  # DeiT III: the class token has none
        tensors["pos_embed"] = resize_positions(positions, grid, prefix)
    return assign(model, torch_names(model), tensors, optional_head=("logits", "target"))


def read_epsilon(path, heads):
    """Return the epsilon of the layer normalisations that belongs to a file or folder: 1e-6, or what transformers says.

    Raises:
        ValueError: If `config.json` says something that no tensor shows and that our ViT with so many heads is not.
    """
    config = read_config(find_file(path))
    if config.get("model_type") != "vit":  # timm's says nothing that matters here
        return 1e-6
    for key, ours in {"num_attention_heads": heads, "hidden_act": "gelu"}.items():
        if config.get(key, ours) != ours:
            raise ValueError(
                f"weights were made with {key}={config[key]!r} (config.json), this variant has {ours!r}. "
                f"Pass another variant. Received: weights={str(path)!r}"
            )
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(f"weights: layer_norm_eps in config.json must be in (0, 1). Received: {epsilon!r}")
    return epsilon


def timm_tensors(tensors):
    """Return the tensors under timm's names; queries, keys and values in one."""
    renamed = {}
    for name, tensor in tensors.items():
        if re.search(UNUSED, name):
            continue
        for pattern, replacement in TRANSFORMERS:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ValueError(f"weights: two tensors mean {name}. Pass a file of one model only.")
        renamed[name] = tensor
    for query in [name for name in renamed if re.fullmatch(r"blocks\.\d+\.attn\.q\.(weight|bias)", name)]:
        parts = [query.replace(".q.", f".{part}.") for part in "qkv"]
        if all(part in renamed for part in parts) and len({renamed[part].shape for part in parts}) == 1:
            renamed[query.replace(".q.", ".qkv.")] = np.concatenate([renamed.pop(part) for part in parts])
    return renamed


def torch_names(model):
    """Return `{variable path: (name in timm, axes that bring it into our order)}`, as `assign` takes it."""
    averages = any(layer.name == "pool" for layer in model.layers)
    names = {}
    for path in (variable.path for variable in model.weights):
        block, layer, variable = re.fullmatch(r"(?:block(\d+)_)?([\w/]+)/(\w+)", path).groups()
        if layer in TOKENS:
            names[path] = (TOKENS[layer], None)
        elif layer in LAYERS:  # others, such as the scale of a regression, the file does not have
            prefix = f"blocks.{block}." if block else "fc_" if averages and layer == "norm" else ""
            axes = None
            if variable == "kernel":  # torch has (out, in, height, width) and (out, in)
                axes = (2, 3, 1, 0) if layer == "patch" else (1, 0)
            names[path] = (f"{prefix}{LAYERS[layer]}.{VARIABLES[variable]}", axes)
    return names


def resize_positions(positions, grid, prefix):
    """Interpolate learned positions to another grid, bicubic and antialiased as timm's `resample_abs_pos_embed`.

    Args:
        positions: Array `(prefix + side * side, width)`.
        grid: `(rows, columns)` that are wanted.
        prefix: Number of first positions that are no place in the grid, such as that of the class token.

    Returns:
        Array `(prefix + rows * columns, width)`.
    """
    side = math.isqrt(len(positions) - prefix)
    if tuple(grid) == (side, side):
        return positions
    if side * side != len(positions) - prefix:
        raise ValueError(f"weights: {len(positions) - prefix} positions are no square grid, which could be interpolated.")
    places = positions[prefix:].astype("float32").reshape(side, side, -1)
    places = np.einsum("ry,yxw->rxw", cubic_weights(side, grid[0]), places)
    places = np.einsum("cx,rxw->rcw", cubic_weights(side, grid[1]), places)
    return np.concatenate([positions[:prefix], places.reshape(grid[0] * grid[1], -1)])


def cubic_weights(old, new):
    """Return the matrix `(new, old)` that resamples a line: Keys' kernel with a = -.5, wider where the line shrinks."""
    stretch = max(1.0, old / new)
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    x = np.abs(centers[:, None] - np.arange(old)) / stretch
    weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) * (x < 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")
