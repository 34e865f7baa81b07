"""GFN2-xTB by tblite: an ASE calculator, and second derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import all_changes
from ase.units import Bohr, Hartree
from threadpoolctl import ThreadpoolController

from diffrelax.errors import InputError
from diffrelax.extras import NotInstalledError
from diffrelax.levels.differences import hessian_by_differences
from diffrelax.levels.forces import STEP, AtLevel
from diffrelax.levels.xtb_program import XTBProgram, check_heaviest

try:
    from tblite.ase import TBLite
    from tblite.interface import Calculator
except ModuleNotFoundError as error:
    raise NotInstalledError(
        "gfn2-xtb needs tblite, which is not installed: pip install tblite, on Windows "
        "conda install -c conda-forge tblite-python"
    ) from error

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule


class TightBinding(AtLevel, TBLite):
    """tblite's ASE calculator, limited to one thread.

    More threads do not help molecules of this size, and make tblite much slower if other processes
    use the cores (waiting threads spin).

    Parameters
    ----------
    molecule : Molecule
        Its charge and multiplicity are used.
    solvent : str
        See `diffrelax.levels.solvents`; its dielectric constant is used in the generalized Born
        model. Empty in the gas phase.
    **settings
        Keyword arguments of ``tblite.ase.TBLite``.

    Raises
    ------
    ValueError
        If there is an element beyond Rn.
    """

    def __init__(self, molecule: Molecule, *, solvent: str = "", **settings: Any) -> None:
        check_heaviest(molecule, "gfn2-xtb")
        if solvent:
            from diffrelax.levels.solvents import born_solvation  # imports PySCF

            settings["solvation"] = [*born_solvation(solvent)]
        super().__init__(
            method="GFN2-xTB",
            charge=molecule.charge,
            multiplicity=molecule.multiplicity,
            verbosity=0,
            **settings,
        )
        self._threads = ThreadpoolController()

    @classmethod
    def of(cls, molecule: Molecule, *, program: str = "tblite", **settings: Any) -> ASECalculator:
        """Build the calculator for a molecule, with tblite or the program xtb."""
        if program == "xtb":
            return XTBProgram(molecule, "gfn2-xtb", **settings)
        if program != "tblite":
            raise InputError(f"unknown program {program!r} of level gfn2-xtb: tblite or xtb")
        return cls(molecule, **settings)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy (eV), forces (eV/Å) and the other properties of tblite."""
        with self._threads.limit(limits=1, user_api="openmp"):
            super().calculate(atoms, properties, system_changes)

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate second derivatives of the energy by central differences of its gradient.

        Each displaced calculation starts from the converged density of the given geometry.

        Returns
        -------
        (3 n_atoms, 3 n_atoms) array, eV/Å²
            Symmetric.

        Raises
        ------
        RuntimeError
            If GFN2-xTB lacks an element or its SCF does not converge.
        """
        parameters = self.parameters
        with self._threads.limit(limits=1, user_api="openmp"):
            calculator = Calculator(
                "GFN2-xTB",
                atoms.numbers,
                atoms.positions / Bohr,
                float(parameters.charge),
                parameters.multiplicity - 1,
            )
            calculator.set("verbosity", 0)
            if parameters.solvation:
                model, *arguments = parameters.solvation
                calculator.add(f"{model}-solvation", *arguments)
            reference = calculator.singlepoint()

            def forces(shifts: np.ndarray) -> np.ndarray:
                gradients = []
                for positions in atoms.positions + shifts:
                    calculator.update(positions=positions / Bohr)
                    gradients.append(calculator.singlepoint(reference, copy=True).get("gradient"))
                return -np.array(gradients) * Hartree / Bohr

            return hessian_by_differences(forces, len(atoms), STEP)


def gfn2_hessian(molecule: Molecule, solvent: str = "") -> np.ndarray:
    """Return GFN2-xTB's second derivatives for a molecule, see `TightBinding`."""
    return TightBinding(molecule, solvent=solvent).hessian(molecule.to_atoms())
