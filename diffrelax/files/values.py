"""Values beside a molecule: from text, and to what a format can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffrelax.molecule import Molecule


class ReadOptions(NamedTuple):
    """What a record does not say itself.

    Parameters
    ----------
    name : str
    seed : int
        Random seed for the embedding.
    max_atoms : int, optional
        Embed no larger molecule, hydrogens counted.
    charge : int, optional
        Of a geometry that tells none.
    """

    name: str
    seed: int
    max_atoms: int | None = None
    charge: int | None = None


def identity(molecule: Molecule) -> dict[str, Any]:
    """Return what a record says of a molecule beside its geometry and its name."""
    return {
        "smiles": molecule.isotopic_smiles,
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
    }


def plain_number(text: str) -> str | int | float:
    """Return the number that a text is, or the text if the number would be written otherwise."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text:
            return number
    return text


def plain_values(value: Any) -> Any:
    """Turn arrays into lists and numbers that JSON lacks, such as NaN, into None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_line(text: str) -> str:
    """Return a text without line ends and what cannot be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
