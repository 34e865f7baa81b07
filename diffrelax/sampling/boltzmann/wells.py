"""Jumps between the wells of a molecule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from rdkit import Chem
from scipy.linalg import helmert
from scipy.special import logsumexp

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import has_enantiomer
from diffrelax.sampling.boltzmann.chains import Chains, Proposal
from diffrelax.sampling.boltzmann.images import images
from diffrelax.sampling.boltzmann.internals import InternalCoordinates
from diffrelax.sampling.conformers.wells import fold
from diffrelax.sampling.ensemble import Ensemble

STEP = 1e-4  # Å or radians, of numerical derivatives
WIDEST = 0.5  # Å or radians, largest standard deviation of a well
SAME = 0.2  # Å or radians, largest difference of coordinates in the same well
EVEN = 0.1  # share of the weights that all wells have alike


@dataclass(frozen=True, eq=False)
class Wells:
    """The wells of a molecule: normal densities of internal coordinates.

    Parameters
    ----------
    coordinates : InternalCoordinates
    periods : (d,) array
        After which a coordinate means the same: a full turn of a torsion, a third of one where it
        turns a methyl group; infinite for lengths and angles.
    centres : (n_wells, d) array, Å and radians
    roots : (n_wells, d, d) array
        Lower Cholesky factors of the covariances.
    weights : (n_wells,) array
        Their sum is 1.
    """

    coordinates: InternalCoordinates
    periods: np.ndarray
    centres: np.ndarray
    roots: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, molecule: Molecule, conformers: Ensemble, surface: Surface, thermal_energy: float
    ) -> Self:
        """Shape the wells of conformers by second derivatives of their energies.

        Each conformer has the wells of its images, see `images`. Their weights are those of
        harmonic wells.

        Parameters
        ----------
        molecule : Molecule
        conformers : Ensemble
            Minima of the surface, the atoms in the order of the molecule.
        surface : Surface
        thermal_energy : float, eV
        """
        reference = conformers.positions[0]
        coordinates = InternalCoordinates.of(molecule, conformers.positions)
        periods = coordinate_periods(molecule, coordinates)
        mirrored = not has_enantiomer(molecule)
        basis = np.kron(helmert(molecule.n_atoms), np.eye(3))
        centres: list[np.ndarray] = []
        roots, heights = [], []
        for positions, energy in zip(conformers.positions, conformers.energies, strict=True):
            hessian = basis.T @ surface.hessian(positions) @ basis
            for image in images(molecule, positions, reference, mirrored=mirrored):
                there = image.positions(positions)
                centre = coordinates.values(there[None])[0]
                apart = wrapped(centre - np.reshape(centres, (-1, len(centre))), periods)
                if (np.abs(apart) < SAME).all(axis=1).any():
                    continue
                slopes = _slopes(coordinates, centre, there)
                root = _root(slopes.T @ image.hessian(hessian) @ slopes / thermal_energy)
                volume = np.log(np.diagonal(root)).sum() + coordinates.log_volumes(centre[None])[0]
                centres.append(centre)
                roots.append(root)
                heights.append(volume - energy / thermal_energy)
        weights = np.exp(heights - logsumexp(heights))
        even = (1 - EVEN) * weights + EVEN / len(weights)
        return cls(coordinates, periods, np.array(centres), np.array(roots), even)

    def __len__(self) -> int:
        return len(self.weights)

    @cached_property
    def _inverse_roots(self) -> np.ndarray:
        return np.linalg.inv(self.roots)

    def shifts(self, values: np.ndarray) -> np.ndarray:
        """Return how far coordinates, (n, d), are from each centre, (n, n_wells, d)."""
        return wrapped(values[:, None] - self.centres, self.periods)

    def whitened(self, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return shifts in units of each well, (n, n_wells, d), and weighted log densities."""
        white = np.einsum("kde,nke->nkd", self._inverse_roots, shifts)
        logs = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        return white, np.log(self.weights) - logs - 0.5 * (white**2).sum(axis=2)


@dataclass(frozen=True, eq=False)
class WellJump:
    """Jump from one well to another, with the same shift in units of the wells (smart darting).

    A well is drawn with its share of the density S of all wells where the chain is, and another one
    with its weight. Such jumps are reversible for S, but for the weight of the well that is left
    out, so the ratio is that of S and of the volume elements at both ends, however wrong the wells
    are (Andricioaei et al. 2001, doi 10.1063/1.1358861, where wells have one shape and do not
    overlap). A jump whose end lies beyond the period of a coordinate, so that it would not lead
    back, is none.

    Parameters
    ----------
    wells : Wells
        Two or more.
    """

    wells: Wells
    name: str = "well jump"

    @property
    def size(self) -> float:
        """The number of wells."""
        return len(self.wells)

    def propose(self, chains: Chains, rng: np.random.Generator) -> Proposal:
        """Propose a move for each chain."""
        wells, rows = self.wells, np.arange(len(chains))
        values = wells.coordinates.values(chains.positions)
        shifts = wells.shifts(values)
        white, parts = wells.whitened(shifts)
        here = _draw(parts, rng)
        others = np.where(here[:, None] == np.arange(len(wells)), -np.inf, np.log(wells.weights))
        there = _draw(others, rng)
        shift = np.einsum("nde,ne->nd", wells.roots[there], white[rows, here])
        turns = values - wells.centres[here] - shifts[rows, here]  # whole periods
        ends = wells.centres[there] + shift + turns
        possible = wells.coordinates.are_possible(ends)
        possible &= (np.abs(shift) < wells.periods / 2).all(axis=1)
        ends = np.where(possible[:, None], ends, values)
        _, back = wells.whitened(wells.shifts(ends))
        excess = logsumexp(parts, axis=1) - logsumexp(back, axis=1)
        excess += wells.coordinates.log_volumes(ends) - wells.coordinates.log_volumes(values)
        excess += np.log1p(-wells.weights[here]) - np.log1p(-wells.weights[there])
        positions = wells.coordinates.positions(ends, chains.positions)
        return Proposal(positions, np.where(possible, excess, -np.inf))

    def scaled(self, factor: float) -> Self:
        """Return the kernel as it is: there is nothing to tune."""
        return self


def coordinate_periods(molecule: Molecule, coordinates: InternalCoordinates) -> np.ndarray:
    """Return the periods of coordinates, see `Wells`."""
    mol = molecule.to_rdkit()
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    folds = [
        1 if mol.GetBondBetweenAtoms(a, c) else fold(mol.GetAtomWithIdx(a), b, ranks)
        for _, a, b, c in coordinates.quads[3:].tolist()
    ]
    stiff = np.full(2 * molecule.n_atoms - 3, np.inf)
    return np.concatenate([stiff, 2 * np.pi / np.array(folds, dtype=float)])


def wrapped(shifts: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Return shifts, (..., d), without whole periods."""
    return shifts - np.nan_to_num(periods, posinf=0.0) * np.round(shifts / periods)


def _slopes(coordinates: InternalCoordinates, centre: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return derivatives of the positions, (3 n_atoms, d)."""
    steps = STEP * np.eye(len(centre))
    ends = np.concatenate([centre + steps, centre - steps])
    ahead, behind = np.split(
        coordinates.positions(ends, np.repeat(like[None], len(ends), axis=0)), 2
    )
    return ((ahead - behind) / (2 * STEP)).reshape(len(centre), -1).T


def _root(precision: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor of a covariance, none of whose axes is very long."""
    values, axes = np.linalg.eigh(precision)
    return np.linalg.cholesky((axes / np.maximum(values, WIDEST**-2)) @ axes.T)


def _draw(logs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a column of each row, (n, k), by log weights (Gumbel's trick)."""
    return (logs + rng.gumbel(size=logs.shape)).argmax(axis=1)
