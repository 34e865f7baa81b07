"""The levels of theory by name, and their calculators."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator

from diffrelax.errors import InputError
from diffrelax.levels.forces import AtLevel
from diffrelax.levels.level import Level
from diffrelax.levels.names import is_composite

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

LEVELS = {  # module and class of each
    "mmff94": "diffrelax.levels.force_field:MMFF94",
    "uff": "diffrelax.levels.force_field:UFF",
    "gfn-ff": "diffrelax.levels.xtb_program:GFNFF",
    "gfn2-xtb": "diffrelax.levels.tight_binding:TightBinding",
    "aimnet2": "diffrelax.levels.aimnet2:AIMNet2",
    "dft": "diffrelax.levels.density_functional:DensityFunctional",
}
CHEAP_LEVELS = tuple(level for level in LEVELS if level != "dft")
GROUP = "diffrelax.levels"  # entry points through which other packages add levels


def get_calculator(level: str, molecule: Molecule, **settings: Any) -> Calculator:
    """Build the ASE calculator of a level of theory for one molecule.

    The calculator is valid for that molecule only: its atoms in their order, its charge,
    multiplicity and bonds. Positions may change from call to call.

    Parameters
    ----------
    level : str
        One of `LEVELS`, or a level that another package adds.
    molecule : Molecule
    **settings
        For ``dft`` see `diffrelax.levels.density_functional.mean_field`. For ``gfn2-xtb``,
        ``program="xtb"`` selects the program xtb; tblite accepts `solvent` and the keyword
        arguments of ``tblite.ase.TBLite``. The other levels have no settings.

    Returns
    -------
    ase.calculators.calculator.Calculator
        Energies in eV, forces in eV/Å; an `AtLevel`.

    Raises
    ------
    InputError
        If the level is unknown, not installed, has no such setting, or cannot describe this
        molecule.
    """
    chosen = level_class(level)
    try:
        return chosen.of(molecule, **settings)
    except TypeError as error:
        raise InputError(f"level {level!r} does not accept these settings: {error}") from error


def level_class(level: str) -> type[AtLevel]:
    """Return the class of a level of theory.

    Raises
    ------
    InputError
        If there is no such level.
    """
    module, _, name = _place(level).partition(":")
    found: type[AtLevel] = getattr(import_module(module), name)
    return found


def check_installed(level: str) -> None:
    """Raise InputError if a level is unknown or not installed."""
    level_class(level).check_installed()


def check_level(level: str) -> None:
    """Raise InputError if there is no such level of theory, installed or not."""
    _place(level)


def check_cheap(level: str) -> None:
    """Raise InputError if there is no such level, or if it is ``dft``, which is not cheap."""
    check_level(level)
    if level == "dft":
        raise InputError(
            "level 'dft' is not a cheap level: use diffrelax.relax_dft or `diffrelax dft`"
        )


def _place(level: str) -> str:
    if level in LEVELS:
        return LEVELS[level]
    for entry in entry_points(group=GROUP):
        if entry.name == level:
            return entry.value
    hint = f": choose one of {', '.join(LEVELS)}"
    meant = Level.parse(level, strict=False)
    if "gfn" in level.lower() or "xtb" in level.lower():
        hint = ": did you mean gfn2-xtb?"
    elif near := get_close_matches(level.lower(), LEVELS, 1, 0.7):
        hint = f": did you mean {near[0]}?"
    elif not [*meant.doubts()] and (meant.basis or is_composite(meant.method)):
        basis = f" and basis {meant.basis}" if meant.basis else ""
        hint = f": for DFT use the level dft, with xc {meant.functional}{basis}"
    raise InputError(f"unknown level of theory {level!r}{hint}")
