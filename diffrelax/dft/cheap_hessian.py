"""Hessians of cheap levels, for the start of optimizers and for checks of minima."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffrelax.levels import get_calculator

if TYPE_CHECKING:
    import numpy as np

    from diffrelax.molecule import Molecule


def cheap_hessian(molecule: Molecule, level: str, solvent: str = "") -> np.ndarray:
    """Evaluate the Hessian of a cheap level without the contribution of its forces.

    At a minimum of another level, the forces of the cheap level do not vanish.

    Parameters
    ----------
    molecule : Molecule
    level : str
        One of `diffrelax.levels.CHEAP_LEVELS`, or one that another package adds.
    solvent : str
        Solvent of GFN2-xTB; other levels ignore it.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        See `diffrelax.dft.optimizers.internal.without_forces`.

    Raises
    ------
    RuntimeError, ValueError
        If the level cannot calculate it.
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
    """Return the Hessian of a level; if that fails, the Hessian of GFN2-xTB; otherwise None.

    Parameters are those of `cheap_hessian`; the level ``"none"`` gives None.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å², or None
    tuple of str
        Notes on why another Hessian is used.
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
