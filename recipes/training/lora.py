"""`recipes.add_lora`: low-rank weights that learn instead of the large ones."""

import keras
import numpy as np

from recipes.training.graph import find_head, flatten, set_trainable
from recipes.training.recipe import check_count
from recipes.training.transfer import ids_of, renew_optimizer


def add_lora(model, rank=8, *, alpha=None):
    """Freeze everything but the head, add low-rank weights to the layers below, and compile again.

    A kernel `W` becomes `W + alpha / rank * A @ B`, where `A` has `rank` columns and `B` begins at zero, so that the
    model computes at first what it did. Only `A`, `B` and the head learn: a few per cent of the weights. Every `Dense`,
    `EinsumDense` (those within attention too), `Embedding` and convolution gets them, however deep it is nested;
    depthwise convolutions do not. Train the model with `recipes.fit` or `model.fit`, at a rate of about 1e-3.

    Saving merges: a file holds `W + alpha / rank * A @ B` as the kernel, and no state of the optimizer, which belonged
    to `A` and `B`. A loaded model computes the same; to train on, call `add_lora` again.

    Args:
        model: Functional or Sequential Keras model; changed in place. Give it its head first, with `replace_head`.
        rank: Number of columns of `A`, at least 1.
        alpha: Scale of the added product, relative to `rank`; `None`: `rank`, a scale of 1.

    Returns:
        `model`.

    Raises:
        ValueError: If no layer below the head takes LoRA weights, or one has them already.

    Example:

    >>> model = recipes.replace_head(keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None), 5)
    >>> parameters = model.count_params()
    >>> add_lora(model, rank=4).count_params() > parameters
    True

    Reference:
        [Hu et al., 2021](https://arxiv.org/abs/2106.09685), section 4.1.
    """
    check_count("rank", rank)
    top = find_head(model)[1]
    below = [layer for layer, _ in flatten(model) if id(layer) not in ids_of(top)]
    adapted = {unit: [part for part in unit._flatten_layers() if _takes_lora(part)] for unit in below}
    chosen = [layer for parts in adapted.values() for layer in parts]
    if not chosen:
        raise ValueError(
            "model must have a Dense, EinsumDense, Embedding or convolution layer below its head. Received: "
            f"{model.name} with {sorted({type(layer).__name__ for layer in below if layer.weights})}"
        )
    for layer in chosen:
        if layer.lora_enabled and any(np.any(w) for w in _lora_weights(layer)):
            raise ValueError(f"model must have no LoRA weights yet. Received: {model.name}, {layer.name} has some")
    for layer in chosen:
        if layer.lora_enabled:  # it comes from a file: A and B are both zero, and neither would ever get a gradient
            a = _lora_weights(layer)[0]
            a.assign(keras.initializers.HeUniform()(a.shape, a.dtype))
        else:
            layer.enable_lora(rank, lora_alpha=alpha)
    set_trainable(model, {**{id(unit): bool(parts) for unit, parts in adapted.items()}, **dict.fromkeys(ids_of(top), True)})
    learns = ids_of(v for layer in chosen for v in _lora_weights(layer))
    for unit, parts in adapted.items():
        for variable in unit.weights if parts else ():
            variable.trainable = id(variable) in learns
    renew_optimizer(model)
    if model.compiled:  # Keras would load the moments of A and B for other weights, if there are as many
        model.optimizer.save_own_variables = lambda store: None
    return model


def _takes_lora(layer):
    """Return whether Keras can give `layer` LoRA weights."""
    constrained = getattr(layer, "kernel_constraint", None) or getattr(layer, "embeddings_constraint", None)
    return hasattr(layer, "enable_lora") and layer.built and not constrained


def _lora_weights(layer):
    """Return `A` and `B` of a layer that has them."""
    kind = "kernel" if hasattr(layer, "lora_kernel_a") else "embeddings"
    return [getattr(layer, f"lora_{kind}_{part}") for part in "ab"]
