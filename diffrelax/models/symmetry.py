"""Places of high symmetry, at which an equivariant network has no direction to tell of.

Where one atom is bonded to four or more of a kind and these to it alone, as in CH4, CF4 or PF6-,
all features but scalars vanish on it. No geometry with noise has that, so the network has learned
nothing of it, and what it makes of such a start hangs on how numbers are rounded. A definite
displacement leads the start to where it knows its way, and the end is averaged over the symmetry
that it nearly has, so that bonds are even and no orientation differs from another.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from diffrelax.molecule import Molecule

ALIKE = range(4, 7)
STEP = 0.003  # Å
SAME = 0.05  # Å


def centre_of_alike(molecule: Molecule) -> int | None:
    """Return the atom to which all others are bonded, four to six of one kind; None if none is."""
    ligands = molecule.n_atoms - 1
    if ligands not in ALIKE or len(molecule.bonds) != ligands:
        return None
    counts = np.bincount([atom for bond in molecule.bonds for atom in bond[:2]])
    centre = int(counts.argmax())
    alike = len(set(np.delete(molecule.numbers, centre).tolist())) == 1
    return centre if alike and counts[centre] == ligands else None


def without_symmetry(molecule: Molecule) -> np.ndarray:
    """Return the positions, (n_atoms, 3), Å, of what has such a centre one bond stretched a bit."""
    centre, positions = centre_of_alike(molecule), molecule.positions.copy()
    if centre is not None:
        ligand = 0 if centre else 1
        bond = positions[ligand] - positions[centre]
        positions[ligand] += STEP * bond / np.linalg.norm(bond)
    return positions


def with_symmetry(molecule: Molecule, end: np.ndarray) -> np.ndarray:
    """Average an end over the symmetry that it nearly has, if there is such a centre.

    Parameters
    ----------
    molecule : Molecule
        At any positions.
    end : (n_atoms, 3) array, Å

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
        image = known[mapped] @ u @ vt  # turned, or a mirror image
        if np.sqrt(((image - known) ** 2).sum(axis=1).mean()) < SAME:
            images.append(image)
    return np.mean(images, axis=0) + middle
