"""Geometries of a molecule at a temperature: Markov chains with the denoiser in their proposals."""

from diffrelax.sampling.boltzmann.reweighting import reweight
from diffrelax.sampling.boltzmann.sampling import sample_boltzmann

__all__ = ["reweight", "sample_boltzmann"]
