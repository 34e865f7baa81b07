"""Numbers and tables of DFT speed-ups, read from the committed reports of `diffrelax speedup`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rdkit import Chem

from diffrelax.benchmark.estimates import Estimate, estimate_median
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
    "relax-reach-2": "`relax-reach-2`",
    "relax-qm9-2": "`relax-qm9-2`",
    "qm9": "QM9's geometry",
    "gas": "the minimum in the gas phase",
    "embedded": "new embeddings",
    "minimum": "the DFT minimum",
}
COSTS, QUALITIES, RATIOS = range(3)  # the tables of a report
STARTS = ("mmff94", "gfn2-xtb", "denoise-qm9-1", "diffusion")
COMMON = ("mmff94", "gfn2-xtb", "diffusion")
DEFAULT = "tric+hessian"
GAIN = (
    "start", "minima of molecules", "above its minimum, kcal/mol", "gradient calls", "SCF cycles",
    "times the model's calls", "times its processor time",
)  # fmt: skip


def read_tables(page: Path, heading: str = "") -> list[list[Row]]:
    """Return the tables of a page of markdown below a heading, each a list of rows by column."""
    blocks: list[list[str]] = [[]]
    text = page.read_text(encoding="utf-8")
    for line in text[text.index(heading) :].splitlines():
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
    takes, ``summed`` that of the sums, ``pairs`` the number of molecules behind both. All but
    ``pairs`` have their intervals.
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
        "summed": {start: row.get("calls, ratio of sums", "–") for start, row in against.items()},
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
    rows = [
        *(
            ("plain BFGS (the paper's protocol)", *row)
            for row in _gain(optimizers, ("mmff94",), "bfgs")
        ),
        *(("default", *row) for row in _gain(starts, STARTS)),
    ]
    return markdown_table(("optimizer", *GAIN), rows)


def starts_gain_table(report: Path) -> str:
    """Return the gain of a model and of GFN2-xTB, from a report of starts by the default."""
    return markdown_table(GAIN, list(_gain(report, COMMON)))


def drug_molecules_table(molecules: Path) -> str:
    """Return heights in kcal/mol and calls of starts, molecule by molecule, small ones first."""
    found: dict[str, dict[str, str]] = {}
    for row in _molecules(molecules):
        told = "no minimum"
        if row["basin"]:
            told = f"{_two_digits(float(row['excess_ev']) / KCAL_PER_MOL)}, {row['calls']}"
        found.setdefault(row["smiles"], {})[row["start"]] = told
    n = {smiles: Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() for smiles in found}
    rows = [
        (str(n[smiles]), f"`{smiles}`", *(found[smiles][start] for start in COMMON))
        for smiles in sorted(found, key=n.__getitem__)
    ]
    return markdown_table(("heavy atoms", "molecule", *(NAMES[s] for s in COMMON)), rows)


def _gain(report: Path, starts: Sequence[str], recipe: str = DEFAULT) -> Iterator[tuple[str, ...]]:
    """Yield what arms cost, and how many times the calls of the model by the default."""
    costs, _, ratios = read_tables(report)[: RATIOS + 1]
    molecules = _molecules(report.with_name("molecules.csv"))
    cost = {(row["start"], row["recipe"]): row for row in costs}
    to_model = [row for row in ratios if row["to"] == f"diffusion, {DEFAULT}"]
    calls, seconds = (
        {row["from"]: f"{ratio(row, what)}, {row[n]}\u00a0pairs" for row in to_model}
        for what, n in (("calls", "pairs"), ("processor seconds", "timed pairs"))
    )
    for start in starts:
        of_arm = [row for row in molecules if (row["start"], row["recipe"]) == (start, recipe)]
        above = _above(of_arm)
        yield (
            NAMES[start],
            f"{cost[start, recipe]['minima']} of {cost[start, recipe]['molecules']}",
            f"{above.value:#.2g} [{above.low:#.2g}, {above.high:#.2g}]",
            cost[start, recipe]["calls, median"],
            cost[start, recipe]["SCF cycles, median"],
            calls.get(f"{start}, {recipe}", "–"),
            seconds.get(f"{start}, {recipe}", "–"),
        )


def sizes_table(molecules: Path) -> str:
    """Return mean calls, and median heights in kcal/mol, of starts by the number of heavy atoms."""
    found: dict[str, list[Row]] = {}
    for row in _molecules(molecules):
        if not row["basin"]:
            continue
        n = Chem.MolFromSmiles(row["smiles"]).GetNumHeavyAtoms()
        found.setdefault("5 to 7" if n < 8 else "8 and 9", []).append(row)
    rows = []
    for size in sorted(found):
        arms = [[row for row in found[size] if row["start"] == start] for start in STARTS]
        cells = [
            f"{fmean(float(row['calls']) for row in arm):.1f}; {_above(arm).value:#.2g}"
            for arm in arms
        ]
        rows.append((size, str(max(map(len, arms))), *cells))
    return markdown_table(("heavy atoms", "molecules", *(NAMES[s] for s in STARTS)), rows)


def _molecules(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _two_digits(value: float) -> str:
    return f"{value:#.2g}".rstrip(".")


def _above(rows: Iterable[Row]) -> Estimate:
    """Return how far starts are above their minima, kcal/mol: the median over molecules."""
    return estimate_median(
        [float(row["excess_ev"]) / KCAL_PER_MOL for row in rows if row["excess_ev"]]
    )


def only_table(page: Path) -> str:
    """Return the one table of a page."""
    (rows,) = read_tables(page)
    return _as_read(rows)


def _as_read(rows: list[Row]) -> str:
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def stopping_table(page: Path) -> str:
    """Return how many times the model's calls other starts take, by where a relaxation stops."""
    _, pairs, *_ = read_tables(page, "## Until all rules are met")
    return _as_read(pairs)


def geom_table(file: Path) -> str:
    """Return what relaxations at GFN2-xTB take from MMFF94 and from a model in training."""
    (rows,) = read_tables(file)
    kept = ("start above its end, kcal/mol", "calls", "same minimum as MMFF94's", "calls, these",
            "times fewer, these", "lower minimum")  # fmt: skip
    named = [(NAMES.get(row["start"], row["start"]), *(row[name] for name in kept)) for row in rows]
    return markdown_table(("start", *kept), named)


def water_table(file: Path) -> str:
    """Return what starts are worth in water, and what they cost with the calls that made them."""
    (rows,) = read_tables(file)
    named = ([NAMES[start], *rest] for start, *rest in (row.values() for row in rows))
    return markdown_table(list(rows[0]), list(named))
