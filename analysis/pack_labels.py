"""Pack minima that `diffrelax minima` has made into the next part of a release of labels.

Run: python analysis/pack_labels.py RELEASE MINIMA.jsonl...

What no part of RELEASE has yet becomes one part if it is enough, and a line of RELEASE/parts.csv.
Run it again when more minima are made. A release has minima of one level of theory, AIMNet2's or
GFN2-xTB. A minimum is of a SMILES in RDKit's canonical form, whose order its atoms have; one that
is not is counted with those that came to nothing.
"""

import csv
import json
import re
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from labels import Part
from rdkit import Chem

from diffrelax.data.minima import Minimum, remainder_of
from diffrelax.levels.distances import AIMNET2
from diffrelax.molecule.connectivity import constitution_key
from diffrelax.results.beside import SETTINGS, each_row, units_beside
from diffrelax.store import Store

METHODS = {  # level of theory and method of what makes minima
    "aimnet2": {"level": AIMNET2, "method": "AIMNet2 as in AcAuto3D 1.0.1"},
    "gfn2-xtb": {
        "level": "GFN2-xTB",
        "method": "GFN2-xTB as in tblite, from minima of wb97m-aimnet2-1",
    },
}
ENOUGH = 4096  # minima
ABOUT = {
    "starts": "ETKDGv3 with the seed, then MMFF94, or UFF where that has no parameters",
    "sources": "SMILES of https://github.com/openforcefield/qca-dataset-submission, CC-BY-4.0",
    "licence": "CC-BY-4.0",
    "split": "remainder 0 and 1 sealed, 2 and 3 test, 4 validation, others training: sha256 of "
    "the first 14 letters of the InChIKey, modulo 20",
    "units": {"positions": "1e-4 Å", "energy": "eV", "fmax": "eV/Å"},
}


def main(release: Path, files: list[Path]) -> None:
    """Pack what has not been packed, if it is enough."""
    parts = sorted(release.glob("part-*.npz"))
    packed: Counter[str] = Counter()
    levels = set()
    for path in parts:
        about = Part.load(path).about
        packed.update(about.get("inputs", {}))
        levels.add(about["level"])
    minima: list[Minimum] = []
    energies, fmax, inputs = [], [], {}
    dropped: Counter[str] = Counter()
    if len({path.name for path in files}) < len(files):
        raise SystemExit("files of minima are told apart by their names: rename one")
    for path in files:
        settings, rows = made(path)
        method = METHODS[settings["level"]]
        levels.add(method["level"])
        new = rows[packed[path.name] :]
        inputs[path.name] = len(new)
        for row in new:
            if row["verdict"] != "minimum":
                dropped[kind_of(row["reason"])] += 1
            elif (minimum := minimum_of(row, settings["seed"])) is None:
                dropped["another order of the atoms"] += 1
            else:
                minima.append(minimum)
                energies.append(row["energy_ev"])
                fmax.append(row["fmax"])
    if len(levels) > 1:
        raise SystemExit(f"minima of {' and '.join(sorted(levels))}: a release has one level")
    if len(minima) < ENOUGH:
        print(f"{len(minima)} new minima: a part has {ENOUGH} or more")
        return
    path = release / f"part-{len(parts):02d}.npz"
    converged = f"no force above {settings['fmax']} eV/Å"
    about = method | ABOUT | {"converged": converged, "inputs": inputs, "dropped": dict(dropped)}
    Part(about, minima, np.array(energies), np.array(fmax)).save(path)
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


def made(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how minima were made, and a row for each input, with its geometry if it has one."""
    settings = Store(units_beside(path)).find(SETTINGS)
    geometries = map(json.loads, path.open(encoding="utf-8"))
    return settings, [
        next(geometries) if row["verdict"] == "minimum" else row for row in each_row(path)
    ]


def kind_of(reason: str) -> str:
    """Return a reason without what is of one molecule alone."""
    return re.sub(r"'.*'|\d", "", reason).split(":")[0].strip()


def minimum_of(row: dict[str, Any], seed: int) -> Minimum | None:
    """Return a row as a minimum; None if its atoms are not in the order of its SMILES."""
    numbers = np.array([atomic_numbers[symbol] for symbol in row["symbols"]])
    read = Chem.AddHs(Chem.MolFromSmiles(row["smiles"]))
    if [atom.GetAtomicNum() for atom in read.GetAtoms()] != numbers.tolist():
        return None
    return Minimum(
        place=0,
        name=row["name"],
        smiles=row["smiles"],
        remainder=remainder_of(constitution_key(row["smiles"])),
        charge=row["charge"],
        numbers=numbers,
        positions=np.array(row["positions"]),
        seed=seed,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
