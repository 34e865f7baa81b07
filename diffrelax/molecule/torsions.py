"""Rotatable bonds and torsions of a molecule."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from rdkit import Chem

from diffrelax.geometry import STRAIGHT, dihedrals, sines, torsion_quads
from diffrelax.molecule import Molecule

SINGLE = Chem.BondType.SINGLE


@dataclass(frozen=True, eq=False)
class Rotors:
    """The rotatable bonds of a molecule: single, not in a ring, and neither end linear.

    Bonds of methyl and hydroxyl groups count, and linear chains with a single bond, such as an
    alkyne with its neighbours, count as one rotor.

    Parameters
    ----------
    torsions : (n_rotors, 4) int array
        One torsion of each rotor. The bond or chain is between its second and third atom.
    sides : (n_rotors, n_atoms) bool array
        Atoms that rotate: those on the side of the second atom.
    """

    torsions: np.ndarray
    sides: np.ndarray

    @classmethod
    def of(cls, molecule: Molecule) -> Self:
        """Find the rotors of a molecule."""
        mol = molecule.to_rdkit()
        chains = {(chain[0], chain[-1]): chain for chain in linear_chains(molecule)}
        torsions, sides = [], []
        for torsion in watched_torsions(molecule):
            _, j, k, _ = torsion
            between = pairwise(chains.get((j, k), (int(j), int(k))))
            along = (mol.GetBondBetweenAtoms(*pair) for pair in between)
            single = (b for b in along if b.GetBondType() == SINGLE and not b.IsInRing())
            if bond := next(single, None):
                cut = Chem.FragmentOnBonds(mol, [bond.GetIdx()], addDummies=False)
                side = np.zeros(molecule.n_atoms, dtype=bool)
                side[[*next(part for part in Chem.GetMolFrags(cut) if k in part)]] = True
                torsions.append(torsion)
                sides.append(side)
        return cls(
            np.array(torsions, dtype=np.int64).reshape(-1, 4),
            np.array(sides, dtype=bool).reshape(-1, molecule.n_atoms),
        )

    def __len__(self) -> int:
        return len(self.torsions)

    @property
    def bonds(self) -> np.ndarray:
        """The second and third atom of each torsion, (n_rotors, 2)."""
        return self.torsions[:, 1:3]

    def turn(self, positions: np.ndarray, chosen: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """Rotate one rotor of each geometry rigidly (Rodrigues' formula).

        Parameters
        ----------
        positions : (n, n_atoms, 3) array, Å
        chosen : (n,) int array
            Indices of rotors.
        angles : (n,) array, radians

        Returns
        -------
        (n, n_atoms, 3) array, Å
        """
        first, second = self.bonds[chosen].T
        rows = np.arange(len(positions))
        pivot = positions[rows, second][:, None]
        axis = pivot - positions[rows, first][:, None]
        axis = axis / np.linalg.norm(axis, axis=2, keepdims=True)
        arms = positions - pivot
        along = (arms * axis).sum(2, keepdims=True) * axis
        angle = angles[:, None, None]
        turned = along + np.cos(angle) * (arms - along) + np.sin(angle) * np.cross(axis, arms)
        return np.where(self.sides[chosen][..., None], pivot + turned, positions)


def watched_torsions(molecule: Molecule) -> np.ndarray:
    """Choose one torsion about each bond and each linear chain that has one.

    Returns
    -------
    (n_torsions, 4) int array
        The second and the third atom are bonded, or the chain lies between them.
    """
    bonded = _bonded(molecule)
    across = []
    for first, *chain, last in linear_chains(molecule):
        left = _bent_neighbours(molecule, bonded, first, chain[0])
        right = _bent_neighbours(molecule, bonded, last, chain[-1])
        if left and right:
            across.append((left[0], first, last, right[0]))
    quads = torsion_quads(bonded, molecule.positions)
    return np.concatenate([quads, np.array(across, dtype=np.int64).reshape(-1, 4)])


def linear_chains(molecule: Molecule) -> list[list[int]]:
    """Find linear chains of atoms with two neighbours.

    Returns
    -------
    list of list of int
        Each chain with its terminal neighbours, the smaller index first.
    """
    neighbours = [np.flatnonzero(row).tolist() for row in _bonded(molecule)]
    two = [i for i, near in enumerate(neighbours) if len(near) == 2]
    corners = np.array([(neighbours[i][0], i, neighbours[i][1]) for i in two], dtype=np.int64)
    angles = molecule.positions[corners.reshape(-1, 3)]
    straight = {i for i, sine in zip(two, sines(angles), strict=True) if sine <= STRAIGHT}
    chains = []
    for begin in straight:
        for end in set(neighbours[begin]) - straight:
            chain = [end, begin]
            while chain[-1] in straight:
                before, here = chain[-2:]
                chain.append(next(i for i in neighbours[here] if i != before))
            if chain[0] < chain[-1]:
                chains.append(chain)
    return sorted(chains)


def _bent_neighbours(molecule: Molecule, bonded: np.ndarray, atom: int, chain: int) -> list[int]:
    near = np.flatnonzero(bonded[atom])
    corners = np.stack([near, np.full_like(near, atom), np.full_like(near, chain)], axis=1)
    return near[(near != chain) & (sines(molecule.positions[corners]) > STRAIGHT)].tolist()


def _bonded(molecule: Molecule) -> np.ndarray:
    bonded = np.zeros((molecule.n_atoms, molecule.n_atoms), dtype=bool)
    for i, j, _ in molecule.bonds:
        bonded[i, j] = bonded[j, i] = True
    return bonded


def torsion_angles(positions: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Measure torsions, (n_torsions, 4) atoms, of geometries, (..., n_atoms, 3), Å.

    Returns
    -------
    (n_torsions, ...) array, radians, from −π to π
    """
    points = np.moveaxis(positions[..., quads, :], -3, 0)
    return dihedrals(points.reshape(-1, 4, 3)).reshape(points.shape[:-2])
