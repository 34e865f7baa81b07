"""Second derivatives by central differences of forces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def hessian_by_differences(
    forces: Callable[[np.ndarray], np.ndarray], n_atoms: int, step: float
) -> np.ndarray:
    """Return second derivatives of the energy by central differences of the forces.

    Parameters
    ----------
    forces : callable
        Takes displacements, (n, n_atoms, 3), in any unit of length, and returns the forces at the
        displaced geometries, in any unit, as an array of the same shape.
    n_atoms : int
    step : float
        Displacement of a coordinate, in the same unit of length.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array
        Symmetric, in the units of force and length.
    """
    shifts = step * np.eye(3 * n_atoms).reshape(-1, n_atoms, 3)
    hessian = (forces(-shifts) - forces(shifts)).reshape(len(shifts), -1) / (2 * step)
    return (hessian + hessian.T) / 2
