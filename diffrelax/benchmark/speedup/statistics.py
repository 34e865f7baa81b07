"""Costs of arms and their ratios, with 95% intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import nan

import numpy as np
from ase.units import Bohr, Hartree
from scipy.stats import binomtest

from diffrelax.benchmark.estimates import (
    Estimate,
    estimate,
    estimate_mean,
    estimate_median,
    ratio_of_medians,
    ratio_of_sums,
)
from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.results.rows import Columns, column
from diffrelax.units import KCAL_PER_MOL

SAME_PACE = 1.5  # largest ratio of times per SCF cycle; later cycles of a molecule are shorter
RESOLUTION = 1e-4  # eV; uncertainty of energies from integration grids and reference minima
JOULES_PER_KWH = 3.6e6


class ArmCost(Columns):
    """Cost of an arm; means and medians over the molecules that reached a minimum."""

    start: str = column("of the arm")
    recipe: str = column("of the arm")
    n: int = column("that were tried", "molecules")
    reached: int = column("of these, that reached a known minimum", "minima")
    calls: Estimate = column("energy-and-gradient calls", "calls, median", "g")
    mean_calls: Estimate = column("the same", "calls, mean", ".1f")
    scf_cycles: Estimate = column("of all calls", "SCF cycles, median", "g")
    seconds: Estimate = column("from the SMILES on", "seconds, median", ".1f")
    processor_seconds: Estimate = column(
        "see `diffrelax.clock.Time`", "processor seconds, median", ".1f"
    )
    kwh: float = column(
        "electrical energy: the processor time of all relaxations that ended, also without a "
        "minimum, over the number of minima that were reached, times the power that was assumed",
        "kWh per 1,000 minima",
        ".2f",
    )

    @property
    def arm(self) -> SpeedupArm:
        """The arm that has this cost."""
        return SpeedupArm(self.start, self.recipe)


class StartQuality(Columns):
    """Quality of the geometries of one start, from their first gradient calls.

    In ratios, energies below `RESOLUTION` are set to it. The last three columns are the fractions
    of molecules that meet convergence criteria for gradients.
    """

    start: str = column("of the arms")
    n: int = column("with a first gradient call", "molecules")
    excess: Estimate = column(
        "energy above the reference minimum that is reached from there, eV",
        "above minimum, kcal/mol, median",
        ".3f",
        KCAL_PER_MOL,
    )
    pairs: int = column("that reach one minimum from here and from MMFF94", "pairs with MMFF94")
    excess_ratio: Estimate = column(
        "of excess energies", "MMFF94's over it, ratio of medians", ".1f"
    )
    typical_excess_ratio: Estimate = column(
        "of excess energies", "MMFF94's over it, median ratio", ".1f"
    )
    first_fmax: Estimate = column("on an atom", "largest force, eV/Å, median", ".3f")
    below_fmax: Estimate = column(
        "whose forces meet that of the relaxations", "below the criterion", ".0%"
    )
    below_loose: Estimate = column("whose forces meet these", "below geomeTRIC's loose", ".0%")
    below_default: Estimate = column("whose forces meet these", "below geomeTRIC's default", ".0%")


class Speedup(Columns):
    """Ratios of the costs of two arms, over molecules that reach the same minimum in both.

    Times are compared only for pairs that ran on the same kind of processor with the same number of
    threads and a similar time per SCF cycle (virtual machines may misname processors).
    """

    slow: SpeedupArm = column("an arm", "from")
    fast: SpeedupArm = column("an arm", "to")
    n: int = column("that were tried in both arms", "molecules")
    pairs: int = column("of these, that end in the same reference minimum")
    elsewhere: int = column("that end in two minima", "other minimum")
    failed: int = column(
        "that lack a minimum, or a reference for it, in one arm or both", "no minimum"
    )
    calls: Estimate = column("of energy-and-gradient calls", "calls, ratio of medians", ".2f")
    typical_calls: Estimate = column("of energy-and-gradient calls", "calls, median ratio", ".2f")
    summed_calls: Estimate = column(
        "of energy-and-gradient calls of all pairs", "calls, ratio of sums", ".2f"
    )
    scf_cycles: Estimate = column(
        "of the cycles of all calls", "SCF cycles, ratio of medians", ".2f"
    )
    typical_scf_cycles: Estimate = column(
        "of the cycles of all calls", "SCF cycles, median ratio", ".2f"
    )
    timed: int = column("of the pairs, on one kind of processor and as fast", "timed pairs")
    seconds: Estimate = column("of the time from the SMILES on", "seconds, ratio of medians", ".2f")
    typical_seconds: Estimate = column(
        "of the time from the SMILES on", "seconds, median ratio", ".2f"
    )
    processor_seconds: Estimate = column(
        "of that, see `diffrelax.clock.Time`", "processor seconds, ratio of medians", ".2f"
    )
    typical_processor_seconds: Estimate = column(
        "of that, see `diffrelax.clock.Time`", "processor seconds, median ratio", ".2f"
    )


def arm_costs(outcomes: Sequence[Outcome], watts: float) -> list[ArmCost]:
    """Return the cost of each arm, in order of first appearance.

    Parameters
    ----------
    outcomes : sequence of Outcome
    watts : float
        Assumed power of a busy processor core, W.
    """
    by_arm: dict[SpeedupArm, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_arm[outcome.arm].append(outcome)
    return [_arm_cost(arm, tried, watts) for arm, tried in by_arm.items()]


def _arm_cost(arm: SpeedupArm, tried: Sequence[Outcome], watts: float) -> ArmCost:
    done = [o for o in tried if o.basin is not None]
    calls = [o.calls for o in done]
    times = [o.times["total"] for o in done]
    spent = sum(o.times["total"].processor for o in tried)
    return ArmCost(
        start=arm.start,
        recipe=arm.recipe,
        n=len(tried),
        reached=len(done),
        calls=estimate_median(calls),
        mean_calls=estimate_mean(calls),
        scf_cycles=estimate_median([o.scf_cycles for o in done if o.scf_cycles]),
        seconds=estimate_median([time.wall for time in times]),
        processor_seconds=estimate_median([time.processor for time in times]),
        kwh=1000 * spent / len(done) * watts / JOULES_PER_KWH if done else nan,
    )


def start_qualities(outcomes: Sequence[Outcome], fmax: float) -> list[StartQuality]:
    """Return the quality of each start, in order of first appearance.

    Parameters
    ----------
    outcomes : sequence of Outcome
        For each molecule and start, the first outcome with a reference minimum is used.
    fmax : float, eV/Å
        Convergence threshold of the relaxations.
    """
    by_start: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.basin is None):
        if outcome.energies:
            by_start[outcome.arm.start].setdefault(outcome.name, outcome)
    starts = dict.fromkeys(outcome.arm.start for outcome in outcomes)
    plain = by_start["mmff94"]
    return [_start_quality(start, by_start[start], plain, fmax) for start in starts]


def _start_quality(
    start: str, outcomes: dict[str, Outcome], plain: dict[str, Outcome], fmax: float
) -> StartQuality:
    reached = {name: o.excess for name, o in outcomes.items() if o.excess is not None}
    pairs = [
        (max(first, RESOLUTION), max(excess, RESOLUTION))
        for name, excess in reached.items()
        if name in plain
        and plain[name].basin == outcomes[name].basin
        and (first := plain[name].excess) is not None
    ]
    forces = [o.first_fmax for o in outcomes.values() if o.first_fmax is not None]
    return StartQuality(
        start=start,
        n=len(outcomes),
        excess=estimate_median(list(reached.values())),
        pairs=len(pairs),
        **_ratios("excess_ratio", pairs),
        first_fmax=estimate_median(forces),
        below_fmax=_share([force < fmax for force in forces]),
        below_loose=_share_below("GAU_LOOSE", outcomes.values()),
        below_default=_share_below("GAU", outcomes.values()),
    )


def _share_below(criteria: str, outcomes: Iterable[Outcome]) -> Estimate:
    from geometric.params import OptParams

    limits = OptParams(convergence_set=criteria)
    largest, rms = (
        limit * Hartree / Bohr for limit in (limits.Convergence_gmax, limits.Convergence_grms)
    )
    return _share(
        [
            outcome.first_fmax < largest and outcome.first_rms_force < rms
            for outcome in outcomes
            if outcome.first_fmax is not None and outcome.first_rms_force is not None
        ]
    )


def _share(met: Sequence[bool]) -> Estimate:
    """Return the fraction of true values, with Wilson's interval."""
    if not met:
        return Estimate(nan)
    found = binomtest(sum(met), len(met))
    return Estimate(found.statistic, *found.proportion_ci(method="wilson"))


def speedup(outcomes: Sequence[Outcome], slow: SpeedupArm, fast: SpeedupArm) -> Speedup:
    """Compare two arms on the molecules that both have.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One for each name and arm.
    slow, fast : SpeedupArm
    """
    slow_by_name = {o.name: o for o in outcomes if o.arm == slow}
    tried = [
        (slow_by_name[o.name], o) for o in outcomes if o.arm == fast and o.name in slow_by_name
    ]
    known = [(a, b) for a, b in tried if a.basin is not None and b.basin is not None]
    pairs = [(a, b) for a, b in known if a.basin == b.basin]
    timed = [(a, b) for a, b in pairs if _on_one_machine(a, b)]
    counted = [(a, b) for a, b in pairs if a.scf_cycles and b.scf_cycles]
    times = [(a.times["total"], b.times["total"]) for a, b in timed]
    calls = [(a.calls, b.calls) for a, b in pairs]
    return Speedup(
        slow=slow,
        fast=fast,
        n=len(tried),
        pairs=len(pairs),
        elsewhere=len(known) - len(pairs),
        failed=len(tried) - len(known),
        timed=len(timed),
        **_ratios("calls", calls),
        summed_calls=estimate(ratio_of_sums, *np.reshape(calls, (-1, 2)).T),
        **_ratios("scf_cycles", [(a.scf_cycles, b.scf_cycles) for a, b in counted]),
        **_ratios("seconds", [(a.wall, b.wall) for a, b in times]),
        **_ratios("processor_seconds", [(a.processor, b.processor) for a, b in times]),
    )


def _on_one_machine(one: Outcome, other: Outcome) -> bool:
    """Return whether the times of two relaxations of a molecule are comparable."""
    if one.hardware != other.hardware or not one.hardware:
        return False
    if not (one.scf_cycles and other.scf_cycles):
        return True
    first, second = (o.times["dft"].processor / o.scf_cycles for o in (one, other))
    return max(first, second) <= SAME_PACE * min(first, second)


def _ratios(column: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Estimate]:
    """Return two columns: the ratio of the medians, and the median ratio."""
    return {
        column: estimate(ratio_of_medians, *np.reshape(pairs, (-1, 2)).T),
        f"typical_{column}": estimate_median([slow / fast for slow, fast in pairs]),
    }
