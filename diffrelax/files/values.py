"""Properties of molecules: reading from text, and conversion for file formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffrelax.molecule import Molecule


class ReadOptions(NamedTuple):
    """Options for reading a record.

    Parameters
    ----------
    name : str
    seed : int
        Random seed for the embedding.
    max_atoms : int, optional
        Reject larger molecules, hydrogens included.
    charge : int, optional
        Charge of a geometry without one.
    """

    name: str
    seed: int
    max_atoms: int | None = None
    charge: int | None = None


def identity(molecule: Molecule) -> dict[str, Any]:
    """Return SMILES, charge and multiplicity of a molecule for a record."""
    return {
        "smiles": molecule.isotopic_smiles,
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
    }


def plain_number(text: str) -> str | int | float:
    """Convert a text to a number if the number is written identically; else return the text."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text:
            return number
    return text


def plain_values(value: Any) -> Any:
    """Convert arrays to lists, and numbers that JSON lacks, such as NaN, to None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_line(text: str) -> str:
    """Return a text without line breaks and unprintable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
