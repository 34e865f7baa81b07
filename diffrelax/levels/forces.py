"""What calculators of energies and forces have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class ForceCalculator(Calculator):
    """An ASE calculator that evaluates energy and forces together."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    # ASE would bind it to each calculator, which then held itself, and its folder, in memory
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
