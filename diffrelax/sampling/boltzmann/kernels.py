"""Kernels: kinds of moves, each with the exact density of its proposals.

A molecule of n atoms has d = 3n − 3 coordinates here: its centre stays at the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from diffrelax.molecule.torsions import Rotors
from diffrelax.sampling.boltzmann.chains import Chains, Proposal, centred
from diffrelax.sampling.boltzmann.springs import Springs, expanded, reduced

Estimate = Callable[[np.ndarray], np.ndarray]
Precision = Callable[[np.ndarray], np.ndarray]

LEAST_KEPT = 0.05


@dataclass(frozen=True)
class CartesianStep:
    """Shift every coordinate by Gaussian noise (Metropolis et al. 1953).

    Parameters
    ----------
    width : float, Å
        Standard deviation.
    """

    width: float
    name: str = "cartesian"

    @property
    def size(self) -> float:
        """Its width."""
        return self.width

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        noise = centred(rng.normal(size=chains.positions.shape))
        return _symmetric(chains, chains.positions + self.width * noise)

    def scaled(self, factor: float) -> Self:
        """Return the kernel with another step size."""
        return replace(self, width=self.width * factor)


@dataclass(frozen=True, eq=False)
class TorsionJump:
    """Turn two rotors, chosen at random, to jump between conformers.

    Each is turned by about a third of a turn, either way, or now and then by any angle. Two at a
    time, since a turn often needs another one beside it, as where a hydrogen bond is to change
    hands. The same rotors in the other order by the opposite angles lead back, and are as likely.

    Parameters
    ----------
    rotors : Rotors
    spread : float, radians
        Standard deviation about a third of a turn.
    anywhere : float
        Share of the turns by any angle.
    """

    rotors: Rotors
    spread: float = 0.2
    anywhere: float = 0.2
    name: str = "torsion jump"

    @property
    def size(self) -> float:
        """Its spread."""
        return self.spread

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        n, positions = len(chains), chains.positions
        order = rng.permuted(np.tile(np.arange(len(self.rotors)), (n, 1)), axis=1)
        for chosen in order.T[:2]:
            positions = self.rotors.turn(positions, chosen, self._angles(n, rng))
        return _symmetric(chains, centred(positions))

    def scaled(self, factor: float) -> Self:
        """Return the kernel as it is: there is nothing to tune."""
        return self

    def _angles(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw angles, one as likely as its opposite."""
        thirds = rng.choice([-1, 1], n) * 2 * np.pi / 3 + rng.normal(0, self.spread, n)
        return np.where(rng.random(n) < self.anywhere, rng.uniform(-np.pi, np.pi, n), thirds)


@dataclass(frozen=True, eq=False)
class DenoisingStep:
    """Go some of the way to the denoiser's estimate D, and add noise.

    From x to a Gaussian about D + r² (x − D) of the covariance (1 − r⁴) C: if D were constant, a
    Gaussian about D of the covariance C would be stationary. C may depend on D: its determinant is
    part of the ratio.

    Parameters
    ----------
    estimate : callable
        The denoiser at a fixed noise level, (n, n_atoms, 3) in Å to the same, centred.
    ratio : float
        r, between 0 and 1.
    precision : callable
        C⁻¹ for estimates, (n, n_atoms, 3) in Å to (n, d, d) or (1, d, d) in 1/Å².
    """

    estimate: Estimate
    ratio: float
    precision: Precision
    name: str = "denoising"

    @classmethod
    def posterior(cls, estimate: Estimate, sigma: float, ratio: float) -> Self:
        """Make the step of a diffusion model from σ to rσ (Ho et al. 2020, eq. 7).

        It adds noise of the variance r²σ² (1 − r²), so C is isotropic, r²σ²/(1 + r²).
        """
        inverse = (1 + ratio**2) / (ratio * sigma) ** 2

        def precision(estimates: np.ndarray) -> np.ndarray:
            return inverse * np.eye(estimates[0].size - 3)[None]

        return cls(estimate, ratio, precision)

    @classmethod
    def shaped(
        cls, estimate: Estimate, springs: Springs, thermal_energy: float, ratio: float
    ) -> Self:
        """Make a step that is small in stiff coordinates and large in soft ones.

        C is kT H⁻¹, with the Hessian H of springs at the estimate, which turns with the molecule.
        """

        def precision(estimates: np.ndarray) -> np.ndarray:
            return springs.hessian(estimates) / thermal_energy

        return cls(estimate, ratio, precision)

    @property
    def size(self) -> float:
        """Share of the way to the estimate, 1 − r²."""
        return 1 - self.ratio**2

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        old = chains.estimates.copy()
        if (unknown := np.isnan(old).any(axis=(1, 2))).any():
            old[unknown] = self.estimate(chains.positions[unknown])
        x = reduced(chains.positions)
        mean, factor = self._gaussian(x, old)
        noise = rng.normal(size=x.shape)
        y = mean + np.linalg.solve(factor.transpose(0, 2, 1), noise[..., None])[..., 0]
        positions = expanded(y)
        new = self.estimate(positions)
        back = _log_density(x, *self._gaussian(y, new))
        return Proposal(positions, back - _log_density(y, mean, factor), old, new)

    def scaled(self, factor: float) -> Self:
        """Return the kernel with more or less of the way to the estimate, 1 − r²."""
        return replace(self, ratio=max(1 - self.size * factor, LEAST_KEPT) ** 0.5)

    def _gaussian(self, x: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean, (n, d), and the Cholesky factor of the inverse covariance."""
        kept, middle = self.ratio**2, reduced(estimates)
        factor = np.linalg.cholesky(self.precision(estimates) / (1 - kept**2))
        return middle + kept * (x - middle), factor


def _log_density(x: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Logarithm of a normal density, up to a constant of the dimension."""
    white = ((x - mean)[:, None] @ factor)[:, 0]
    return np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1) - 0.5 * (white**2).sum(1)


def _symmetric(chains: Chains, positions: np.ndarray) -> Proposal:
    unknown = np.full_like(positions, np.nan)
    return Proposal(positions, np.zeros(len(chains)), chains.estimates, unknown)
