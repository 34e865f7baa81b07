"""Which molecules of a long list get minima: drug-like ones, rare elements and ions before others.

Run: python analysis/choose_molecules.py SMILES.smi.gz CHOSEN.smi N

Takes what has 10 to 40 heavy atoms of twelve elements, is closed-shell and one piece, and whose
split is not sealed (sha256 of the first 14 letters of the InChIKey modulo 20: 0 and 1). Each gets a
number from the sha256 of its SMILES, uniform between 0 and 1, and the N with the smallest values of
-log(number) / weight are taken, in this order: a weighted draw without replacement (Efraimidis and
Spirakis 2006, doi 10.1016/j.ipl.2005.11.003) of which every beginning is a fair sample too. Each
line has the SMILES, its InChIKey's first 14 letters and their remainder.
"""

import math
import sys
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from candidates import Candidate, each_smiles, examine, write_chosen
from rdkit import rdBase

WEIGHTS = {5: 12.0, 14: 12.0, 15: 6.0, 35: 3.0, 53: 3.0, 16: 1.3, 17: 1.3}


class Weighed(NamedTuple):
    """A molecule that may be taken."""

    molecule: Candidate
    weight: float

    @property
    def place(self) -> float:
        """The smaller, the sooner it is taken."""
        digits = sha256(f"reach{self.molecule.smiles}".encode()).hexdigest()[:13]
        return -math.log((int(digits, 16) + 1) / 16**13) / self.weight


def candidate(smiles: str) -> Weighed | None:
    """Weigh a molecule; None if it is not to be taken."""
    one = examine(smiles)
    if one is None or not 10 <= one.heavy <= 40:
        return None
    of_size = 0.4 if one.heavy <= 13 else 1.0 if one.heavy <= 17 else 2.5
    return Weighed(one, weight_of(one) * of_size)


def weight_of(one: Candidate) -> float:
    """Weigh a molecule by its elements and its charge."""
    of_kind = max(WEIGHTS.get(z, 1.0) for z in one.elements)
    of_charge = (1.0, 3.0, 5.0)[min(abs(one.charge), 2)]
    return max(of_kind, of_charge)


def main(source: Path, output: Path, n: int) -> None:
    """Choose molecules of a list and write them down."""
    found: dict[str, Weighed] = {}
    with rdBase.BlockLogs():
        for smiles in each_smiles(source):
            if one := candidate(smiles):
                found.setdefault(one.molecule.smiles, one)
    chosen = sorted(found.values(), key=lambda one: one.place)[:n]
    write_chosen(output, (one.molecule for one in chosen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
