"""Hessians of cheap levels, from which optimizers start and by which minima are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffrelax.levels import get_calculator
from diffrelax.levels.tight_binding import gfn2_hessian

if TYPE_CHECKING:
    import numpy as np
    from ase.calculators.calculator import Calculator

    from diffrelax.choices import CheapHessian
    from diffrelax.molecule import Molecule


def cheap_hessian(molecule: Molecule, level: CheapHessian, solvent: str = "") -> np.ndarray:
    """Second derivatives of the energy of a cheap level, without what its forces add to them.

    Near a minimum of another level they add what that level does not have. Of 50 drug-like
    validation molecules with AIMNet2 in place of DFT, relaxed by `tric` from the model to 0.03
    eV/Å, GFN2-xTB's Hessian takes 4.5 calls on average with it and 4.0 without; from MMFF94 5.9 and
    6.1, from its own minima 4.6 both ways.

    Parameters
    ----------
    molecule : Molecule
    level : {"gfn2-xtb", "aimnet2"}
    solvent : str
        Of GFN2-xTB, see `gfn2`.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        See `diffrelax.dft.internal.without_forces`.

    Raises
    ------
    RuntimeError, ValueError
        If the level cannot give them.
    """
    from diffrelax.dft.internal import without_forces  # takes half a second

    atoms = molecule.to_atoms()
    if level == "aimnet2":
        from diffrelax.levels.aimnet2 import AIMNet2  # torch is slow to import

        calculator: Calculator = AIMNet2(molecule)
        hessian = calculator.hessian(atoms)
    else:
        calculator = gfn2(molecule, solvent)
        hessian = gfn2_hessian(molecule, solvent)
    if molecule.n_atoms == 1:  # without forces, and without internal coordinates
        return hessian
    return without_forces(hessian, calculator.get_forces(atoms), atoms)


def gfn2(molecule: Molecule, solvent: str) -> Calculator:
    """Return GFN2-xTB for a molecule, in a generalized Born solvent unless that is empty."""
    if not solvent:
        return get_calculator("gfn2-xtb", molecule)
    from diffrelax.levels.solvents import born_solvation  # takes PySCF

    return get_calculator("gfn2-xtb", molecule, solvation=[*born_solvation(solvent)])
