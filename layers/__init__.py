"""Custom layers: only what owns a weight or randomness."""

if __name__ == "layers":
    raise ImportError("import recipes.layers, not layers")

from recipes.layers.category_embedding import CategoryEmbedding
from recipes.layers.class_token import ClassToken
from recipes.layers.drop_path import DropPath
from recipes.layers.end_token import EndToken
from recipes.layers.layer_scale import LayerScale
from recipes.layers.local_response_norm import LocalResponseNorm
from recipes.layers.logit_scale import LogitScale
from recipes.layers.position_embedding import PositionEmbedding
from recipes.layers.self_attention import SelfAttention
from recipes.layers.sincos_position import SinCosPosition
from recipes.layers.standardize import Standardize

__all__ = [
    "CategoryEmbedding",
    "ClassToken",
    "DropPath",
    "EndToken",
    "LayerScale",
    "LocalResponseNorm",
    "LogitScale",
    "PositionEmbedding",
    "SelfAttention",
    "SinCosPosition",
    "Standardize",
]
