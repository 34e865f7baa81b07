"""Molecules of a long list of SMILES that a script may choose from, in an order by hash."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem, rdBase
from tqdm import tqdm

from diffrelax.data.minima import SEALED, remainder_of, split_of_constitution
from diffrelax.data.qm9 import Split
from diffrelax.molecule.perception import constitution_key

ELEMENTS = frozenset({1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53})
HALOGENS_AND_MORE = frozenset({15, 16, 17, 35, 53})
QM9 = frozenset({1, 6, 7, 8, 9})


class Candidate(NamedTuple):
    """A closed-shell molecule in one piece, of twelve elements, that is not sealed.

    Parameters
    ----------
    key : str
        First 14 letters of its InChIKey.
    smiles : str
    heavy : int
    charge : int
    elements : frozenset of int
    """

    key: str
    smiles: str
    heavy: int
    charge: int
    elements: frozenset[int]

    @property
    def remainder(self) -> int:
        """The remainder on which its split is defined."""
        return remainder_of(self.key)

    @property
    def is_plain(self) -> bool:
        """Whether it is neutral and has no element but those of QM9."""
        return not self.charge and self.elements <= QM9

    @property
    def is_other(self) -> bool:
        """Whether it has P, S, Cl, Br, I or a charge."""
        return bool(self.charge or self.elements & HALOGENS_AND_MORE)


def candidates(path: Path, split: Split, salt: str) -> list[Candidate]:
    """Return the molecules of a split, each constitution once, by the sha256 of salt and key."""
    found: dict[str, Candidate] = {}
    with gzip.open(path, "rt") as lines, rdBase.BlockLogs():
        for one in read(tqdm(lines, unit="mol", disable=None), split):
            found.setdefault(one.key, one)
    return sorted(found.values(), key=lambda one: sha256(f"{salt}{one.key}".encode()).hexdigest())


def read(lines: Iterator[str], split: Split) -> Iterator[Candidate]:
    """Yield what may be chosen of a split."""
    for line in lines:
        one = examine(line.split()[0]) if line.strip() else None
        if one and split_of_constitution(one.remainder, one.smiles) == split:
            yield one


def examine(smiles: str) -> Candidate | None:
    """Read a SMILES; None if it may not be chosen."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or "." in smiles:
        return None
    atoms = list(molecule.GetAtoms())
    elements = frozenset(atom.GetAtomicNum() for atom in atoms) | {1}
    if elements - ELEMENTS or any(atom.GetNumRadicalElectrons() for atom in atoms):
        return None
    key = constitution_key(smiles)
    if not key or remainder_of(key) in SEALED:
        return None
    charge = Chem.GetFormalCharge(molecule)
    return Candidate(key, Chem.MolToSmiles(molecule), molecule.GetNumHeavyAtoms(), charge, elements)
