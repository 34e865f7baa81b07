"""New embeddings of a molecule with a geometry."""

from __future__ import annotations

from diffrelax.errors import InputError
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import embed
from diffrelax.molecule.embedding_trials import Method
from diffrelax.molecule.identity import identity_change


def embed_again(molecule: Molecule, seed: int, method: Method = "ETKDGv3") -> Molecule:
    """Embed a molecule again with the same configuration, and relax it with a force field.

    See `diffrelax.molecule.embedding.embed`.

    Raises
    ------
    ValueError
        If no conformer is found, or it is another molecule.
    """
    mol, start = embed(molecule.to_rdkit(), seed, method)
    embedded = molecule.with_positions(mol.GetConformer().GetPositions(), start)
    if change := identity_change(molecule, embedded.positions):
        raise InputError(f"the embedding is a different molecule: {change}")
    return embedded
