"""Hessians of cheap levels, from which optimizers start and by which minima are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffrelax.levels import get_calculator

if TYPE_CHECKING:
    import numpy as np

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
        Of GFN2-xTB.

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
    settings = {"solvent": solvent} if level == "gfn2-xtb" else {}
    calculator = get_calculator(level, molecule, **settings)
    hessian = calculator.hessian(atoms)
    if molecule.n_atoms == 1:  # without forces, and without internal coordinates
        return hessian
    return without_forces(hessian, calculator.get_forces(atoms), atoms)
