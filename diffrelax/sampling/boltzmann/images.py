"""Geometries that differ by the numbers of equivalent atoms, or are mirror images.

A chain never exchanges the hydrogens of a CH2 group: it stays among geometries whose atoms have the
same order about each centre. Starts and wells are numbered so that all have that order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from rdkit import Chem

from diffrelax.molecule import Molecule

MOST = 1000  # mappings of the heavy atoms
MIRROR = np.array([1.0, 1.0, -1.0])
FLAT = 0.3  # triple product of unit vectors along bonds, below which they are in a plane


@dataclass(frozen=True, eq=False)
class Image:
    """A geometry with equivalent atoms exchanged, or the mirror image of that.

    Parameters
    ----------
    sources : (n_atoms,) int array
        The atom whose place each atom takes.
    signs : (3,) array
        Of the coordinates.
    """

    sources: np.ndarray
    signs: np.ndarray

    def positions(self, positions: np.ndarray) -> np.ndarray:
        """Return the image of a geometry, (n_atoms, 3), Å."""
        return positions[self.sources] * self.signs

    def hessian(self, hessian: np.ndarray) -> np.ndarray:
        """Return the image of second derivatives, (3 n_atoms, 3 n_atoms)."""
        rows = (3 * self.sources[:, None] + np.arange(3)).ravel()
        signs = np.tile(self.signs, len(self.sources))
        return hessian[np.ix_(rows, rows)] * np.outer(signs, signs)


def images(
    molecule: Molecule, positions: np.ndarray, reference: np.ndarray, *, mirrored: bool
) -> Iterator[Image]:
    """Yield the images of a geometry that have the order of another one about each centre.

    Parameters
    ----------
    molecule : Molecule
    positions, reference : (n_atoms, 3) array, Å
    mirrored : bool
        Whether mirror images count, as they do unless the molecule is chiral.
    """
    mol = molecule.to_rdkit()
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    near = [[n.GetIdx() for n in atom.GetNeighbors()] for atom in mol.GetAtoms()]
    centres = np.array([(i, *js[:3]) for i, js in enumerate(near) if len(js) > 2], dtype=int)
    centres = centres.reshape(-1, 4)
    wanted = _senses(reference, centres)
    firm = np.array([len(near[i]) > 3 for i in centres[:, 0]], dtype=bool)  # amines invert
    for signs in (np.ones(3), MIRROR)[: 1 + mirrored]:
        for sources in _mappings(mol, ranks, near):
            image = Image(sources, signs)
            wrong = _senses(image.positions(positions), centres) * wanted < 0
            for i in centres[wrong, 0]:
                ends = (j for j in near[i] if len(near[j]) == 1)
                alike = (
                    pair for pair in combinations(ends, 2) if len({ranks[j] for j in pair}) == 1
                )
                for one, other in list(alike)[:1]:
                    sources[[one, other]] = sources[[other, one]]
            if (_senses(image.positions(positions), centres) * wanted >= 0)[firm].all():
                yield image


def _senses(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return in which sense the neighbours of centres follow each other: −1, 1, or 0 in a plane."""
    arms = positions[centres[:, 1:]] - positions[centres[:, :1]]
    arms /= np.linalg.norm(arms, axis=2, keepdims=True)
    products = np.linalg.det(arms)
    return np.where(np.abs(products) > FLAT, np.sign(products), 0)


def _mappings(mol: Chem.Mol, ranks: list[int], near: list[list[int]]) -> Iterator[np.ndarray]:
    """Yield the mappings of a molecule onto itself, with hydrogens in any order."""
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    skeleton = Chem.RWMol(mol)
    for i in sorted(set(range(mol.GetNumAtoms())) - set(heavy), reverse=True):
        skeleton.RemoveAtom(i)
    for match in skeleton.GetSubstructMatches(skeleton, uniquify=False, maxMatches=MOST):
        places = [heavy[j] for j in match]
        if any(ranks[i] != ranks[j] for i, j in zip(heavy, places, strict=True)):
            continue
        sources = np.arange(mol.GetNumAtoms())
        sources[heavy] = places
        for i, j in zip(heavy, places, strict=True):
            own, theirs = ([k for k in near[atom] if k not in heavy] for atom in (i, j))
            sources[own] = theirs
        yield sources
