"""Geometries of a molecule at a temperature: Markov chains with the denoiser in their proposals."""
