"""How often GFN2-xTB finds a minimum of a level of theory above its MMFF94 geometry.

And of how many relaxations by the default model it is asked because bonds changed much
(`diffrelax.judgement.is_rebonded`), and how many fall back for it.

Run: OMP_NUM_THREADS=1 python analysis/second_opinions.py OUTPUT VALIDATION.npz

What a model makes of atoms that it has hardly seen falls back to its start where GFN2-xTB finds it
too far above. Minima of some levels are above their MMFF94 geometries for GFN2-xTB although nothing
is wrong with them; how far is told by `diffrelax.judgement.expected_rise`. Validation molecules
of a packed set (pack_sets.py) in a fixed random order, at most 200 of each level, whose MMFF94
geometry is in the basin.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from records import how_made, store
from tqdm.auto import tqdm

from diffrelax.benchmark.sample import choose_sample, in_basin
from diffrelax.judgement import RISE, expected_rise, is_rebonded, rise
from diffrelax.models.release import Model, load_model
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table
from diffrelax.training.geometries import GeometrySet

N = 200
HEADER = ("level of theory", "minima", "above the start", f"by more than {RISE} kcal/mol",
          "than is expected", "median rise, kcal/mol", "largest",
          "relaxed", "rebonded", "fell back")  # fmt: skip


def main(output: Path, packed: Path) -> None:
    """Measure, write the file, and print its table."""
    geometries, model = GeometrySet.load(packed), load_model()
    rows = []
    for place, level in enumerate(tqdm(geometries.levels)):
        known = int((np.isfinite(geometries.start_rmsd) & (geometries.level == place)).sum())
        if known:
            rows.append(measure(geometries, model, level, min(known, N)))
    store(output, how_made(model, split="validation") | {"levels": rows})
    print(markdown_table(HEADER, [cells(row) for row in rows]))


def measure(geometries: GeometrySet, model: Model, level: str, n: int) -> dict[str, Any]:
    """Return rises and what is expected, kcal/mol, of minima of a level; and what falls back."""
    sample = choose_sample(geometries, n, level=level)
    pairs = zip(sample.starts, sample.references, strict=True)
    near = [(start, minimum) for start, minimum in pairs if in_basin(start, minimum)]
    ends = relax_molecules(sample.starts, model, level=level)
    relaxed = [end for end in ends if end.verdict == "relaxed"]
    lost = [end for end in ends if end.verdict == "fell_back" and end.reason.startswith("GFN2-xTB")]
    rebonded = sum(is_rebonded(end.start, end.molecule.positions) for end in relaxed)
    return {
        "level": level,
        "rise": [round(rise(start, minimum), 3) for start, minimum in near],
        "expected": [round(expected_rise(start, level), 3) for start, _ in near],
        "relaxed": len(relaxed) + len(lost),
        "rebonded": rebonded + len(lost),
        "fell_back": len(lost),
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Format a row of the table."""
    up, expected = np.array(row["rise"]), np.array(row["expected"])
    shares = (f"{np.mean(up > bound):.1%}" for bound in (0, RISE, expected))
    counts = (str(row[name]) for name in ("relaxed", "rebonded", "fell_back"))
    return (str(row["level"]), str(len(up)), *shares, f"{np.median(up):.2f}", f"{up.max():.2f}",
            *counts)  # fmt: skip


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
