"""Bond lengths, angles and torsions as the coordinates of a molecule: a Z-matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from rdkit import Chem

from diffrelax.errors import InputError
from diffrelax.geometry import STRAIGHT, dihedrals, sines
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.chains import centred


@dataclass(frozen=True, eq=False)
class InternalCoordinates:
    """A full set of internal coordinates: n − 1 lengths, n − 2 angles and n − 3 torsions.

    Each atom is placed by its distance from a second one, the angle with a third one and the
    torsion with a fourth one, all placed before. The first three atoms keep the place and the
    orientation of a geometry.

    Parameters
    ----------
    quads : (n_atoms, 4) int array
        Each atom, in the order of placing, and its references; those that the first three do not
        have are −1.
    """

    quads: np.ndarray

    @classmethod
    def of(cls, molecule: Molecule, geometries: np.ndarray) -> Self:
        """Choose references along bonds, so that no angle is nearly straight.

        Parameters
        ----------
        molecule : Molecule
        geometries : (n, n_atoms, 3) array, Å

        Raises
        ------
        ValueError
            If each choice has a straight angle in one of the geometries.
        """
        apart = Chem.GetDistanceMatrix(molecule.to_rdkit())

        def bent(*atoms: int) -> bool:
            return bool((sines(geometries[:, list(atoms)]) > STRAIGHT).all())

        def nearest(atom: int, among: Iterable[int]) -> list[int]:
            return sorted(among, key=lambda other: apart[atom, other])

        def references(atom: int, quads: list[tuple[int, ...]]) -> tuple[int, ...]:
            placed = [quad[0] for quad in quads]
            for a in nearest(atom, placed):
                for b in nearest(a, set(placed) - {a}):
                    if not bent(atom, a, b):
                        continue
                    beside = [quad[0] for quad in quads if quad[1:3] == (a, b)][:1]
                    for c in [*beside, *nearest(b, set(placed) - {a, b})]:
                        if bent(a, b, c):
                            return a, b, c
            raise InputError(f"{molecule.name}: all of its angles are straight")

        centre, *others = np.argsort(apart.max(axis=1), kind="stable").tolist()
        second, *others = nearest(centre, others)
        third = next((i for i in nearest(centre, others) if bent(i, centre, second)), None)
        if third is None:
            raise InputError(f"{molecule.name}: its atoms lie on a line")
        quads: list[tuple[int, ...]] = [
            (centre, -1, -1, -1),
            (second, centre, -1, -1),
            (third, centre, second, -1),
        ]
        for atom in nearest(centre, set(others) - {third}):
            quads.append((atom, *references(atom, quads)))
        return cls(np.array(quads))

    def values(self, positions: np.ndarray) -> np.ndarray:
        """Measure geometries, (n, n_atoms, 3) in Å to (n, 3 n_atoms − 6) in Å and radians."""
        points = positions[:, self.quads]
        lengths = np.linalg.norm(points[:, 1:, 0] - points[:, 1:, 1], axis=-1)
        arms, axes = (points[:, 2:, i] - points[:, 2:, 1] for i in (0, 2))
        across = np.linalg.norm(np.cross(arms, axes), axis=-1)
        angles = np.arctan2(across, (arms * axes).sum(-1))
        torsions = dihedrals(points[:, 3:].reshape(-1, 4, 3)).reshape(len(points), -1)
        return np.concatenate([lengths, angles, torsions], axis=1)

    def positions(self, values: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Build centred geometries, (n, n_atoms, 3), Å, oriented as others of the same shape."""
        lengths, angles, torsions = self._parts(values)
        built = np.zeros((len(values), len(self.quads), 3))
        (_, second, third), n = self.quads[:3, 0], len(values)
        built[:, second, 0] = lengths[:, 0]
        built[:, third, 0] = lengths[:, 1] * np.cos(angles[:, 0])
        built[:, third, 1] = lengths[:, 1] * np.sin(angles[:, 0])
        for i, (atom, a, b, c) in enumerate(self.quads[3:]):
            axes = _axes(built[:, a], built[:, b], built[:, a] + built[:, c] - built[:, b])
            length, angle, torsion = lengths[:, i + 2], angles[:, i + 1], torsions[:, i]
            across = np.sin(angle)[:, None] * np.stack([np.cos(torsion), -np.sin(torsion)], axis=1)
            way = np.concatenate([np.cos(angle)[:, None], across], axis=1)
            built[:, atom] = built[:, a] + length[:, None] * (way[:, None] @ axes).reshape(n, 3)
        axes = _axes(*(like[:, atom] for atom in self.quads[:3, 0]))
        return centred(built @ axes)

    def log_volumes(self, values: np.ndarray) -> np.ndarray:
        """Return ln |dx/dq| without the rigid motions, (n,): that of Π r² Π sin θ."""
        lengths, angles, _ = self._parts(values)
        return 2 * np.log(lengths).sum(axis=1) + np.log(np.sin(angles)).sum(axis=1)

    def are_possible(self, values: np.ndarray) -> np.ndarray:
        """Tell where lengths are positive and angles between 0 and π, (n,) bool."""
        lengths, angles, _ = self._parts(values)
        bent = (angles > 0) & (angles < np.pi)
        return np.all(np.concatenate([lengths > 0, bent], axis=1), axis=1)

    def _parts(self, values: np.ndarray) -> list[np.ndarray]:
        n = len(self.quads)
        return np.split(values, [n - 1, 2 * n - 3], axis=1)


def _axes(origin: np.ndarray, along: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Return right-handed orthonormal axes, (n, 3, 3) rows: along, beside, and across both."""
    first = along - origin
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = beside - origin
    second = second - (second * first).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-2)
