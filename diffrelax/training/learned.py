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
        Number of minima in the largest training set, since successive sets may overlap.
    elements, charges : tuple of int
        Atomic numbers, and total charges.
    most_heavy : int
        Largest number of heavy atoms in a molecule.
    stale : bool
        Whether all weights have since been trained on minima at other levels only, so that the
        model has become worse at this level.
    """

    minima: int
    elements: tuple[int, ...]
    charges: tuple[int, ...]
    most_heavy: int
    stale: bool = Field(default=False, exclude_if=lambda stale: not stale)

    def and_more(self, more: Learned) -> Learned:
        """Add what was learned later at the same level."""
        return Learned(
            minima=max(self.minima, more.minima),
            elements=tuple(sorted({*self.elements, *more.elements})),
            charges=tuple(sorted({*self.charges, *more.charges})),
            most_heavy=max(self.most_heavy, more.most_heavy),
        )


def learned_after(
    known: Mapping[str, Learned], new: Mapping[str, Learned], *, all_weights: bool
) -> dict[str, Learned]:
    """Return what has been learned at each level after further training.

    Parameters
    ----------
    known, new : mapping of str to Learned
        What was learned before, and in the further training.
    all_weights : bool
        Whether all weights were trained: the stale levels are then those that are not in ``new``.
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
    """Summarize a training set.

    Parameters
    ----------
    geometries : GeometrySet
    level : str
        Level of theory of the minima, for a set without names of levels.
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
