"""Springs between near atoms: how stiff a molecule is, in whatever shape it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from rdkit import Chem
from scipy.linalg import helmert

from diffrelax.molecule import Molecule

STIFFNESS = {1: 30.0, 2: 3.0, 3: 0.3}  # eV/Å², of bonds, 1–3 and 1–4 distances
BACKGROUND = 2.5  # eV/Å²; bounds turns, which are straight lines here


@dataclass(frozen=True, eq=False)
class Springs:
    """A network of springs at rest, one for each pair of atoms at most three bonds apart.

    Its Hessian depends on the geometry alone and turns with it. The constants are typical of
    force fields for organic molecules; proposals that are shaped by them are exact with any.

    Parameters
    ----------
    pairs : (n_pairs, 2) int array
    n_bonds : (n_pairs,) int array
        Between the atoms of each pair: 1, 2 or 3.
    """

    pairs: np.ndarray
    n_bonds: np.ndarray

    @classmethod
    def of(cls, molecule: Molecule) -> Self:
        """Set springs between the atoms of a molecule."""
        steps = np.triu(Chem.GetDistanceMatrix(molecule.to_rdkit())).astype(int)
        pairs = np.argwhere((steps > 0) & (steps <= max(STIFFNESS)))
        return cls(pairs, steps[tuple(pairs.T)])

    @property
    def constants(self) -> np.ndarray:
        """Stiffness of each spring, (n_pairs,), eV/Å²."""
        return np.array([STIFFNESS[n] for n in self.n_bonds])

    def hessian(self, positions: np.ndarray) -> np.ndarray:
        """Return second derivatives in the coordinates of `reduced`.

        Parameters
        ----------
        positions : (n, n_atoms, 3) array, Å

        Returns
        -------
        (n, d, d) array, eV/Å²
            Positive definite: a weak isotropic spring is added.
        """
        slopes = self.slopes(positions) * np.sqrt(self.constants)[:, None]
        return slopes.transpose(0, 2, 1) @ slopes + BACKGROUND * np.eye(slopes.shape[2])

    def slopes(self, positions: np.ndarray) -> np.ndarray:
        """Return derivatives of the distances of the pairs, (n, n_pairs, d), as in `hessian`."""
        i, j = self.pairs.T
        arms = positions[:, i] - positions[:, j]
        arms /= np.linalg.norm(arms, axis=2, keepdims=True)
        basis = _basis(positions.shape[1])
        slopes = (basis[:, i] - basis[:, j]).T[:, :, None] * arms[:, :, None]
        return slopes.reshape(*slopes.shape[:2], -1)


def reduced(positions: np.ndarray) -> np.ndarray:
    """Return orthonormal coordinates without those of the centre, (n, d) with d = 3 n_atoms − 3."""
    return (_basis(positions.shape[1]) @ positions).reshape(len(positions), -1)


def expanded(coordinates: np.ndarray) -> np.ndarray:
    """Return the centred positions, (n, n_atoms, 3), of `reduced` coordinates."""
    vectors = coordinates.reshape(len(coordinates), -1, 3)
    return _basis(vectors.shape[1] + 1).T @ vectors


@cache
def _basis(n_atoms: int) -> np.ndarray:
    """Return orthonormal rows, (n_atoms − 1, n_atoms), without the centre."""
    return helmert(n_atoms)
