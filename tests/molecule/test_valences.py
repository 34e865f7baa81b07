from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase.build import molecule

from diffrelax.molecule import Molecule
from diffrelax.molecule.valences import settle_elements

ELEMENTS = (1, 6, 7, 8, 9)


def scores(numbers: np.ndarray, doubt: float) -> np.ndarray:
    """Logarithms of probabilities; what is a hydrogen is certain, heavy elements share a doubt."""
    chances = np.full((len(numbers), len(ELEMENTS)), doubt / 3)
    chances[:, 0] = 1e-9
    chances[np.arange(len(numbers)), [ELEMENTS.index(z) for z in numbers]] = 1 - doubt
    chances[numbers == 1] = [1 - 4e-9, 1e-9, 1e-9, 1e-9, 1e-9]
    return np.log(chances)


@pytest.mark.parametrize(
    ("smiles", "doubt"),
    [
        *product(["CCO", "CC(C)=O", "CC#N", "CC(N)=O", "FC(F)F", "c1cc[nH]c1"], [0.1, 0.5]),
        ("C[N+](=O)[O-]", 0.1),
    ],
)
def test_valences_and_lengths_tell_the_elements_of_molecules(smiles: str, doubt: float) -> None:
    known = Molecule.from_smiles(smiles)
    settled = settle_elements(ELEMENTS, scores(known.numbers, doubt), known.positions)
    assert settled is not None
    assert settled.tolist() == known.numbers.tolist()


def test_an_atom_with_a_neighbour_too_few_becomes_another_element() -> None:
    radical = molecule("CH3")
    settled = settle_elements(ELEMENTS, scores(radical.numbers, 0.1), radical.positions)
    assert settled is not None
    assert settled.tolist() == [7, 1, 1, 1]


def test_what_no_elements_fit_has_none() -> None:
    water = molecule("H2O")
    far = water.copy()
    far.positions += 4.0
    crowded = molecule("CH4")
    crowded.append("H")
    crowded.positions[-1] = crowded.positions[0] + [0, 0, 1.1]
    collided = water.copy()
    collided.positions[1] = collided.positions[0] + [0, 0, 0.3]
    for atoms in (water + far, crowded, collided):
        assert settle_elements(ELEMENTS, scores(atoms.numbers, 0.1), atoms.positions) is None
    assert settle_elements(ELEMENTS, scores(water.numbers, 0.1), water.positions) is not None
