"""Counting what a relaxation asks of a calculator."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

Callback = Callable[[int, float, float], None]


class Call(NamedTuple):
    """One energy-and-gradient call: eV, eV/Å."""

    molecule: Molecule
    energy: float
    forces: np.ndarray
    fmax: float


class Recorder(Calculator):
    """An ASE calculator that passes each geometry to another one and keeps the answers.

    Parameters
    ----------
    molecule : Molecule
    calculator : ase.calculators.calculator.Calculator
    callback : callable, optional
        Called as ``callback(number of the call, energy in eV, fmax in eV/Å)``.

    Attributes
    ----------
    calls : list of Call
        The calls that succeeded.
    seconds : float
        Wall time of all calls.

    Raises
    ------
    ase.calculators.calculator.CalculationFailed
        From a call with two atoms in one place, or in which the other calculator fails.
    """

    def __init__(
        self, molecule: Molecule, calculator: Calculator, callback: Callback | None = None
    ) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self.calls: list[Call] = []
        self.seconds = 0.0
        self._molecule = molecule
        self._calculator = calculator
        self._callback = callback

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy and forces together, and record them."""
        super().calculate(atoms, properties, system_changes)
        try:
            molecule = self._molecule.with_positions(self.atoms.positions)
        except ValueError as error:
            raise CalculationFailed(str(error)) from error
        started = perf_counter()
        try:
            forces = self._calculator.get_forces(self.atoms)
            energy = float(self._calculator.get_potential_energy(self.atoms))
        except CalculationFailed:
            raise
        except (RuntimeError, ArithmeticError, ValueError) as error:
            raise CalculationFailed(str(error)) from error
        finally:
            self.seconds += perf_counter() - started
        self.results = {"energy": energy, "forces": forces}
        fmax = float(np.linalg.norm(forces, axis=1).max())
        self.calls.append(Call(molecule, energy, forces.copy(), fmax))
        if self._callback:
            self._callback(len(self.calls), energy, fmax)
