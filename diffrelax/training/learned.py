"""What a model has learned at each level of theory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from diffrelax.entries import Entries
from diffrelax.training.geometries import GeometrySet


class Learned(Entries):
    """What has been learned at one level of theory.

    Attributes
    ----------
    minima : int
        Of the largest set, since sets that were learned one after the other may have the same.
    elements, charges : tuple of int
        Atomic numbers, and total charges.
    most_heavy : int
        Heavy atoms of the molecule that has the most of them.
    stale : bool
        Since then all weights have learned from minima at other levels, and not from its own, so
        that the model is worse here than it was.
    """

    minima: int
    elements: tuple[int, ...]
    charges: tuple[int, ...]
    most_heavy: int
    stale: bool = Field(default=False, exclude_if=lambda stale: not stale)

    def and_more(self, more: Learned) -> Learned:
        """Return what has been learned after more was learned at the same level."""
        return Learned(
            minima=max(self.minima, more.minima),
            elements=tuple(sorted({*self.elements, *more.elements})),
            charges=tuple(sorted({*self.charges, *more.charges})),
            most_heavy=max(self.most_heavy, more.most_heavy),
        )


def learned_after(
    known: Mapping[str, Learned], new: Mapping[str, Learned], *, all_weights: bool
) -> dict[str, Learned]:
    """Return what has been learned at each level when more is, by all weights or those of a level.

    Parameters
    ----------
    known, new : mapping of str to Learned
        Before, and now.
    all_weights : bool
        Then levels that are not in ``new`` become stale, and those that are in it are so no more.
    """
    before = {
        level: one.model_copy(update={"stale": one.stale or all_weights})
        for level, one in known.items()
    }
    both = {
        level: known[level]
        .and_more(new[level])
        .model_copy(update={"stale": known[level].stale and not all_weights})
        for level in known.keys() & new.keys()
    }
    return before | dict(new) | both


def learned_from(geometries: GeometrySet, level: str) -> dict[str, Learned]:
    """Sum up a training set.

    Parameters
    ----------
    geometries : GeometrySet
    level : str
        Name of the level of theory of the minima, where the set does not tell them apart.
    """
    learned = {}
    for place, name in enumerate(geometries.levels or (level,)):
        chosen = geometries.level == place
        if chosen.any():
            learned[name] = Learned(
                minima=len(np.unique(geometries.index[chosen])),
                elements=tuple(
                    np.unique(geometries.numbers[np.repeat(chosen, geometries.sizes)]).tolist()
                ),
                charges=tuple(np.unique(geometries.charge[chosen]).tolist()),
                most_heavy=int(geometries.heavy_sizes[chosen].max()),
            )
    return learned
