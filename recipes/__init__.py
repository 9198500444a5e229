"""Neural networks of every family as short builder functions that return compiled Keras models.

    import recipes

    model = recipes.resnet((32, 32, 3), 10)
    recipes.fit(model, (x, y), validation=0.1, epochs=30)

Names are imported when first used, so `import recipes` loads neither Keras nor a backend.
"""

import importlib
import os

__version__ = "0.1.0"

# In a checkout, layers/ and callbacks/ lie beside this folder; installed, they lie inside it.
if not os.path.isdir(os.path.join(__path__[0], "layers")):
    __path__.append(os.path.dirname(__path__[0]))

_PUBLIC = {
    "mlp": "recipes.tabular.mlp",
    "mlp_space": "recipes.tabular.mlp",
    "resnet": "recipes.vision.resnet",
    "resnet_space": "recipes.vision.resnet",
    "efficientnet": "recipes.vision.efficientnet",
    "efficientnet_space": "recipes.vision.efficientnet",
    "convnext": "recipes.vision.convnext",
    "convnext_space": "recipes.vision.convnext",
    "alexnet": "recipes.vision.alexnet",
    "alexnet_space": "recipes.vision.alexnet",
    "vit": "recipes.vision.vit",
    "vit_space": "recipes.vision.vit",
    "clip": "recipes.vision.clip",
    "clip_space": "recipes.vision.clip",
    "lstm": "recipes.sequence.lstm",
    "lstm_space": "recipes.sequence.lstm",
    "lstm_text": "recipes.sequence.lstm_text",
    "lstm_text_space": "recipes.sequence.lstm_text",
    "lstm_forecast": "recipes.sequence.lstm_forecast",
    "lstm_forecast_space": "recipes.sequence.lstm_forecast",
    "lstm_lm": "recipes.sequence.lstm_lm",
    "lstm_lm_space": "recipes.sequence.lstm_lm",
    "bert": "recipes.sequence.bert",
    "bert_space": "recipes.sequence.bert",
    "gpt": "recipes.sequence.gpt",
    "gpt_space": "recipes.sequence.gpt",
    "generate": "recipes.sequence.generate",
    "autoencoder": "recipes.generative.autoencoder",
    "autoencoder_space": "recipes.generative.autoencoder",
    "vae": "recipes.generative.vae",
    "vae_space": "recipes.generative.vae",
    "vqvae": "recipes.generative.vqvae",
    "vqvae_space": "recipes.generative.vqvae",
    "seq2seq": "recipes.sequence.seq2seq",
    "seq2seq_space": "recipes.sequence.seq2seq",
    "transformer": "recipes.sequence.transformer",
    "transformer_space": "recipes.sequence.transformer",
    "generative_measures": "recipes.generative.measures",
    "frechet_distance": "recipes.generative.measures",
    "gan": "recipes.generative.gan",
    "gan_space": "recipes.generative.gan",
    "stylegan": "recipes.generative.stylegan",
    "stylegan_space": "recipes.generative.stylegan",
    "dalle": "recipes.generative.dalle",
    "dalle_space": "recipes.generative.dalle",
    "diffusion": "recipes.generative.diffusion",
    "diffusion_space": "recipes.generative.diffusion",
    "features": "recipes.vision.features",
    "list_features": "recipes.vision.features",
    "explain": "recipes.vision.explain",
    "list_variants": "recipes.training.recipe",
    "list_training": "recipes.training.recipe",
    "fit": "recipes.training.fit",
    "resize": "recipes.training.resolution",
    "doctor": "recipes.training.doctor",
    "predict": "recipes.training.inference",
    "evaluate": "recipes.training.inference",
    "save": "recipes.training.saving",
    "load_model": "recipes.training.saving",
    "load_best": "recipes.training.run",
    "load_weights": "recipes.weights.loading",
    "UnsafeFileError": "recipes.weights.errors",
    "freeze": "recipes.training.transfer",
    "unfreeze": "recipes.training.transfer",
    "replace_head": "recipes.training.transfer",
    "fine_tune": "recipes.training.fine_tuning",
    "add_lora": "recipes.training.lora",
    "tune": "recipes.tuning",
    "hypermodel": "recipes.tuning",
    "TuneResult": "recipes.tuning",
    "AdamW": "recipes.training.optimizer",
    "SGD": "recipes.training.optimizer",
    "LAMB": "recipes.training.optimizer",
    "RMSProp": "recipes.training.optimizer",
    "CrossEntropy": "recipes.training.losses",
    "BinaryCrossEntropy": "recipes.training.losses",
    "Accuracy": "recipes.training.losses",
    "TokenCrossEntropy": "recipes.training.language",
    "TokenAccuracy": "recipes.training.language",
    "LanguageModel": "recipes.training.language",
    "ContrastiveLoss": "recipes.training.contrastive",
    "ContrastiveAccuracy": "recipes.training.contrastive",
}
_PACKAGES = ("callbacks", "data", "layers", "weights")

__all__ = [*_PUBLIC, *_PACKAGES]


def __getattr__(name):
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"recipes.{name}")
    else:
        raise AttributeError(f"module 'recipes' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
