"""Embedding of molecules in 3D."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers
from scipy.spatial.distance import cdist

from diffrelax.errors import InputError
from diffrelax.molecule.drawings import atomic_numbers
from diffrelax.molecule.embedding_trials import (
    CAGE_TRIALS,
    Method,
    Trial,
    embedded_by_rdkit,
    embedding_trials,
    ring_trials,
    six_neighbours,
)
from diffrelax.molecule.force_fields import energy_with_holds, has_mmff94, is_torn, relax_freely
from diffrelax.molecule.held_torsions import Torsion, senses
from diffrelax.molecule.stereo import assign_stereo, clear_nominal
from diffrelax.molecule.strained_rings import has_strained_ring

MAX_HEAVY_ATOMS = 100  # an alkane chain of this length takes 20 s
MAX_ATOMS = 250  # hydrogens included; a molecule is too large if it exceeds both limits
NO_BOND = 0.3  # Å beyond the covalent radii; atoms within 0.2 count as bonded
COS_OPPOSITE = -0.85  # 148°
EMBEDDING_SECONDS = 30  # processor time for all trials of a molecule and the force field


def embed_start(mol: Chem.Mol, seed: int, max_atoms: int | None = None) -> tuple[Chem.Mol, str]:
    """Embed a molecule like `embed`; for strained rings, return the lowest of many embeddings.

    Embeddings of strained rings can differ widely in energy. The force field energy decides. See
    `diffrelax.molecule.strained_rings.has_strained_ring`.
    """
    asked = _Asked.of(mol, max_atoms)
    if asked.poses or not has_strained_ring(mol):
        return embed(mol, seed, max_atoms=max_atoms)
    end = time.thread_time() + EMBEDDING_SECONDS
    found = asked.embeddings(ring_trials(asked.mol, check_seed(seed)), end)
    lowest = min(found, key=lambda one: energy_with_holds(one[0]), default=None)
    return lowest or embed(mol, seed, max_atoms=max_atoms)


def embed(
    mol: Chem.Mol, seed: int, method: Method = "ETKDGv3", max_atoms: int | None = None
) -> tuple[Chem.Mol, str]:
    """Embed a molecule in 3D and relax it with MMFF94, or UFF if MMFF94 lacks parameters.

    A geometry that lacks only hydrogens, such as a docking pose, is relaxed without embedding. If
    the result is another isomer or has broken bonds, the molecule is embedded. If the embedding
    fails, as for small cages, it is repeated without RDKit's tests of the geometry (see
    `diffrelax.molecule.embedding_trials`); the result must have all bonds and the stereochemistry
    of ``mol``. Unconnected fragments are embedded separately, placed side by side and relaxed
    together, or separately if they repel each other.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Hydrogens are appended.
    seed : int
    method : {"ETKDGv3", "KDG"}
        With or without torsion preferences from crystal structures.
    max_atoms : int, optional
        Reject larger molecules, hydrogens included.

    Returns
    -------
    rdkit.Chem.Mol
        With all hydrogens and one conformer.
    str
        The force field: ``"mmff94"`` or ``"uff"``, with `` unconverged`` after an incomplete
        relaxation, or ``"embedded"`` if neither has parameters.

    Raises
    ------
    ValueError
        If the seed is not an integer from 0 to 2**31 - 9; ``mol`` has more than `max_atoms` atoms,
        or exceeds both `MAX_HEAVY_ATOMS` and `MAX_ATOMS`; or no conformer with its stereochemistry
        is found within `EMBEDDING_SECONDS`.
    KeyboardInterrupt
        If SIGINT arrives during the embedding.
    """
    seed = check_seed(seed)
    asked = _Asked.of(mol, max_atoms)
    smiles = Chem.MolToSmiles(Chem.RemoveHs(asked.mol))
    end = time.thread_time() + EMBEDDING_SECONDS
    trials = chain(
        ((pose, None) for pose in asked.poses), embedding_trials(asked.mol, seed, method)
    )
    if first := next(asked.embeddings(trials, end), None):
        return first
    if time.thread_time() > end:
        raise InputError(
            f"no 3D structure found for {smiles} in {EMBEDDING_SECONDS} s of processor time: "
            "give coordinates"
        )
    if not (has_mmff94(asked.mol) or rdForceFieldHelpers.UFFHasAllMoleculeParams(asked.mol)):
        raise InputError(
            f"neither MMFF94 nor UFF has parameters for {smiles}, and atoms of the "
            "embeddings are too close: give coordinates"
        )
    raise InputError(
        f"no 3D structure found for {smiles}: check its stereochemistry and rings, try another "
        "seed, or give coordinates"
    )


class _Asked(NamedTuple):
    """A molecule to embed, with all hydrogens but no geometry.

    ``twists`` are the configurations of its input geometry that RDKit ignores. ``poses`` are input
    geometries with added hydrogens.
    """

    mol: Chem.Mol
    twists: dict[Torsion, float]
    poses: list[Chem.Mol]

    @classmethod
    def of(cls, mol: Chem.Mol, max_atoms: int | None) -> _Asked:
        asked = Chem.AddHs(mol, addCoords=mol.GetNumConformers() > 0)
        n_heavy, n_atoms = mol.GetNumHeavyAtoms(), asked.GetNumAtoms()
        if n_heavy > MAX_HEAVY_ATOMS and n_atoms > MAX_ATOMS:
            raise InputError(
                f"{n_atoms} atoms, {n_heavy} without hydrogens, are too many to embed (at most "
                f"{MAX_ATOMS}, or {MAX_HEAVY_ATOMS} without hydrogens): give coordinates"
            )
        if max_atoms is not None and n_atoms > max_atoms:
            raise InputError(
                f"{n_atoms} atoms: not embedded, because at most {max_atoms} are used here"
            )
        twists: dict[Torsion, float] = {}
        poses = []
        if asked.GetNumConformers() and asked.GetConformer().Is3D():
            assign_stereo(asked)
            twists = senses(asked)
            if n_atoms > mol.GetNumAtoms():
                poses.append(Chem.Mol(asked))
        else:
            clear_nominal(asked)
        asked.RemoveAllConformers()
        return cls(asked, twists, poses)

    def embeddings(self, trials: Iterable[Trial], end: float) -> Iterator[tuple[Chem.Mol, str]]:
        """Yield embeddings that match this molecule, with their force field, until a deadline."""
        for trial, parameters in trials:
            start = _embed_once(trial, parameters, self.twists, end)
            if time.thread_time() > end:
                return
            if not start:
                continue
            embedded = Chem.Mol(self.mol)
            embedded.AddConformer(trial.GetConformer())
            if is_torn(embedded) or (start != "mmff94" and _is_crowded(embedded)):
                continue
            if start == "embedded" and not all(map(_is_octahedral, six_neighbours(embedded))):
                continue
            assign_stereo(embedded)
            found = senses(embedded)
            if embedded.HasSubstructMatch(self.mol, useChirality=True) and all(
                sense * found.get(twist, sense) > 0 for twist, sense in self.twists.items()
            ):
                yield embedded, start


def _embed_once(mol: Chem.Mol, parameters: Any, twists: dict[Torsion, float], end: float) -> str:
    """Embed and relax a molecule in place; return the force field, or empty on failure.

    Without parameters, the existing conformer is relaxed.
    """
    if parameters is not None and not embedded_by_rdkit(mol, parameters):
        return ""
    return relax_freely(mol, twists, end)


def _is_crowded(mol: Chem.Mol) -> bool:
    """Return whether non-bonded atoms are almost at bonding distance.

    UFF does not prevent this around unknown atom types, such as six-coordinate phosphorus.
    """
    positions = mol.GetConformer().GetPositions()
    radii = covalent_radii[atomic_numbers(mol)]
    near = cdist(positions, positions) < radii[:, None] + radii + NO_BOND
    return bool((near & (Chem.GetDistanceMatrix(mol) > 1)).any())


def _is_octahedral(atom: Chem.Atom) -> bool:
    """Return whether six neighbours are arranged as an octahedron."""
    positions = atom.GetOwningMol().GetConformer().GetPositions()
    bonds = positions[[near.GetIdx() for near in atom.GetNeighbors()]] - positions[atom.GetIdx()]
    bonds /= np.linalg.norm(bonds, axis=1, keepdims=True)
    return bool((bonds @ bonds.T < COS_OPPOSITE).any(axis=1).all())


def check_seed(seed: int) -> int:
    """Return the seed as an int; raise ValueError if it is out of range for RDKit."""
    try:
        number = operator.index(seed)
        if not isinstance(seed, bool) and 0 <= number < 2**31 - CAGE_TRIALS:
            return number
    except TypeError:
        pass
    raise InputError(f"seed {seed!r}: give an integer from 0 to {2**31 - CAGE_TRIALS - 1}")
