"""GFN2-xTB as an ASE calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ase
from ase.calculators.calculator import all_changes
from tblite.ase import TBLite
from threadpoolctl import ThreadpoolController

from diffrelax.levels.xtb_program import check_heaviest

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule


class TightBinding(TBLite):
    """tblite's own ASE calculator, kept to one thread.

    More threads do not help molecules of this size, and where the cores are shared they make
    tblite slower by orders of magnitude (waiting threads spin).

    Parameters
    ----------
    molecule : Molecule
        Its charge and multiplicity are used.
    **settings
        Keyword arguments of ``tblite.ase.TBLite``.

    Raises
    ------
    ValueError
        If there is an element beyond Rn.
    """

    def __init__(self, molecule: Molecule, **settings: Any) -> None:
        check_heaviest(molecule, "gfn2-xtb")
        super().__init__(
            method="GFN2-xTB",
            charge=molecule.charge,
            multiplicity=molecule.multiplicity,
            verbosity=0,
            **settings,
        )
        self._threads = ThreadpoolController()

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy (eV), forces (eV/Å) and the other properties that tblite has."""
        with self._threads.limit(limits=1, user_api="openmp"):
            super().calculate(atoms, properties, system_changes)
