"""How far the bonds of an atom are off, by how many training molecules have one of its kind.

Run: OMP_NUM_THREADS=1 python analysis/rarity.py MODEL VALIDATION.npz OUTPUT

Validation molecules of a packed set (pack_sets.py) at their MMFF94 geometries, where these are in
the basin: all whose rarest kind of atom fewer than fifty training molecules have, or that have a
double bond in a ring of three or four atoms, of whose atoms alone the rarest counts, and the first
100 others of each level. Told is the largest error among the bonds to heavy atoms of the first atom
of that kind, where the whole schedule leads, whatever the model says of it; medians in tables.
"""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from outside import ungated
from reach_rows import RARITIES, rarity
from records import how_made, store
from tqdm.auto import tqdm

import diffrelax as dr
from diffrelax.benchmark.sample import choose_sample, in_basin
from diffrelax.models.domain import STRAINED
from diffrelax.molecule.environments import environments
from diffrelax.results.tables import markdown_table
from diffrelax.training.geometries import GeometrySet

COMMON, OTHERS = RARITIES[-2], 100
FAR, FARTHER = 20, 40  # mÅ


def main(name: str, packed: Path, output: Path) -> None:
    """Measure, write the file, and print its tables."""
    model, geometries = dr.load_model(name), GeometrySet.load(packed)
    rows: list[dict[str, Any]] = []
    for place, level in enumerate(tqdm(geometries.levels)):
        known = np.isfinite(geometries.start_rmsd) & (geometries.level == place)
        if known.any():
            rows += measure(geometries, model, level, int(known.sum()))
    store(output, how_made(model, split="validation") | {"molecules": rows}, indent=None)
    print(by_rarity(rows), by_rarity([row for row in rows if row["strained"]]), sep="\n\n")


def measure(geometries: GeometrySet, model: dr.Model, level: str, n: int) -> list[dict[str, Any]]:
    """Return a row for each molecule that is measured at a level of theory."""
    sample = choose_sample(geometries, n, level=level)
    chosen, common = [], 0
    for start, reference in zip(sample.starts, sample.references, strict=True):
        kind, seen, strained = rarest(start, model)
        if kind and in_basin(start, reference):
            rare = seen < COMMON or strained
            if rare or common < OTHERS:
                chosen.append((start, reference, kind, seen, strained))
            common += not rare
    ends = [ungated(start, model, level) for start, *_ in chosen]
    return [
        {
            "level": level,
            "smiles": start.smiles,
            "kind": kind,
            "seen": seen,
            "strained": strained,
            "start": worst_bond(start, start.positions, reference, kind),
            "end": worst_bond(start, end.positions, reference, kind),
        }
        for (start, reference, kind, seen, strained), end in zip(chosen, ends, strict=True)
    ]


def rarest(molecule: dr.Molecule, model: dr.Model) -> tuple[str, int, bool]:
    """Return the rarest kind of atom with a heavy neighbour, how many have it, if it is strained.

    Of a molecule with a double bond in a small ring it is the rarest of the atoms there.
    """
    kinds = [kind for kind in environments(molecule) if " " in kind]
    strained = [kind for kind in kinds if STRAINED.match(kind)]
    known = model.environments or {}
    kind = min(strained or kinds, key=lambda kind: known.get(kind, 0), default="")
    return kind, known.get(kind, 0), bool(strained)


def worst_bond(
    molecule: dr.Molecule, positions: np.ndarray, reference: np.ndarray, kind: str
) -> float:
    """Return the largest error among the bonds to heavy atoms of the first atom of a kind, mÅ."""
    atom = environments(molecule)[kind]
    ends = [pair for *pair, _ in molecule.bonds if atom in pair and all(molecule.numbers[pair] > 1)]
    lengths = [[np.linalg.norm(x[i] - x[j]) for i, j in ends] for x in (positions, reference)]
    return round(1e3 * float(np.abs(np.subtract(*lengths)).max()), 1)


def by_rarity(rows: list[dict[str, Any]]) -> str:
    """Tell how many molecules are far off, by how many have their rarest kind of atom."""
    lines = []
    for low, high in pairwise(RARITIES):
        some = [row for row in rows if low <= row["seen"] < high]
        if some:
            start, end = (np.array([row[side] for row in some]) for side in ("start", "end"))
            medians = (f"{np.median(side):.1f}" for side in (start, end))
            shares = (f"{np.mean(end > far):.1%}" for far in (FAR, FARTHER))
            worse = str(int((end > start).sum()))
            lines.append((rarity(low, high), str(len(some)), *medians, *shares, worse))
    header = ("training molecules with such an atom", "validation molecules",
              "its worst bond at the start, mÅ", "at the end", f"more than {FAR} mÅ off",
              f"more than {FARTHER} mÅ", "worse than at the start")  # fmt: skip
    return markdown_table(header, lines)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:4]))
