"""Recording of the calculations of a relaxation and of checks of its minimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.calculators.calculator import CalculationFailed

from diffrelax.clock import NO_TIME, Time
from diffrelax.dft.hessian import internal_forces
from diffrelax.levels.differences import hessian_by_differences
from diffrelax.levels.forces import ForceCalculator

if TYPE_CHECKING:
    import ase

    from diffrelax.dft.calculator import LevelCalculator
    from diffrelax.dft.prediction import Prediction
    from diffrelax.molecule import Molecule

SAME_POSITIONS = 1e-6  # Å
STEP = 0.01  # Å; forces in outputs of programs have six decimals


class Call(NamedTuple):
    """One gradient call: energy, eV, forces, eV/Å, time, and SCF cycles if known."""

    molecule: Molecule
    energy: float
    forces: np.ndarray
    time: Time
    scf_cycles: int = 0

    @property
    def internal_forces(self) -> np.ndarray:
        """Forces without net translation and rotation, eV/Å."""
        return internal_forces(self.forces, self.molecule.positions)

    @property
    def fmax(self) -> float:
        """Largest internal force on an atom, eV/Å."""
        return float(np.linalg.norm(self.internal_forces, axis=1).max())


class Foreseen(Exception):  # noqa: N818
    """Ends a relaxation at a predicted minimum."""


class Recorder(ForceCalculator):
    """An ASE calculator that records the calls of another one.

    Parameters
    ----------
    molecule : Molecule
    calculator : LevelCalculator
    recorded : sequence of Call
        Calls of an interrupted relaxation, which are replayed as long as the same geometries are
        requested in the same order.
    callback : callable, optional
        Called with each new call, after it is added to ``calls``.
    foresee : callable, optional
        Called with the first call and the positions of the second, unless that is recorded. Its
        prediction ends the relaxation; it may return None.

    Attributes
    ----------
    molecule : Molecule
    calls : list of Call
        Successful calls, including recorded ones.
    time : Time
    scf_cycles : int
        SCF cycles of all calls, including failed ones.
    recalled : Time
        Time of the recorded calls.
    unread : list of Call
        Recorded calls that were not used yet.
    discarded : int
        Number of recorded calls that were dropped because another geometry was requested.
    error : Exception or None
        Error of the callback, to distinguish it from errors of the optimizer.
    prediction : Prediction or None
        Prediction that ended the relaxation.

    Raises
    ------
    Foreseen
        In place of the second call, if its result is predicted.
    ase.calculators.calculator.CalculationFailed
        If two atoms coincide, or the other calculator fails.
    """

    def __init__(
        self,
        molecule: Molecule,
        calculator: LevelCalculator,
        recorded: Sequence[Call] = (),
        callback: Callable[[Call], None] | None = None,
        foresee: Callable[[Call, np.ndarray], Prediction | None] | None = None,
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.time = self.recalled = NO_TIME
        self.scf_cycles = 0
        self.discarded = 0
        self.error: Exception | None = None
        self.prediction: Prediction | None = None
        self.molecule = molecule
        self._calculator = calculator
        self.unread = list(recorded)
        self._callback = callback
        self._foresee = foresee

    def evaluate(self) -> tuple[float, np.ndarray]:
        """Evaluate energy and internal forces, and record the call."""
        if call := self._recall():
            self.time += call.time
            self.recalled += call.time
            self.scf_cycles += call.scf_cycles
        else:
            self._look_ahead()
            call = self._calculate()
            self.calls.append(call)
            self._tell(call)
        return call.energy, call.internal_forces

    def _recall(self) -> Call | None:
        """Use the next recorded call; if its geometry differs, drop the rest."""
        if not self.unread:
            return None
        if _is_at(self.unread[0].molecule.positions, self.atoms):
            self.calls.append(self.unread.pop(0))
            return self.calls[-1]
        self.discarded = len(self.unread)
        self.unread.clear()
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
            molecule = self.molecule.with_positions(self.atoms.positions, start="dft")
        except ValueError as error:
            raise CalculationFailed(str(error)) from error
        started, before = Time.now(), self._cycles_so_far()
        try:
            forces = self._calculator.get_forces(self.atoms)
            energy = float(self._calculator.get_potential_energy(self.atoms))
        except CalculationFailed:
            raise
        except (RuntimeError, ArithmeticError, ValueError) as error:
            raise CalculationFailed(str(error)) from error
        finally:
            time = Time.now() - started
            cycles = self._cycles_so_far() - before
            self.time += time
            self.scf_cycles += cycles
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise CalculationFailed("energy or forces are not finite")
        return Call(molecule, energy, forces.copy(), time, cycles)

    def _cycles_so_far(self) -> int:
        return getattr(self._calculator, "scf_cycles", 0)


class SecondDerivatives(NamedTuple):
    """A Hessian, (3 n_atoms, 3 n_atoms), eV/Å², its positions, (n_atoms, 3), Å, and its time."""

    positions: np.ndarray
    hessian: np.ndarray
    time: Time


class Checker(Recorder):
    """A recorder for checks of minima, with Hessians.

    Parameters
    ----------
    molecule, calculator
        See `Recorder`.
    recorded : sequence of Call
    hessians : sequence of SecondDerivatives
        Calculations of an interrupted check, which are reused at their geometries in any order.
    callback : callable
        Called after each calculation.

    Attributes
    ----------
    calls : list of Call
    hessians : list of SecondDerivatives
        Hessians of the calculator, including recorded ones.
    """

    def __init__(
        self,
        molecule: Molecule,
        calculator: LevelCalculator,
        recorded: Sequence[Call],
        hessians: Sequence[SecondDerivatives],
        callback: Callable[[], None],
    ) -> None:
        super().__init__(molecule, calculator, callback=lambda _: callback())
        self.calls, self.hessians = list(recorded), list(hessians)
        self._after = callback

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Return the Hessian, by differences of forces if there is no analytic one.

        Programs, and some functionals of PySCF, have none.

        Returns
        -------
        (3 n_atoms, 3 n_atoms) array, eV/Å²
            Symmetric.
        """
        for known in self.hessians:
            if _is_at(known.positions, atoms):
                self.recalled += known.time
                return known.hessian
        started = Time.now()
        try:
            hessian = self._calculator.hessian(atoms)
        except NotImplementedError:
            return hessian_by_differences(
                lambda shifts: self._forces(atoms, shifts), len(atoms), STEP
            )
        self.hessians.append(
            SecondDerivatives(atoms.positions.copy(), hessian, Time.now() - started)
        )
        self._after()
        return hessian

    def _recall(self) -> Call | None:
        """Find a recorded call at this geometry."""
        known = (call for call in self.calls if _is_at(call.molecule.positions, self.atoms))
        return next(known, None)

    def _forces(self, atoms: ase.Atoms, shifts: np.ndarray) -> np.ndarray:
        moved, found = atoms.copy(), []
        for shift in shifts:
            moved.positions = atoms.positions + shift
            found.append(self.get_forces(moved))
        return np.array(found)


def _is_at(positions: np.ndarray, atoms: ase.Atoms) -> bool:
    return bool(np.abs(positions - atoms.positions).max() < SAME_POSITIONS)
