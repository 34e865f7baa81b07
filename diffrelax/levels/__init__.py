"""Levels of theory behind one interface: each is an ASE calculator and an `AtLevel`.

Energies are in eV and forces in eV/Å. `get_calculator` builds a calculator for one molecule,
`relax_at_level` relaxes a geometry at a cheap level, and `Surface` evaluates the energies of many
geometries.
"""

from diffrelax.levels.calculators import (
    CHEAP_LEVELS,
    LEVELS,
    check_installed,
    check_level,
    get_calculator,
)
from diffrelax.levels.forces import AtLevel
from diffrelax.levels.level import Level
from diffrelax.levels.minimisation import LevelRelaxation, relax_at_level
from diffrelax.levels.surface import Surface

__all__ = [
    "CHEAP_LEVELS",
    "LEVELS",
    "AtLevel",
    "Level",
    "LevelRelaxation",
    "Surface",
    "check_installed",
    "check_level",
    "get_calculator",
    "relax_at_level",
]
