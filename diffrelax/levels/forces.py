"""Base classes of the calculators of levels of theory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from diffrelax.levels.differences import hessian_by_differences
from diffrelax.levels.side_by_side import Evaluate, relax_side_by_side

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

STEP = 0.005  # Å


class AtLevel:
    """Methods of a level of theory besides energy and forces; a mixin for ASE calculators.

    The defaults need energy and forces only. A subclass is listed by name in
    `diffrelax.levels.calculators.LEVELS`, or by another package as an entry point.
    """

    @classmethod
    def of(cls, molecule: Molecule, **settings: Any) -> Calculator:
        """Build the calculator for a molecule."""
        return cls(molecule, **settings)  # type: ignore[call-arg]

    @classmethod
    def check_installed(cls) -> None:
        """Raise NotInstalledError if a requirement of the level is not installed."""

    @classmethod
    def check_molecule(cls, molecule: Molecule) -> None:
        """Raise InputError if the level cannot describe a molecule."""

    @classmethod
    def for_many(cls) -> Evaluate | None:
        """Return a function that evaluates many molecules in one call, if that is cheaper.

        See `diffrelax.levels.side_by_side.relax_side_by_side`. None: evaluate them one by one.
        """
        return None

    def energy_of(self, atoms: ase.Atoms) -> float:
        """Evaluate the energy alone, eV."""
        return float(self.get_potential_energy(atoms))  # type: ignore[attr-defined]

    def minimise(
        self, molecule: Molecule, fmax: float, max_steps: int
    ) -> tuple[np.ndarray, int | None]:
        """Relax a geometry, by default with BFGS from a model Hessian.

        Parameters
        ----------
        molecule : Molecule
            The molecule that the calculator was built for.
        fmax : float, eV/Å
            Converged when the force on each atom is below this.
        max_steps : int

        Returns
        -------
        (n_atoms, 3) array, Å
            Last geometry, converged or not.
        int or None
            Number of energy-and-force calls, if known.
        """
        atoms = molecule.to_atoms()
        atoms.calc = self

        def alone(_: Any, positions: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
            (atoms.positions,) = positions
            return np.array([atoms.get_potential_energy()]), [atoms.get_forces()]

        (end,) = relax_side_by_side([molecule], alone, fmax=fmax, max_calls=max_steps + 1)
        return end.positions, end.n_calls

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate second derivatives of the energy, by default from differences of the forces.

        Returns
        -------
        (3 n_atoms, 3 n_atoms) array, eV/Å²
            Symmetric.
        """
        moved = atoms.copy()
        moved.calc = self

        def forces(shifts: np.ndarray) -> np.ndarray:
            found = []
            for moved.positions in atoms.positions + shifts:
                found.append(moved.get_forces())
            return np.array(found)

        return hessian_by_differences(forces, len(atoms), STEP)


class ForceCalculator(Calculator):
    """An ASE calculator that evaluates energy and forces together."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    # ASE binds it to each calculator, a reference cycle that keeps the calculator and its folder
    get_spin_polarized = Calculator._deprecated_get_spin_polarized

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy (eV) and forces (eV/Å)."""
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.evaluate()
        self.results = {"energy": energy, "forces": forces}

    @abstractmethod
    def evaluate(self) -> tuple[float, np.ndarray]:
        """Return energy, eV, and forces, (n_atoms, 3), eV/Å, of ``self.atoms``."""
