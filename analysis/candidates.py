"""Molecules of a long list of SMILES that a script may choose from, in an order by hash."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem, rdBase
from tqdm.auto import tqdm

from diffrelax.atomic import write_text
from diffrelax.data.minima import SEALED, remainder_of, split_of_constitution
from diffrelax.data.qm9 import Split
from diffrelax.molecule.connectivity import constitution_key

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
    with rdBase.BlockLogs():
        for one in of_split(each_smiles(path), split):
            found.setdefault(one.key, one)
    return sorted(found.values(), key=lambda one: sha256(f"{salt}{one.key}".encode()).hexdigest())


def each_smiles(path: Path) -> Iterator[str]:
    """Yield the SMILES of a list, packed or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as lines:
        for line in tqdm(lines, unit="mol", disable=None):
            if words := line.split():
                yield words[0]


def write_chosen(path: Path, chosen: Iterable[Candidate]) -> None:
    """Write molecules down, each with its key and the remainder on which its split is defined."""
    write_text(path, "".join(f"{one.smiles} {one.key} {one.remainder}\n" for one in chosen))


def of_split(smiles: Iterable[str], split: Split) -> Iterator[Candidate]:
    """Yield what may be chosen of a split."""
    for one in map(examine, smiles):
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
