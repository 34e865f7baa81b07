"""Rotational symmetry and chirality of a geometry."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import SAME_RMSD, conformer_atoms
from diffrelax.molecule.identity import bonded_pairs

SLACK = 0.3  # Å; allowed difference between a distance and that of its image


class Symmetry(NamedTuple):
    """Symmetry of a rigid geometry.

    Attributes
    ----------
    number : int
        Rotational symmetry number: number of rotations that map the geometry onto itself; for a
        linear molecule 2 with a centre of inversion, otherwise 1.
    chiral : bool
        Whether no rotation maps the geometry onto its mirror image.
    """

    number: int
    chiral: bool


def find_symmetry(molecule: Molecule) -> Symmetry:
    """Find the symmetry of a geometry within 0.1 Å, hydrogens included.

    A rotation counts if it maps every atom to one of the same element and isotope with a root mean
    square deviation below 0.1 Å over all atoms, the tolerance for distinct minima. Bonds are not
    needed.
    """
    return _symmetry(_kinds(molecule), molecule.positions)


def find_conformer_symmetry(molecule: Molecule) -> Symmetry:
    """Find the symmetry of a conformer, regardless of the rotation of methyl groups.

    Conformers that differ only in the rotation of a methyl or trifluoromethyl group are the same,
    see `diffrelax.molecule.comparison.same_minimum`. So the positions of their end atoms are
    ignored here; otherwise the angle of a freely rotating group would change the weight of a
    conformer. The elements of the end atoms are compared. With fewer than three heavy atoms left,
    all atoms count. Isotopes are ignored.
    """
    counted = conformer_atoms(molecule)
    kinds = molecule.numbers.copy()
    for i, j in bonded_pairs(molecule):
        kinds[i] += 1000 * molecule.numbers[j] * ~counted[j]
        kinds[j] += 1000 * molecule.numbers[i] * ~counted[i]
    return _symmetry(kinds[counted], molecule.positions[counted])


def _kinds(molecule: Molecule) -> np.ndarray:
    """Return numbers that distinguish elements and labelled isotopes."""
    return molecule.numbers + 1000 * np.array(molecule.isotopes or 0)


def _symmetry(numbers: np.ndarray, positions: np.ndarray) -> Symmetry:
    if len(numbers) == 1:
        return Symmetry(number=1, chiral=False)
    centred = positions - positions.mean(axis=0)
    return Symmetry(
        number=len(_mappings(numbers, centred, centred)),
        chiral=not _mappings(numbers, centred, -centred),
    )


def _mappings(numbers: np.ndarray, moving: np.ndarray, fixed: np.ndarray) -> set[tuple[int, ...]]:
    """Find the atom mappings by which a rotation maps a centred geometry onto another.

    Two atoms that are not collinear with the centre define a rotation, so all pairs of atoms at
    matching distances are tried.
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
    i = np.argmax(radii)
    j = np.argmax(np.linalg.norm(np.cross(moving[i], moving), axis=1))
    first, second = (
        (numbers == numbers[atom]) & (np.abs(places - radii[atom]) < SLACK) for atom in (i, j)
    )
    apart = np.abs(cdist(fixed, fixed) - np.linalg.norm(moving[i] - moving[j])) < SLACK
    for pair in np.argwhere(first[:, None] & second & apart):
        yield _align(fixed[pair], moving[[i, j]])[0]


def _align(fixed: np.ndarray, moving: np.ndarray) -> tuple[Rotation, float]:
    """Return the best rotation and the norm of the remaining deviations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a linear molecule may rotate about its axis
        return Rotation.align_vectors(fixed, moving)
