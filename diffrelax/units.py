"""Units that ASE does not name."""

from ase.units import kcal, mol

KCAL_PER_MOL = kcal / mol  # eV
