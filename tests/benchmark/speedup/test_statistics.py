from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffrelax.benchmark.estimates import estimate, estimate_mean, estimate_median
from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.benchmark.speedup.statistics import arm_costs, speedup, start_qualities
from diffrelax.clock import Time
from diffrelax.molecule import Molecule

SLOW = SpeedupArm("mmff94", "bfgs")
FAST = SpeedupArm("diffusion", "bfgs")
WATER = Molecule.from_smiles("O")


def outcome(
    name: str, arm: SpeedupArm, calls: int, seconds: float, basin: int | None = 0
) -> Outcome:
    return Outcome(
        name,
        "O",
        arm,
        "" if basin is not None else "failed",
        times={"total": Time(2 * seconds, seconds), "dft": Time(calls, calls)},
        energies=tuple(np.linspace(-1, -2, calls)),
        scf_cycles=5 * calls,
        hardware="a processor",
        end=None if basin is None else WATER,
        basin=basin,
        minimum=None if basin is None else -2.0,
    )


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    sample = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    mean = estimate(np.mean, sample.tolist())
    half = 1.96 * sample.std() / 20
    assert mean.value == pytest.approx(sample.mean())
    assert mean.low == pytest.approx(mean.value - half, abs=0.02)
    assert mean.high == pytest.approx(mean.value + half, abs=0.02)


@pytest.mark.parametrize("n", [6, 7, 10, 20])
def test_intervals_hold_for_few_molecules(n: int) -> None:
    samples = np.random.default_rng(0).normal(size=(500, n))
    medians = [estimate_median(np.exp(sample).tolist()) for sample in samples]
    assert np.mean([found.low <= 1 <= found.high for found in medians]) > 0.93
    means = [estimate_mean(sample.tolist()) for sample in samples]
    assert np.mean([found.low <= 0 <= found.high for found in means]) == pytest.approx(
        0.95, abs=0.03
    )


def test_too_few_molecules_have_no_interval() -> None:
    for known in (estimate_median, estimate_mean):
        assert known([3.0]).value == 3.0
        assert np.isnan(known([3.0] * 5).low)
        assert np.isnan(known([]).value)
    assert np.isnan(estimate(np.median, [3.0] * 19).low)
    assert estimate(np.median, [3.0] * 20).low == 3.0


def test_ratios_are_of_pairs_in_one_minimum() -> None:
    outcomes = [
        *(outcome(f"{k}", SLOW, 10 * k, 40.0 * k) for k in range(1, 21)),
        *(outcome(f"{k}", FAST, 5 * k, 10.0 * k) for k in range(1, 21)),
        outcome("elsewhere", SLOW, 10, 1.0, 0),
        outcome("elsewhere", FAST, 1, 1.0, 1),
        outcome("failed", SLOW, 10, 1.0),
        outcome("failed", FAST, 1, 1.0, None),
        outcome("alone", SLOW, 10, 1.0),
    ]
    found = speedup(outcomes, SLOW, FAST)
    assert (found.n, found.pairs, found.elsewhere, found.failed) == (22, 20, 1, 1)
    assert found.typical_calls.value == found.typical_calls.low == found.typical_calls.high == 2
    assert found.calls.value == found.summed_calls.value == 2
    assert found.seconds.value == found.processor_seconds.value == 4
    assert found.calls.low == found.calls.high == pytest.approx(2)  # paired, so without spread


def test_times_are_compared_on_the_same_kind_of_processor() -> None:
    outcomes = [outcome(n, arm, 10, 4.0) for n in "ab" for arm in (SLOW, FAST)]
    times = {"total": Time(1.0, 1.0), "dft": Time(1.0, 1.0)}
    outcomes[3] = replace(outcomes[3], times=times, scf_cycles=10, hardware="a faster one")
    found = speedup(outcomes, SLOW, FAST)
    assert (found.pairs, found.timed) == (2, 1)
    assert found.typical_seconds.value == found.processor_seconds.value == 1
    assert found.typical_scf_cycles.value == 3  # of both pairs, 50 to 50 and 50 to 10


def test_times_are_not_compared_where_a_cycle_took_longer() -> None:
    """Virtual machines of different speed may have one name."""
    outcomes = [outcome(n, arm, 10, 4.0) for n in "ab" for arm in (SLOW, FAST)]
    outcomes[3] = replace(outcomes[3], times={"total": Time(7.0, 7.0), "dft": Time(16.0, 16.0)})
    found = speedup(outcomes, SLOW, FAST)
    assert (found.pairs, found.timed) == (2, 1)
    assert found.typical_seconds.value == 1


def test_most_ties_do_not_hide_what_some_pairs_save() -> None:
    calls = [(2, 2), (2, 2), (2, 2), (4, 2)]
    outcomes = [
        outcome(f"{i}", arm, n, 1.0)
        for i, both in enumerate(calls)
        for arm, n in zip((SLOW, FAST), both, strict=True)
    ]
    found = speedup(outcomes, SLOW, FAST)
    assert (found.typical_calls.value, found.summed_calls.value) == (1.0, 1.25)


def test_no_pairs_give_no_ratio() -> None:
    found = speedup([outcome("a", SLOW, 10, 1.0), outcome("a", FAST, 5, 1.0, 1)], SLOW, FAST)
    assert (found.n, found.pairs, found.elsewhere) == (1, 0, 1)
    assert np.isnan(found.calls.value)


def test_costs_of_an_arm_and_its_electricity() -> None:
    outcomes = [outcome("a", SLOW, 2, 30.0), outcome("b", SLOW, 4, 42.0)]
    at_a_saddle = replace(outcome("c", SLOW, 9, 99.0, None), end=WATER)
    outcomes += [at_a_saddle, outcome("a", FAST, 1, 1.0)]
    slow, fast = arm_costs(outcomes, watts=100.0)
    assert (slow.arm, slow.n, slow.reached, fast.n) == (SLOW, 3, 2, 1)
    assert slow.calls.value == slow.mean_calls.value == 3
    assert slow.scf_cycles.value == 15
    assert (slow.seconds.value, slow.processor_seconds.value) == (72, 36)
    each = (30 + 42 + 99) / 2  # s of one core; c was in vain
    assert slow.kwh == pytest.approx(1000 * each * 100 / 3.6e6)
    (vain,) = arm_costs([outcome("c", SLOW, 9, 99.0, None)], watts=100.0)
    assert np.isnan(vain.kwh)


def start(
    name: str,
    start: str,
    above: float,
    forces: tuple[float, float | None],
    basin: int | None = 0,
) -> Outcome:
    """An outcome whose minimum is at -2 eV; forces are the largest and the rms, eV/Å."""
    energies = (-2.0 + above, -2.0)
    known = outcome(name, SpeedupArm(start, "bfgs"), 2, 1.0, basin)
    return replace(known, energies=energies, first_fmax=forces[0], first_rms_force=forces[1])


def test_starts_are_told_by_their_first_gradient_call() -> None:
    poor, loose, default = (0.5, 0.3), (0.10, 0.05), (0.02, 0.01)
    mmff94, diffusion = start_qualities(
        [
            *(
                start(n, "mmff94", e, poor)
                for n, e in zip("abcd", (1.0, 2.0, 4.0, 8.0), strict=True)
            ),
            start("a", "diffusion", 0.5, default),
            start("b", "diffusion", 0.1, default),
            start("c", "diffusion", 0.1, loose),
            start("d", "diffusion", 0.9, (0.10, 0.09), basin=1),
            start("e", "diffusion", 0.9, poor, basin=None),
        ],
        fmax=0.03,
    )
    assert (mmff94.start, mmff94.n, diffusion.n) == ("mmff94", 4, 5)
    assert mmff94.excess.value == pytest.approx(3.0)
    assert mmff94.typical_excess_ratio.value == mmff94.excess_ratio.value == 1
    assert diffusion.excess.value == pytest.approx(0.3)  # e has no minimum
    assert diffusion.excess_ratio.value == pytest.approx(20)  # a, b and c end where MMFF94 does
    assert diffusion.typical_excess_ratio.value == pytest.approx(20)
    assert diffusion.first_fmax.value == pytest.approx(0.1)
    assert diffusion.below_fmax.value == diffusion.below_default.value == pytest.approx(2 / 5)
    assert diffusion.below_loose.value == pytest.approx(3 / 5)  # not d, by its rms force
    assert mmff94.below_loose.value == 0
    # Wilson's interval for 2 of 5
    low, high = diffusion.below_fmax.low, diffusion.below_fmax.high
    assert (low, high) == (pytest.approx(0.1176, abs=1e-4), pytest.approx(0.7693, abs=1e-4))


def test_a_start_whose_rms_forces_were_not_kept_has_no_share_of_geometrics() -> None:
    (quality,) = start_qualities([start("a", "uff", 1.0, (0.02, None))], fmax=0.03)
    assert quality.below_fmax.value == 1
    assert np.isnan(quality.below_default.value)
    assert np.isnan(quality.excess_ratio.value)


def test_energies_below_what_the_grids_resolve_are_no_measure_of_a_start() -> None:
    poor = (0.5, 0.3)
    _, diffusion = start_qualities(
        [
            *(start(name, "mmff94", 0.2, poor) for name in "abc"),
            *(
                start(name, "diffusion", above, poor)
                for name, above in zip("abc", (-3e-4, 2e-5, 0.01), strict=True)
            ),
        ],
        fmax=0.03,
    )
    assert diffusion.excess.value == pytest.approx(2e-5)
    assert diffusion.typical_excess_ratio.value == pytest.approx(0.2 / 1e-4)
    assert diffusion.excess_ratio.value == pytest.approx(0.2 / 1e-4)
    assert diffusion.pairs == 3
