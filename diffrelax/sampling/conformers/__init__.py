"""Conformers: distinct minima at a level of theory, with Boltzmann weights."""

from diffrelax.sampling.conformers.minima import (
    relax_conformer,
    sample_conformers,
    searched_by,
    weigh,
)
from diffrelax.sampling.conformers.record import Conformer, merge
from diffrelax.sampling.conformers.starts import find_starts

__all__ = [
    "Conformer",
    "find_starts",
    "merge",
    "relax_conformer",
    "sample_conformers",
    "searched_by",
    "weigh",
]
