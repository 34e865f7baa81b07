"""Mixtures of kernels: tune them, freeze them, and run chains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from diffrelax.sampling.boltzmann.chains import Chains, Kernel, Target, metropolis_step

ACCEPTANCE = 0.25  # that the tuning aims at; the optimum is flat
GAIN = 2.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """Kernels of which each step takes one, for all chains, by chance alone.

    The choice knows nothing of where the chains stand, so each kernel keeps the distribution by
    its own ratio, and so does the mixture.

    Parameters
    ----------
    kernels : sequence of Kernel
    probabilities : sequence of float
        Their sum is 1.
    """

    kernels: Sequence[Kernel]
    probabilities: Sequence[float]

    def draw(self, rng: np.random.Generator) -> int:
        """Choose a kernel."""
        return int(rng.choice(len(self.kernels), p=self.probabilities))


@dataclass(frozen=True, eq=False)
class Draws:
    """Where chains have been.

    Parameters
    ----------
    positions : (n_draws, n_chains, n_atoms, 3) array, Å
    energies : (n_draws, n_chains) array, eV
    acceptance : dict of str to float
        Share of the moves that were accepted, for each kernel that was drawn.
    """

    positions: np.ndarray
    energies: np.ndarray
    acceptance: dict[str, float]

    @classmethod
    def of(cls, frames: Sequence[Chains], acceptance: dict[str, float]) -> Self:
        """Stack the draws of chains."""
        return cls(
            np.stack([frame.positions for frame in frames]),
            np.stack([frame.energies for frame in frames]),
            acceptance,
        )


def tune(
    chains: Chains,
    mixture: Mixture,
    target: Target,
    n_steps: int,
    rng: np.random.Generator,
    progress: Callable[[], object],
) -> tuple[Chains, Mixture]:
    """Run chains while their step sizes adapt, by smaller and smaller changes.

    These steps are no samples: with step sizes that depend on the past the ratios are not exact
    (Andrieu and Thoms 2008, doi 10.1007/s11222-008-9110-y, which the rule follows).

    Returns
    -------
    Chains
    Mixture
        With step sizes to keep.
    """
    kernels = list(mixture.kernels)
    uses = [0] * len(kernels)
    for _ in range(n_steps):
        i = mixture.draw(rng)
        chains, accepted = metropolis_step(chains, kernels[i], target, rng)
        uses[i] += 1
        gain = GAIN / uses[i] ** 0.6
        kernels[i] = kernels[i].scaled(float(np.exp(gain * (accepted.mean() - ACCEPTANCE))))
        progress()
    return chains, Mixture(kernels, mixture.probabilities)


def run(
    chains: Chains,
    mixture: Mixture,
    target: Target,
    n_draws: int,
    thin: int,
    rng: np.random.Generator,
    progress: Callable[[], object],
) -> Draws:
    """Run chains with a frozen mixture, and keep every ``thin``-th step, see `keep`."""
    shares: dict[str, list[float]] = {}

    def states() -> Iterator[Chains]:
        now = chains
        for _ in range(n_draws * thin):
            kernel = mixture.kernels[mixture.draw(rng)]
            now, accepted = metropolis_step(now, kernel, target, rng)
            shares.setdefault(kernel.name, []).append(accepted.mean())
            progress()
            yield now

    frames = keep(states(), thin)
    return Draws.of(frames, {name: float(np.mean(share)) for name, share in shares.items()})


def keep(states: Iterable[Chains], thin: int) -> list[Chains]:
    """Keep every ``thin``-th state.

    An interrupt (Ctrl-C) ends the run, and what has been kept stays.

    Raises
    ------
    KeyboardInterrupt
        If nothing has been kept yet.
    """
    kept: list[Chains] = []
    try:
        for state in itertools.islice(states, thin - 1, None, thin):
            kept.append(state)
    except KeyboardInterrupt:
        if not kept:
            raise
    return kept
