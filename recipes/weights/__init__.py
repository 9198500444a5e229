"""Weights that other libraries wrote: reading their files safely, and giving them to a model all or nothing.

`read_state_dict("lite0.pth")` is a dict of name to array. torch is not needed, and nothing in the file is executed.
"""

from recipes.weights.assigning import assign, load
from recipes.weights.errors import UnsafeFileError
from recipes.weights.reading import read_shapes, read_state_dict

__all__ = ["UnsafeFileError", "assign", "load", "read_shapes", "read_state_dict"]
