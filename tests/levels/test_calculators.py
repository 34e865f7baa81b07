from __future__ import annotations

import pytest

from diffrelax.levels import LEVELS, get_calculator
from diffrelax.molecule import Molecule


def test_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'am1'.*mmff94, uff, gfn2-xtb, dft"):
        get_calculator("am1", Molecule.from_smiles("O"))


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_energy_and_forces(level: str) -> None:
    molecule = Molecule.from_smiles("O")
    calculator = get_calculator(level, molecule)
    assert {"energy", "forces"} <= set(calculator.implemented_properties)
