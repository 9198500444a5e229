"""Callbacks: learning-rate schedules and the range test."""

if __name__ == "callbacks":
    raise ImportError("import recipes.callbacks, not callbacks")

from recipes.callbacks.curve import ScheduledRate
from recipes.callbacks.cycles import CosineRestarts, OneCycle
from recipes.callbacks.lr_finder import LRFinder, RangeTest
from recipes.callbacks.schedule import Schedule
from recipes.callbacks.warmup import WarmupConstant, WarmupCosine, WarmupLinear, WarmupStableDecay

__all__ = [
    "CosineRestarts",
    "LRFinder",
    "OneCycle",
    "RangeTest",
    "Schedule",
    "ScheduledRate",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupStableDecay",
]
