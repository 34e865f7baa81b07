"""Relaxation in internal coordinates, by geomeTRIC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any

import ase
import numpy as np
from ase.units import Bohr, Hartree
from geometric.errors import Error
from geometric.internal import DelocalizedInternalCoordinates, PrimitiveInternalCoordinates
from geometric.molecule import Molecule
from geometric.nifty import logger
from geometric.optimize import OPT_STATE, OptParams
from geometric.optimize import Optimizer as Steps
from geometric.prepare import parse_constraints

from diffrelax.dft.optimizers.base import HessianOptimizer
from diffrelax.errors import UnfinishedError

FORCE_NOISE = 1e-4  # eV; error of an energy difference from integration grids and SCF
NO_STEP_LIMIT = 10**9  # steps: their number is limited by ASE
# geomeTRIC's default thresholds (Wang and Song 2016, doi 10.1063/1.4952956): Eh, Eh/Bohr and Å
GEOMETRIC_THRESHOLDS = {
    "energy": 1e-6,
    "grms": 3e-4,
    "gmax": 4.5e-4,
    "drms": 1.2e-3,
    "dmax": 1.8e-3,
}


class TRIC(HessianOptimizer):
    """An ASE optimizer in translation-rotation-internal coordinates from a cheap Hessian.

    The coordinates and steps are geomeTRIC's (Wang and Song 2016, doi 10.1063/1.4952956): turns
    about bonds are straight lines in them and do not stretch the bonds beside them. Without a
    start Hessian geomeTRIC guesses one.

    Parameters, attributes and errors are those of
    `diffrelax.dft.optimizers.base.HessianOptimizer`.

    Examples
    --------
    >>> from diffrelax import TRIC
    >>> TRIC(atoms).run(fmax=0.03)  # doctest: +SKIP
    """

    newton = same_path = True

    @classmethod
    def softest(cls, fmax: float) -> float:
        """Return the least curvature of the start Hessian, eV/Å².

        It is low, as a long step along a soft mode is a turn about a bond.
        """
        return 0.1

    def initialize(self) -> None:
        """Forget the steps that were made."""
        self._steps: Steps | None = None
        self._evaluated = -1  # number of the last step of which geomeTRIC has the forces

    def step(self) -> None:
        """Move the atoms by one step."""
        with _silence():
            try:
                self._evaluate()
                assert self._steps is not None
                self._steps.state = OPT_STATE.SKIP_EVALUATION
                while self._steps.state == OPT_STATE.SKIP_EVALUATION:
                    self._steps.step()
            except Error as error:
                raise UnfinishedError(str(error)) from error
        self.atoms.set_positions(self._steps.X.reshape(-1, 3) * Bohr)

    def thresholds(self) -> dict[str, float]:
        """Return geomeTRIC's thresholds; ASE's largest force decides alone."""
        return GEOMETRIC_THRESHOLDS | {"gmax": 0.0}

    def _evaluate(self) -> None:
        """Let geomeTRIC have the energy and the forces after the last step, once."""
        if self._evaluated == self.nsteps:
            return
        if self._steps is None:
            self._steps = self._first()
            self._steps.calcEnergyForce()
            self._steps.prepareFirstStep()
        else:
            for name, limit in self.thresholds().items():
                setattr(self._steps.params, f"Convergence_{name}", limit)
            self._steps.calcEnergyForce()
            self._steps.evaluateStep()
            self.dump(self._cartesian_hessian())
        self._evaluated = self.nsteps

    def _first(self) -> Steps:
        if len(self.atoms) == 1:
            raise UnfinishedError("a single atom has no internal coordinates to relax")
        hessian = self.start_hessian()
        kind = DelocalizedInternalCoordinates if hessian is None else _guessing(hessian)
        system, fixed = _system(self.atoms), {}
        if len(self.fixed_atoms):
            lines = (f"xyz {atom + 1}" for atom in self.fixed_atoms)
            constraints, values = parse_constraints(system, "\n".join(("$freeze", *lines)))
            fixed = {"constraints": constraints, "cvals": values[0], "conmethod": 1}
        coordinates = kind(system, build=True, connect=False, addcart=False, **fixed)
        start = self.atoms.positions.ravel() / Bohr
        engine, parameters = _Engine(self.atoms), OptParams(maxiter=NO_STEP_LIMIT)
        return Steps(start, system, coordinates, engine, "", parameters)

    def _cartesian_hessian(self) -> np.ndarray:
        """Return the Hessian of which `_guessing` makes that of geomeTRIC, eV/Å²."""
        assert self._steps is not None
        from_internal = self._steps.IC.wilsonB(self._steps.X)
        return from_internal.T @ self._steps.H @ from_internal * Hartree / Bohr**2


class GeomeTRIC(TRIC):
    """As `TRIC`, until all five criteria of geomeTRIC are met."""

    newton = same_path = False

    @classmethod
    def criterion(cls, fmax: float) -> str:
        """Say in words when this optimizer stops."""
        limits = geometric_thresholds(fmax)
        return (
            f"geomeTRIC: energy change < {limits['energy']:.2g} Eh, "
            f"rms and largest gradient < {limits['grms']:.2g} and {limits['gmax']:.2g} Eh/Bohr, "
            f"rms and largest displacement < {limits['drms']:.2g} and {limits['dmax']:.2g} Å"
        )

    def thresholds(self) -> dict[str, float]:
        """Return geomeTRIC's thresholds, see `geometric_thresholds`."""
        return geometric_thresholds(self.fmax)

    def gradient_converged(self, gradient: np.ndarray) -> bool:
        """Whether geomeTRIC has converged, after one step at least."""
        with _silence():
            self._evaluate()
        assert self._steps is not None
        return bool(self._steps.state == OPT_STATE.CONVERGED)


def geometric_thresholds(fmax: float) -> dict[str, float]:
    """Return geomeTRIC's thresholds, those of the gradient tightened to a largest force in eV/Å."""
    largest = fmax * Bohr / Hartree
    default = GEOMETRIC_THRESHOLDS
    return default | {
        "gmax": min(default["gmax"], largest),
        "grms": min(default["grms"], largest * default["grms"] / default["gmax"]),
    }


class _Engine:
    """What geomeTRIC asks for energies and gradients, in atomic units.

    geomeTRIC shortens its steps where the energy does not fall as expected. Near a minimum the
    errors of integration grids hide how it falls, and steps would become ever shorter. Differences
    of energies below their noise are therefore those of the forces along the way.
    """

    def __init__(self, atoms: ase.Atoms) -> None:
        self._atoms = atoms
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None
        self._correction = 0.0  # Eh

    def calc(self, coords: np.ndarray, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the energy and the gradient at the positions of the atoms."""
        gradient = -self._atoms.get_forces().ravel() / Hartree * Bohr
        energy = self._atoms.get_potential_energy() / Hartree
        if self._last:
            last_coords, last_energy, last_gradient = self._last
            change = energy - last_energy
            by_forces = (gradient + last_gradient) @ (coords - last_coords) / 2
            if max(abs(change), abs(by_forces)) * Hartree < FORCE_NOISE:
                self._correction += by_forces - change
        self._last = coords.copy(), energy, gradient
        return {"energy": energy + self._correction, "gradient": gradient}

    def clearCalcs(self) -> None:  # noqa: N802
        """Do nothing: ASE keeps the last calculation alone."""

    def save_guess_files(self, _: str) -> None:
        """Do nothing: there are no files."""

    load_guess_files = save_guess_files


def _system(atoms: ase.Atoms) -> Molecule:
    system = Molecule()
    system.elem, system.xyzs = atoms.get_chemical_symbols(), [atoms.positions.copy()]
    return system


def without_forces(hessian: np.ndarray, forces: np.ndarray, atoms: ase.Atoms) -> np.ndarray:
    """Take from a Hessian what forces add to it in Cartesian coordinates.

    A force along a bond adds to the curvature of all motions that turn it. Near the minimum of
    another level the forces of a cheap level do not vanish; without them, its Hessian is closer to
    the one at its own minimum. That is the second derivative in internal coordinates, redundant
    ones here, whose forces are then the least that give those of the atoms.

    Parameters
    ----------
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å²
    forces : (n_atoms, 3) array, eV/Å
    atoms : ase.Atoms

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        Rigid motions have none.
    """
    coords = atoms.positions.ravel() / Bohr
    added = np.zeros_like(hessian)
    with _silence():
        internal = PrimitiveInternalCoordinates(
            _system(atoms), build=True, connect=False, addcart=False
        )
        slopes = internal.calcGrad(coords, -forces.ravel() * Bohr / Hartree)
        for slope, one in zip(slopes, internal.Internals, strict=True):
            added += slope * one.second_derivative(coords).reshape(added.shape)
    return hessian - added * Hartree / Bohr**2


def _guessing(hessian: np.ndarray) -> type[DelocalizedInternalCoordinates]:
    """Return coordinates whose guess of the Hessian is a given one, in eV/Å².

    geomeTRIC itself subtracts from a given Hessian what the forces add to it in curved
    coordinates. That need not leave it positive, and then geomeTRIC takes a rough guess of its own,
    as it does where an update fails. It makes new coordinates from the class of the old.
    """
    cartesian = hessian * Bohr**2 / Hartree

    class Guessing(DelocalizedInternalCoordinates):
        def guess_hessian(self, coords: np.ndarray) -> np.ndarray:
            flat = coords.ravel()
            to_internal: np.ndarray = self.GInverse(flat) @ self.wilsonB(flat)
            return to_internal @ cartesian @ to_internal.T

    return Guessing


@contextmanager
def _silence() -> Iterator[None]:
    level = logger.level
    logger.setLevel(CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
