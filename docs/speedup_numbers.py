"""Numbers and tables of DFT speed-ups, read from the committed reports of `diffrelax speedup`."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import fmean
from typing import Any

from rdkit import Chem

from diffrelax.benchmark.speedup.statistics import estimate_median
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

Row = dict[str, str]
NAMES = {
    "mmff94": "MMFF94",
    "uff": "UFF",
    "gfn-ff": "GFN-FF",
    "gfn2-xtb": "GFN2-xTB",
    "aimnet2": "AIMNet2",
    "so3lr": "SO3LR",
    "diffusion": "the model",
    "denoise-qm9-1": "a model without the bridge",
    "relax-reach-1": "`relax-reach-1`",
    "relax-qm9-2": "`relax-qm9-2`",
    "qm9": "QM9's geometry",
    "embedded": "new embeddings",
    "minimum": "the DFT minimum",
}
COSTS, QUALITIES, RATIOS = range(3)  # the tables of a report


def read_tables(page: Path, heading: str = "# ") -> list[list[Row]]:
    """Return the tables of a page of markdown below a heading, each a list of rows by column."""
    blocks: list[list[str]] = [[]]
    for line in page.read_text(encoding="utf-8").partition(heading)[2].splitlines():
        if line.startswith("|"):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [_rows(block) for block in blocks if block]


def _rows(lines: list[str]) -> list[Row]:
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def speedup_numbers(report: Path, recipe: str | None = None) -> dict[str, Any]:
    """Return the numbers of a report by start, all with one recipe: without a name its first.

    ``calls`` and ``above`` are medians; ``times`` is how many times the calls of the model a start
    takes, ``pairs`` the number of molecules behind that. All but ``pairs`` have their intervals.
    """
    costs, qualities, ratios = read_tables(report)[: RATIOS + 1]
    recipe = recipe or costs[0]["recipe"]
    against = {
        _word(row["from"].split(",")[0]): row
        for row in ratios
        if row["to"] == f"diffusion, {recipe}" and row["from"].endswith(f", {recipe}")
    }
    return {
        "n": costs[0]["molecules"],
        "calls": {_word(r["start"]): r["calls, median"] for r in costs if r["recipe"] == recipe},
        "mean_calls": {_word(r["start"]): r["calls, mean"] for r in costs if r["recipe"] == recipe},
        "above": {_word(r["start"]): r["above minimum, kcal/mol, median"] for r in qualities},
        "times": {start: ratio(row, "calls") for start, row in against.items()},
        "cycles": {start: ratio(row, "SCF cycles") for start, row in against.items()},
        "processor": {start: ratio(row, "processor seconds") for start, row in against.items()},
        "pairs": {start: row["pairs"] for start, row in against.items()},
    }


def ratio(row: Row, quantity: str) -> str:
    """Return the median ratio of a quantity to one decimal; a dash where it was not told."""
    told = row.get(f"{quantity}, median ratio", "–")
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.1f}", told)


def _word(start: str) -> str:
    return re.sub(r"\W", "_", start)


def gain_table(starts: Path, optimizers: Path) -> str:
    """Return the table of the gain, from a report of starts by the default and one of optimizers.

    Of the latter it has the paper's protocol.
    """
    default, paper = "tric+hessian", "bfgs"
    chosen = [
        (optimizers, "mmff94", paper, "plain BFGS (the paper's protocol)"),
        *(
            (starts, start, default, "default")
            for start in ("mmff94", "gfn2-xtb", "denoise-qm9-1", "diffusion")
        ),
    ]
    rows = [
        (NAMES[start], optimizer, *_gain(report, start, recipe, default))
        for report, start, recipe, optimizer in chosen
    ]
    header = (
        "start", "optimizer", "molecules", "above its minimum, kcal/mol", "gradient calls",
        "SCF cycles", "times the model's calls",
    )  # fmt: skip
    return markdown_table(header, rows)


def _gain(report: Path, start: str, recipe: str, default: str) -> tuple[str, ...]:
    """Return what an arm costs, and how many times the calls of the model by the default."""
    costs, _, ratios = read_tables(report)[: RATIOS + 1]
    (cost,) = (row for row in costs if (row["start"], row["recipe"]) == (start, recipe))
    arms = (f"{start}, {recipe}", f"diffusion, {default}")
    times = [
        f"{ratio(row, 'calls')}, {row['pairs']}\u00a0pairs"
        for row in ratios
        if (row["from"], row["to"]) == arms
    ]
    return (
        cost["molecules"],
        heights(report.with_name("molecules.csv"))[start, recipe],
        cost["calls, median"],
        cost["SCF cycles, median"],
        *(times or ["–"]),
    )


def sizes_table(molecules: Path) -> str:
    """Return mean calls, and median heights in kcal/mol, of starts by the number of heavy atoms."""
    found: dict[str, list[Row]] = {}
    with molecules.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            n = Chem.MolFromSmiles(row["smiles"]).GetNumHeavyAtoms()
            found.setdefault("5 to 7" if n < 8 else "8 and 9", []).append(row)
    starts = ("mmff94", "gfn2-xtb", "denoise-qm9-1", "diffusion")
    rows = []
    for size in sorted(found):
        of_start = {s: [row for row in found[size] if row["start"] == s] for s in starts}
        cells = []
        for some in of_start.values():
            above = [float(row["excess_ev"]) / KCAL_PER_MOL for row in some if row["excess_ev"]]
            calls = fmean(float(row["calls"]) for row in some)
            cells.append(f"{calls:.1f}; {estimate_median(above).value:#.2g}")
        rows.append((size, str(len(of_start["diffusion"])), *cells))
    return markdown_table(("heavy atoms", "molecules", *(NAMES[s] for s in starts)), rows)


def stopping_table(page: Path) -> str:
    """Return how many times the model's calls other starts take, by where a relaxation stops."""
    _, pairs = read_tables(page, "## Stopped at geomeTRIC's criteria")
    return markdown_table(list(pairs[0]), [list(row.values()) for row in pairs])


def heights(molecules: Path) -> dict[tuple[str, str], str]:
    """Return how far above its minimum each start is by recipe, kcal/mol: medians, intervals."""
    found: dict[tuple[str, str], list[float]] = {}
    with molecules.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["excess_ev"]:
                excess = float(row["excess_ev"]) / KCAL_PER_MOL
                found.setdefault((row["start"], row["recipe"]), []).append(excess)
    estimates = {arm: estimate_median(sample) for arm, sample in found.items()}
    return {arm: f"{e.value:#.2g} [{e.low:#.2g}, {e.high:#.2g}]" for arm, e in estimates.items()}
