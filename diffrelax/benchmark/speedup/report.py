"""The report of a speed-up: tables in markdown and CSV, a figure, and provenance."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffrelax.atomic import write_text
from diffrelax.benchmark.sample import peer_settings
from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.benchmark.speedup.figure import draw_speedup
from diffrelax.benchmark.speedup.page import speedup_page
from diffrelax.benchmark.speedup.rows import OutcomeRow
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.benchmark.speedup.statistics import (
    RESOLUTION,
    ArmCost,
    Speedup,
    StartQuality,
    arm_costs,
    speedup,
    start_qualities,
)
from diffrelax.dft import DFTSettings
from diffrelax.levels.level import Level
from diffrelax.models.release import Model
from diffrelax.results.page import Row, Table
from diffrelax.results.provenance import Provenance
from diffrelax.results.rows import csv_text
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

MOST_GAINS = 4  # shown at the top of the page
FILES = (
    "report.md", "report.html", "speedup.png", "arms.csv", "starts.csv", "molecules.csv",
    "about.json",
)  # fmt: skip
PAPER = SpeedupArm("mmff94", "bfgs")
PACKAGES = ("diffrelax", "pyscf", "ase", "geometric", "tblite", "rdkit", "torch", "numpy", "scipy")


def made_with(model: Model, level: Level) -> dict[str, str]:
    """Return the model's entries of a report: name, checksum and level."""
    return {
        "model": model.name,
        "model_sha256": model.sha256,
        "model_level": model.nearest_level(level).level,
    }


def comparisons(arms: Sequence[SpeedupArm]) -> list[tuple[SpeedupArm, SpeedupArm]]:
    """Return the pairs of arms to compare, the slower one first.

    Diffusion is compared with every other start of the same recipe, and all arms with ``mmff94,
    bfgs``, the protocol of Rothchild et al. (2024, doi 10.1039/D3SC05877H), except `geometric`,
    which has other stopping criteria.
    """
    pairs = [
        (slow, fast)
        for fast in arms
        if fast.start == "diffusion"
        for slow in arms
        if slow.recipe == fast.recipe and slow != fast
    ]
    pairs += [
        (PAPER, fast)
        for fast in arms
        if PAPER in arms and fast != PAPER and not fast.recipe.startswith("geometric")
    ]
    return list(dict.fromkeys(pairs))


def write_report(
    folder: Path, outcomes: Sequence[Outcome], about: Mapping[str, Any], watts: float
) -> str:
    """Write the files of a report, see `FILES`, and return its tables.

    Parameters
    ----------
    folder : path
        An existing folder.
    outcomes : sequence of Outcome
    about : mapping
        What is needed to reproduce the report, as plain values.
    watts : float
        See `arm_costs`.

    Returns
    -------
    str
        The tables of the report, in markdown.
    """
    once = [outcome for outcome in outcomes if not outcome.repeated]
    costs, rows = arm_costs(once, watts), [OutcomeRow.of(outcome) for outcome in outcomes]
    starts = start_qualities(outcomes, about["level"]["fmax"])
    ratios = [speedup(once, *pair) for pair in comparisons([cost.arm for cost in costs])]
    tables = _tables(costs, starts, ratios, outcomes)
    markdown = _markdown(tables)
    here = Provenance.here()
    about = dict(about) | {
        "measured_on": sorted({outcome.hardware for outcome in outcomes if outcome.hardware}),
        "measured_with": sorted({outcome.git_commit for outcome in outcomes if outcome.git_commit}),
        "watts": watts,
        "git_commit": here.git_commit,
        "uncommitted": here.uncommitted,
        "gfn2-xtb": peer_settings("gfn2-xtb")["program"],
        "packages": {package: version(package) for package in PACKAGES},
    }
    files = {
        # first, because it identifies the other files as parts of a report
        "about.json": json.dumps(about, indent=1, ensure_ascii=False) + "\n",
        "report.md": _page(markdown, about),
        "arms.csv": csv_text(ArmCost.header(), [cost.cells() for cost in costs]),
        "starts.csv": csv_text(StartQuality.header(), [start.cells() for start in starts]),
        "molecules.csv": csv_text(
            list(OutcomeRow.model_fields), [list(row.model_dump().values()) for row in rows]
        ),
    }
    for name, text in files.items():
        write_text(folder / name, text)
    draw_speedup(folder / "speedup.png", outcomes)
    page = speedup_page(outcomes, tables, _gains(ratios), about, folder / "speedup.png")
    page.write(folder / "report.html")
    return markdown


def _tables(
    costs: Sequence[ArmCost],
    starts: Sequence[StartQuality],
    ratios: Sequence[Speedup],
    outcomes: Sequence[Outcome],
) -> list[Table]:
    tables = [
        Table.of(
            "Cost of each arm",
            "From the SMILES to the end of the DFT relaxation, over the molecules that reached a "
            "minimum. In brackets are 95% intervals: of medians those of order statistics (from "
            "six molecules on), of means Student's, of ratios of medians those of the bootstrap "
            "(from twenty on). Electrical energy is that of all relaxations that ended, with or "
            "without a minimum, for each minimum that was reached. Arms that were tried on "
            "different molecules or processors are compared by the table of pairs.",
            costs,
        ),
        Table.of(
            "Quality of the starts",
            "By the first gradient call. Energies are above the reference minimum that the "
            "relaxation reaches; ratios are over the pairs that reach the same minimum, and one "
            f"below {RESOLUTION / KCAL_PER_MOL:.4f} kcal/mol counts as that, for integration "
            "grids leave so much open. The last columns are the shares of the molecules whose "
            "forces already meet the criterion of these relaxations, and the criteria for "
            "gradients of geomeTRIC's loose and default sets, with Wilson's intervals.",
            starts,
        ),
        Table.of(
            "Ratios of costs",
            "Over the pairs that end in the same reference minimum; seconds over those of them "
            "that ran on the same kind of processor, on which an SCF cycle took both as long, "
            "within half. Unlike seconds, SCF cycles do not depend on what else a machine is "
            "doing. Where most molecules take as many calls in both arms, the ratio of the sums "
            "tells more than medians do. A relaxation that is noted "
            "below to have stopped on the way to its minimum counts with the calls that it took.",
            ratios,
        ),
        Table(
            "Molecules with more than one minimum",
            "A minimum is where a tight relaxation ends; whether it is one, or a saddle point that "
            "nothing pushed the relaxation off, is not checked.",
            ("molecule", "minimum", "above the lowest, kcal/mol", "arms"),
            _rows(_minima_rows(outcomes)),
        ),
    ]
    for title, remarks in (
        ("Without a minimum", where_told(outcomes, lambda o: filter(None, [o.reason]))),
        ("Other than the recipe says", where_told(outcomes, lambda o: o.notes)),
    ):
        rows = [(remark, str(len(where)), "; ".join(where)) for remark, where in remarks.items()]
        tables.append(Table(title, "", ("remark", "molecules", "where"), _rows(rows)))
    return [table for table in tables if table.rows]


def _rows(cells: Iterable[Sequence[str]]) -> list[Row]:
    return [Row(of_row) for of_row in cells]


def _markdown(tables: Iterable[Table]) -> str:
    return "\n\n".join(
        part
        for table in tables
        for part in (
            f"## {table.title}",
            table.text,
            markdown_table(table.header, [row.cells for row in table.rows]),
        )
        if part
    )


def _gains(ratios: Iterable[Speedup]) -> dict[str, str]:
    """Describe how many more calls other starts need with the same recipe, most pairs first."""
    equal = [r for r in ratios if r.fast.start == "diffusion" and r.slow.recipe == r.fast.recipe]
    return {
        f"gradient calls, {ratio.slow.start} / diffusion, {ratio.fast.recipe}": format(
            ratio.typical_calls, ".2f"
        )
        for ratio in sorted(equal, key=lambda ratio: -ratio.pairs)[:MOST_GAINS]
    }


def _minima_rows(outcomes: Iterable[Outcome]) -> list[tuple[str, ...]]:
    """Return rows of minima and the arms that end there, for molecules with several minima."""
    by_name: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        if outcome.basin is not None:
            by_name[outcome.name][outcome.basin].append(outcome)
    rows: list[tuple[str, ...]] = []
    for name, basins in by_name.items():
        energies = {basin: found[0].minimum or 0.0 for basin, found in basins.items()}
        lowest = min(energies.values())
        for basin, found in sorted(basins.items()) if len(basins) > 1 else ():
            above = (energies[basin] - lowest) / KCAL_PER_MOL
            arms = "; ".join(str(outcome.arm) for outcome in found)
            rows.append((name, str(basin), f"{above:.2f}", arms))
    return rows


def where_told(
    outcomes: Sequence[Outcome], remarks: Callable[[Outcome], Iterable[str]]
) -> dict[str, list[str]]:
    """Return the molecules of each remark, the most frequent remark first.

    Returns
    -------
    dict
        Lists of molecules by remark, with the arms in parentheses unless all have the remark.
    """
    tried = Counter(outcome.name for outcome in outcomes)
    arms: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for remark in remarks(outcome):
            arms[remark][outcome.name].append(str(outcome.arm))
    where = {
        remark: [
            name if len(found) == tried[name] else f"{name} ({'; '.join(found)})"
            for name, found in by_name.items()
        ]
        for remark, by_name in arms.items()
    }
    return dict(sorted(where.items(), key=lambda item: -len(item[1])))


def _page(tables: str, about: Mapping[str, Any]) -> str:
    level = DFTSettings.model_validate(about["level"])
    return "\n\n".join(
        [
            "# DFT speed-up",
            f"{level.described}, largest force at the end < {level.fmax:g} eV/Å "
            "(the recipes of `geometric`: the five criteria of geomeTRIC).",
            tables,
            "![Gradient calls and energies of the starts](speedup.png)",
            "## How it was made",
            f"On {' and '.join(about['measured_on']) or about['hardware']}. "
            "What follows the threads are the kernels that PySCF's OpenBLAS has taken, where they "
            "are known. Seconds are wall times, in which other processes on the machine count. "
            "Processor seconds are user and system time of all threads and programs "
            "of this work alone, which differ between machines of one name. Electrical "
            f"energy assumes {about['watts']:g} W for a busy core. Each relaxation is kept in the "
            "folder `units`; the same command finds them done, so delete that folder to measure "
            "again. Packages and commit are those with which this report was written, and the "
            "embedding is timed at that time; `measured_with` has the commits, where they are "
            "known, of the relaxations.",
            "```json\n" + json.dumps(about, indent=1, ensure_ascii=False) + "\n```\n",
        ]
    )
