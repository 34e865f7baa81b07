"""Make the starts at a cheap level of theory that a model learns to begin from.

Run: OMP_NUM_THREADS=1 nice -n 19 python analysis/make_starts.py DATA RELEASE SOURCE [LEVEL]

SOURCE is one of `published.SOURCES`, or qm9, of which one molecule in ten is taken.
Each minimum but test and sealed ones is minimised at LEVEL (aimnet2, by default) from where it is,
so the start lies in its basin or next to it. RELEASE gets a part for every 2,048 minima, so the
same command goes on where it was stopped.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from published import SOURCES, read_source
from starts import save_starts

from diffrelax.data import qm9
from diffrelax.geometry import superpose
from diffrelax.levels.aimnet2 import evaluate
from diffrelax.levels.side_by_side import relax_side_by_side
from diffrelax.molecule import Molecule

PART = 2048
FMAX = 0.01  # eV/Å
ONE_IN = 10  # of QM9


def main(data: Path, release: Path, source: str, level: str = "aimnet2") -> None:
    """Make what is not there."""
    found = sorted(molecules(data, source), key=lambda m: int(m.name))
    about = {"source": source, "level": level, "fmax": FMAX, "from": "the minimum"}
    for number, first in enumerate(range(0, len(found), PART)):
        path = release / f"{source}-{level}-{number:02d}.npz"
        if path.exists():
            continue
        part = sorted(found[first : first + PART], key=lambda m: m.n_atoms)
        displacements = {}
        for walk in relax_side_by_side(part, evaluate, fmax=FMAX, max_calls=100):
            if walk.fmax < FMAX:
                minimum = walk.molecule.positions - walk.molecule.positions.mean(axis=0)
                displacements[int(walk.molecule.name)] = (
                    superpose(walk.positions, minimum)[0] - minimum
                )
        save_starts(path, about, dict(sorted(displacements.items())))
        rms = [float(np.sqrt((d**2).sum(1).mean())) for d in displacements.values()]
        print(path.name, len(part), len(rms), round(float(np.median(rms)), 4), flush=True)


def molecules(data: Path, source: str) -> Iterator[Molecule]:
    """Yield the minima of a source that are neither test nor sealed, named by their place."""
    if source == "qm9":
        packed = [qm9.load_qm9(split) for split in ("train", "validation")]
        for one in packed:
            for i, index in enumerate(one.index.tolist()):
                if index // 20 % ONE_IN == 0:
                    atoms = one.atoms(i)
                    yield Molecule(one.numbers[atoms], one.positions[atoms], name=str(index))
        return
    (chosen,) = [s for s in SOURCES if s.name == source]
    for minimum in read_source(chosen, data):
        if minimum.split != "test":
            yield Molecule(
                minimum.numbers, minimum.positions, minimum.charge, name=str(minimum.place)
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
