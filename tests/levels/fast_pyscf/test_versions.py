"""Whether PySCF goes with its faster parts or as it is."""

from __future__ import annotations

import numpy as np
import pytest

from diffrelax.levels import fast_pyscf, get_calculator
from diffrelax.molecule import Molecule


@pytest.mark.parametrize("solvent", ["", "water", "46.8"])
def test_pyscf_as_it_is_gives_the_same_energies_and_forces(
    monkeypatch: pytest.MonkeyPatch, solvent: str
) -> None:
    molecule = Molecule.from_smiles("CO")
    found = []
    for plain in ("0", "1"):
        monkeypatch.setenv("DIFFRELAX_PLAIN_PYSCF", plain)
        atoms = molecule.to_atoms()
        atoms.calc = get_calculator(
            "dft", molecule, xc="b3lyp", basis="sto-3g", grid_level=1, solvent=solvent
        )
        found.append((atoms.get_potential_energy(), atoms.get_forces(), type(atoms.calc.method)))
    (fast, fast_forces, one), (plain_energy, forces, other) = found
    assert one is not other
    assert fast == pytest.approx(plain_energy, abs=1e-5)
    np.testing.assert_allclose(fast_forces, forces, atol=1e-4)


def test_another_version_of_pyscf_goes_as_it_is_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fast_pyscf.is_fast()
    monkeypatch.setattr(fast_pyscf, "version", lambda _: "2.99.1")
    with pytest.warns(UserWarning, match=r"PySCF 2\.99\.1 is used without the faster code"):
        assert not fast_pyscf.is_fast()
