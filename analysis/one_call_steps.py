"""First steps of optimizers from one gradient, and what they tell; for one_call.py."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from ase.calculators.calculator import Calculator
from ase.units import Bohr, Hartree
from dft_speedup import B3LYP
from geometric.internal import DelocalizedInternalCoordinates
from geometric.molecule import Molecule as Geometry
from optimizers import SAME_BASIN

from diffrelax.dft.descent import minimise
from diffrelax.dft.hessian import positive_hessian
from diffrelax.dft.optimizers import find_optimizer
from diffrelax.dft.prediction import Prediction
from diffrelax.dft.recorder import Call, Recorder
from diffrelax.geometry import superpose
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd

Record: TypeAlias = dict[str, Any]

FORCE = Hartree / Bohr  # eV/Å


class Minimum(NamedTuple):
    """Where a relaxation leads, energy in eV."""

    molecule: Molecule
    energy: float


def first_step(call: Call, hessian: np.ndarray, optimizer: str = "tric") -> np.ndarray:
    """Return the positions to which an optimizer goes from a call, (n_atoms, 3), Å."""
    settings = B3LYP.model_copy(update={"optimizer": optimizer, "fmax": 1e-6})
    floor = find_optimizer(optimizer).softest(B3LYP.fmax)
    positive = positive_hessian(hessian, call.molecule.positions, floor)
    seen = []

    def stop(call: Call, positions: np.ndarray) -> Prediction:
        seen.append(positions.copy())
        return Prediction(call.molecule, call.energy, 0.0, 0.0, 0.0)

    recorder = Recorder(call.molecule, Calculator(), [call], None, stop)
    minimise(recorder, call.molecule, positive, settings)
    return seen[0]


def forces_of_step(start: Molecule, after: Molecule) -> np.ndarray:
    """Return the forces, eV/Å, at a start from which geomeTRIC has taken its first step."""
    floor = find_optimizer(B3LYP.optimizer).softest(B3LYP.fmax)
    hessian = positive_hessian(gfn2_hessian(start), start.positions, floor)
    geometry = Geometry()
    geometry.elem, geometry.xyzs = list(start.symbols), [start.positions]
    coordinates = DelocalizedInternalCoordinates(geometry, build=True, connect=False, addcart=False)
    x, y = (molecule.positions.ravel() / Bohr for molecule in (start, after))
    internal = coordinates.wilsonB(x)
    inverse = coordinates.GInverse(x) @ internal
    step = coordinates.calcDiff(y, x)
    along = internal.T @ (inverse @ (hessian * Bohr / FORCE) @ (inverse.T @ step))
    return along.reshape(-1, 3) * FORCE


def predicted(call: Call, after: Molecule, minimum: Minimum | None) -> Record:
    """Tell what is known after one call, and how far off it is; eV, eV/Å and Å."""
    fall = 0.5 * float((call.forces * (after.positions - call.molecule.positions)).sum())
    record = {"fmax": call.fmax, "fall": fall}
    if minimum:
        record |= {
            "above": call.energy - minimum.energy,
            "energy_error": call.energy - fall - minimum.energy,
            "rmsd": superpose(after.positions, minimum.molecule.positions)[1],
        }
    return record


def scaled(before: np.ndarray, after: np.ndarray) -> Record:
    """Tell which factor of the Hessian would have left the least of the forces, and what 1.1 would.

    A Hessian with a factor takes that much less of the step, along which forces change evenly.
    """
    change = after - before
    left = np.linalg.norm(before + change / 1.1, axis=1).max()
    factor = -float((change**2).sum() / (before * change).sum())
    return {"best_factor": factor, "fmax_left_by_1.1": float(left)}


def nearest(molecule: Molecule, minima: Sequence[Minimum]) -> Minimum | None:
    """Return the minimum that is nearest to a geometry; None if it is far away."""
    apart = [heavy_atom_rmsd(molecule, m.molecule, polar_hydrogens=True) for m in minima]
    return minima[np.argmin(apart)] if apart and min(apart) < SAME_BASIN else None
