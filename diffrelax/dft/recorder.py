"""Counting what a relaxation asks of a calculator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from diffrelax.clock import NO_TIME, Time

if TYPE_CHECKING:
    from diffrelax.dft.prediction import Prediction
    from diffrelax.molecule import Molecule

SAME_POSITIONS = 1e-6  # Å


class Call(NamedTuple):
    """One energy-and-gradient call: eV, eV/Å, and the time it took."""

    molecule: Molecule
    energy: float
    forces: np.ndarray
    time: Time

    @property
    def fmax(self) -> float:
        """Largest force on an atom, eV/Å."""
        return float(np.linalg.norm(self.forces, axis=1).max())

    @property
    def rms_force(self) -> float:
        """Root mean square over the atoms of the force on one, eV/Å."""
        return float(np.sqrt((self.forces**2).sum(axis=1).mean()))


class Foreseen(Exception):  # noqa: N818
    """Ends a relaxation at a geometry that is predicted well enough to need no call."""


class Recorder(Calculator):
    """An ASE calculator that passes each geometry to another one and keeps the answers.

    Parameters
    ----------
    molecule : Molecule
    calculator : ase.calculators.calculator.Calculator
    recorded : sequence of Call
        Of an earlier life: they answer, without a calculation, for as long as the same geometries
        are asked for in the same order.
    callback : callable, optional
        Called with each call that was calculated, when it stands in ``calls``.
    foresee : callable, optional
        Called with the first call and the positions of the second, unless that is recorded. What
        it predicts is the end; it may return None.

    Attributes
    ----------
    calls : list of Call
        The calls that succeeded, recorded ones included.
    time : Time
        Of all calls, failed ones included.
    discarded : int
        Recorded calls that did not answer, because another geometry was asked for.
    error : Exception or None
        From the callback, for optimizers that would take it for an error of their own.
    prediction : Prediction or None
        That ended the relaxation.

    Raises
    ------
    Foreseen
        In place of the second call, where its outcome is predicted.
    ase.calculators.calculator.CalculationFailed
        From a call with two atoms in one place, or in which the other calculator fails.
    """

    def __init__(
        self,
        molecule: Molecule,
        calculator: Calculator,
        recorded: Sequence[Call] = (),
        callback: Callable[[Call], None] | None = None,
        foresee: Callable[[Call, np.ndarray], Prediction | None] | None = None,
    ) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self.calls: list[Call] = []
        self.time = NO_TIME
        self.discarded = 0
        self.error: Exception | None = None
        self.prediction: Prediction | None = None
        self._molecule = molecule
        self._calculator = calculator
        self._recorded = list(recorded)
        self._callback = callback
        self._foresee = foresee

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy and forces together, and record them."""
        super().calculate(atoms, properties, system_changes)
        if call := self._recall():
            self.time += call.time
            self.calls.append(call)
        else:
            self._look_ahead()
            call = self._calculate()
            self.calls.append(call)
            self._tell(call)
        self.results = {"energy": call.energy, "forces": call.forces.copy()}

    def _recall(self) -> Call | None:
        """Take the next recorded call; one of another geometry ends the record."""
        if not self._recorded:
            return None
        call = self._recorded.pop(0)
        if np.abs(call.molecule.positions - self.atoms.positions).max() < SAME_POSITIONS:
            return call
        self.discarded = len(self._recorded) + 1
        self._recorded.clear()
        return None

    def _look_ahead(self) -> None:
        if self._foresee and len(self.calls) == 1:
            self.prediction = self._foresee(self.calls[0], self.atoms.positions)
            if self.prediction:
                raise Foreseen

    def _tell(self, call: Call) -> None:
        if self._callback:
            try:
                self._callback(call)
            except Exception as error:
                self.error = error
                raise

    def _calculate(self) -> Call:
        try:
            molecule = self._molecule.with_positions(self.atoms.positions, start="dft")
        except ValueError as error:
            raise CalculationFailed(str(error)) from error
        started = Time.now()
        try:
            forces = self._calculator.get_forces(self.atoms)
            energy = float(self._calculator.get_potential_energy(self.atoms))
        except CalculationFailed:
            raise
        except (RuntimeError, ArithmeticError, ValueError) as error:
            raise CalculationFailed(str(error)) from error
        finally:
            time = Time.now() - started
            self.time += time
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise CalculationFailed("energy or forces are not finite")
        return Call(molecule, energy, forces.copy(), time)
