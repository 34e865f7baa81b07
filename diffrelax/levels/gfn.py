"""What the methods of the GFN family have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

HEAVIEST = 86  # radon


def check_heaviest(molecule: Molecule, method: str) -> None:
    """Raise ValueError if there is an element beyond Rn."""
    if molecule.numbers.max() > HEAVIEST:
        raise ValueError(
            f"{method} has no parameters for {molecule.formula}, only for H to Rn: "
            "use another level of theory"
        )
