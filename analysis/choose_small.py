"""Which small molecules and ions get minima: those of a long list, and pieces of all in it.

Run: python analysis/choose_small.py SMILES.smi.gz CHOSEN.smi N

Pieces are what is left when single bonds outside rings are cut and the ends get hydrogen atoms,
without stereochemistry. Those of up to four heavy atoms are all taken that come from twenty
molecules or more; of what has five to nine heavy atoms and stands in the list itself, N, drawn with
weights as in choose_molecules.py. Written likewise.
"""

import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

from candidates import Candidate, each_smiles, examine, write_chosen
from choose_molecules import Weighed, weight_of
from rdkit import Chem, rdBase

MOST_OF_A_PIECE, MOST = 4, 9  # heavy atoms
OFTEN = 20


def main(source: Path, output: Path, n: int) -> None:
    """Choose molecules of a list and write them down, the smallest first."""
    small: dict[str, Candidate] = {}
    counts: Counter[str] = Counter()
    with rdBase.BlockLogs():
        for smiles in each_smiles(source):
            if one := examine(smiles):
                counts.update(tiny_pieces(Chem.MolFromSmiles(one.smiles)))
                if MOST_OF_A_PIECE < one.heavy <= MOST:
                    small.setdefault(one.smiles, one)
        often = [examine(piece) for piece, count in counts.items() if count >= OFTEN]
    tiny = sorted((one for one in often if one), key=lambda one: (one.heavy, one.smiles))
    weighed = (Weighed(one, weight_of(one)) for one in small.values())
    drawn = sorted(weighed, key=lambda one: one.place)[:n]
    write_chosen(output, [*tiny, *(one.molecule for one in drawn)])


def tiny_pieces(molecule: Chem.Mol) -> set[str]:
    """Return the pieces of up to four heavy atoms of a molecule, each once."""
    cut = Chem.RWMol(molecule)
    bonds = single_bonds(molecule)
    for begin, end in bonds:
        cut.RemoveBond(begin, end)
    blocks = Chem.GetMolFrags(cut)
    block_of = {atom: i for i, block in enumerate(blocks) for atom in block}
    beside: dict[int, set[int]] = defaultdict(set)
    for begin, end in bonds:
        beside[block_of[begin]].add(block_of[end])
        beside[block_of[end]].add(block_of[begin])
    sizes = [len(block) for block in blocks]
    found = {frozenset([i]) for i, size in enumerate(sizes) if size <= MOST_OF_A_PIECE}
    grown = found
    while grown := {
        some | {i}
        for some in grown
        for i in set().union(*(beside[j] for j in some)) - some
        if sum(sizes[j] for j in some) + sizes[i] <= MOST_OF_A_PIECE
    }:
        found = found | grown
    atoms = ([atom for i in some for atom in blocks[i]] for some in found)
    texts = {Chem.MolFragmentToSmiles(molecule, some, isomericSmiles=False) for some in atoms}
    return {piece for text in texts if (piece := with_hydrogens(text))}


def single_bonds(molecule: Chem.Mol) -> list[tuple[int, int]]:
    """Return the atoms of the single bonds outside rings."""
    return [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        for bond in molecule.GetBonds()
        if bond.GetBondType() == Chem.BondType.SINGLE and not bond.IsInRing()
    ]


@cache
def with_hydrogens(text: str) -> str:
    """Return a piece with hydrogen atoms where it was cut; empty if it is no molecule."""
    piece = Chem.MolFromSmiles(text, sanitize=False)
    for atom in piece.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    try:
        Chem.SanitizeMol(piece)
    except Chem.MolSanitizeException:
        return ""
    return Chem.MolToSmiles(piece)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
