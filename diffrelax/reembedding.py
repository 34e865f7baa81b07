"""Other geometries of a molecule that has one."""

from __future__ import annotations

from typing import Literal

from diffrelax.embedding import embed
from diffrelax.identity import identity_change, mirror_image
from diffrelax.molecule import Molecule


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
    embedded = molecule.with_positions(mol.GetConformer().GetPositions(), start)
    change = identity_change(molecule, embedded.positions)
    if not change:
        return embedded
    image = mirror_image(embedded)
    if identity_change(molecule, image.positions):
        raise ValueError(f"the embedding is another molecule: {change}")
    return image
