"""Geometries of a molecule at a temperature: Markov chains, or repeated denoising."""

from diffrelax.sampling.boltzmann.reweighting import reweight
from diffrelax.sampling.boltzmann.sampling import sample_boltzmann

__all__ = ["reweight", "sample_boltzmann"]
