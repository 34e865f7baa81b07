"""The terms of a force field: functions of bonds, angles, torsions and distances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
from rdkit import Chem

from diffrelax.molecule import Molecule

DECAYS = (1.5, 3.0)  # 1/Å; of exponentials between atoms that are far in the bond graph
BENT = 0.95  # largest cosine of an angle inside a torsion
REACH = 2.5  # Å; where those exponentials are 1


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of one molecule; its energy is linear in their parameters.

    A bond r has z and z², z = 1 − length/r (Simons et al. 1973, doi 10.1063/1.1680397); an angle
    has its cosine and the square of that, and the products with and between the z of its arms; a
    torsion has cos φ, cos 2φ and cos 3φ; atoms three bonds apart or more have 1/r and exponentials.
    Terms between atoms of the same kinds share a parameter.

    Parameters
    ----------
    bonds : (n_bonds, 2) int array
    lengths : (n_bonds,) array, Å
        Means over bonds of a kind.
    angles : (n_angles, 3) int array
        The atom in the middle is the second.
    arms : (n_angles, 2) int array
        The two bonds of each angle.
    torsions : (n_torsions, 4) int array
    pairs : (n_pairs, 2) int array
        Three bonds apart or more.
    parameters : (n_terms,) int array
        Which parameter each term has.
    """

    bonds: np.ndarray
    lengths: np.ndarray
    angles: np.ndarray
    arms: np.ndarray
    torsions: np.ndarray
    pairs: np.ndarray
    parameters: np.ndarray

    @classmethod
    def of(cls, molecule: Molecule) -> Self:
        """List the terms of a molecule, with the lengths of bonds that it has now."""
        bonds = [(i, j) for i, j, _ in molecule.bonds]
        near: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
        for i, j in bonds:
            near[i].append(j)
            near[j].append(i)
        bond_of = {frozenset(bond): number for number, bond in enumerate(bonds)}
        angles = [(i, j, k) for j in range(len(near)) for i, k in combinations(near[j], 2)]
        bent = {angle for angle in angles if _is_bent(molecule.positions[[*angle]])}
        bent |= {angle[::-1] for angle in bent}
        torsions = [
            (i, j, k, m)
            for j, k in bonds
            for i in near[j]
            for m in near[k]
            if i != m and {(i, j, k), (j, k, m)} <= bent
        ]
        apart = np.triu(Chem.GetDistanceMatrix(molecule.to_rdkit())).astype(int)
        pairs = [(int(i), int(j)) for i, j in np.argwhere(apart >= 3)]
        kinds = list(_kinds(molecule, bonds, angles, torsions, pairs, apart))
        numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
        parameters = np.array([numbers[kind] for kind in kinds])
        ends, alike = np.array(bonds, dtype=int).reshape(-1, 2), parameters[: len(bonds)]
        lengths = np.linalg.norm(np.diff(molecule.positions[ends], axis=1), axis=(1, 2))
        return cls(
            bonds=ends,
            lengths=(np.bincount(alike, lengths) / np.bincount(alike))[alike],
            angles=np.array(angles, dtype=int).reshape(-1, 3),
            arms=np.array(
                [(bond_of[frozenset((i, j))], bond_of[frozenset((j, k))]) for i, j, k in angles],
                dtype=int,
            ).reshape(-1, 2),
            torsions=np.array(torsions, dtype=int).reshape(-1, 4),
            pairs=np.array(pairs, dtype=int).reshape(-1, 2),
            parameters=parameters,
        )

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Evaluate the terms of geometries, (n, n_atoms, 3) in Å to (n, n_terms)."""
        i, j = self.bonds.T
        r = _norm(positions[:, i] - positions[:, j])
        z = 1 - self.lengths / r
        i, j, k = self.angles.T
        first, second = self.arms.T
        product = _dot(positions[:, i] - positions[:, j], positions[:, k] - positions[:, j])
        cosine = product / (r[:, first] * r[:, second])
        turn = self._torsion_cosines(positions)
        i, j = self.pairs.T
        distance = _norm(positions[:, i] - positions[:, j])
        return np.concatenate(
            [
                *(z, z**2),
                *(cosine, cosine**2, z[:, first] * z[:, second]),
                *(z[:, first] * cosine, z[:, second] * cosine),
                *(turn, 2 * turn**2 - 1, (4 * turn**2 - 3) * turn),
                1 / distance,
                *(np.exp(-decay * (distance - REACH)) for decay in DECAYS),
            ],
            axis=1,
        )

    def _torsion_cosines(self, positions: np.ndarray) -> np.ndarray:
        i, j, k, m = self.torsions.T
        axis = positions[:, k] - positions[:, j]
        before, after = positions[:, i] - positions[:, j], positions[:, m] - positions[:, k]
        square = _dot(axis, axis)
        p, q = _dot(before, axis), _dot(after, axis)
        across = _dot(before, after) - p * q / square
        widths = (_dot(before, before) - p**2 / square) * (_dot(after, after) - q**2 / square)
        return across / np.sqrt(widths)


def _kinds(
    molecule: Molecule,
    bonds: list[tuple[int, int]],
    angles: list[tuple[int, int, int]],
    torsions: list[tuple[int, int, int, int]],
    pairs: list[tuple[int, int]],
    apart: np.ndarray,
) -> Iterator[Any]:
    """Yield what each term is between, in the order of `Terms.__call__`.

    Atoms that the bond graph does not tell apart are of one kind.
    """
    ranks = list(Chem.CanonicalRankAtoms(molecule.to_rdkit(), breakTies=False))

    def kind(atoms: tuple[int, ...]) -> tuple[int, ...]:
        along = tuple(ranks[atom] for atom in atoms)
        return min(along, along[::-1])

    for power in (1, 2):
        yield from (("bond", power, kind(bond)) for bond in bonds)
    for form in ("cos", "cos²", "arms"):
        yield from ((form, kind(angle)) for angle in angles)
    for end in (0, 2):
        yield from (("arm", ranks[angle[end]], kind(angle)) for angle in angles)
    for fold in (1, 2, 3):
        yield from (("torsion", fold, kind(torsion)) for torsion in torsions)
    for form in ("1/r", *map(str, DECAYS)):
        yield from ((form, kind(pair), min(apart[pair], 4)) for pair in pairs)


def _is_bent(points: np.ndarray) -> bool:
    """Tell an angle, (3, 3), about which a torsion can turn from a linear one."""
    a, b = points[0] - points[1], points[2] - points[1]
    return bool(abs(a @ b) < BENT * np.linalg.norm(a) * np.linalg.norm(b))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ntx,ntx->nt", a, b)


def _norm(a: np.ndarray) -> np.ndarray:
    return np.sqrt(_dot(a, a))
