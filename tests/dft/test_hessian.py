from __future__ import annotations

import numpy as np
import pytest

from diffrelax.dft.cheap_hessian import cheap_hessian
from diffrelax.dft.hessian import positive_hessian, rigid_motions, vibrations
from diffrelax.dft.minimum import STEP, curvature_along, stretching
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule


def minimum(smiles: str) -> Molecule:
    molecule = Molecule.from_smiles(smiles)
    return molecule.with_positions(relax_at_level(molecule, "gfn2-xtb", fmax=1e-3).positions)


@pytest.mark.parametrize("smiles", ["CC(C)=O", "Cc1ccccc1", "CO"])
def test_the_curvature_along_a_soft_motion_is_that_of_the_hessian(smiles: str) -> None:
    """Though a step of 0.05 Å stretches the bonds that a methyl group turns."""
    molecule = minimum(smiles)
    hessian, calculator = gfn2_hessian(molecule), get_calculator("gfn2-xtb", molecule)
    motion = vibrations(molecule, hessian)[1][0]
    exact = motion.ravel() @ hessian @ motion.ravel()
    found = curvature_along(motion, molecule, calculator, STEP)
    close = 0.2 * abs(found - exact)
    assert found > exact
    assert abs(found - stretching(motion, molecule, calculator, STEP) - exact) < close


@pytest.mark.parametrize("smiles", ["C#CC#C", "CCO", "OO"])
def test_forces_along_bonds_are_taken_from_the_curvature_of_soft_motions(smiles: str) -> None:
    """At the minimum of another level, whose bonds are longer."""
    own = minimum(smiles)
    other = own.with_positions(1.01 * own.positions)
    expected, raw, found = (
        vibrations(molecule, one)[0][0]
        for molecule, one in (
            (own, gfn2_hessian(own)),
            (other, gfn2_hessian(other)),
            (other, cheap_hessian(other, "gfn2-xtb")),
        )
    )
    assert raw > 1.2 * expected
    assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("smiles", ["CCO", "C#C", "[H][H]", "[H]"])
def test_without_forces_no_motion_as_a_whole_is_resisted(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    stretched = molecule.with_positions(1.03 * molecule.positions)
    rigid = rigid_motions(stretched.positions)
    raw = np.abs(gfn2_hessian(stretched) @ rigid).max()
    assert raw > 0.3 or stretched.n_atoms == 1
    assert np.abs(cheap_hessian(stretched, "gfn2-xtb") @ rigid).max() < 0.03


@pytest.mark.parametrize(("smiles", "n_rigid"), [("CO", 6), ("C#C", 5), ("[H][H]", 5), ("[H]", 3)])
def test_minimum_has_only_its_rigid_motions_as_zero_modes(smiles: str, n_rigid: int) -> None:
    molecule = minimum(smiles)
    hessian = gfn2_hessian(molecule)
    np.testing.assert_array_equal(hessian, hessian.T)
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert (np.abs(eigenvalues) < 0.15).sum() == n_rigid
    assert (eigenvalues[n_rigid:] > 0.15).all()
    rigid = rigid_motions(molecule.positions)
    assert rigid.shape == (3 * molecule.n_atoms, n_rigid)
    np.testing.assert_allclose(rigid.T @ rigid, np.eye(n_rigid), atol=1e-12)
    assert np.abs(rigid.T @ hessian @ rigid).max() < 0.15


def test_a_molecule_that_is_hardly_bent_keeps_its_bends() -> None:
    straight = minimum("C#C")
    shifts = np.zeros((4, 3))
    shifts[0] = 0.002 * np.linalg.svd(straight.positions - straight.positions.mean(0))[2][2]
    bent = straight.with_positions(straight.positions + shifts)
    frequencies = vibrations(bent, gfn2_hessian(bent))[0]
    expected = vibrations(straight, gfn2_hessian(straight))[0]
    assert len(frequencies) == 7
    np.testing.assert_allclose(frequencies, expected, atol=20)


@pytest.mark.parametrize("smiles", ["CC=O", "C[NH3+]", "CC(=O)[O-]", "[CH3]"])
def test_hessian_predicts_the_change_of_forces(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    calculator = get_calculator("gfn2-xtb", molecule, accuracy=0.01)
    step = np.random.default_rng(1).normal(0, 2e-3, molecule.positions.shape)
    atoms = molecule.to_atoms()
    before = calculator.get_forces(atoms).copy()
    atoms.positions += step
    after = calculator.get_forces(atoms)
    predicted = -(gfn2_hessian(molecule) @ step.ravel()).reshape(-1, 3)
    np.testing.assert_allclose(after - before, predicted, atol=5e-3)
    assert np.abs(predicted).max() > 0.1


def test_positive_hessian_has_a_floor_and_keeps_stiff_modes() -> None:
    molecule = Molecule.from_smiles("CC=O")
    raw = gfn2_hessian(molecule)
    positive = positive_hessian(raw, molecule.positions, floor=1.0)
    np.testing.assert_allclose(positive, positive.T, atol=1e-10)
    eigenvalues = np.linalg.eigvalsh(positive)
    assert eigenvalues.min() == pytest.approx(1.0)
    assert eigenvalues.max() == pytest.approx(np.linalg.eigvalsh(raw).max(), rel=1e-3)


def test_positive_hessian_does_not_depend_on_that_of_rigid_motions() -> None:
    molecule = Molecule.from_smiles("CC=O")
    rigid = rigid_motions(molecule.positions)
    raw = gfn2_hessian(molecule)
    shifted = positive_hessian(raw + 5 * rigid @ rigid.T, molecule.positions, floor=1.0)
    np.testing.assert_allclose(rigid.T @ shifted @ rigid, np.eye(6), atol=1e-8)
    expected = positive_hessian(raw, molecule.positions, floor=1.0)
    np.testing.assert_allclose(shifted, expected, atol=1e-8)


def test_positive_hessian_turns_negative_curvature_round() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    stretch = np.array([0, 0, -1, 0, 0, 1]) / np.sqrt(2)
    positive = positive_hessian(-30 * np.outer(stretch, stretch), positions)
    assert stretch @ positive @ stretch == pytest.approx(30)


def test_element_beyond_gfn2_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameters for U"):
        gfn2_hessian(Molecule(np.array([92]), np.zeros((1, 3))))


def test_frequency_of_a_diatomic_is_that_of_its_spring() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]])
    fluoride = Molecule(np.array([1, 9]), positions)
    stretch = np.array([0, 0, -1, 0, 0, 1.0])
    reduced_mass = 1.008 * 18.998 / (1.008 + 18.998)
    spring = 60.3  # eV/Å², 9.66 mdyn/Å
    for sign in (1, -1):
        frequencies = vibrations(fluoride, sign * spring * np.outer(stretch, stretch))[0]
        # 1302.79 cm⁻¹ for 1 mdyn/Å and 1 u (Wilson, Decius and Cross 1955)
        expected = sign * 1302.79 * np.sqrt(spring * 0.160218 / reduced_mass)
        np.testing.assert_allclose(frequencies, [expected], rtol=1e-4)


def test_frequencies_of_carbon_dioxide_are_those_of_the_xtb_program() -> None:
    frequencies = vibrations(m := minimum("O=C=O"), gfn2_hessian(m))[0]
    np.testing.assert_allclose(frequencies, [601.4, 601.4, 1423.4, 2590.5], atol=5)


def test_atom_does_not_vibrate() -> None:
    hydrogen = Molecule(np.array([1]), np.zeros((1, 3)), multiplicity=2)
    assert vibrations(hydrogen, np.zeros((3, 3)))[0].shape == (0,)
