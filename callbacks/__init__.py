"""Callbacks: learning-rate schedules, the range test, the average of the weights, pictures of samples."""

if __name__ == "callbacks":
    raise ImportError("import recipes.callbacks, not callbacks")

from recipes.callbacks.collapse_monitor import CollapseMonitor
from recipes.callbacks.curve import ScheduledRate
from recipes.callbacks.cycles import CosineRestarts, OneCycle
from recipes.callbacks.ema import ExponentialMovingAverage
from recipes.callbacks.ema_weights import EMAWeights
from recipes.callbacks.kl_annealing import KLAnnealing
from recipes.callbacks.lr_finder import LRFinder, RangeTest
from recipes.callbacks.sample_grid import SampleGrid, save_grid
from recipes.callbacks.schedule import Schedule
from recipes.callbacks.warmup import (
    WarmupConstant,
    WarmupCosine,
    WarmupExponential,
    WarmupInverseSqrt,
    WarmupLinear,
    WarmupStableDecay,
)

__all__ = [
    "CollapseMonitor",
    "CosineRestarts",
    "EMAWeights",
    "ExponentialMovingAverage",
    "KLAnnealing",
    "LRFinder",
    "OneCycle",
    "RangeTest",
    "SampleGrid",
    "Schedule",
    "ScheduledRate",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupExponential",
    "WarmupInverseSqrt",
    "WarmupLinear",
    "WarmupStableDecay",
    "save_grid",
]
