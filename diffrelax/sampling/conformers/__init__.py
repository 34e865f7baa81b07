"""Conformers: distinct minima at a level of theory, with Boltzmann weights."""

from diffrelax.sampling.conformers.funnel import Funnel, sort_out
from diffrelax.sampling.conformers.minima import (
    choose_level,
    find_starts,
    sample_conformers,
    weigh,
)
from diffrelax.sampling.conformers.record import (
    Conformer,
    merge,
    read_conformer,
    write_conformer,
)
from diffrelax.sampling.conformers.search import Found, find_conformers

__all__ = [
    "Conformer",
    "Found",
    "Funnel",
    "choose_level",
    "find_conformers",
    "find_starts",
    "merge",
    "read_conformer",
    "sample_conformers",
    "sort_out",
    "weigh",
    "write_conformer",
]
