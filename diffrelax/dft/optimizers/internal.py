"""Relaxation in internal coordinates with geomeTRIC."""

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
NO_STEP_LIMIT = 10**9  # ASE limits the number of steps
# geomeTRIC's default thresholds (Wang and Song 2016, doi 10.1063/1.4952956): Eh, Eh/Bohr and Å
GEOMETRIC_THRESHOLDS = {
    "energy": 1e-6,
    "grms": 3e-4,
    "gmax": 4.5e-4,
    "drms": 1.2e-3,
    "dmax": 1.8e-3,
}


class TRIC(HessianOptimizer):
    """An ASE optimizer in translation-rotation-internal coordinates, with a cheap start Hessian.

    Coordinates and steps are those of geomeTRIC (Wang and Song 2016, doi 10.1063/1.4952956):
    rotations about bonds are straight lines in them and do not stretch other bonds. Without a start
    Hessian geomeTRIC guesses one.

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
        """Return the smallest curvature of the start Hessian, eV/Å².

        It is low because a long step along a soft mode is a rotation about a bond.
        """
        return 0.1

    def initialize(self) -> None:
        """Reset the optimizer."""
        self._steps: Steps | None = None
        self._evaluated = -1  # last step whose forces geomeTRIC has

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
        """Return geomeTRIC's thresholds; a gradient of 0 leaves the decision to ASE."""
        return GEOMETRIC_THRESHOLDS | {"gmax": 0.0}

    def _evaluate(self) -> None:
        """Pass energy and forces after the last step to geomeTRIC, once."""
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
        """Return the inverse of the transformation in `_guessing`, eV/Å²."""
        assert self._steps is not None
        from_internal = self._steps.IC.wilsonB(self._steps.X)
        return from_internal.T @ self._steps.H @ from_internal * Hartree / Bohr**2


class GeomeTRIC(TRIC):
    """`TRIC` with all five criteria of geomeTRIC."""

    newton = same_path = False

    @classmethod
    def criterion(cls, fmax: float) -> str:
        """Describe the stopping criterion."""
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
        """Whether geomeTRIC has converged; at least one step is made."""
        with _silence():
            self._evaluate()
        assert self._steps is not None
        return bool(self._steps.state == OPT_STATE.CONVERGED)


def geometric_thresholds(fmax: float) -> dict[str, float]:
    """Return geomeTRIC's thresholds; gradients are tightened to ``fmax``, eV/Å."""
    largest = fmax * Bohr / Hartree
    default = GEOMETRIC_THRESHOLDS
    return default | {
        "gmax": min(default["gmax"], largest),
        "grms": min(default["grms"], largest * default["grms"] / default["gmax"]),
    }


class _Engine:
    """Energies and gradients for geomeTRIC, in atomic units.

    geomeTRIC shortens its steps if the energy does not decrease as expected. Near a minimum, errors
    of integration grids are larger than this decrease, and steps would become shorter and shorter.
    Energy differences below the noise are therefore replaced by the work of the forces.
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
        """Do nothing: ASE keeps only the last calculation."""

    def save_guess_files(self, _: str) -> None:
        """Do nothing: there are no files."""

    load_guess_files = save_guess_files


def _system(atoms: ase.Atoms) -> Molecule:
    system = Molecule()
    system.elem, system.xyzs = atoms.get_chemical_symbols(), [atoms.positions.copy()]
    return system


def without_forces(hessian: np.ndarray, forces: np.ndarray, atoms: ase.Atoms) -> np.ndarray:
    """Subtract the contribution of the forces from a Cartesian Hessian.

    A force along a bond adds to the curvature of all motions that rotate it. At a minimum of
    another level the forces of a cheap level do not vanish; without them, its Hessian is closer to
    that of its own minimum. The result is the second derivative in redundant internal coordinates,
    whose forces are the minimum-norm solution.

    Parameters
    ----------
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å²
    forces : (n_atoms, 3) array, eV/Å
    atoms : ase.Atoms

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        Without curvature along rigid motions.
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
    """Return a class of coordinates whose guessed Hessian is a given one, in eV/Å².

    For a given Hessian, geomeTRIC subtracts the contribution of the forces. If the result is not
    positive definite, or an update fails, geomeTRIC falls back to a rough guess. It builds new
    coordinates from the class of the old ones.
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
