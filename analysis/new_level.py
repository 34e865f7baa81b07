"""A level of theory that a model has not learned, from 64 minima: all its weights, or one row.

Run: OMP_NUM_THREADS=1 python analysis/new_level.py MODEL FOLDER --list SMILES.smi.gz

GFN2-xTB, from MMFF94 geometries, stands in for the level of a user. Neutral
molecules of the list with 12 to 30 heavy atoms, in the order of the sha256 of their constitution,
are learned from (training ones) and judged on (test ones, or with --split validation ones).
`diffrelax finetune` goes on from MODEL as a user would have it, once with --only-level. How far
either way moves what the model makes at its own level is told beside. What is done is kept in
FOLDER; the same command goes on, and writes FOLDER/new_level.json and FOLDER/new_level.md. MODEL
must not have learned GFN2-xTB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from candidates import candidates
from reach_rows import MILLI
from records import how_made, store

from diffrelax.atomic import write_text
from diffrelax.benchmark.estimates import estimate_median
from diffrelax.data.qm9 import Split
from diffrelax.files.reading import read_molecules
from diffrelax.files.values import plain_values
from diffrelax.files.writing import write_molecules
from diffrelax.geometry import geometry_errors
from diffrelax.levels.batch import relax_many
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table
from diffrelax.training.state import WEIGHTS

METHOD, LEVEL = "gfn2-xtb", "GFN2-xTB (64 minima)"
FMAX = 0.02  # eV/Å
HEAVY = range(12, 31)
N_LEARNED, N_JUDGED = 64, 200
WAYS: dict[str, list[str]] = {"all weights": [], "row alone": ["--only-level"]}


def main() -> None:
    """Make minima, learn them in both ways, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--steps", type=int, default=2048)
    options = parser.parse_args()
    base = load_model(options.model)
    _, learned = minima(options.folder, options.list, "train", N_LEARNED)
    starts, judged = minima(options.folder, options.list, options.split, N_JUDGED)
    own = ends_of(base, starts, base.config.level)
    nearest = base.nearest_level(LEVEL).level
    rows = [row_of("before", starts, ends_of(base, starts, nearest), judged)]
    for way, more in WAYS.items():
        tuned = options.folder / way.replace(" ", "-")
        learn(options, learned, tuned, more)
        model = load_model(tuned)
        moved = row_of(way, starts, ends_of(model, starts, base.config.level), own)
        row = row_of(way, starts, ends_of(model, starts, LEVEL), judged)
        rows.append(row | {"moved": moved["bonds"]})
    made = how_made(base, before=nearest, split=options.split, learned=N_LEARNED, rows=rows)
    store(options.folder / "new_level.json", plain_values(made))
    title = f"# {base.name}, and {N_LEARNED} minima at GFN2-xTB: medians\n\n"
    write_text(options.folder / "new_level.md", title + table(rows) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format errors at the new level, and how far ends at the level of the model have moved."""
    header = ("learned", "molecules", "bonds, mÅ", "1–3 distances, mÅ",
              "bonds moved at its own level, mÅ")  # fmt: skip
    return markdown_table(header, [
        (row["way"], str(row["n"]),
         *(f"{row[q] / MILLI:.2f}" if q in row else "–" for q in ("bonds", "angles", "moved")))
        for row in rows
    ])  # fmt: skip


def minima(folder: Path, table: Path, split: Split, n: int) -> tuple[list[Molecule], Path]:
    """Return MMFF94 geometries, and the file with the minima of the same molecules, made once."""
    paths = [folder / f"{split}-{kind}.extxyz" for kind in ("starts", "minima")]
    if not paths[1].exists():
        starts, ends = [], []
        for one in candidates(table, split, "new level"):
            if len(ends) == n:
                break
            if one.charge or one.heavy not in HEAVY:
                continue
            (start,) = read_molecules([one.smiles])
            if isinstance(start, Molecule) and start.start == "mmff94":
                (relaxed,) = relax_many([start], METHOD, fmax=FMAX)
                if relaxed.converged:
                    starts.append(start)
                    ends.append(start.with_positions(relaxed.positions))
        folder.mkdir(parents=True, exist_ok=True)
        for path, molecules in zip(paths, (starts, ends), strict=True):
            write_molecules(path, molecules)
    return [replace(one, start="mmff94") for one in read_molecules(paths[0])], paths[1]


def learn(options: argparse.Namespace, data: Path, folder: Path, more: Sequence[str]) -> None:
    """Do what a user would do; an interrupted run goes on."""
    diffrelax = [sys.executable, "-m", "diffrelax"]
    if not (folder / "config.yaml").exists():
        words = ["finetune", options.model, str(data), "-o", str(folder), "--level", LEVEL,
                 "--steps", str(options.steps), *more]  # fmt: skip
    elif not (folder / WEIGHTS).exists():
        words = ["train", str(folder / "config.yaml"), "--resume"]
    else:
        return
    subprocess.run([*diffrelax, *words], check=True)


def ends_of(model: Model, starts: Sequence[Molecule], level: str) -> list[Molecule]:
    """Return what a model makes of molecules; their starts where it relaxes none."""
    results = relax_molecules(starts, model, level=level)
    return [result.molecule or result.start for result in results]


def row_of(
    way: str, starts: Sequence[Molecule], ends: Sequence[Molecule], judged: Path | list[Molecule]
) -> dict[str, Any]:
    """Compare ends with minima."""
    references = read_molecules(judged) if isinstance(judged, Path) else judged
    errors = [
        geometry_errors(start.numbers, end.positions, reference.positions)
        for start, end, reference in zip(starts, ends, references, strict=True)
    ]
    medians = {q: estimate_median([getattr(e, q) for e in errors]) for q in ("bonds", "angles")}
    return {"way": way, "n": len(errors), **medians}


if __name__ == "__main__":
    main()
