from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.calculators.test import calculate_numerical_forces

from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.aimnet2 import WEIGHTS, AIMNet2
from diffrelax.molecule import Molecule

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")


@pytest.mark.parametrize("smiles", ["CC=O", "C[NH3+]"])
def test_forces_are_the_negative_gradient(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("aimnet2", molecule)
    atoms.positions += np.random.default_rng(1).normal(0, 0.05, atoms.positions.shape)
    numerical = calculate_numerical_forces(atoms, eps=1e-2)  # energies have noise of 1e-4 eV
    assert np.abs(numerical).max() > 1
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=0.03)


def test_a_proton_binds_to_an_amine() -> None:
    amine, ion = (
        get_calculator("aimnet2", molecule).get_potential_energy(molecule.to_atoms())
        for molecule in map(Molecule.from_smiles, ("CN", "C[NH3+]"))
    )
    # proton affinity of methylamine, 899 kJ/mol (Hunter and Lias 1998), and the zero-point energy
    assert amine - ion == pytest.approx(9.7, abs=0.3)


def test_hessian_predicts_forces() -> None:
    molecule = Molecule.from_smiles("CC=O")
    atoms = molecule.to_atoms()
    atoms.calc = AIMNet2(molecule)
    hessian = atoms.calc.hessian(atoms)
    np.testing.assert_allclose(hessian.sum(axis=0), 0, atol=0.05)  # a shift costs nothing
    shift = np.random.default_rng(0).normal(0, 0.002, atoms.positions.shape)
    ends = []
    for end in (molecule.positions + shift, molecule.positions - shift):
        atoms.positions = end
        ends.append(atoms.get_forces().ravel())
    change = (ends[1] - ends[0]) / 2
    np.testing.assert_allclose(hessian @ shift.ravel(), change, atol=0.02 * np.abs(change).max())


def test_relaxed_water_has_the_bonds_of_its_reference_method() -> None:
    start = Molecule.from_smiles("O")
    relaxed = relax_at_level(start, "aimnet2", fmax=0.01)
    assert relaxed.converged and relaxed.fmax < 0.01
    oxygen, *hydrogens = relaxed.positions
    lengths = np.linalg.norm(hydrogens - oxygen, axis=1)
    np.testing.assert_allclose(lengths, 0.960, atol=0.004)  # ωB97M-D3/def2-TZVPP


@pytest.mark.parametrize(
    ("smiles", "message"),
    [("C[Si](C)(C)[Sn]", "not trained on Sn"), ("[CH3]", "closed shells, and .* multiplicity 2")],
)
def test_molecules_outside_its_training_are_refused(smiles: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_calculator("aimnet2", Molecule.from_smiles(smiles))


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda package: None)
    with pytest.raises(ValueError, match="weights of aimnet2 are missing: pip install"):
        get_calculator("aimnet2", Molecule.from_smiles("O"))


def test_another_file_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / WEIGHTS
    other.parent.mkdir()
    other.write_bytes(b"another program")
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_weights", lambda: other)
    with pytest.raises(ValueError, match="is not the published file: its sha256 is"):
        get_calculator("aimnet2", Molecule.from_smiles("O"))
