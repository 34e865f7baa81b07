"""Ensembles: geometries of one molecule with weights at a temperature and a level of theory."""

from diffrelax.sampling.ensemble.provenance import Level, Provenance
from diffrelax.sampling.ensemble.record import Ensemble
from diffrelax.sampling.ensemble.weights import boltzmann_weights, check_temperature

__all__ = ["Ensemble", "Level", "Provenance", "boltzmann_weights", "check_temperature"]
