"""Builders of networks for sequences and language."""
