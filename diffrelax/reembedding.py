"""Other geometries of a molecule that has one."""

from __future__ import annotations

from typing import Literal

import numpy as np

from diffrelax.embedding import embed
from diffrelax.identity import identity_change
from diffrelax.molecule import Molecule

MIRROR = np.array([1.0, 1.0, -1.0])


def embed_again(
    molecule: Molecule, seed: int, method: Literal["ETKDGv3", "KDG"] = "ETKDGv3"
) -> Molecule:
    """Embed a molecule in 3D and relax it with a force field; its configuration stays.

    See `diffrelax.embedding.embed`. The axial configuration of an allene is left to chance there,
    so that the mirror image may be what is returned.

    Raises
    ------
    ValueError
        If no conformer is found, or what is found is another molecule.
    """
    mol, start = embed(molecule.to_rdkit(), seed, method)
    positions = mol.GetConformer().GetPositions()
    change = identity_change(molecule, positions)
    if change:
        positions = positions * MIRROR
        if identity_change(molecule, positions):
            raise ValueError(f"the embedding is another molecule: {change}")
    return molecule.with_positions(positions, start)
