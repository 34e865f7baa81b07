"""Conformers: distinct minima at a level of theory, with Boltzmann weights."""

from diffrelax.conformers.minima import relax_conformer, sample_conformers, searched_by, weigh
from diffrelax.conformers.record import Conformer, merge
from diffrelax.conformers.starts import find_starts

__all__ = [
    "Conformer",
    "find_starts",
    "merge",
    "relax_conformer",
    "sample_conformers",
    "searched_by",
    "weigh",
]
