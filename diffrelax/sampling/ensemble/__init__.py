"""Ensembles: geometries of one molecule with weights at a temperature and a level of theory."""

from diffrelax.sampling.ensemble.provenance import EnsembleProvenance, LevelSettings
from diffrelax.sampling.ensemble.record import Ensemble
from diffrelax.sampling.ensemble.weights import boltzmann_weights, check_temperature

__all__ = [
    "Ensemble",
    "EnsembleProvenance",
    "LevelSettings",
    "boltzmann_weights",
    "check_temperature",
]
