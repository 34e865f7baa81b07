"""Units in which people are shown energies."""

from ase.units import Hartree, kcal, mol

HARTREE: float = Hartree  # eV
KCAL_PER_MOL = kcal / mol  # eV
