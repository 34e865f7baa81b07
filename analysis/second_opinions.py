"""How often GFN2-xTB finds a minimum of a level of theory above its MMFF94 geometry.

Run: OMP_NUM_THREADS=1 python analysis/second_opinions.py OUTPUT VALIDATION.npz

What a model makes of atoms that it has hardly seen falls back to its start where GFN2-xTB finds it
too far above. Minima of some levels are above their MMFF94 geometries for GFN2-xTB although nothing
is wrong with them; how far is told by `diffrelax.models.domain.expected_rise`. Validation molecules
of a packed set (pack_sets.py) in a fixed random order, at most 200 of each level, whose MMFF94
geometry is in the basin.
"""

import sys
from pathlib import Path

import numpy as np
from records import how_made, store
from tqdm.auto import tqdm

from diffrelax.benchmark.sample import choose_sample, in_basin
from diffrelax.models.domain import RISE, expected_rise, rise
from diffrelax.results.tables import markdown_table
from diffrelax.training.geometries import GeometrySet

N = 200
HEADER = ("level of theory", "minima", "above the start", f"by more than {RISE} kcal/mol",
          "than is expected", "median rise, kcal/mol", "largest")  # fmt: skip


def main(output: Path, packed: Path) -> None:
    """Measure, write the file, and print its table."""
    geometries = GeometrySet.load(packed)
    rows = []
    for place, level in enumerate(tqdm(geometries.levels)):
        known = int((np.isfinite(geometries.start_rmsd) & (geometries.level == place)).sum())
        if known:
            rows.append(measure(geometries, level, min(known, N)))
    store(output, how_made(split="validation") | {"levels": rows})
    print(markdown_table(HEADER, [cells(row) for row in rows]))


def measure(geometries: GeometrySet, level: str, n: int) -> dict[str, str | list[float]]:
    """Return rises and what is expected, kcal/mol, of the minima of a level."""
    sample = choose_sample(geometries, n, level=level)
    pairs = zip(sample.starts, sample.references, strict=True)
    near = [(start, minimum) for start, minimum in pairs if in_basin(start, minimum)]
    return {
        "level": level,
        "rise": [round(rise(start, minimum), 3) for start, minimum in near],
        "expected": [round(expected_rise(start, level), 3) for start, _ in near],
    }


def cells(row: dict[str, str | list[float]]) -> tuple[str, ...]:
    """Format a row of the table."""
    up, expected = np.array(row["rise"]), np.array(row["expected"])
    shares = (f"{np.mean(up > bound):.1%}" for bound in (0, RISE, expected))
    return (str(row["level"]), str(len(up)), *shares, f"{np.median(up):.2f}", f"{up.max():.2f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
