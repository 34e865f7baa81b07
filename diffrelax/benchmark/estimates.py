"""Statistics with 95% intervals that are also valid for few molecules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TypeAlias

import numpy as np
from scipy.stats import bootstrap, quantile_test, sem
from scipy.stats import t as student

from diffrelax.results.rows import UNKNOWN

RESAMPLES = 9999
FEWEST = 6  # molecules for an interval of the mean, as of the median
FEWEST_RESAMPLED = 20  # molecules; the bootstrap interval is too narrow for fewer

Statistic: TypeAlias = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% interval; NaN if there are too few molecules."""

    value: float
    low: float = nan
    high: float = nan

    def __truediv__(self, unit: float) -> Estimate:
        return Estimate(self.value / unit, self.low / unit, self.high / unit)

    def __format__(self, form: str) -> str:
        if isnan(self.value):
            return UNKNOWN
        value, low, high = (format(x, form) for x in (self.value, self.low, self.high))
        return value if isnan(self.low) else f"{value} [{low}, {high}]"


def ratio_of_medians(slow: np.ndarray, fast: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the ratio of the medians of two samples, for `estimate`."""
    return np.median(slow, axis=axis) / np.median(fast, axis=axis)


def ratio_of_sums(slow: np.ndarray, fast: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the ratio of the sums of two samples, for `estimate`."""
    return np.sum(slow, axis=axis) / np.sum(fast, axis=axis)


def estimate_median(sample: Sequence[float]) -> Estimate:
    """Return the median with its exact interval from order statistics."""
    if not sample:
        return Estimate(nan)
    value = float(np.median(sample))
    # NaN for fewer than six, whose range is not a 95% interval
    interval = quantile_test(sample, q=value, p=0.5).confidence_interval(0.95)
    return Estimate(value, float(interval.low), float(interval.high))


def estimate_mean(sample: Sequence[float]) -> Estimate:
    """Return the mean with Student's interval."""
    if not sample:
        return Estimate(nan)
    value = float(np.mean(sample))
    if len(sample) < FEWEST:
        return Estimate(value)
    half = sem(sample) * student.ppf(0.975, len(sample) - 1)
    return Estimate(value, float(value - half), float(value + half))


def estimate(statistic: Statistic, *samples: Sequence[float]) -> Estimate:
    """Return a statistic with its percentile bootstrap interval.

    Parameters
    ----------
    statistic : callable
        Takes the samples and an ``axis``.
    *samples : sequences of float
        Several samples are paired.
    """
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    if arrays[0].size == 0:
        return Estimate(nan)
    value = float(statistic(*arrays, axis=-1))
    if arrays[0].size < FEWEST_RESAMPLED:
        return Estimate(value)
    interval = bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))
