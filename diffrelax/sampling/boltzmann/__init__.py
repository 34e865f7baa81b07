"""Geometries of a molecule at a temperature, by Markov chains."""

from diffrelax.sampling.boltzmann.reweighting import reweight
from diffrelax.sampling.boltzmann.sampling import sample_boltzmann

__all__ = ["reweight", "sample_boltzmann"]
