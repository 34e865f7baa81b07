"""The figure of a speed-up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from diffrelax.atomic import replacing
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.benchmark.speedup.statistics import RESOLUTION
from diffrelax.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values: TypeAlias = dict[str, dict[str, float]]  # molecule, start, value

MARGIN = 0.7  # beside the outermost columns
CALLS = (1, 2, 3, 4, 6, 10, 15, 25, 40, 60, 100)


def draw_speedup(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Draw gradient calls by recipe, and the energies of the starts above the minimum.

    Lines join the arms of a molecule with the same recipe. The energy of a start is taken relative
    to its first known minimum.

    Parameters
    ----------
    path : path
        A .png file.
    outcomes : sequence of Outcome
        At least one.
    """
    from matplotlib.figure import Figure

    arms = list(dict.fromkeys(outcome.arm for outcome in outcomes))
    recipes = {recipe: [a.start for a in arms if a.recipe == recipe] for _, recipe in arms}
    starts = list(dict.fromkeys(arm.start for arm in arms))
    widths = len(arms) + len(recipes), len(starts) + 1
    figure = Figure(figsize=(2 + 0.45 * sum(widths), 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=widths)
    for axis in (left, right):
        axis.set_yscale("log")
        axis.grid(axis="y", alpha=0.3)
    _draw_calls(left, outcomes, recipes)
    _draw_energies(right, outcomes, starts)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _draw_calls(
    axis: Axes, outcomes: Sequence[Outcome], recipes: Mapping[str, Sequence[str]]
) -> None:
    labels: dict[int, str] = {}
    for recipe, starts in recipes.items():
        calls: Values = defaultdict(dict)
        for outcome in outcomes:
            if outcome.basin is not None and outcome.arm.recipe == recipe:
                calls[outcome.name][outcome.arm.start] = outcome.calls
        first = max(labels, default=-2) + 2
        places = dict(zip(starts, count(first)))
        _draw_paired(axis, calls, places)
        middle = first + (len(places) - 1) / 2
        title = recipe.replace("+", "\n+")
        axis.text(middle, 1.01, title, transform=axis.get_xaxis_transform(), ha="center")
        labels |= {place: start for start, place in places.items()}
    axis.set_xticks(list(labels), list(labels.values()), rotation=90)
    axis.set_xlim(-MARGIN, max(labels) + MARGIN)
    limits = (0.9, 1.2 * axis.get_ylim()[1])
    axis.set_yticks(CALLS, [str(calls) for calls in CALLS])
    axis.set_yticks([], minor=True)
    axis.set_ylim(limits)
    axis.set_ylabel("energy-and-gradient calls")


def _draw_energies(axis: Axes, outcomes: Sequence[Outcome], starts: Sequence[str]) -> None:
    energies: Values = defaultdict(dict)
    for outcome in outcomes:
        if outcome.excess is not None:
            excess = max(outcome.excess, RESOLUTION) / KCAL_PER_MOL
            energies[outcome.name].setdefault(outcome.arm.start, excess)
    _draw_paired(axis, energies, dict(zip(starts, count())))
    axis.set_xticks(range(len(starts)), starts, rotation=90)
    axis.set_xlim(-MARGIN, len(starts) - 1 + MARGIN)
    axis.set_ylabel("start above its minimum, kcal/mol")


def _draw_paired(axis: Axes, values: Values, places: Mapping[str, int]) -> None:
    """Plot the values of each molecule as a line, and the medians as markers."""
    for of_molecule in values.values():
        known = [start for start in places if start in of_molecule]
        x, y = [places[start] for start in known], [of_molecule[start] for start in known]
        axis.plot(x, y, "o-", color="0.7", markersize=3, linewidth=0.7)
    for start, place in places.items():
        if here := [of_molecule[start] for of_molecule in values.values() if start in of_molecule]:
            axis.plot(place, np.median(here), "_", color="tab:blue", markersize=18, mew=2.5)
