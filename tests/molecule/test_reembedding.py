from __future__ import annotations

import numpy as np
import pytest

from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import identity_change
from diffrelax.molecule.reembedding import embed_again


@pytest.mark.parametrize(
    "smiles", ["CC=C=CC", "CC=C=CF", "C[C@H](O)F", "C/C=C/C", "CC=C=C=CC", "C[N@]1C[C@H]1C"]
)
def test_the_configuration_stays(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    mirror = molecule.with_positions(molecule.positions * [1, 1, -1])
    assert bool(identity_change(molecule, mirror.positions)) == (
        smiles not in ("C/C=C/C", "CC=C=C=CC")
    )
    for seed in range(6):
        again = embed_again(molecule, seed)
        assert identity_change(molecule, again.positions) == ""
        assert np.abs(again.positions - molecule.positions).max() > 0.01


def test_another_molecule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    molecule = Molecule.from_smiles("CCO")
    broken = "bond C1–C2 broke"
    monkeypatch.setattr("diffrelax.molecule.reembedding.identity_change", lambda *_: broken)
    with pytest.raises(ValueError, match="different molecule: bond C1–C2 broke"):
        embed_again(molecule, 1)
