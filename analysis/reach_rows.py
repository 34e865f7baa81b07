"""What `reach.py` makes of the ends of many relaxations: medians, their intervals, and tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from diffrelax.benchmark.estimates import Estimate, estimate, estimate_median, ratio_of_medians
from diffrelax.benchmark.geometry import bounds_by_size
from diffrelax.results.tables import markdown_table

SAME_BASIN = 40.0  # degrees; no torsion of an end in the basin of its minimum is further off
SIZES = (1, 10, 20, 30, 40, 1000)  # heavy atoms
RARITIES = (0, 1, 2, 5, 10, 20, 50, 1 << 30)  # molecules learned
START = "MMFF94"
MILLI = 1e-3  # Å

End = dict[str, Any]


def by_molecule(ends: Sequence[End], quantity: str) -> dict[str, float]:
    """Return the median of a quantity over the minima of each molecule that have it."""
    found: dict[str, list[float]] = defaultdict(list)
    for end in ends:
        if end[quantity] is not None:
            found[end["molecule"]].append(end[quantity])
    return {molecule: float(np.median(values)) for molecule, values in found.items()}


def median_of(ends: Sequence[End], quantity: str) -> Estimate:
    """Return the median of a quantity over molecules, each counted once."""
    return estimate_median([*by_molecule(ends, quantity).values()])


def row_of(
    ends: Sequence[End], starts: Sequence[End], own: Sequence[End] | None = None
) -> dict[str, Any]:
    """Sum up the ends of one method on some minima.

    Parameters
    ----------
    ends, starts : sequence of dict
        With what `reach.py` keeps of an end, in the same order; those of the starts themselves are
        what energies are compared with.
    own : sequence of dict, optional
        Ends of the model that is judged.

    Returns
    -------
    dict
        Counts of minima by what became of them, and medians over molecules, each counted once, with
        their intervals: of ``bonds``, ``angles`` and ``rmsd`` over all that were relaxed or fell
        back to their start, of ``rmsd_inside`` over the ends in the basin of their minimum, of
        ``own_bonds`` those of the model where this method has an end. Time is that of a minimum
        that was not refused.
    """
    verdicts = Counter(end["verdict"] for end in ends)
    judged = [end for end in ends if end["bonds"] is not None]
    inside = [end for end in judged if end["turned"] <= SAME_BASIN]
    row: dict[str, Any] = {
        "minima": len(ends),
        "molecules": len(by_molecule(judged, "bonds")),
        "verdicts": dict(verdicts),
        "cautions": sum(end["verdict"] == "relaxed" and bool(end["reason"]) for end in ends),
        "left_basin": len(judged) - len(inside),
        "milliseconds": 1e3 * sum(end["seconds"] for end in ends) / max(1, len(judged)),
    }
    for quantity in ("bonds", "angles", "rmsd"):
        row[quantity] = median_of(judged, quantity)
    row["rmsd_inside"] = median_of(inside, "rmsd")
    if own is not None:
        both = [mine for end, mine in zip(ends, own, strict=True) if end["bonds"] is not None]
        row["own_bonds"] = median_of(both, "bonds")
    return row | energies_of(ends, starts)


def energies_of(ends: Sequence[End], starts: Sequence[End]) -> dict[str, Any]:
    """Compare excess energies with those of the starts, where both are known.

    Each is above the minimum that is reached from there, so the basin does not matter.
    """
    pairs = [
        (end, start)
        for end, start in zip(ends, starts, strict=True)
        if None not in (end["excess"], start["excess"])
    ]
    if not pairs:
        return {}
    own, theirs = (by_molecule(side, "excess") for side in zip(*pairs, strict=True))
    mine, start = np.array([*own.values()]), np.array([theirs[molecule] for molecule in own])

    ratios = start / np.maximum(mine, 1e-6)
    return {
        "excess": estimate_median(mine.tolist()),
        "ratio_of_medians": estimate(ratio_of_medians, start, mine),
        "median_of_ratios": estimate_median(ratios.tolist()),
        "calls": median_of([end for end, _ in pairs], "calls"),
    }


def groups_of(ends: Sequence[End]) -> dict[str, np.ndarray]:
    """Return the places of the ends of some groups, those that are not empty or everything."""
    masks = {
        "new scaffold": [end["new_scaffold"] for end in ends],
        "ions": [end["charge"] != 0 for end in ends],
        "neutral": [end["charge"] == 0 for end in ends],
        "start in the basin": [end["start_in_basin"] for end in ends],
        **{f"{kind} start": [end["kind"] == kind for end in ends]
           for kind in ("given", "embedded", "relaxed")},
    }  # fmt: skip
    found = {"all": np.arange(len(ends))}
    for name, mask in masks.items():
        places = np.flatnonzero(mask)
        if name == "new scaffold" or 0 < len(places) < len(ends):
            found[name] = places
    return found


def rows_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows, each with a ``group`` and a ``method``, as markdown."""
    header = ["group", "method", "molecules (minima)", "bonds, mÅ", "1–3 distances, mÅ",
              "RMSD, Å", "in the basin, Å", "left the basin", "refused", "fell back or failed",
              "cautions", "ms"]  # fmt: skip
    more = {
        "own_bonds": ("the model's bonds on these, mÅ", MILLI, ".2f"),
        "excess": ("excess, kcal/mol", 1, ".3f"),
        "ratio_of_medians": ("times below MMFF94", 1, ".1f"),
        "calls": ("calls left", 1, ".0f"),
    }
    more = {name: form for name, form in more.items() if any(name in row for row in rows)}
    lines = []
    for row in rows:
        kept = row["minima"] - row["verdicts"].get("refused", 0)
        lines.append([
            row["group"], row["method"], f"{row['molecules']} ({kept})",
            f"{row['bonds'] / MILLI:.2f}", f"{row['angles'] / MILLI:.2f}",
            f"{row['rmsd']:.3f}", f"{row['rmsd_inside']:.3f}",
            f"{row['left_basin'] / kept:.0%}" if kept else "–",
            str(row["verdicts"].get("refused", 0)),
            str(row["verdicts"].get("fell_back", 0) + row["verdicts"].get("failed", 0)),
            str(row["cautions"]), f"{row['milliseconds']:.0f}",
            *(format(row[name] / unit, form) if name in row else ""
              for name, (_, unit, form) in more.items()),
        ])  # fmt: skip
    return markdown_table([*header, *(title for title, *_ in more.values())], lines)


def bounds_table(ends: Sequence[End]) -> str:
    """Tell, by size, how many errors keep their bounds, of starts in their basin and of all."""
    bounded = [end for end in ends if end["bound"]]
    of_all = {size: (n, below) for size, n, *_, below in _bounds(bounded)}
    inside = _bounds([end for end in bounded if end["start_in_basin"]])
    lines = [(*cells, *of_all[cells[0]]) for cells in inside]
    header = ("heavy atoms", "minima", "median error, Å", "median bound, Å", "below the bound",
              "minima, in the basin or not", "below the bound")  # fmt: skip
    return markdown_table(header, lines) if lines else ""


def _bounds(ends: Sequence[End]) -> Iterator[tuple[str, ...]]:
    columns = (np.array([end[q] for end in ends]) for q in ("heavy", "rmsd", "bound"))
    return bounds_by_size(*columns, SIZES)


def rarity(low: int, high: int) -> str:
    """Name the numbers from one of `RARITIES` to the next, which is left out."""
    if high == RARITIES[-1]:
        return f"{low} and more"
    return str(low) if high == low + 1 else f"{low} to {high - 1}"


def rarity_table(ends: Sequence[End], starts: Sequence[End]) -> str:
    """Tell how errors depend on how many molecules learned have the rarest kind of atom.

    Of starts in their basin alone; as bonds are worse at the end than at the start, counted.
    """
    pairs = [(end, start) for end, start in zip(ends, starts, strict=True)
             if start["start_in_basin"] and None not in (end["bonds"], end["angles"])]  # fmt: skip
    lines = []
    for low, high in pairwise(RARITIES):
        chosen = [(end, start) for end, start in pairs if low <= start["seen"] < high]
        if chosen:
            medians = (
                np.median([side[quantity] for side in sides]) / MILLI
                for quantity in ("bonds", "angles")
                for sides in reversed([*zip(*chosen, strict=True)])
            )
            worse = sum(end["bonds"] > start["bonds"] for end, start in chosen)
            numbers = *(f"{m:.2f}" for m in medians), str(worse)
            lines.append((rarity(low, high), str(len(chosen)), *numbers))
    header = ("molecules learned with the rarest atom", "minima", "bonds at the start, mÅ",
              "at the end", "1–3 distances at the start, mÅ", "at the end",
              "bonds worse")  # fmt: skip
    return markdown_table(header, lines) if lines else ""
