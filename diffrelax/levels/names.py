"""How methods and basis sets are spelt, without loading PySCF."""

from __future__ import annotations

import re

RELATIVISTIC = re.compile(r"(dkh?\d?|x2c\w*|rcc\w*)$|^(sarc|x2c|ano$)|zora")  # contractions


def letters(name: str) -> str:
    """Return a name in small letters, without what PySCF passes over in it."""
    return re.sub(r"[-_\s]", "", name.lower())


def is_relativistic(basis: str) -> bool:
    """Whether a basis set is contracted for relativistic Hamiltonians, by its name."""
    return bool(RELATIVISTIC.search(letters(basis)))


def is_composite(xc: str) -> bool:
    """Whether a name is that of a composite method, known or not, which has its own basis set."""
    return letters(xc).endswith("3c")
