"""What calculators of energies and forces have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class ForceCalculator(Calculator):
    """An ASE calculator that evaluates energy and forces together."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

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


def hessian_by_differences(
    forces: Callable[[np.ndarray], np.ndarray], n_atoms: int, step: float
) -> np.ndarray:
    """Move each coordinate up and down, and divide the change of the forces by the way.

    Parameters
    ----------
    forces : callable
        Takes displacements, (n, n_atoms, 3), Å, and returns the forces there, eV/Å, as an array of
        the same shape.
    n_atoms : int
    step : float, Å

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        Symmetric.
    """
    shifts = step * np.eye(3 * n_atoms).reshape(-1, n_atoms, 3)
    hessian = (forces(-shifts) - forces(shifts)).reshape(len(shifts), -1) / (2 * step)
    return (hessian + hessian.T) / 2
