"""Have the chains converged? Effective sample sizes and R-hat, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from diffrelax.errors import InputError
from diffrelax.extras import find_extra

MAX_RHAT = 1.01
MIN_ESS = 400
FEWEST_DRAWS = 4
FEWEST_CHAINS = 2


def check_diagnostics() -> None:
    """Find out whether ArviZ is installed, which judges the chains; ValueError if not."""
    find_extra("arviz_stats", "sampling", "sampling")


@dataclass(frozen=True)
class Diagnostics:
    """How far chains can be trusted (Vehtari et al. 2021, doi 10.1214/20-BA1221).

    Parameters
    ----------
    ess : dict of str to float
        Bulk effective sample size of each observable, over all chains.
    rhat : dict of str to float
        Rank-normalised split R-hat of each observable; 1 where chains agree.
    n_samples : int
        Draws of all chains together.
    """

    ess: Mapping[str, float]
    rhat: Mapping[str, float]
    n_samples: int

    @classmethod
    def of(cls, observables: Mapping[str, np.ndarray]) -> Self:
        """Judge observables, each an (n_draws, n_chains) array, at least 4 draws of 2 chains.

        Raises
        ------
        ValueError
            If there are too few chains or draws to tell.
        """
        shape = next(iter(observables.values())).shape
        if shape[0] < FEWEST_DRAWS or shape[1] < FEWEST_CHAINS:
            raise InputError(
                f"{shape[0]} draws of {shape[1]} chains are too few to judge convergence: "
                f"use at least {FEWEST_DRAWS} draws of {FEWEST_CHAINS} chains"
            )
        from arviz_stats.base import array_stats

        with np.errstate(divide="ignore", invalid="ignore"):
            axes: dict[str, Any] = {"chain_axis": 1, "draw_axis": 0}
            ess = {n: float(array_stats.ess(x, **axes)) for n, x in observables.items()}
            rhat = {n: float(array_stats.rhat(x, **axes)) for n, x in observables.items()}
        return cls(ess, rhat, int(np.prod(shape)))

    @property
    def doubts(self) -> str:
        """Say why the chains are not converged; empty if nothing speaks against it.

        They are not if R-hat of an observable is 1.01 or more, or its effective sample size is
        below 400.
        """
        apart = {n: r for n, r in self.rhat.items() if not r < MAX_RHAT}
        few = {n: e for n, e in self.ess.items() if not e >= MIN_ESS}
        said = []
        if apart:
            name, value = max(apart.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
            said.append(f"R-hat of {name} is {value:.3f}, not below {MAX_RHAT}")
        if few:
            name, value = min(few.items(), key=lambda item: np.nan_to_num(item[1]))
            said.append(f"effective sample size of {name} is {value:.0f}, below {MIN_ESS}")
        return "; ".join(said)

    @property
    def converged(self) -> bool:
        """Whether nothing speaks against it: chains that all miss a conformer look the same."""
        return not self.doubts
