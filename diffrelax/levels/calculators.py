"""From the name of a level of theory to a calculator."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator

from diffrelax.errors import InputError
from diffrelax.levels.force_field import ForceField
from diffrelax.levels.level import Level
from diffrelax.levels.names import is_composite

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

LEVELS = {
    "mmff94": "Merck molecular force field (RDKit), needs bonds",
    "uff": "universal force field (RDKit), needs bonds",
    "gfn-ff": "force field of the GFN family, H to Rn (the program xtb)",
    "gfn2-xtb": "extended tight binding, H to Rn (tblite, or the program xtb)",
    "aimnet2": "neural network trained on ωB97M-D3/def2-TZVPP, closed shells (package AcAuto3D)",
    "dft": "Kohn-Sham density functional theory (PySCF): any functional, any basis",
}
CHEAP_LEVELS = tuple(level for level in LEVELS if level != "dft")


def get_calculator(level: str, molecule: Molecule, **settings: Any) -> Calculator:
    """Build the ASE calculator of a level of theory for one molecule.

    The calculator holds for that molecule only: its atoms in their order, its charge, multiplicity
    and bonds. Positions may change from call to call.

    Parameters
    ----------
    level : str
        One of `LEVELS`.
    molecule : Molecule
    **settings
        ``dft``: see `diffrelax.levels.density_functional.mean_field`. ``gfn2-xtb``:
        ``program="xtb"`` for the program xtb, otherwise keyword arguments of
        ``tblite.ase.TBLite``. The other levels have none.

    Returns
    -------
    ase.calculators.calculator.Calculator
        Energies in eV, forces in eV/Å.

    Raises
    ------
    ValueError
        If the level is unknown, not installed, has no such setting, or cannot describe this
        molecule.
    """
    check_level(level)
    try:
        return _calculator(level, molecule, **settings)
    except TypeError as error:
        raise InputError(f"level {level!r} cannot have these settings: {error}") from error


def _calculator(level: str, molecule: Molecule, **settings: Any) -> Calculator:
    if level in ("mmff94", "uff"):
        return ForceField(molecule, level, **settings)
    program = settings.pop("program", "tblite") if level == "gfn2-xtb" else ""
    if program not in ("", "tblite", "xtb"):
        raise InputError(f"unknown program {program!r} of level {level}: tblite or xtb")
    if level == "gfn-ff" or program == "xtb":
        from diffrelax.levels.xtb_program import XTBProgram

        return XTBProgram(molecule, level, **settings)
    if level == "gfn2-xtb":
        from diffrelax.levels.tight_binding import TightBinding

        return TightBinding(molecule, **settings)
    if level == "aimnet2":
        from diffrelax.levels.aimnet2 import AIMNet2

        return AIMNet2(molecule, **settings)
    from diffrelax.levels.density_functional import DensityFunctional, mean_field

    return DensityFunctional(mean_field(molecule, **settings))


def check_installed(level: str) -> None:
    """Raise ValueError, before the work begins, if a level is unknown or not installed."""
    check_level(level)
    if level == "gfn-ff":
        from diffrelax.levels.xtb_program import find_program

        find_program(level)
    if level == "aimnet2":
        from diffrelax.levels.aimnet2 import find_weights

        find_weights()


def check_level(level: str) -> None:
    """Raise ValueError if there is no such level of theory, installed or not."""
    if level in LEVELS:
        return
    hint = f": choose one of {', '.join(LEVELS)}"
    meant = Level.parse(level, strict=False)
    if "gfn" in level.lower() or "xtb" in level.lower():
        hint = ": did you mean gfn2-xtb?"
    elif near := get_close_matches(level.lower(), LEVELS, 1, 0.7):
        hint = f": did you mean {near[0]}?"
    elif not [*meant.doubts()] and (meant.basis or is_composite(meant.method)):
        basis = f" and basis {meant.basis}" if meant.basis else ""
        hint = f": for DFT take the level dft, with xc {meant.functional}{basis}"
    raise InputError(f"unknown level of theory {level!r}{hint}")
