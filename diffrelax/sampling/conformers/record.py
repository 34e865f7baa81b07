"""A geometry among others of the same molecule, and how duplicates are merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import same_minimum


@dataclass(frozen=True, eq=False)
class Conformer:
    """A geometry on its way to a minimum, or there.

    Parameters
    ----------
    start : str
        The start that it comes from: ``"etkdg 3"``, ``"kdg 3"``, ``"denoised 5"`` or ``"given"``.
    molecule : Molecule
    energy : float, eV
        NaN until it is at a minimum.
    n_starts : int
        Embeddings and proposals that have led here.
    """

    start: str
    molecule: Molecule
    energy: float = nan
    n_starts: int = 1


def merge(conformers: Iterable[Conformer], known: Sequence[Conformer] = ()) -> list[Conformer]:
    """Merge duplicates by `diffrelax.molecule.identity.same_minimum`, mirror images included.

    The first of each kind stands for the others, so the order decides; those that are known to be
    distinct come before all.
    """
    kept = list(known)
    for one in conformers:
        for i, other in enumerate(kept):
            gap = None if isnan(one.energy) else one.energy - other.energy
            if same_minimum(one.molecule, other.molecule, gap):
                kept[i] = replace(other, n_starts=other.n_starts + one.n_starts)
                break
        else:
            kept.append(one)
    return kept
