"""Optimizers, losses, `fit`, transfer learning and saving."""
