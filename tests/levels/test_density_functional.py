"""Reference energies: QM9, B3LYP/6-31G(2df,p) by Gaussian, U(0 K) minus the zero-point energy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import molecule as g2
from ase.calculators.calculator import SCFError
from ase.units import Hartree
from pyscf.gto.basis import load
from threadpoolctl import threadpool_limits

from diffrelax.levels import get_calculator
from diffrelax.levels.basis import check_basis
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.molecule import Molecule

AMMONIA = ase.Atoms(
    "NH3",
    [
        [-0.0404260543, 1.0241077531, 0.0625637998],
        [0.0172574639, 0.0125452063, -0.0273771593],
        [0.9157893661, 1.3587451948, -0.0287577581],
        [-0.5202777357, 1.3435321258, -0.7755426124],
    ],
)
WATER = ase.Atoms(
    "OH2",
    [
        [-0.0343604951, 0.9775395708, 0.0076015923],
        [0.0647664923, 0.0205721989, 0.0015346341],
        [0.8717903737, 1.3007924048, 0.0006931336],
    ],
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1):
        yield


def dft(molecule: Molecule, **settings: object) -> DensityFunctional:
    calculator = get_calculator("dft", molecule, **settings)
    assert isinstance(calculator, DensityFunctional)
    return calculator


@pytest.mark.parametrize(
    ("smiles", "electrons", "unpaired"), [("[NH4+]", 10, 0), ("[OH-]", 10, 0), ("[O][O]", 16, 2)]
)
def test_settings_and_charge_reach_pyscf(smiles: str, electrons: int, unpaired: int) -> None:
    molecule = Molecule.from_smiles(smiles)
    method = mean_field(molecule, xc="pbe", basis="sto-3g", grid_level=1)
    assert (method.mol.nelectron, method.mol.spin) == (electrons, unpaired)
    assert (method.grids.level, method.xc) == (1, "pbe")


@pytest.mark.parametrize(
    ("atoms", "energy_0k", "zero_point"),
    [(AMMONIA, -56.525887, 0.034358), (WATER, -76.404702, 0.021375)],
    ids=["ammonia", "water"],
)
def test_b3lyp_energies_are_those_of_qm9(
    atoms: ase.Atoms, energy_0k: float, zero_point: float
) -> None:
    exact = dft(Molecule.from_atoms(atoms), density_fit=False).get_potential_energy(atoms)
    assert exact / Hartree == pytest.approx(energy_0k - zero_point, abs=2e-5)
    fitted = dft(Molecule.from_atoms(atoms)).get_potential_energy(atoms)
    assert 1e-7 < abs(fitted - exact) / Hartree < 1e-4


@pytest.mark.parametrize("atoms", [AMMONIA, WATER], ids=["ammonia", "water"])
def test_qm9_geometries_are_minima(atoms: ase.Atoms) -> None:
    forces = dft(Molecule.from_atoms(atoms)).get_forces(atoms)
    assert np.linalg.norm(forces, axis=1).max() < 0.01


@pytest.mark.parametrize(
    ("name", "multiplicity", "density_fit", "basis"),
    [
        ("H2O", 1, True, "sto-3g"),
        ("H2O", 1, True, "6-31G(2df,p)"),
        ("CO2", 1, False, "sto-3g"),
        ("OH", 2, True, "sto-3g"),
        ("CH3", 2, True, "sto-3g"),
    ],
)
def test_forces_are_the_negative_gradient(
    name: str, multiplicity: int, density_fit: bool, basis: str
) -> None:
    atoms = g2(name)
    atoms.rattle(0.05, seed=1)
    molecule = Molecule.from_atoms(atoms, multiplicity=multiplicity)
    calculator = dft(molecule, basis=basis, density_fit=density_fit)
    forces = calculator.get_forces(atoms)
    largest = np.unravel_index(np.abs(forces).argmax(), forces.shape)
    energies = []
    for step in (1e-3, -1e-3):
        moved = atoms.copy()
        moved.positions[largest] += step
        energies.append(calculator.get_potential_energy(moved))
    assert forces[largest] == pytest.approx(-(energies[0] - energies[1]) / 2e-3, abs=5e-3)


def test_the_hessian_is_that_of_the_forces() -> None:
    calculator = dft(Molecule.from_atoms(WATER), basis="sto-3g")
    hessian = calculator.hessian(WATER)
    step = np.random.default_rng(0).normal(0, 2e-3, (3, 3))
    atoms = WATER.copy()
    forces = []
    for atoms.positions in (WATER.positions - step, WATER.positions + step):
        forces.append(calculator.get_forces(atoms).copy())
    np.testing.assert_allclose(
        forces[1] - forces[0], -2 * (hessian @ step.ravel()).reshape(-1, 3), atol=5e-3
    )
    assert np.abs(forces[1] - forces[0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("smiles", "xc", "basis"),
    [("[C-]#[O+]", "r2scan", "sto-3g"), ("ClCl", "m062x", "def2-svp"), ("Cl", "b3lyp", "def2-svp")],
)
def test_a_hessian_is_that_of_forces_on_a_grid_that_moves_along(smiles, xc, basis) -> None:
    """PySCF's own is wrong by 10, 1,400 and 4 eV/Å² here."""
    molecule = Molecule.from_smiles(smiles)
    calculator = get_calculator("dft", molecule, xc=xc, basis=basis)
    atoms = molecule.to_atoms()
    hessian = calculator.hessian(atoms)
    np.testing.assert_allclose(hessian.reshape(6, 2, 3).sum(axis=1), 0, atol=1e-6)
    bond = molecule.positions[1] - molecule.positions[0]
    along = np.array([0 * bond, bond]) / np.linalg.norm(bond)
    forces = []
    for step in (-0.005, 0.005):
        moved = molecule.with_positions(molecule.positions + step * along).to_atoms()
        forces.append(calculator.get_forces(moved).copy())
    known = (forces[0] - forces[1]).ravel() / 0.01
    np.testing.assert_allclose(hessian @ along.ravel(), known, atol=0.6)


@pytest.mark.parametrize(
    ("smiles", "basis"), [("I", "3-21g"), ("I", "def2-svp"), ("Br", "crenbl"), ("Cl", "lanl2dz")]
)
def test_fits_are_as_good_as_basis_sets_ask_for(smiles: str, basis: str) -> None:
    """Of iodine in 3-21G PySCF's own are for a core potential: forces were 2 eV/Å off."""
    molecule = Molecule.from_smiles(smiles)
    fitted, exact = (
        get_calculator("dft", molecule, xc="pbe0", basis=basis, grid_level=0, density_fit=fit)
        for fit in (True, False)
    )
    atoms = molecule.to_atoms()
    assert fitted.get_forces(atoms) == pytest.approx(exact.get_forces(atoms), abs=0.03)


def test_open_shells_are_unrestricted() -> None:
    hydroxyl = Molecule.from_smiles("[OH]")
    assert dft(hydroxyl, basis="sto-3g").get_number_of_spins() == 2
    assert dft(Molecule.from_smiles("O"), basis="sto-3g").get_number_of_spins() == 1


def test_second_calculation_starts_from_the_first_density() -> None:
    atoms = g2("H2O")
    calculator = dft(Molecule.from_atoms(atoms), basis="6-31g")
    calculator.get_potential_energy(atoms)
    first = calculator.scf_cycles
    assert first > 2
    atoms.rattle(1e-4, seed=1)
    calculator.get_potential_energy(atoms)
    assert calculator.scf_cycles - first < first


def test_no_cycle_is_spent_after_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = g2("H2O")
    calculator, tight = (dft(Molecule.from_atoms(atoms), basis="6-31g") for _ in range(2))
    tight.method_scan.conv_tol, tight.method_scan.conv_tol_grad = 1e-13, 1e-9
    kind, builds = type(calculator.method_scan), []
    build = kind.get_veff
    monkeypatch.setattr(kind, "get_veff", lambda *args: builds.append(1) or build(*args))
    forces = calculator.get_forces(atoms)
    assert len(builds) == calculator.scf_cycles + 1  # the first is of the guess
    np.testing.assert_allclose(forces, tight.get_forces(atoms), atol=1e-3)


def test_second_order_scf_takes_over() -> None:
    atoms = g2("H2O")
    expected = dft(Molecule.from_atoms(atoms), basis="6-31g").get_forces(atoms)
    calculator = dft(Molecule.from_atoms(atoms), basis="6-31g")
    calculator.method_scan.max_cycle = 2
    np.testing.assert_allclose(calculator.get_forces(atoms), expected, atol=1e-3)
    assert calculator.second_order
    assert calculator.scf_cycles > 2


def test_failed_scf_is_an_scf_error() -> None:
    atoms = g2("H2O")
    calculator = dft(Molecule.from_atoms(atoms), basis="6-31g")
    calculator.method.max_cycle = calculator.method_scan.max_cycle = 1
    with pytest.raises(SCFError, match="second-order"):
        calculator.get_potential_energy(atoms)


def test_nonlocal_correlation_is_on_a_coarse_grid() -> None:
    method = dft(Molecule.from_smiles("O"), xc="wb97x-v", basis="sto-3g", grid_level=3).method
    assert (method.grids.level, method.nlcgrids.level) == (3, 1)


@pytest.mark.parametrize("basis", ["def2-svp", "unc-def2-svp", "def2-svp@2s1p", "def2-mTZVPP"])
def test_heavy_elements_get_core_potentials(basis: str) -> None:
    atoms = ase.Atoms("HI", [[0, 0, 0], [0, 0, 1.61]])
    method = dft(Molecule.from_atoms(atoms), basis=basis).method
    assert method.mol.nelectron == 54 - 28


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"xc": "b4lyp"}, "unknown functional xc='b4lyp'"),
        ({"basis": "6-32g"}, "basis '6-32g' is unknown"),
        ({"xc": " "}, "no functional in xc=' '"),
        ({"basis": ""}, "basis '' has no functions"),
        ({"basis": "sto-3g@9s"}, "basis 'sto-3g@9s' is unknown"),
        ({"basis": "ccECP-cc-pVDZ"}, "'ccECP-cc-pVDZ' is made for pseudopotentials"),
        ({"basis": "gth_dzvp"}, "'gth_dzvp' is made for pseudopotentials"),
        ({"basis": "cc-pVDZ-DK"}, "'cc-pVDZ-DK' is contracted for relativistic Hamiltonians"),
        ({"basis": "dzp-dkh"}, "contracted for relativistic"),
        ({"basis": "ano-rcc-mb"}, "contracted for relativistic"),
        ({"basis": "ano@5s4p2d"}, "contracted for relativistic"),
        ({"basis": "cc-pvtz-dk3"}, "contracted for relativistic"),
        ({"basis": "x2c-svpall"}, "contracted for relativistic"),
        ({"basis": "unc-bfd-vdz"}, "'unc-bfd-vdz' is made for pseudopotentials"),
        ({"xc": "b3lyp-d3"}, "unknown dispersion correction 'd3' in xc='b3lyp-d3'.*d3bj"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dft(Molecule.from_smiles("O"), **settings)


def test_a_basis_set_that_lacks_the_potentials_of_its_cores_is_refused() -> None:
    with pytest.raises(ValueError, match="'weigend' leaves the core of Br to a potential"):
        dft(Molecule.from_smiles("Br"), basis="weigend")


BASIS_TEXT = "BASIS SET\nH    S\n    __import__('pathlib').Path('ran').touch() 1.0\nEND\n"


@pytest.mark.parametrize("basis", [BASIS_TEXT, "def2-svp", "uncdef2-svp@3s"])
def test_a_text_or_a_file_is_no_basis_and_never_run(
    basis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("def2-svp").write_text(BASIS_TEXT)
    for refuses in (check_basis, lambda basis: dft(Molecule.from_smiles("O"), basis=basis)):
        with pytest.raises(
            ValueError, match=r"must be the name of a basis set|is also a file in this folder"
        ):
            refuses(basis)
    with pytest.raises(ValueError, match="Failed to parse"):
        load(str(Path("def2-svp")), "H")
    assert not Path("ran").exists()


def test_a_basis_that_pyscf_lists_without_a_table_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown basis 'dyallv2z'"):
        check_basis("dyallv2z")


def test_element_beyond_the_basis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not cover CH3I.*for I"):
        dft(Molecule.from_smiles("CI"))


def test_missing_dispersion_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"diffrelax\[dispersion\]"):
        dft(Molecule.from_smiles("O"), xc="b3lyp-d3bj")
