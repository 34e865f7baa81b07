from __future__ import annotations

import numpy as np
import pytest

from diffrelax.sampling.boltzmann.diagnostics import Diagnostics


def autoregressive(n_draws, n_chains, memory, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((n_draws, n_chains))
    x[0] = rng.normal(size=n_chains)
    for i in range(1, n_draws):
        x[i] = memory * x[i - 1] + (1 - memory**2) ** 0.5 * rng.normal(size=n_chains)
    return x


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_effective_sample_size_is_that_of_an_autoregressive_process(memory):
    x = autoregressive(5000, 8, memory)
    exact = x.size * (1 - memory) / (1 + memory)
    found = Diagnostics.of({"x": x})
    assert found.ess["x"] == pytest.approx(exact, rel=0.15)
    assert found.rhat["x"] == pytest.approx(1, abs=0.005)
    assert found.converged
    assert found.n_samples == 40_000


def test_chains_apart_are_not_converged_however_many_draws():
    x = autoregressive(5000, 8, 0.5)
    x[:, 3] += 1.0
    found = Diagnostics.of({"energy": autoregressive(5000, 8, 0.5, seed=1), "torsion": x})
    assert not found.converged
    assert "R-hat of torsion is 1.0" in found.doubts


def test_few_effective_draws_are_not_converged():
    found = Diagnostics.of({"energy": autoregressive(400, 8, 0.95)})
    assert not found.converged
    assert "effective sample size of energy" in found.doubts


def test_chains_that_never_move_are_not_converged():
    found = Diagnostics.of({"energy": np.tile(np.arange(4.0), (100, 1))})
    assert not found.converged
    assert "R-hat of energy" in found.doubts


@pytest.mark.parametrize("shape", [(3, 8), (100, 1)])
def test_too_little_to_tell_is_refused(shape):
    with pytest.raises(ValueError, match="are too few to judge convergence"):
        Diagnostics.of({"energy": np.zeros(shape)})
