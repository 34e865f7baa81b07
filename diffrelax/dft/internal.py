"""Relaxation in internal coordinates, by geomeTRIC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from tempfile import TemporaryDirectory
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.units import Bohr, Hartree
from geometric.ase_engine import EngineASE
from geometric.errors import Error, GeomOptNotConvergedError
from geometric.internal import DelocalizedInternalCoordinates, PrimitiveInternalCoordinates
from geometric.molecule import Molecule
from geometric.nifty import logger
from geometric.optimize import Optimize, OptParams

NOISE = 1e-4  # eV; what integration grids and SCF leave open of an energy difference
# geomeTRIC's default thresholds (Wang and Song 2016, doi 10.1063/1.4952956): Eh, Eh/Bohr and Å
GEOMETRIC_THRESHOLDS = {
    "energy": 1e-6,
    "grms": 3e-4,
    "gmax": 4.5e-4,
    "drms": 1.2e-3,
    "dmax": 1.8e-3,
}


def tric(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax in geomeTRIC's translation-rotation-internal coordinates to a largest force.

    Wang and Song (2016, doi 10.1063/1.4952956). Turns about bonds are straight lines in these
    coordinates and do not stretch the bonds beside them. Of 40 validation molecules at GFN2-xTB,
    with Hessians of AIMNet2, to 0.03 eV/Å, this takes 5.7 calls on average from MMFF94 and `bfgs`
    9.1; from ends of the model 4.5 and 5.7, and to 0.003 eV/Å 7.8 and 10.4
    (``analysis/optimizers.py``).

    Parameters and result are those of `diffrelax.dft.minimisers.bfgs`, except that without a
    Hessian geomeTRIC guesses one in internal coordinates, and that there are two atoms at least.
    """
    try:
        return _run(_UntilConverged(atoms, fmax), hessian, max_steps, {"gmax": 0.0})
    except _Converged:
        return ""


def geometric(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax as `tric` does, but until all five criteria of geomeTRIC are met."""
    return _run(_Engine(atoms), hessian, max_steps, geometric_thresholds(fmax))


def geometric_thresholds(fmax: float) -> dict[str, float]:
    """Return geomeTRIC's thresholds, those of the gradient tightened to a largest force in eV/Å."""
    largest = fmax * Bohr / Hartree
    default = GEOMETRIC_THRESHOLDS
    return default | {
        "gmax": min(default["gmax"], largest),
        "grms": min(default["grms"], largest * default["grms"] / default["gmax"]),
    }


def _system(atoms: ase.Atoms) -> Molecule:
    system = Molecule()
    system.elem, system.xyzs = atoms.get_chemical_symbols(), [atoms.positions.copy()]
    return system


class _Engine(EngineASE):
    """Moves the atoms that it is given, and tells differences of energies below their noise.

    geomeTRIC shortens its steps where the energy does not fall as expected. Near a minimum
    integration grids hide how it falls, and steps would become ever shorter. The forces along the
    way, of which there are fewer doubts, tell these differences.
    """

    def __init__(self, atoms: ase.Atoms) -> None:
        self.system = _system(atoms)
        super().__init__(self.system, atoms.calc)
        self.ase_atoms = atoms
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None
        self._correction = 0.0  # Eh

    def calc_new(self, coords: np.ndarray, dirname: str) -> dict[str, Any]:
        result: dict[str, Any] = super().calc_new(coords, dirname)
        energy, gradient = result["energy"], result["gradient"]
        if self._last:
            last_coords, last_energy, last_gradient = self._last
            change = energy - last_energy
            by_forces = (gradient + last_gradient) @ (coords - last_coords) / 2
            if max(abs(change), abs(by_forces)) * Hartree < NOISE:
                self._correction += by_forces - change
        self._last = coords.copy(), energy, gradient
        return result | {"energy": energy + self._correction}


class _Converged(Exception):  # noqa: N818
    """Forces are small enough, whatever geomeTRIC thinks of energies and displacements."""


class _UntilConverged(_Engine):
    def __init__(self, atoms: ase.Atoms, fmax: float) -> None:
        super().__init__(atoms)
        self._fmax = fmax

    def calc_new(self, coords: np.ndarray, dirname: str) -> dict[str, Any]:
        result: dict[str, Any] = super().calc_new(coords, dirname)
        if np.linalg.norm(self.ase_atoms.get_forces(), axis=1).max() < self._fmax:
            raise _Converged
        return result


def _run(
    engine: _Engine, hessian: np.ndarray | None, max_steps: int, thresholds: dict[str, float]
) -> str:
    coordinates = DelocalizedInternalCoordinates if hessian is None else _guessing(hessian)
    limits = {f"convergence_{k}": v for k, v in (GEOMETRIC_THRESHOLDS | thresholds).items()}
    with _silence(), TemporaryDirectory() as folder:
        try:
            Optimize(
                engine.ase_atoms.positions.ravel() / Bohr,
                engine.system,
                coordinates(engine.system, build=True, connect=False, addcart=False),
                engine,
                folder,
                OptParams(maxiter=max_steps, **limits),
            )
        except GeomOptNotConvergedError:
            return f"not converged in {max_steps} steps"
        except CalculationFailed:
            raise
        except (Error, RuntimeError, np.linalg.LinAlgError) as error:
            return f"geomeTRIC gave up: {error}"
    return ""


def without_forces(hessian: np.ndarray, forces: np.ndarray, atoms: ase.Atoms) -> np.ndarray:
    """Take from a Hessian what forces add to it in Cartesian coordinates.

    A force along a bond adds to the curvature of all motions that turn it. Without it, a cheap
    level tells near the minimum of another, where its own forces do not vanish, what it tells at
    its own. That is the second derivative in internal coordinates, redundant ones here, whose
    forces are then the least that give those of the atoms.

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

    geomeTRIC's own way to take a Hessian subtracts from it what the forces add to it in curved
    coordinates. That need not leave it positive, and then geomeTRIC goes on from a rough guess of
    its own, as it does where an update fails. It makes new coordinates from the class of the old.
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
