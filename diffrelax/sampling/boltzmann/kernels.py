"""Kernels: kinds of moves, each with the exact density of its proposals.

A molecule of n atoms has d = 3n − 3 coordinates here: its centre stays at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from diffrelax.molecule.torsions import Rotors
from diffrelax.sampling.boltzmann.chains import Chains, Proposal, centred
from diffrelax.sampling.boltzmann.springs import Springs, expanded, reduced


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
class ShapedStep:
    """Shift the atoms little along stiff coordinates and much along soft ones.

    From x to a Gaussian about it of the covariance w² kT H(x)⁻¹, with the Hessian H of springs,
    which turns with the molecule. As H depends on x, its determinant is part of the ratio.

    Parameters
    ----------
    springs : Springs
    thermal_energy : float, eV
        kT.
    width : float
        w.
    """

    springs: Springs
    thermal_energy: float
    width: float
    name: str = "shaped step"

    @property
    def size(self) -> float:
        """Its width."""
        return self.width

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        x, factor = reduced(chains.positions), self._factor(chains.positions)
        noise = rng.normal(size=x.shape)
        y = x + np.linalg.solve(factor.transpose(0, 2, 1), noise[..., None])[..., 0]
        positions = expanded(y)
        back = _log_density(y - x, self._factor(positions))
        return Proposal(positions, back - _log_density(y - x, factor))

    def scaled(self, factor: float) -> Self:
        """Return the kernel with another step size."""
        return replace(self, width=self.width * factor)

    def _factor(self, positions: np.ndarray) -> np.ndarray:
        """Return the Cholesky factor of the inverse covariance, (n, d, d), 1/Å."""
        hessian = self.springs.hessian(positions)
        return np.linalg.cholesky(hessian / (self.thermal_energy * self.width**2))


def _log_density(shift: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Logarithm of a normal density about zero, up to a constant of the dimension."""
    white = (shift[:, None] @ factor)[:, 0]
    return np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1) - 0.5 * (white**2).sum(1)


def _symmetric(chains: Chains, positions: np.ndarray) -> Proposal:
    return Proposal(positions, np.zeros(len(chains)))
