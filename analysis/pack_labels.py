"""Pack finished chunks of labels into the next part of a release of minima.

Run: python analysis/pack_labels.py CHUNKS LIST RELEASE

CHUNKS has files NNNN.npz, each with the minima of some molecules of LIST: row (the line of LIST),
offsets, numbers, start, positions, charge and smiles as in a `GeometrySet`, with their energies,
forces and failures. The chunks that no part of RELEASE has yet become one part if they have enough
minima, and a line of RELEASE/parts.csv. Run it again when more chunks are finished.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from diffrelax.data.labels import Part
from diffrelax.data.minima import Minimum

CHUNK = 256  # lines of the list
ENOUGH = 4096  # minima
ABOUT = {
    "level": "wB97M-D3/def2-TZVPP",
    "method": "AIMNet2 as in AcAuto3D 1.0.1",
    "starts": "ETKDGv3 with the seed, then MMFF94, or UFF where that has no parameters",
    "converged": "no force above 0.015 eV/Å",
    "sources": "SMILES of https://github.com/openforcefield/qca-dataset-submission, CC-BY-4.0",
    "licence": "CC-BY-4.0",
    "split": "remainder 0 and 1 sealed, 2 and 3 test, 4 validation, others training: sha256 of "
    "the first 14 letters of the InChIKey, modulo 20",
    "units": {"positions": "1e-4 Å", "energy": "eV", "fmax": "eV/Å"},
}


def main(chunks: Path, table: Path, release: Path) -> None:
    """Pack what has not been packed, if it is enough."""
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    parts = sorted(release.glob("part-*.npz"))
    packed = {name for path in parts for name in Part.load(path).about["chunks"]}
    new = [path for path in sorted(chunks.glob("*.npz")) if path.name not in packed]
    minima: list[Minimum] = []
    energies, fmax, dropped = [], [], Counter()
    for path in new:
        with np.load(path, allow_pickle=False) as file:
            chunk = {name: file[name] for name in file.files}
        minima += minima_of(chunk, rows)
        energies.append(chunk["energy"])
        fmax.append(chunk["fmax"])
        dropped.update(dropped_of(chunk, CHUNK * int(path.stem)))
    if len(minima) < ENOUGH:
        print(f"{len(minima)} new minima in {len(new)} chunks: a part has {ENOUGH} or more")
        return
    path = release / f"part-{len(parts):02d}.npz"
    about = ABOUT | {"chunks": [one.name for one in new], "dropped": dict(dropped)}
    Part(about, minima, np.concatenate(energies), np.concatenate(fmax)).save(path)
    counts = {
        "part": path.name,
        "minima": len(minima),
        "molecules": len({m.smiles for m in minima}),
        "charged": sum(m.charge != 0 for m in minima),
        "dropped": dropped.total(),
        "bytes": path.stat().st_size,
        "sha256": sha256(path.read_bytes()).hexdigest(),
    }
    with (release / "parts.csv").open("a", newline="") as file:
        writer = csv.DictWriter(file, counts, lineterminator="\n")
        if not parts:
            writer.writeheader()
        writer.writerow(counts)
    print(f"{path}: {len(minima)} minima, {counts['bytes'] / len(minima):.0f} bytes each")


def minima_of(chunk: dict[str, np.ndarray], rows: list[list[str]]) -> Iterator[Minimum]:
    """Yield the minima of a chunk with what the list says of them."""
    for i, row in enumerate(chunk["row"].tolist()):
        atoms = slice(*chunk["offsets"][i : i + 2].tolist())
        yield Minimum(
            place=row,
            name=f"row {row}",
            smiles=rows[row][1],
            remainder=int(rows[row][4]),
            charge=int(chunk["charge"][i]),
            numbers=chunk["numbers"][atoms],
            positions=chunk["positions"][atoms].astype(np.float64),
            seed=int(rows[row][2]),
        )


def dropped_of(chunk: dict[str, np.ndarray], first: int) -> Iterator[str]:
    """Yield in a word why molecules of a chunk became no label."""
    kept = set(chunk["row"].tolist())
    for place, why in json.loads(str(chunk["failures"])):
        if first + place not in kept:
            yield why.split(":")[0].split()[0]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
