"""The figure of a speed-up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from ase.units import kcal, mol

from diffrelax.atomic import replacing
from diffrelax.benchmark.speedup import Outcome
from diffrelax.benchmark.speedup_statistics import RESOLUTION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values: TypeAlias = dict[str, dict[int, float]]  # molecule, place of the arm, value

KCAL_PER_MOL = kcal / mol  # eV
CALLS = (1, 2, 3, 4, 6, 10, 15, 25, 40, 60, 100)


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_speedup(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Draw gradient calls, paired by molecule, and the energies of the starts above the minimum.

    Parameters
    ----------
    path : path
        Of a .png file.
    outcomes : sequence of Outcome
    """
    from matplotlib.figure import Figure

    arms = list(dict.fromkeys(outcome.arm for outcome in outcomes))
    figure = Figure(figsize=(3 + 1.4 * len(arms), 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = {arm: place for place, arm in enumerate(arms)}
    calls: Values = defaultdict(dict)
    energies: Values = defaultdict(dict)
    for outcome in outcomes:
        if outcome.converged:
            calls[outcome.name][places[outcome.arm]] = outcome.calls
        if outcome.excess is not None:
            excess = max(outcome.excess, RESOLUTION) / KCAL_PER_MOL
            energies[outcome.name][places[outcome.arm]] = excess
    _paired(left, calls, len(arms))
    left.set_ylabel("energy-and-gradient calls")
    _paired(right, energies, len(arms))
    right.set_ylabel("start above its minimum, kcal/mol")
    for axis in (left, right):
        axis.set_yscale("log")
        axis.set_xticks(range(len(arms)), [f"{a.start}\n{a.recipe}" for a in arms], rotation=90)
        axis.grid(axis="y", alpha=0.3)
    limits = (0.9, 1.2 * left.get_ylim()[1])
    left.set_yticks(CALLS, [str(calls) for calls in CALLS])
    left.set_yticks([], minor=True)
    left.set_ylim(limits)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=160)


def _paired(axis: Axes, values: Values, n_arms: int) -> None:
    """Join the values of each molecule by a line, and mark the median of each arm."""
    for by_place in values.values():
        places, heights = zip(*sorted(by_place.items()), strict=True)
        axis.plot(places, heights, "o-", color="0.7", markersize=3, linewidth=0.7)
    for place in range(n_arms):
        here = [by_place[place] for by_place in values.values() if place in by_place]
        if here:
            axis.plot(place, np.median(here), "_", color="tab:blue", markersize=18, mew=2.5)
