"""The rotational symmetry of a geometry, and whether it is chiral."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import SAME_RMSD

SLACK = 0.3  # Å; by how much a distance may differ from that of its image


class Symmetry(NamedTuple):
    """Symmetry of a rigid geometry, hydrogens included.

    Attributes
    ----------
    number : int
        Rotational symmetry number: how many rotations lay the geometry on itself. 1 for a linear
        molecule without a centre of inversion, 2 with one.
    chiral : bool
        Whether no rotation lays the geometry on its mirror image.
    """

    number: int
    chiral: bool


def find_symmetry(molecule: Molecule) -> Symmetry:
    """Find the symmetry of a geometry as it stands, to within 0.1 Å.

    A rotation counts if it maps every atom to one of the same element with a root mean square
    deviation below 0.1 Å over all atoms, the tolerance with which minima are told apart. Bonds are
    not needed.
    """
    if molecule.n_atoms == 1:
        return Symmetry(number=1, chiral=False)
    centred = molecule.positions - molecule.positions.mean(axis=0)
    return Symmetry(
        number=len(_mappings(molecule.numbers, centred, centred)),
        chiral=not _mappings(molecule.numbers, centred, -centred),
    )


def _mappings(numbers: np.ndarray, moving: np.ndarray, fixed: np.ndarray) -> set[tuple[int, ...]]:
    """Find the mappings of atoms by which a rotation lays a centred geometry on another one.

    Two atoms that do not lie on one line with the centre fix a rotation by the places that they
    take, so all pairs of places at the right distances are tried.
    """
    found = set()
    unlike = numbers[:, None] != numbers
    for rotation in _candidates(numbers, moving, fixed):
        distances = cdist(rotation.apply(moving), fixed)
        mapping = linear_sum_assignment(np.where(unlike, 1e6, distances))[1]
        _, deviation = _align(fixed[mapping], moving)
        if deviation < SAME_RMSD * np.sqrt(len(numbers)):
            found.add(tuple(mapping.tolist()))
    return found


def _candidates(numbers: np.ndarray, moving: np.ndarray, fixed: np.ndarray) -> Iterator[Rotation]:
    radii, places = np.linalg.norm(moving, axis=1), np.linalg.norm(fixed, axis=1)
    i = radii.argmax()
    j = np.linalg.norm(np.cross(moving[i], moving), axis=1).argmax()
    first, second = (
        (numbers == numbers[atom]) & (np.abs(places - radii[atom]) < SLACK) for atom in (i, j)
    )
    apart = np.abs(cdist(fixed, fixed) - np.linalg.norm(moving[i] - moving[j])) < SLACK
    for pair in np.argwhere(first[:, None] & second & apart):
        yield _align(fixed[pair], moving[[i, j]])[0]


def _align(fixed: np.ndarray, moving: np.ndarray) -> tuple[Rotation, float]:
    """Return the best rotation and the root of the sum of squared deviations that it leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a line may turn about itself
        return Rotation.align_vectors(fixed, moving)
