"""Custom layers: only what owns a weight or randomness."""

if __name__ == "layers":
    raise ImportError("import recipes.layers, not layers")

from recipes.layers.adaptive_norm import AdaptiveNorm
from recipes.layers.bias import Bias
from recipes.layers.bilinear_upsample import BilinearUpsample
from recipes.layers.category_embedding import CategoryEmbedding
from recipes.layers.class_token import ClassToken
from recipes.layers.cross_attention import CrossAttention
from recipes.layers.drop_path import DropPath
from recipes.layers.end_token import EndToken
from recipes.layers.equalized_conv import EqualizedConv2D
from recipes.layers.equalized_dense import EqualizedDense
from recipes.layers.first_token import FirstToken
from recipes.layers.fused_batch_norm import FusedBatchNorm
from recipes.layers.grid_position import GridPosition
from recipes.layers.gumbel_codebook import GumbelCodebook
from recipes.layers.layer_scale import LayerScale
from recipes.layers.learned_constant import LearnedConstant
from recipes.layers.length_mask import LengthMask
from recipes.layers.local_response_norm import LocalResponseNorm
from recipes.layers.logit_scale import LogitScale
from recipes.layers.masked_pool import MaskedPool
from recipes.layers.minibatch_stddev import MinibatchStddev
from recipes.layers.modulated_conv import ModulatedConv2D
from recipes.layers.noise_embedding import NoiseEmbedding
from recipes.layers.noise_injection import NoiseInjection
from recipes.layers.padding_mask import PaddingMask
from recipes.layers.position_embedding import PositionEmbedding
from recipes.layers.seasonal_values import SeasonalValues
from recipes.layers.segment_embedding import SegmentEmbedding
from recipes.layers.self_attention import SelfAttention
from recipes.layers.sincos_position import SinCosPosition
from recipes.layers.sinusoid_position import SinusoidPosition
from recipes.layers.standardize import Standardize
from recipes.layers.vector_quantizer import VectorQuantizer
from recipes.layers.weight_drop_lstm import WeightDropLSTM
from recipes.layers.word_dropout import WordDropout

__all__ = [
    "AdaptiveNorm",
    "Bias",
    "BilinearUpsample",
    "CategoryEmbedding",
    "ClassToken",
    "CrossAttention",
    "DropPath",
    "EndToken",
    "EqualizedConv2D",
    "EqualizedDense",
    "FirstToken",
    "FusedBatchNorm",
    "GridPosition",
    "GumbelCodebook",
    "LayerScale",
    "LearnedConstant",
    "LengthMask",
    "LocalResponseNorm",
    "LogitScale",
    "MaskedPool",
    "MinibatchStddev",
    "ModulatedConv2D",
    "NoiseEmbedding",
    "NoiseInjection",
    "PaddingMask",
    "PositionEmbedding",
    "SeasonalValues",
    "SegmentEmbedding",
    "SelfAttention",
    "SinCosPosition",
    "SinusoidPosition",
    "Standardize",
    "VectorQuantizer",
    "WeightDropLSTM",
    "WordDropout",
]
