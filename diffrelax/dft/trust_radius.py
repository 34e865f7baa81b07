"""BFGS with a trust radius in the metric of its start Hessian, each step tested by the energy."""

from __future__ import annotations

import ase
import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import brentq

from diffrelax.dft.internal import NOISE

LONGEST = 0.2  # Å, of an atom's step; as in ASE's BFGS
DAMPING = 0.2
RESTART = 2  # rejected steps in a row


def minimise(atoms: ase.Atoms, hessian: np.ndarray, fmax: float, max_steps: int) -> bool:
    """Relax atoms until the largest force on one is below ``fmax``.

    With L the Cholesky factor of the start Hessian, the Hessian in the coordinates Lᵀx is the unit
    matrix: bonds and torsions are equally stiff there, and half the squared length of a step is
    the energy that it takes without a force. A step that was to lower the energy and raises it is
    taken back, at no further gradient call, and a shorter one made; two in a row restart the
    Hessian. The update is damped (Nocedal and Wright 2006, procedure 18.2), so that the Hessian
    stays positive definite where the surface is not.

    Parameters
    ----------
    atoms : ase.Atoms
        With a calculator; moved in place. Converged, they stand where they were evaluated last.
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å²
        Symmetric, positive definite.
    fmax : float
        eV/Å.
    max_steps : int
        One gradient call more than that is made at most.

    Returns
    -------
    bool
        Whether the forces are below ``fmax``, after a step that was not taken back.
    """
    low = cholesky(hessian, lower=True)

    def evaluate() -> tuple[float, np.ndarray, bool]:
        forces = atoms.get_forces()
        gradient = solve_triangular(low, -forces.ravel(), lower=True)
        converged = bool(np.linalg.norm(forces, axis=1).max() < fmax)
        return float(atoms.get_potential_energy()), gradient, converged

    unit = np.eye(len(hessian))
    curvature, radius, rejected = unit, np.inf, 0
    positions = atoms.positions.copy()
    energy, gradient, converged = evaluate()
    for _ in range(max_steps):
        if converged:
            break
        step = _newton_step(curvature, gradient, radius)
        move = solve_triangular(low.T, step).reshape(-1, 3)
        shortened = min(1.0, LONGEST / np.linalg.norm(move, axis=1).max())
        step, move = shortened * step, shortened * move
        expected = gradient @ step + step @ curvature @ step / 2

        atoms.positions = positions + move
        new_energy, new_gradient, converged = evaluate()
        change, length = new_energy - energy, float(np.linalg.norm(step))
        curvature = _update(curvature, step, new_gradient - gradient)
        if change > NOISE and expected < -NOISE:
            converged, radius, rejected = False, length / 4, rejected + 1
            if rejected == RESTART:
                curvature, rejected = unit, 0
            continue
        if expected < -NOISE and change > expected / 4:
            radius = length / 2
        elif change < 3 * expected / 4:
            radius = max(radius, 2 * length)
        positions, energy, gradient, rejected = atoms.positions.copy(), new_energy, new_gradient, 0
    return converged


def _newton_step(hessian: np.ndarray, gradient: np.ndarray, radius: float) -> np.ndarray:
    """Minimise the quadratic model within a sphere."""
    eigenvalues, modes = np.linalg.eigh(hessian)
    slopes = modes.T @ gradient

    def excess(shift: float) -> float:
        return float(np.linalg.norm(slopes / (eigenvalues + shift))) - radius

    shift = 0.0
    if excess(0.0) > 0:
        shift = brentq(excess, 0.0, np.linalg.norm(gradient) / radius)
    return -modes @ (slopes / (eigenvalues + shift))


def _update(hessian: np.ndarray, step: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Update by the difference of the gradients along a step, damped where it is concave."""
    along = hessian @ step
    expected, found = step @ along, step @ difference
    if found < DAMPING * expected:
        share = (1 - DAMPING) * expected / (expected - found)
        difference = share * difference + (1 - share) * along
        found = step @ difference
    return hessian - np.outer(along, along) / expected + np.outer(difference, difference) / found
