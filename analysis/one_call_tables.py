"""The tables of one_call.py."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, inf
from typing import Any, TypeAlias

import numpy as np

from diffrelax.dft.prediction import ENERGY_BOUND, FORCE_BOUND, RMSD_BOUND
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

Record: TypeAlias = dict[str, Any]

STARTS = ("diffusion", "gfn2-xtb", "mmff94")
BOUNDS = {  # what is left: factor, and power of the fall of the energy
    "fmax_left": (FORCE_BOUND, 0.5),
    "energy_error": (ENERGY_BOUND, 1.0),
    "rmsd": (RMSD_BOUND, 0.5),
}
KEPT = 0.9
FMAX = 0.03  # eV/Å
NEAR_FALL = 0.02  # eV
NEAR = (0.01, 0.05)  # kcal/mol


def page(found: Mapping[str, Sequence[Record]]) -> str:
    """Show factors of the bounds, and what they are worth."""
    chosen_on = [*found["surrogate"], *found["validation"]]
    near = [r for r in chosen_on if 0 < r.get("fall", 0.0) < NEAR_FALL]
    return "\n\n".join(
        [
            "# Minima predicted from one gradient call",
            "Largest forces in eV/Å, energies in kcal/mol, deviations from the minimum in Å. Of "
            "the model, GFN2-xTB and MMFF94, with a Hessian of GFN2-xTB. Where a start has no "
            f"force above {FMAX:g} eV/Å, nothing is predicted.",
            "## First steps, with AIMNet2 in place of DFT (validation molecules)",
            "Medians, and in brackets what nine in ten stay below.",
            steps_table(found["surrogate"]),
            "## Factors of the bounds (validation molecules)",
            "Of the fall of the energy that is predicted, in eV: the largest force that is left, "
            "eV/Å, and the deviation from the minimum, Å, over its square root, and the error of "
            "the predicted energy, eV, over the fall. Medians, and what nine in ten stay below, "
            f"split conformal. The bounds have {FORCE_BOUND:g}, {ENERGY_BOUND:g} and "
            f"{RMSD_BOUND:g}: those of the last line, rounded up. A fall below {NEAR_FALL:g} eV is "
            "where a relaxation can end at a prediction.",
            factors_table("AIMNet2", found["surrogate"]),
            factors_table("B3LYP/6-31G(2df,p)", found["validation"]),
            factors_table(f"both, fall below {NEAR_FALL:g} eV", near),
            "## A factor of the Hessian (validation molecules, B3LYP/6-31G(2df,p))",
            "The one that would have left the least of the forces along the step, and what is left "
            "of the largest force with one of 1.1. It is not in use: all that has been measured is "
            "without.",
            scale_table(found["validation"]),
            "## After one step (test molecules, B3LYP/6-31G(2df,p))",
            "Medians, and shares of the molecules. The energy left is that of the geometry after "
            "the step, above its minimum.",
            *of_tests(found, quality_table),
            "## What the bounds are worth (test molecules)",
            "Shares that keep them. An end is predicted where the bound of the force is below "
            f"{FMAX:g} eV/Å. Where the forces of the first call are not known, the fall to the "
            "minimum stands in for the one that is predicted.",
            *of_tests(found, bounds_table),
            "## Gradient calls (test molecules)",
            *of_tests(found, costs_table),
        ]
    )


def of_tests(
    found: Mapping[str, Sequence[Record]], table: Callable[[Sequence[Record]], str]
) -> tuple[str, ...]:
    """Show the same of the smaller and of the larger test molecules."""
    return (
        "With 5 to 7 heavy atoms:",
        table(found["test"]),
        "With 8 or 9 heavy atoms:",
        table(found["larger"]),
    )


def steps_table(records: Sequence[Record]) -> str:
    """Compare first steps."""
    rows = []
    for name in next((r["steps"] for r in records), ()):
        for start in STARTS:
            steps = [r["steps"][name] for r in records if r["start"] == start]
            values = [
                [abs(s[left]) / unit for s in steps]
                for left, unit in (
                    ("fmax_left", 1.0), ("energy_left", KCAL_PER_MOL),
                    ("energy_error", KCAL_PER_MOL), ("rmsd", 1.0),
                )
            ]  # fmt: skip
            cells = [f"{np.median(v):.3g} ({np.quantile(v, KEPT):.3g})" for v in values]
            rows.append((name, start, str(len(steps)), *cells))
    header = ("step", "start", "n", "force left", "energy left", "energy error", "deviation")
    return markdown_table(header, rows)


def factors_table(level: str, records: Sequence[Record]) -> str:
    """Show what is left over a power of the fall, by start and of all."""
    rows = []
    for start in (*STARTS, "all"):
        cells = [start]
        for left, (_, power) in BOUNDS.items():
            ratios = [
                abs(r[left]) / r["fall"] ** power
                for r in records
                if start in (r["start"], "all") and left in r and "fall" in r
            ]
            cells += [str(len(ratios)), shown(np.median, ratios), shown(conformal, ratios)]
        if any(start in (r["start"], "all") for r in records):
            rows.append(cells)
    names = ("force", "energy", "deviation")
    header = [level, *(h for name in names for h in ("n", f"{name}, median", "nine in ten"))]
    return markdown_table(header, rows)


def scale_table(records: Sequence[Record]) -> str:
    """Show what a factor of the Hessian would change."""
    rows = []
    for start in STARTS:
        known = [r for r in records if r["start"] == start and "best_factor" in r]
        if not known:
            continue
        lefts = [[r[k] / r["fmax"] for r in known] for k in ("fmax_left", "fmax_left_by_1.1")]
        best = shown(np.median, [r["best_factor"] for r in known])
        told = [shown(of, left) for left in lefts for of in (np.median, max)]
        rows.append((start, str(len(known)), best, *told))
    header = ("start", "n", "best factor, median", "left, median", "largest")
    return markdown_table((*header, "left by 1.1, median", "largest"), rows)


def quality_table(records: Sequence[Record]) -> str:
    """Show what is left after one step."""
    rows = []
    for start in STARTS:
        of_start = [r for r in records if r["start"] == start and "fmax_left" in r]
        above = [r["above"] / KCAL_PER_MOL for r in of_start if "above" in r]
        row = [start, shown(np.median, [r["fmax"] for r in of_start]), shown(np.median, above)]
        for left, unit, limits in (
            ("fmax_left", 1.0, (FMAX,)),
            ("energy_left", KCAL_PER_MOL, NEAR),
            ("energy_error", KCAL_PER_MOL, NEAR),
            ("rmsd", 1.0, ()),
        ):
            row += summary([abs(r[left]) / unit for r in of_start if left in r], *limits)
        rows.append(row)
    near = [f"below {limit:g}" for limit in NEAR]
    header = [
        *("start", "force at the start", "energy at the start"),
        *("n", "force left", f"below {FMAX:g}", "n", "energy left", *near),
        *("n", "error of the predicted energy", *near, "n", "deviation"),
    ]
    return markdown_table(header, rows)


def bounds_table(records: Sequence[Record]) -> str:
    """Show how many keep the bounds, and what becomes of the ends that are predicted."""
    rows = []
    for start in (*STARTS, "all"):
        of_start = [
            r for r in records if start in (r["start"], "all") and "fmax_left" in r and fall(r)
        ]
        row = [start, str(sum("fall" not in r for r in of_start))]
        for left in BOUNDS:
            row += share([abs(r[left]) <= bound(left, r) for r in of_start if left in r])
        row += share([is_predicted(r) for r in of_start])
        ended = [r for r in of_start if is_predicted(r)]
        row += share([r["fmax_left"] < FMAX for r in ended])[1:]
        for left, unit in (
            ("fmax_left", 1.0),
            ("energy_left", KCAL_PER_MOL),
            ("energy_error", KCAL_PER_MOL),
            ("rmsd", 1.0),
        ):
            row.append(shown(max, [abs(r[left]) / unit for r in ended if left in r]))
        rows.append(row)
    header = [
        *(
            "start",
            "stand-ins",
            "n",
            "force kept",
            "n",
            "energy kept",
            "n",
            "deviation kept",
        ),
        *("n", "predicted", f"of these below {FMAX:g}", "their largest force"),
        *("energy left", "energy error", "deviation"),
    ]
    return markdown_table(header, rows)


def costs_table(records: Sequence[Record]) -> str:
    """Show calls with and without prediction."""
    rows = []
    for start in STARTS:
        of_start = [
            r
            for r in records
            if r["start"] == start and r.get("converged") and (fall(r) or r["calls"] == 1)
        ]
        verified = [r["calls"] for r in of_start]
        predicted = [1 if is_predicted(r) else r["calls"] for r in of_start]
        if of_start:
            saved = f"{1 - sum(predicted) / sum(verified):.0%}"
            means = [f"{np.mean(calls):.2f}" for calls in (verified, predicted)]
            rows.append((start, str(len(of_start)), *means, saved))
    header = ("start", "n", "verified, mean", "with one_call, mean", "saved")
    return markdown_table(header, rows)


def bound(left: str, record: Record) -> float:
    """Return the bound of what is left."""
    factor, power = BOUNDS[left]
    return float(factor * fall(record) ** power)


def fall(record: Record) -> float:
    """Return the fall of the energy that is predicted, else that to the minimum, else nothing."""
    return float(record.get("fall", record.get("above", 0.0)))


def is_predicted(record: Record) -> bool:
    """Tell whether a relaxation to FMAX ends at a prediction."""
    known = record["fmax"] >= FMAX and fall(record) > 0
    return known and bound("fmax_left", record) < FMAX


def conformal(values: Sequence[float]) -> float:
    """Return what nine in ten of further values stay below; infinite if there are too few."""
    rank = ceil(KEPT * (len(values) + 1))
    return sorted(values)[rank - 1] if rank <= len(values) else inf


def shown(statistic: Callable[[Sequence[float]], Any], values: Sequence[float]) -> str:
    """Show a statistic; a dash if there are no values."""
    return f"{statistic(values):.3g}" if values else "–"


def share(met: Sequence[bool]) -> list[str]:
    """Show of how many, and what share."""
    return [str(len(met)), f"{np.mean(met):.0%}" if met else "–"]


def summary(values: Sequence[float], *limits: float) -> list[str]:
    """Show the number of values, their median, and the shares below limits."""
    below = [share([v < limit for v in values])[1] for limit in limits]
    return [str(len(values)), shown(np.median, values), *below]
