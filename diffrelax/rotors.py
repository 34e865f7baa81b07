"""Torsions of a molecule: those that can be turned, and those that are watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from rdkit import Chem

from diffrelax.molecule import Molecule
from diffrelax.training.errors import dihedrals, torsion_quads


@dataclass(frozen=True, eq=False)
class Rotors:
    """The rotatable bonds of a molecule: single, not in a ring, and neither end linear.

    Bonds that turn a methyl or a hydroxyl group count.

    Parameters
    ----------
    bonds : (n_rotors, 2) int array
    sides : (n_rotors, n_atoms) bool array
        Atoms that turn when the bond does: those on the side of its second atom.
    """

    bonds: np.ndarray
    sides: np.ndarray

    @classmethod
    def of(cls, molecule: Molecule) -> Self:
        """Find the rotors of a molecule."""
        mol = molecule.to_rdkit()
        single = {bond[:2] for bond in molecule.bonds if bond.order == 1.0}
        bonds, sides = [], []
        for _, j, k, _ in watched_torsions(molecule):
            bond = mol.GetBondBetweenAtoms(int(j), int(k))
            if (j, k) in single and not bond.IsInRing():
                cut = Chem.FragmentOnBonds(mol, [bond.GetIdx()], addDummies=False)
                side = np.zeros(molecule.n_atoms, dtype=bool)
                side[[*next(part for part in Chem.GetMolFrags(cut) if k in part)]] = True
                bonds.append((j, k))
                sides.append(side)
        return cls(
            np.array(bonds, dtype=np.int64).reshape(-1, 2),
            np.array(sides, dtype=bool).reshape(-1, molecule.n_atoms),
        )

    def __len__(self) -> int:
        return len(self.bonds)

    def turn(self, positions: np.ndarray, chosen: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """Turn one rotor of each geometry rigidly (Rodrigues' formula).

        Parameters
        ----------
        positions : (n, n_atoms, 3) array, Å
        chosen : (n,) int array
            The rotors.
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
    """Choose one torsion about each bond that has one, (n_torsions, 4) atoms."""
    bonded = np.zeros((molecule.n_atoms, molecule.n_atoms), dtype=bool)
    for i, j, _ in molecule.bonds:
        bonded[i, j] = bonded[j, i] = True
    return torsion_quads(bonded, molecule.positions)


def torsion_angles(positions: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Measure torsions, (n_torsions, 4) atoms, of geometries, (..., n_atoms, 3), Å.

    Returns
    -------
    (n_torsions, ...) array, radians, from −π to π
    """
    points = np.moveaxis(positions[..., quads, :], -3, 0)
    return dihedrals(points.reshape(-1, 4, 3)).reshape(points.shape[:-2])
