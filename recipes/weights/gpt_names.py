"""What the variables of our GPT are called in transformers' GPT-2."""

import re

import numpy as np

from recipes.weights.assigning import assign
from recipes.weights.reading import find_file, read_config, read_state_dict

# ours -> transformers
LAYERS = {"token_embedding": "wte", "position_embedding": "wpe", "norm": "ln_f"}
BLOCK = {
    "norm1": "ln_1",
    "attention/qkv": "attn.c_attn",
    "attention/output": "attn.c_proj",
    "norm2": "ln_2",
    "mlp1": "mlp.c_fc",
    "mlp2": "mlp.c_proj",
}
UNUSED = r"(^|\.)attn\.(masked_)?bias$"  # the causal mask; the biases are called attn.c_attn.bias and attn.c_proj.bias
TOKENS, POSITIONS, HEAD = "wte.weight", "wpe.weight", "lm_head.weight"


def load_weights(model, path, max_length):
    """Give `model` the weights of a file or folder of transformers' `GPT2LMHeadModel` or `GPT2Model`.

    Args:
        model: One of `recipes.gpt` with learned positions.
        path: The file or folder.
        max_length: Number of positions of the model. A file that has more gives the first.
    """
    tensors = our_tensors(read_state_dict(path))
    head = tensors.pop(HEAD, None)
    if head is not None and TOKENS in tensors and not np.array_equal(head, tensors[TOKENS]):
        raise ValueError("weights: the head is another matrix than the tokens' vectors; ours is one with them.")
    if POSITIONS in tensors and len(tensors[POSITIONS]) > max_length:
        tensors[POSITIONS] = tensors[POSITIONS][:max_length]
    return assign(model, transformers_names(model), tensors)


def check_config(path, heads, epsilon, activation):
    """Raise `ValueError` if `config.json` beside the weights says what no tensor shows and what our GPT is not."""
    config = read_config(find_file(path))
    if config.get("model_type") != "gpt2":
        return
    theirs = {"gelu_tanh": "gelu_new", "gelu": "gelu"}[activation]
    ours = {
        "n_head": heads,
        "layer_norm_epsilon": epsilon,
        "activation_function": theirs,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    }
    for key, value in ours.items():
        said = config.get(key, value)
        if said != value and not (key == "activation_function" and {said, value} <= {"gelu_new", "gelu_pytorch_tanh"}):
            raise ValueError(
                f"weights were made with {key}={said!r} (config.json), this model has {value!r}. "
                f"Pass another variant, or heads=. Received: weights={str(path)!r}"
            )


def our_tensors(tensors):
    """Return the tensors under the names of `transformers_names`."""
    named = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in named.items() if not re.search(UNUSED, name)}


def transformers_names(model):
    """Return `{variable path: (name in transformers, axes)}`, as `assign` takes it. Its matrices are (in, out), as ours."""
    names = {}
    for path in (variable.path for variable in model.weights):
        layer, variable = path.rsplit("/", 1)
        block = re.fullmatch(r"block(\d+)_(.+)", layer)
        name = f"h.{block[1]}.{BLOCK[block[2]]}" if block else LAYERS[layer]
        names[path] = (f"{name}.{'bias' if variable in ('bias', 'beta') else 'weight'}", None)
    return names
