"""Highly symmetric molecules, such as CH4, CF4 or PF6-.

If one atom is bonded to four or more atoms of one element, and these only to it, all features of an
equivariant network except scalars vanish on it. Geometries with noise never have this symmetry, so
the network has not learned it, and its output for such a start depends on rounding. A small
displacement therefore breaks the symmetry of the start, and the relaxed geometry is averaged over
its approximate symmetry, so that bonds are equal and the orientation does not matter.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from diffrelax.molecule import Molecule

ALIKE = range(4, 7)
STEP = 0.003  # Å
SAME = 0.05  # Å


def centre_of_alike(molecule: Molecule) -> int | None:
    """Return the atom that is bonded to all others, four to six of one element, or None."""
    ligands = molecule.n_atoms - 1
    if ligands not in ALIKE or len(molecule.bonds) != ligands:
        return None
    counts = np.bincount([atom for bond in molecule.bonds for atom in bond[:2]])
    centre = int(np.argmax(counts))
    alike = len(set(np.delete(molecule.numbers, centre).tolist())) == 1
    return centre if alike and counts[centre] == ligands else None


def without_symmetry(molecule: Molecule) -> np.ndarray:
    """Return the positions, (n_atoms, 3), Å, with one bond stretched if there is such a centre."""
    centre, positions = centre_of_alike(molecule), molecule.positions.copy()
    if centre is not None:
        ligand = 0 if centre else 1
        bond = positions[ligand] - positions[centre]
        positions[ligand] += STEP * bond / np.linalg.norm(bond)
    return positions


def with_symmetry(molecule: Molecule, end: np.ndarray) -> np.ndarray:
    """Average a relaxed geometry over its approximate symmetry, if there is such a centre.

    Parameters
    ----------
    molecule : Molecule
        Its positions are not used.
    end : (n_atoms, 3) array, Å
        Relaxed geometry.

    Returns
    -------
    (n_atoms, 3) array, Å
    """
    if (centre := centre_of_alike(molecule)) is None or not np.isfinite(end).all():
        return end
    middle = end.mean(axis=0)
    known, images = end - middle, []
    for order in permutations(np.delete(np.arange(len(end)), centre)):
        mapped = np.insert(order, centre, centre)
        u, _, vt = np.linalg.svd(known[mapped].T @ known)
        image = known[mapped] @ u @ vt  # rotated or mirrored
        if np.sqrt(((image - known) ** 2).sum(axis=1).mean()) < SAME:
            images.append(image)
    return np.mean(images, axis=0) + middle
