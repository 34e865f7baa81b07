"""Hessians of cheap levels, from which optimizers start and by which minima are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffrelax.levels import get_calculator

if TYPE_CHECKING:
    import numpy as np

    from diffrelax.molecule import Molecule


def cheap_hessian(molecule: Molecule, level: str, solvent: str = "") -> np.ndarray:
    """Second derivatives of the energy of a cheap level, without what its forces add to them.

    Near a minimum of another level they add what that level does not have.

    Parameters
    ----------
    molecule : Molecule
    level : str
        One of `diffrelax.levels.CHEAP_LEVELS`, or one that another package adds.
    solvent : str
        Of GFN2-xTB.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        See `diffrelax.dft.optimizers.internal.without_forces`.

    Raises
    ------
    RuntimeError, ValueError
        If the level cannot give them.
    """
    from diffrelax.dft.optimizers.internal import without_forces  # takes half a second

    atoms = molecule.to_atoms()
    settings = {"solvent": solvent} if level == "gfn2-xtb" else {}
    calculator = get_calculator(level, molecule, **settings)
    hessian = calculator.hessian(atoms)
    if molecule.n_atoms == 1:  # without forces, and without internal coordinates
        return hessian
    return without_forces(hessian, calculator.get_forces(atoms), atoms)


def hessian_at(
    molecule: Molecule, level: str, solvent: str = ""
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the Hessian of a level, where it cannot give one that of GFN2-xTB, or None.

    Parameters are those of `cheap_hessian`; of the level ``"none"`` there is none.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å², or None
    tuple of str
        Why it is not that of the level.
    """
    if level == "none":
        return None, ()
    levels = list(dict.fromkeys((level, "gfn2-xtb")))
    others = [*(f"that of {other}" for other in levels[1:]), "the optimizer's own guess"]
    notes: tuple[str, ...] = ()
    for one, other in zip(levels, others, strict=True):
        try:
            return cheap_hessian(molecule, one, solvent), notes
        except (RuntimeError, ValueError) as error:
            notes += (f"no {one} Hessian, {other} instead: {error}",)
    return None, notes
