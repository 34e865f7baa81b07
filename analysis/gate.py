"""How rare an atom has to be for a caution, and what a bound must be, on QM9 validation molecules.

Run: OMP_NUM_THREADS=1 python analysis/gate.py analysis/results/relax-qm9-2/gate.json

Starts are the relaxations of the minima with MMFF94. Of the first 1,000 validation molecules in a
fixed random order, and of all others that have a rare atom: the lowest number of training molecules
that have an atom of one of its kinds, the errors of the start and of the model's end against the
minimum, the bound without the gate, and how far GFN2-xTB sees the end above the start.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dft_speedup import MODEL, about_model
from records import how_made, store
from tqdm.auto import tqdm

import diffrelax as dr
from diffrelax.benchmark.sample import Sample, choose_sample, in_basin
from diffrelax.data.qm9 import load_qm9
from diffrelax.geometry import geometry_errors
from diffrelax.judgement import rise
from diffrelax.models.domain import unfamiliar
from diffrelax.molecule.environments import environments
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table

N = 1000
LIMITS = (1, 2, 3, 4, 5, 6, 8, 10, 20)
BOUNDS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0)  # Å


def main(output: Path) -> None:
    """Measure, write the file, and print its tables."""
    model = dr.load_model(MODEL)
    geometries = load_qm9("validation")
    everything = choose_sample(geometries, int(np.isfinite(geometries.start_rmsd).sum()))
    rare = [bool(unfamiliar(start, model)) for start in everything.starts]
    rows = measure(everything, [i for i in range(len(rare)) if i < N or rare[i]], model)
    first = [row for row in rows if row["place"] < N]
    made = how_made(shared=True, split="validation") | about_model(model)
    page = made | {
        "n": N,
        "rare": (enough := model.config.rare),
        "of_the_first": sum(row["seen"] < enough for row in first),
        "of_all": [sum(rare), len(rare)],
        "molecules": rows,
    }
    store(output, page, indent=None)
    print(by_rarity(rows, enough), by_bound(first, enough), opinions(rows, enough), sep="\n\n")


def measure(sample: Sample, places: list[int], model: dr.Model) -> list[dict[str, Any]]:
    """Return a row for each of the molecules at these places."""
    starts = [sample.starts[i] for i in places]
    results = relax_molecules(starts, replace(model, environments=None), progress=True)
    rows = []
    for place, start, result in zip(places, tqdm(starts, desc="opinions"), results, strict=True):
        reference = sample.references[place]
        errors = {
            name: geometry_errors(start.numbers, molecule.positions, reference)
            for name, molecule in (("start", start), ("end", result.molecule))
        }
        rows.append(
            {
                "place": place,
                "qm9_index": sample.indices[place],
                "seen": seen(start, model),
                "in_basin": in_basin(start, reference),
                "verdict": result.verdict,
                "rmsd": {name: round(e.rmsd, 4) for name, e in errors.items()},
                "bonds": {name: round(e.bonds, 4) for name, e in errors.items()},
                "bound": round(result.error_bound, 4),
                "rise": round(rise(start, result.molecule.positions), 3),
            }
        )
    return rows


def seen(molecule: dr.Molecule, model: dr.Model) -> float:
    """Return the lowest number of training molecules that have one of its kinds of atoms.

    A kind that fills the whole molecule does not count if that molecule was one of them.
    """
    whole = molecule.n_heavy
    counts = {kind: model.environments.get(kind, 0) for kind in environments(molecule)}
    return min((n for kind, n in counts.items() if not n or len(kind.split()) < whole), default=N)


def by_rarity(rows: list[dict[str, Any]], enough: int) -> str:
    """Tell what share is rarer than each limit, and how good the model is there."""
    first = [row for row in rows if row["place"] < N]
    lines = []
    for low, high in zip((0, *LIMITS), (*LIMITS, np.inf), strict=True):
        some = [r for r in (rows if high <= enough else first)
                if low <= r["seen"] < high and r["in_basin"]]  # fmt: skip
        share = np.mean([row["seen"] < high for row in first])
        errors = [[row[q][what] for row in some] for what, q in
                  (("start", "bonds"), ("end", "bonds"), ("end", "rmsd"))]  # fmt: skip
        kept = np.mean([r["rmsd"]["end"] < r["bound"] for r in some]) if some else np.nan
        medians = [f"{1e3 * np.median(e):.1f}" if e else "–" for e in errors]
        largest = f"{1e3 * max(errors[1]):.1f}" if some else "–"
        lines.append((f"{low} to {high}", f"{share:.1%}", str(len(some)), *medians, largest,
                      f"{kept:.0%}"))  # fmt: skip
    return markdown_table(
        ("training molecules", "fewer: share of 1,000", "measured", "bonds at the start, mÅ",
         "at the end", "RMSD", "worst bonds", "below the bound"), lines
    )  # fmt: skip


def by_bound(rows: list[dict[str, Any]], enough: int) -> str:
    """Tell how many molecules have a bound above a limit, and what they are worth."""
    lines = []
    for limit in BOUNDS:
        some = [row for row in rows if row["bound"] > limit and row["seen"] >= enough]
        closer = [r["rmsd"]["end"] < r["rmsd"]["start"] for r in some]
        bonds = [r["bonds"]["end"] < r["bonds"]["start"] for r in some]
        true = [row["rmsd"]["end"] for row in some]
        lines.append((f"{limit:g}", f"{len(some) / len(rows):.1%}",
                      *(f"{np.mean(x):.0%}" if x else "–" for x in (closer, bonds)),
                      *(f"{np.quantile(true, q):.3f}" if true else "–" for q in (0.5, 0.9)),
                      str(sum(row["rise"] > 0 for row in some))))  # fmt: skip
    return markdown_table(
        ("bound above, Å", "share of 1,000", "end closer than the start", "its bonds better",
         "median RMSD, Å", "90th percentile", "higher by GFN2-xTB"), lines
    )  # fmt: skip


def opinions(rows: list[dict[str, Any]], enough: int) -> str:
    """Tell whether GFN2-xTB finds out where the end is worse than the start."""
    lines = []
    for name, some in (
        ("rare", [row for row in rows if row["seen"] < enough]),
        ("not rare", [row for row in rows if row["seen"] >= enough]),
    ):
        for higher in (True, False):
            told = [row for row in some if (row["rise"] > 0) == higher and row["in_basin"]]
            better = sum(r["bonds"]["end"] < r["bonds"]["start"] for r in told)
            lines.append((name, "higher" if higher else "lower", str(len(told)), str(better)))
    return markdown_table(("atoms", "GFN2-xTB says", "molecules", "bonds better at the end"), lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
