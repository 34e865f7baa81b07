"""Minima of several sources: split, pairing with starts, packing.

All sources share one split, by the remainder modulo 20 of the sha256 of the first 14 letters of the
InChIKey (the constitution): 0 and 1 sealed, 2 and 3 test, 4 validation, the rest training. QM9
keeps its own split; other sources omit constitutions that QM9 has in a different split.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple, NoReturn

import ase
import numpy as np
from rdkit import rdBase
from tqdm.auto import tqdm

from diffrelax.data.packing import Pair, pack, pair, pair_with
from diffrelax.data.qm9 import SPLITS, Split
from diffrelax.errors import InputError, UnfinishedError
from diffrelax.files.processes import ordered_map
from diffrelax.geometry import bond_matrix
from diffrelax.molecule import Molecule
from diffrelax.training.config import TrainingConfig
from diffrelax.training.geometries import GeometrySet

SEALED = (0, 1)
SPLIT_OF_REMAINDER: dict[int, Split] = {2: "test", 3: "test", 4: "validation"}
TRAINED_ON = TrainingConfig()


class Minimum(NamedTuple):
    """A minimum of a source.

    Attributes
    ----------
    place : int
        Number of the molecule in the source.
    name, smiles : str
    remainder : int
        Remainder of the hash of the constitution, from 0 to 19.
    charge : int
    numbers : (n_atoms,) int array
    positions : (n_atoms, 3) array, Å
    start : (n_atoms, 3) array, Å, optional
        Start provided by the source.
    seed : int, optional
        Random seed for embedding the SMILES as the start.
    """

    place: int
    name: str
    smiles: str
    remainder: int
    charge: int
    numbers: np.ndarray
    positions: np.ndarray
    start: np.ndarray | None = None
    seed: int | None = None

    @property
    def split(self) -> Split:
        """Split of the molecule, see `split_of_constitution`."""
        return split_of_constitution(self.remainder, self.name)


def remainder_of(inchikey: str) -> int:
    """Return the remainder, from 0 to 19, that defines the split of a constitution."""
    return int(sha256(inchikey[:14].encode()).hexdigest(), 16) % 20


def split_of_constitution(remainder: int, name: str) -> Split:
    """Return the split that a remainder belongs to.

    Raises
    ------
    ValueError
        If the constitution is sealed.
    """
    if remainder in SEALED:
        raise InputError(f"{name} is sealed and must not be used")
    return SPLIT_OF_REMAINDER.get(remainder, "train")


def pack_minima(minima: Sequence[Minimum], level: str, *, relax: bool) -> dict[Split, GeometrySet]:
    """Pair minima with starts, in one process per processor, and split them.

    Parameters
    ----------
    minima : sequence of Minimum
    level : str
        Level of theory of the minima.
    relax : bool
        If False, starts are those of the source, or embeddings with the seed. If True, they are
        MMFF94 relaxations of the minima; where one fails or leaves the basin, the start of the
        source or embedding replaces it if it is in the basin.

    Returns
    -------
    dict of GeometrySet
        One for each split, without molecules that have no start or no perceived bonds (`relax`).
    """
    made = ordered_map(
        _relaxed_pair if relax else _given_pair,
        minima,
        os.cpu_count() or 1,
        lost=_lost,
        seconds=None,
    )
    pairs = list(tqdm(made, total=len(minima), desc=level, unit="mol", disable=None))
    packed = {}
    for split in SPLITS:
        chosen = [
            one
            for one, m in zip(pairs, minima, strict=True)
            if one is not None and m.split == split
        ]
        if chosen:
            packed[split] = pack(chosen, (level,))
    return packed


def _lost(minimum: Minimum, reason: str) -> NoReturn:
    raise UnfinishedError(f"{minimum.name}: {reason}")


def molecule_of(minimum: Minimum) -> Molecule | None:
    """Return a minimum as a molecule; None if its bonds cannot be perceived."""
    atoms = ase.Atoms(minimum.numbers, minimum.positions, info={"smiles": minimum.smiles})
    try:
        with rdBase.BlockLogs():
            molecule = Molecule.from_atoms(atoms, name=minimum.name, charge=minimum.charge)
    except ValueError:
        return None
    return molecule if molecule.bonds else None


def embed_with_seed(minimum: Minimum) -> Molecule | None:
    """Embed the SMILES of a minimum with its seed; None if it fails or the atoms differ."""
    assert minimum.seed is not None
    try:
        with rdBase.BlockLogs():
            molecule = Molecule.from_smiles(minimum.smiles, seed=minimum.seed)
    except ValueError:
        return None
    return molecule if np.array_equal(molecule.numbers, minimum.numbers) else None


def _given_pair(minimum: Minimum) -> Pair | None:
    start = minimum.start
    if minimum.seed is not None:
        embedded = embed_with_seed(minimum)
        start = embedded.positions if embedded else None
    if start is None:
        return None
    arrays = start, minimum.numbers, minimum.positions
    bonded = bond_matrix(*arrays[1:])
    return pair_with(*arrays, bonded, minimum.place, minimum.smiles, minimum.charge)


def _relaxed_pair(minimum: Minimum) -> Pair | None:
    if (molecule := molecule_of(minimum)) is None:
        return None
    try:
        with rdBase.BlockLogs():
            made = pair(molecule.to_rdkit(), minimum.place, "mmff94")
    except ValueError:
        return None
    given = _given_pair(minimum)
    return given if given is not None and not _in_basin(made) and _in_basin(given) else made


def _in_basin(one: Pair) -> bool:
    return bool(TRAINED_ON.in_basin(one.start_rmsd, one.start_torsion))


def join(sets: Sequence[GeometrySet]) -> GeometrySet:
    """Join the minima of several sources into one set with new numbers.

    Entries that share a number in a source (several starts) also share their new number.
    """
    joined = GeometrySet.join(sets)
    first, index = 0, []
    for one in sets:
        names, places = np.unique(one.index, return_inverse=True)
        index.append(first + places)
        first += len(names)
    return replace(joined, index=np.concatenate(index))
