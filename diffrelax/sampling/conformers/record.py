"""A geometry among others of the same molecule, and how duplicates are merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.results.molecules import MoleculeDocument


@dataclass(frozen=True, eq=False)
class Conformer:
    """A geometry on its way to a minimum, or there.

    Parameters
    ----------
    start : str
        The start that it comes from: ``"etkdg 3"``, ``"kdg 3"``, ``"turned 57"`` or ``"given"``.
    molecule : Molecule
    energy : float, eV
        Of the level that was asked last; NaN before.
    n_starts : int
        Embeddings and turned geometries that have led here.
    free_energy : float or None, eV
        Of Gibbs, soft vibrations as rotors; None where it was not asked for.
    notes : tuple of str
        What to beware of in the last relaxation.
    """

    start: str
    molecule: Molecule
    energy: float = nan
    n_starts: int = 1
    free_energy: float | None = None
    notes: tuple[str, ...] = ()


def write_conformer(one: Conformer) -> dict[str, Any]:
    """Write a conformer in plain values."""
    molecule = MoleculeDocument.from_molecule(one.molecule).model_dump(mode="json")
    energy = None if isnan(one.energy) else one.energy
    return {
        "start": one.start,
        "molecule": molecule,
        "energy": energy,
        "n_starts": one.n_starts,
        "free_energy": one.free_energy,
        "notes": one.notes,
    }


def read_conformer(record: Mapping[str, Any]) -> Conformer:
    """Read what `write_conformer` wrote."""
    molecule = MoleculeDocument.model_validate(record["molecule"]).to_molecule()
    energy = nan if record["energy"] is None else record["energy"]
    return Conformer(
        record["start"],
        molecule,
        energy,
        record["n_starts"],
        record["free_energy"],
        tuple(record["notes"]),
    )


def find_same(one: Conformer, others: Sequence[Conformer], *, energies: bool = True) -> int | None:
    """Find the first that is the same minimum, see `diffrelax.molecule.comparison.same_minimum`.

    Energies are compared where both are known, unless they are to be left out.
    """
    for i, other in enumerate(others):
        gap = one.energy - other.energy if energies else nan
        if same_minimum(one.molecule, other.molecule, None if isnan(gap) else gap):
            return i
    return None


def merge(conformers: Iterable[Conformer]) -> list[Conformer]:
    """Merge duplicates, mirror images included; the first of each kind stands for the others."""
    kept: list[Conformer] = []
    for one in conformers:
        place = find_same(one, kept)
        if place is None:
            kept.append(one)
        else:
            other = kept[place]
            kept[place] = replace(other, n_starts=other.n_starts + one.n_starts)
    return kept


def within(conformers: Sequence[Conformer], window: float) -> list[Conformer]:
    """Return those that are no further above the lowest than a window, eV."""
    lowest = min((one.energy for one in conformers), default=nan)
    return [one for one in conformers if one.energy <= lowest + window]
