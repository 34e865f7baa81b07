"""Energy units for printed values."""

from ase.units import Hartree, kcal, mol

HARTREE: float = Hartree  # eV
KCAL_PER_MOL = kcal / mol  # eV
