"""Errors of a geometry relative to a reference of the same molecule, from positions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COVALENT_RADII = np.array([  # Å, from H to Cm (Cordero et al. 2008)
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07,
    1.05, 1.02, 1.06, 2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22,
    1.22, 1.20, 1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42,
    1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01,
    1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51,
    1.44, 1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06,
    2.00, 1.96, 1.90, 1.87, 1.80, 1.69,
])  # fmt: skip
BOND_FACTOR = 1.25
STRAIGHT = 0.17  # sine of an angle; below it, torsions are ill-defined


@dataclass(frozen=True)
class GeometryErrors:
    """Errors of one molecule.

    Attributes
    ----------
    rmsd : float, Å
        Root mean square deviation after superposition, all atoms.
    bonds, angles : float, Å
        Mean absolute errors of the distances of bonded atoms, and of atoms bonded to a common
        third (1-3 distances); NaN if there are none.
    torsions : float, degrees
        Mean absolute error of the torsions, one for each bond; NaN if there are none.
    """

    rmsd: float
    bonds: float
    angles: float
    torsions: float


def geometry_errors(
    numbers: np.ndarray, positions: np.ndarray, reference: np.ndarray
) -> GeometryErrors:
    """Compare a geometry with a reference; bonds are found from distances in the reference.

    Parameters
    ----------
    numbers : (n_atoms,) int array
        Atomic numbers.
    positions, reference : (n_atoms, 3) array, Å
    """
    bonded = bond_matrix(numbers, reference)
    change = np.abs(_distances(positions) - _distances(reference))
    upper = np.triu(np.ones_like(bonded), 1)
    third = ((bonded.astype(int) @ bonded.astype(int)) > 0) & ~bonded & upper
    return GeometryErrors(
        rmsd=superpose(positions, reference)[1],
        bonds=_mean(change[bonded & upper]),
        angles=_mean(change[third]),
        torsions=_mean(torsion_changes(bonded, positions, reference)),
    )


def superpose(moving: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Move one geometry onto another by translation and proper rotation (Kabsch 1976).

    Parameters
    ----------
    moving, target : (n_atoms, 3) array, Å

    Returns
    -------
    (n_atoms, 3) array, Å
        ``moving``, superposed.
    float, Å
        Remaining root mean square deviation.
    """
    centred = moving - moving.mean(axis=0)
    moved = centred @ rotation_onto(moving, target) + target.mean(axis=0)
    return moved, float(np.sqrt(((moved - target) ** 2).sum(axis=1).mean()))


def rotation_onto(moving: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the proper rotation, (3, 3), that best superposes centred points."""
    a, b = moving - moving.mean(axis=0), target - target.mean(axis=0)
    u, _, vt = np.linalg.svd(a.T @ b)
    return (u * [1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def bond_matrix(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return which atoms are bonded: those closer than 1.25 times the sum of covalent radii.

    Elements heavier than curium get its radius.

    Returns
    -------
    (n_atoms, n_atoms) bool array
    """
    radii = COVALENT_RADII[np.minimum(numbers, len(COVALENT_RADII)).astype(int) - 1]
    limit = BOND_FACTOR * (radii[:, None] + radii)
    return (_distances(positions) < limit) & ~np.eye(len(numbers), dtype=bool)


def torsion_changes(bonded: np.ndarray, positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the change of each torsion of the reference.

    Parameters
    ----------
    bonded : (n_atoms, n_atoms) bool array
    positions, reference : (n_atoms, 3) array, Å

    Returns
    -------
    (n_torsions,) array, degrees
        From 0 to 180.
    """
    quads = torsion_quads(bonded, reference)
    return np.degrees(angles_apart(dihedrals(positions[quads]), dihedrals(reference[quads])))


def angles_apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the differences of angles modulo a full turn, radians, from 0 to π."""
    return np.abs((some - others + np.pi) % (2 * np.pi) - np.pi)


def torsion_quads(bonded: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Choose one torsion for each bond, except at nearly linear angles.

    Returns
    -------
    (n_torsions, 4) int array
    """
    quads = []
    for j, k in np.argwhere(np.triu(bonded)):
        left = [i for i in np.flatnonzero(bonded[j]) if i != k]
        right = [i for i in np.flatnonzero(bonded[k]) if i not in (j, *left[:1])]
        if left and right:
            quads.append((left[0], j, k, right[0]))
    rows = np.array(quads, dtype=np.int64).reshape(-1, 4)
    bent = (sines(positions[rows[:, :3]]) > STRAIGHT) & (sines(positions[rows[:, 1:]]) > STRAIGHT)
    return rows[bent]


def dihedrals(points: np.ndarray) -> np.ndarray:
    """Return dihedral angles in radians of (n, 4, 3) points, from -π to π."""
    b0, b1, b2 = np.diff(points, axis=1).transpose(1, 0, 2)
    n0, n1 = np.cross(b0, b1), np.cross(b1, b2)
    sine = (b0 * n1).sum(1) * np.linalg.norm(b1, axis=1)
    return np.arctan2(sine, (n0 * n1).sum(1))


def _distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions, axis=-1)


def sines(points: np.ndarray) -> np.ndarray:
    """Return sines of the angles of (n, 3, 3) points."""
    a, b = points[:, 0] - points[:, 1], points[:, 2] - points[:, 1]
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.linalg.norm(np.cross(a, b), axis=1) / lengths


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
