"""Generative models: autoencoders, diffusion, adversarial networks, text to image."""
