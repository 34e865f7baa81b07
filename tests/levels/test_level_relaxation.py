from __future__ import annotations

import numpy as np
import pytest

from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.molecule import Molecule


@pytest.fixture
def displaced() -> Molecule:
    molecule = Molecule.from_smiles("CCO")
    noise = np.random.default_rng(1).normal(0, 0.05, molecule.positions.shape)
    return molecule.with_positions(molecule.positions + noise)


@pytest.mark.parametrize("level", ["mmff94", "uff", "gfn2-xtb"])
def test_relaxation_ends_at_a_minimum(displaced: Molecule, level: str) -> None:
    relaxed = relax_at_level(displaced, level, fmax=0.01)
    assert relaxed.converged
    assert relaxed.fmax < 0.01
    atoms = displaced.to_atoms()
    atoms.calc = get_calculator(level, displaced)
    before = atoms.get_potential_energy()
    atoms.positions = relaxed.positions
    assert atoms.get_potential_energy() == pytest.approx(relaxed.energy, abs=1e-4)
    assert relaxed.energy < before - 0.1
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.011


@pytest.mark.parametrize(
    ("level", "told"), [("mmff94", "after at most 1 steps"), ("gfn2-xtb", "after 2 calls")]
)
def test_unconverged_relaxation_says_so(displaced: Molecule, level: str, told: str) -> None:
    relaxed = relax_at_level(displaced, level, max_steps=1)
    assert not relaxed.converged
    assert relaxed.reason.endswith(told)


def test_calls_are_counted(displaced: Molecule) -> None:
    assert relax_at_level(displaced, "gfn2-xtb", max_steps=3).n_calls == 4
    assert relax_at_level(displaced, "gfn2-xtb", fmax=100).n_calls == 1


def test_failed_scf_is_a_result(displaced: Molecule) -> None:
    relaxed = relax_at_level(displaced, "gfn2-xtb", max_iterations=1)
    assert not relaxed.converged
    assert relaxed.reason.startswith("gfn2-xtb failed")
    assert np.isnan(relaxed.energy)
    np.testing.assert_array_equal(relaxed.positions, displaced.positions)


def test_moved_proton_is_a_result() -> None:
    zwitterion = Molecule.from_smiles("[NH3+]CC(=O)[O-]")
    relaxed = relax_at_level(zwitterion, "gfn2-xtb")
    assert not relaxed.converged
    assert relaxed.reason.startswith("identity lost: bond")
    assert relaxed.fmax < 0.03


def test_error_of_a_calculator_is_a_result(
    displaced: Molecule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("NaN in the matrix")

    monkeypatch.setattr("tblite.ase.TBLite.calculate", fail)
    relaxed = relax_at_level(displaced, "gfn2-xtb")
    assert relaxed.reason == "gfn2-xtb failed: NaN in the matrix"


def test_dft_is_sent_to_its_own_room(displaced: Molecule) -> None:
    with pytest.raises(ValueError, match="relax_dft"):
        relax_at_level(displaced, "dft")
