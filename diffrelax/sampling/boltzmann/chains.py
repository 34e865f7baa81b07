"""Markov chains, many in one batch, and the Metropolis–Hastings step that moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

Energy = Callable[[np.ndarray], np.ndarray]  # (n, n_atoms, 3) in Å to (n,) in eV


@dataclass(frozen=True, eq=False)
class Target:
    """The density exp(−E/kT) that chains are to sample.

    Parameters
    ----------
    energy : callable
        (n, n_atoms, 3) in Å to (n,) in eV; infinite where there is none.
    thermal_energy : float, eV
        kT.
    """

    energy: Energy
    thermal_energy: float


@dataclass(frozen=True, eq=False)
class Chains:
    """Where the chains stand.

    Parameters
    ----------
    positions : (n_chains, n_atoms, 3) array, Å
        Centred on the origin.
    energies : (n_chains,) array, eV
    """

    positions: np.ndarray
    energies: np.ndarray

    @classmethod
    def start(cls, positions: np.ndarray, energy: Energy) -> Self:
        """Start chains at geometries, (n_chains, n_atoms, 3), Å."""
        positions = centred(positions)
        return cls(positions, energy(positions))

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Proposal:
    """Where a kernel would take the chains.

    Parameters
    ----------
    positions : (n_chains, n_atoms, 3) array, Å
        Centred on the origin.
    log_ratio : (n_chains,) array
        ln q(old | new) − ln q(new | old), with q the density of the kernel's proposals.
    """

    positions: np.ndarray
    log_ratio: np.ndarray


class Kernel(Protocol):
    """One kind of move."""

    @property
    def name(self) -> str:
        """What the kernel is called in reports."""
        ...

    @property
    def size(self) -> float:
        """Its step size, in units of its own."""
        ...

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        ...

    def scaled(self, factor: float) -> Self:
        """Return the kernel with another step size."""
        ...


def metropolis_step(
    chains: Chains, kernel: Kernel, target: Target, rng: np.random.Generator
) -> tuple[Chains, np.ndarray]:
    """Move each chain, or leave it where it is (Hastings 1970, doi 10.1093/biomet/57.1.97).

    The probability of a move from x to y is min(1, exp(−(E(y) − E(x))/kT) q(x|y)/q(y|x)), so the
    density exp(−E/kT) is stationary whatever the kernel proposes. A geometry whose energy is not
    finite is never accepted.

    Parameters
    ----------
    chains : Chains
    kernel : Kernel
    target : Target
    rng : numpy.random.Generator

    Returns
    -------
    Chains
    (n_chains,) bool array
        Which moves were accepted.
    """
    proposal = kernel.propose(chains, rng)
    energies = target.energy(proposal.positions)
    finite = np.isfinite(energies)
    rise = np.where(finite, energies, 0.0) - chains.energies
    accepted = finite & (
        -rng.exponential(size=len(chains)) < proposal.log_ratio - rise / target.thermal_energy
    )
    moved = Chains(
        np.where(accepted[:, None, None], proposal.positions, chains.positions),
        np.where(accepted, energies, chains.energies),
    )
    return moved, accepted


def centred(positions: np.ndarray) -> np.ndarray:
    """Put the centre of each geometry, (..., n_atoms, 3), at the origin."""
    return positions - positions.mean(axis=-2, keepdims=True)
