from __future__ import annotations

import numpy as np
import pytest

from diffrelax.benchmark.speedup import Outcome
from diffrelax.benchmark.speedup_arms import SpeedupArm
from diffrelax.benchmark.speedup_statistics import arm_costs, estimate, speedup
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
        times={"total": Time(2 * seconds, seconds)},
        energies=tuple(np.linspace(-1, -2, calls)),
        scf_cycles=5 * calls,
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


def test_too_few_molecules_have_no_interval() -> None:
    assert estimate(np.median, [3.0]).value == 3.0
    assert np.isnan(estimate(np.median, [3.0]).low)
    assert np.isnan(estimate(np.median, []).value)


def test_ratios_are_of_pairs_in_one_minimum() -> None:
    outcomes = [
        *(outcome(n, SLOW, 10 * k, 40.0 * k) for k, n in enumerate("abc", start=1)),
        *(outcome(n, FAST, 5 * k, 10.0 * k) for k, n in enumerate("abc", start=1)),
        outcome("elsewhere", SLOW, 10, 1.0, 0),
        outcome("elsewhere", FAST, 1, 1.0, 1),
        outcome("failed", SLOW, 10, 1.0),
        outcome("failed", FAST, 1, 1.0, None),
        outcome("alone", SLOW, 10, 1.0),
    ]
    found = speedup(outcomes, SLOW, FAST)
    assert (found.n, found.pairs, found.elsewhere, found.failed) == (5, 3, 1, 1)
    assert found.typical_calls.value == found.typical_calls.low == found.typical_calls.high == 2
    assert found.calls.value == 2
    assert found.seconds.value == found.processor_seconds.value == 4
    assert found.calls.low == found.calls.high == pytest.approx(2)  # paired, so without spread


def test_no_pairs_give_no_ratio() -> None:
    found = speedup([outcome("a", SLOW, 10, 1.0), outcome("a", FAST, 5, 1.0, 1)], SLOW, FAST)
    assert (found.n, found.pairs, found.elsewhere) == (1, 0, 1)
    assert np.isnan(found.calls.value)


def test_costs_of_an_arm_and_its_electricity() -> None:
    outcomes = [outcome("a", SLOW, 2, 30.0), outcome("b", SLOW, 4, 42.0)]
    outcomes += [outcome("c", SLOW, 9, 99.0, None), outcome("a", FAST, 1, 1.0)]
    slow, fast = arm_costs(outcomes, watts=100.0)
    assert (slow.arm, slow.n, slow.converged, fast.n) == (SLOW, 3, 2, 1)
    assert slow.calls.value == slow.mean_calls.value == 3
    assert slow.scf_cycles.value == 15
    assert (slow.seconds.value, slow.processor_seconds.value) == (72, 36)
    assert slow.kwh == pytest.approx(1.0)  # 1,000 times 36 s of one core at 100 W
    assert slow.excess.value == pytest.approx(1.0)
