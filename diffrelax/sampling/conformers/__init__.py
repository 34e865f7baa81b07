"""Conformers: distinct minima at a level of theory, with Boltzmann weights."""

from diffrelax.sampling.conformers.minima import (
    find_starts,
    relax_all,
    relax_conformer,
    sample_conformers,
    weigh,
)
from diffrelax.sampling.conformers.record import Conformer, merge
from diffrelax.sampling.conformers.search import Found, find_conformers

__all__ = [
    "Conformer",
    "Found",
    "find_conformers",
    "find_starts",
    "merge",
    "relax_all",
    "relax_conformer",
    "sample_conformers",
    "weigh",
]
