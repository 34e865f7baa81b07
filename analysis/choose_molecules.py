"""Which molecules of a long list get minima: drug-like ones, rare elements and ions before others.

Run: python analysis/choose_molecules.py SMILES.smi.gz CHOSEN.smi N

Takes what has 10 to 40 heavy atoms of twelve elements, is closed-shell and one piece, and whose
split is not sealed (sha256 of the first 14 letters of the InChIKey modulo 20: 0 and 1). Each gets a
number from the sha256 of its SMILES, uniform between 0 and 1, and the N with the smallest values of
-log(number) / weight are taken, in this order: a weighted draw without replacement (Efraimidis and
Spirakis 2006, doi 10.1016/j.ipl.2005.11.003) of which every beginning is a fair sample too. Each
line has the SMILES, its InChIKey's first 14 letters and their remainder.
"""

import gzip
import math
import sys
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem.inchi import MolToInchiKey
from tqdm.auto import tqdm

from diffrelax.atomic import replacing

ELEMENTS = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53}
WEIGHTS = {5: 12.0, 14: 12.0, 15: 6.0, 35: 3.0, 53: 3.0, 16: 1.3, 17: 1.3}
SEALED = (0, 1)


class Candidate(NamedTuple):
    """A molecule that may be taken."""

    smiles: str
    key: str
    remainder: int
    weight: float

    @property
    def place(self) -> float:
        """The smaller, the sooner it is taken."""
        digits = sha256(f"reach{self.smiles}".encode()).hexdigest()[:13]
        return -math.log((int(digits, 16) + 1) / 16**13) / self.weight


def candidate(smiles: str) -> Candidate | None:
    """Weigh a molecule; None if it is not to be taken."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or "." in smiles or not 10 <= mol.GetNumHeavyAtoms() <= 40:
        return None
    elements = {atom.GetAtomicNum() for atom in mol.GetAtoms()}
    radical = any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    key = MolToInchiKey(mol)[:14]
    if not elements <= ELEMENTS or radical or not key:
        return None
    remainder = int(sha256(key.encode()).hexdigest(), 16) % 20
    if remainder in SEALED:
        return None
    charge = abs(Chem.GetFormalCharge(mol))
    of_kind = max(WEIGHTS.get(z, 1.0) for z in elements)
    of_charge = (1.0, 3.0, 5.0)[min(charge, 2)]
    heavy = mol.GetNumHeavyAtoms()
    of_size = 0.4 if heavy <= 13 else 1.0 if heavy <= 17 else 2.5
    return Candidate(Chem.MolToSmiles(mol), key, remainder, max(of_kind, of_charge) * of_size)


def main(source: Path, output: Path, n: int) -> None:
    """Choose molecules of a list and write them down."""
    opened = gzip.open if source.suffix == ".gz" else open
    found: dict[str, Candidate] = {}
    with opened(source, "rt") as lines, rdBase.BlockLogs():
        for line in tqdm(lines, unit="mol", disable=None):
            if (words := line.split()) and (one := candidate(words[0])):
                found.setdefault(one.smiles, one)
    chosen = sorted(found.values(), key=lambda one: one.place)[:n]
    with replacing(output) as part:
        part.write_text("".join(f"{c.smiles} {c.key} {c.remainder}\n" for c in chosen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
