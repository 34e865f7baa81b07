"""BFGS with a trust radius in the metric of the start Hessian."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.optimize import BFGS
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import brentq

from diffrelax.dft.optimizers.base import HessianOptimizer
from diffrelax.dft.optimizers.internal import FORCE_NOISE

LONGEST = 0.2  # Å, of an atom's step; as in ASE's BFGS
DAMPING = 0.2
RESTART = 2  # rejected steps in a row
FLOOR = 1.0  # eV/Å²
SHORTEST_STEP = 0.03  # Å


class _Point(NamedTuple):
    """A geometry, with its energy in eV and its gradient in the metric of the Hessian."""

    positions: np.ndarray
    energy: float
    gradient: np.ndarray


class TrustRadiusBFGS(HessianOptimizer, BFGS):
    """BFGS in Cartesian coordinates; with a start Hessian, it has a trust radius.

    With L the Cholesky factor of the start Hessian, the Hessian in the coordinates Lᵀx is the unit
    matrix: bonds and torsions are equally stiff there, and half the squared length of a step is its
    harmonic energy. A step that raises the energy unexpectedly is rejected and a shorter one is
    made; two rejections in a row reset the Hessian. The update is damped (Nocedal and Wright 2006,
    procedure 18.2) to keep the Hessian positive definite.

    Parameters, attributes and errors are those of
    `diffrelax.dft.optimizers.base.HessianOptimizer`.
    """

    newton = True

    @classmethod
    def softest(cls, fmax: float) -> float:
        """Return the smallest curvature of the start Hessian, eV/Å².

        It grows with ``fmax`` within limits: softer modes take longer steps, which are wasted where
        the force is already small, but reach tight convergence earlier.
        """
        return float(np.clip(fmax / SHORTEST_STEP, FLOOR / 4, FLOOR))

    def initialize(self) -> None:
        """Reset the optimizer."""
        super().initialize()
        self._low: np.ndarray | None = None  # Cholesky factor of the start Hessian
        self._accepted: _Point | None = None
        self._radius, self._rejected = np.inf, 0

    def step(self) -> None:
        """Move the atoms by one step from the last accepted geometry."""
        if self._low is None:
            hessian = self.start_hessian()
            if hessian is None:
                super().step()
                return
            self._low = cholesky(hessian, lower=True)
            self._curvature = np.eye(len(hessian))
        self._judge(self._here())
        assert self._accepted is not None
        step = _newton_step(self._curvature, self._accepted.gradient, self._radius)
        move = solve_triangular(self._low.T, step).reshape(-1, 3)
        shortened = min(1.0, LONGEST / np.linalg.norm(move, axis=1).max())
        self._step = shortened * step
        self._expected = self._accepted.gradient @ self._step + (
            self._step @ self._curvature @ self._step / 2
        )
        self.atoms.set_positions(self._accepted.positions + shortened * move)
        self.dump(self._low @ self._curvature @ self._low.T)

    def gradient_converged(self, gradient: np.ndarray) -> bool:
        """Whether the forces are small and the last step is not rejected."""
        uphill = self._accepted is not None and self._is_uphill(self.atoms.get_potential_energy())
        return bool(super().gradient_converged(gradient)) and not uphill

    def _here(self) -> _Point:
        gradient = solve_triangular(self._low, -self.atoms.get_forces().ravel(), lower=True)
        energy = float(self.atoms.get_potential_energy())
        return _Point(self.atoms.positions.copy(), energy, gradient)

    def _is_uphill(self, energy: float) -> bool:
        assert self._accepted is not None
        return bool(energy - self._accepted.energy > FORCE_NOISE and self._expected < -FORCE_NOISE)

    def _judge(self, new: _Point) -> None:
        """Update the Hessian by the last step, and accept or reject the step."""
        old = self._accepted
        if old is None:
            self._accepted = new
            return
        change, length = new.energy - old.energy, float(np.linalg.norm(self._step))
        self._curvature = _update(self._curvature, self._step, new.gradient - old.gradient)
        if self._is_uphill(new.energy):
            self._radius, self._rejected = length / 4, self._rejected + 1
            if self._rejected == RESTART:
                self._curvature, self._rejected = np.eye(len(self._curvature)), 0
            return
        if self._expected < -FORCE_NOISE and change > self._expected / 4:
            self._radius = length / 2
        elif change < 3 * self._expected / 4:
            self._radius = max(self._radius, 2 * length)
        self._accepted, self._rejected = new, 0


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
    """Update the Hessian by the change of the gradient along a step, damped if it is concave."""
    along = hessian @ step
    expected, found = step @ along, step @ difference
    if found < DAMPING * expected:
        share = (1 - DAMPING) * expected / (expected - found)
        difference = share * difference + (1 - share) * along
        found = step @ difference
    return hessian - np.outer(along, along) / expected + np.outer(difference, difference) / found
