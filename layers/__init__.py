"""Custom layers: only what owns a weight or randomness."""

if __name__ == "layers":
    raise ImportError("import recipes.layers, not layers")

from recipes.layers.category_embedding import CategoryEmbedding
from recipes.layers.drop_path import DropPath
from recipes.layers.standardize import Standardize

__all__ = ["CategoryEmbedding", "DropPath", "Standardize"]
