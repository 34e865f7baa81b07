"""Order of the training data: batches of similar sizes, with balanced levels of theory."""

from __future__ import annotations

import numpy as np


def epoch_batches(
    sizes: np.ndarray,
    level: np.ndarray,
    batch_size: int,
    balance: float,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """Return the batches of one epoch: molecules of similar size together, in random order.

    The order depends only on ``seed`` and ``epoch``, so that a resumed run can skip earlier
    batches. An epoch has as many molecules as the set. Its batches have similar numbers of atoms:
    those of ``batch_size`` molecules of mean size.

    Parameters
    ----------
    sizes : (n_molecules,) int array
        Number of atoms of each molecule.
    level : (n_molecules,) int array
        Index of the level of theory of each molecule.
    batch_size : int
    balance : float
        The share of a level in the epoch is proportional to the number of its geometries to this
        power: with 1, each geometry is used once; with 0, all levels are used equally often.

    Returns
    -------
    list of int arrays
        Indices of the molecules of each batch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(_draw(level, balance, rng))
    pool = 64 * batch_size
    atoms = batch_size * sizes[order].mean()
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        places = order[start : start + pool]
        places = places[np.argsort(sizes[places], kind="stable")]
        ends = np.cumsum(sizes[places])
        n_batches = max(1, round(ends[-1] / atoms))
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, n_batches) / n_batches)
        batches += [part for part in np.split(places, cuts) if len(part)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _draw(level: np.ndarray, balance: float, rng: np.random.Generator) -> np.ndarray:
    """Draw molecules of each level; within a level, counts differ by at most one."""
    found, counts = np.unique(level, return_counts=True)
    shares = counts**balance / (counts**balance).sum()
    drawn = []
    for one, count, share in zip(found, counts, shares, strict=True):
        places, wanted = np.flatnonzero(level == one), round(share * len(level))
        rounds = [rng.permutation(places) for _ in range(-(-wanted // count))]
        drawn.append(np.concatenate([*rounds, places[:0]])[:wanted])
    return np.concatenate(drawn)
