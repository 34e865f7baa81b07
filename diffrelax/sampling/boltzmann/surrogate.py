"""A force field fitted to energies of one molecule, and the move that walks on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.chains import Chains, Energy, Proposal, Target, metropolis_step
from diffrelax.sampling.boltzmann.mixtures import Mixture
from diffrelax.sampling.boltzmann.terms import Terms

RIDGE = 1e-6
FITTED = 4.0  # times the mean energy of a harmonic molecule; higher energies are not fitted


@dataclass(eq=False)
class Recorded:
    """An energy that remembers what it was asked.

    Parameters
    ----------
    energy : callable
        (n, n_atoms, 3) in Å to (n,) in eV.
    """

    energy: Energy
    positions: list[np.ndarray] = field(default_factory=list)
    energies: list[np.ndarray] = field(default_factory=list)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Evaluate energies, eV, and keep them."""
        energies = self.energy(positions)
        self.positions.append(positions)
        self.energies.append(energies)
        return energies


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Energies of geometries by a fitted force field.

    Parameters
    ----------
    terms : Terms
    weights : (n_terms,) array, eV
    offset : float, eV
    """

    terms: Terms
    weights: np.ndarray
    offset: float

    @classmethod
    def fit(cls, molecule: Molecule, known: Recorded, thermal_energy: float) -> Self:
        """Fit energies by least squares, with a slight pull of all parameters to zero.

        Parameters
        ----------
        molecule : Molecule
        known : Recorded
            At least one finite energy.
        thermal_energy : float, eV
        """
        positions, energies = np.concatenate(known.positions), np.concatenate(known.energies)
        mean_energy = (3 * molecule.n_atoms - 3) / 2 * thermal_energy
        low = energies < energies.min() + FITTED * mean_energy
        positions, energies = positions[low], energies[low]
        terms = Terms.of(molecule)
        sums = np.zeros((len(positions), terms.parameters.max() + 1))
        np.add.at(sums.T, terms.parameters, terms(positions).T)
        scale = np.maximum(sums.std(axis=0), np.finfo(float).eps)
        centre, level = sums.mean(axis=0), energies.mean()
        x = (sums - centre) / scale / len(sums) ** 0.5
        y = (energies - level) / len(sums) ** 0.5
        parameters = ridge_regression(x, y) / scale
        return cls(terms, parameters[terms.parameters], float(level - centre @ parameters))

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Evaluate energies, (n, n_atoms, 3) in Å to (n,) in eV."""
        return self.terms(positions) @ self.weights + self.offset


def ridge_regression(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the w of least |x w − y|² + `RIDGE` |w|².

    The system that is solved has as many unknowns as x has rows or columns, whichever are fewer:
    the terms of a large molecule are many more than its energies.

    Parameters
    ----------
    x : (n, n_parameters) array
    y : (n,) array
    """
    rows, columns = x.shape
    if columns > rows:
        weights: np.ndarray = x.T @ np.linalg.solve(x @ x.T + RIDGE * np.eye(rows), y)
        return weights
    return np.linalg.solve(x.T @ x + RIDGE * np.eye(columns), x.T @ y)


@dataclass(frozen=True, eq=False)
class SurrogateWalk:
    """Walk on a surrogate of the energy for a while, and propose where that ends.

    The walk is a Markov chain that is reversible for exp(−E'/kT), with E' of the surrogate, so its
    ratio is that of these densities at its ends, however bad the surrogate is (Iftimie et al.
    2000, doi 10.1063/1.1289534).

    Parameters
    ----------
    surrogate : Target
    moves : Mixture
        Of the walk.
    n_steps : int
        Of the walk.
    """

    surrogate: Target
    moves: Mixture
    n_steps: int
    name: str = "surrogate walk"

    @property
    def size(self) -> float:
        """Its number of steps."""
        return self.n_steps

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        start = walkers = Chains.start(chains.positions, self.surrogate.energy)
        for _ in range(self.n_steps):
            kernel = self.moves.kernels[self.moves.draw(rng)]
            walkers, _ = metropolis_step(walkers, kernel, self.surrogate, rng)
        log_ratio = (walkers.energies - start.energies) / self.surrogate.thermal_energy
        return Proposal(walkers.positions, log_ratio)

    def scaled(self, factor: float) -> Self:
        """Return the kernel as it is: its length is chosen, not tuned."""
        return self
