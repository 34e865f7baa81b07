"""Levels of theory behind one interface: each is an ASE calculator.

Energies are in eV and forces in eV/Å. `get_calculator` builds a calculator for one molecule;
`relax_at_level` relaxes a geometry at one of the cheap levels.
"""

from diffrelax.levels.calculators import LEVELS, check_installed, get_calculator
from diffrelax.levels.relaxation import LevelRelaxation, relax_at_level

__all__ = ["LEVELS", "LevelRelaxation", "check_installed", "get_calculator", "relax_at_level"]
