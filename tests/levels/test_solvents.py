from __future__ import annotations

import numpy as np
import pytest

from diffrelax import relax_dft
from diffrelax.dft import DFTSettings
from diffrelax.dft.descent import start_hessian
from diffrelax.levels import Level, get_calculator
from diffrelax.levels.density_functional import mean_field
from diffrelax.levels.solvents import dielectric_constant, read_solvent
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule

SMALL = {"xc": "pbe", "basis": "sto-3g"}


def shaken(smiles: str) -> Molecule:
    molecule = Molecule.from_smiles(smiles)
    shifts = np.random.default_rng(3).normal(scale=0.03, size=molecule.positions.shape)
    return molecule.with_positions(molecule.positions + shifts)


@pytest.mark.parametrize(
    ("smiles", "solvent", "basis"),
    [("CO", "water", "sto-3g"), ("CO", "4.7", "sto-3g"), ("CCl", "water", "lanl2dz")],
)
def test_forces_in_a_solvent_are_those_of_finite_differences(smiles, solvent, basis) -> None:
    molecule = shaken(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("dft", molecule, xc="pbe", basis=basis, solvent=solvent)
    direction = np.random.default_rng(4).normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction)
    slope = -(atoms.get_forces() * direction).sum()
    energies = []
    for step in (0.002, -0.002):
        atoms.positions = molecule.positions + step * direction
        energies.append(atoms.get_potential_energy())
    assert (energies[0] - energies[1]) / 0.004 == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize(
    ("smiles", "solvent", "basis"),
    [("F", "water", "sto-3g"), ("F", "4.7", "sto-3g"), ("Cl", "water", "lanl2dz")],
)
def test_second_derivatives_in_a_solvent_are_those_of_finite_differences(
    smiles, solvent, basis
) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    calculator = get_calculator("dft", molecule, xc="pbe", basis=basis, solvent=solvent)
    hessian = calculator.hessian(atoms)
    step = np.array([[0.0, 0.0, 0.0], [0.003, 0.002, -0.004]])
    forces = []
    for side in (1, -1):
        atoms.positions = molecule.positions + side * step
        forces.append(calculator.get_forces(atoms).ravel())
    change = (forces[1] - forces[0]) / 2
    assert hessian @ step.ravel() == pytest.approx(change, abs=2e-3)
    assert np.abs(change).max() > 0.05


@pytest.mark.parametrize(
    ("smiles", "solvent", "max_memory"),
    [
        ("O", "water", 4000),
        ("O", "4.7", 4000),
        ("O", "4.7", 0),
        ("O", "4.7", 0.2),
        ("[CH3]", "4.7", 4000),
    ],
)
def test_what_is_kept_between_cycles_changes_nothing(smiles, solvent, max_memory) -> None:
    method = mean_field(Molecule.from_smiles(smiles), solvent=solvent, **SMALL)
    method.with_solvent.max_memory = max_memory  # MB
    gas = method.undo_solvent()
    own = gas.SMD() if solvent == "water" else gas.PCM()
    if solvent == "water":
        own.with_solvent.solvent = solvent
    else:
        own.with_solvent.method, own.with_solvent.eps = "IEF-PCM", float(solvent)
    assert method.kernel() == pytest.approx(own.kernel(), abs=1e-9)
    forces = [each.nuc_grad_method().kernel() for each in (own, method)]
    assert np.allclose(*forces, atol=1e-7)
    elsewhere = method.mol.set_geom_(method.mol.atom_coords() * 1.03, unit="Bohr", inplace=False)
    energies = [each.as_scanner()(elsewhere) for each in (own, method)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)
    change = np.random.default_rng(5).normal(size=(2, *own.get_ovlp().shape))
    responses = [each.with_solvent._B_dot_x(change) for each in (own, method)]
    assert np.allclose(*responses, atol=1e-9)


@pytest.mark.parametrize("solvent", ["water", "dichloromethane"])
def test_the_cavity_knows_an_element_by_more_than_what_its_core_potential_leaves(solvent) -> None:
    molecule = Molecule.from_smiles("ClC(Cl)(Cl)Cl")
    full, with_potentials = (
        mean_field(molecule, xc="pbe", basis=basis, solvent=solvent).with_solvent
        for basis in ("sto-3g", "lanl2dz")
    )
    assert with_potentials.get_cds() == pytest.approx(full.get_cds(), abs=1e-12)


def test_water_holds_an_ion_by_about_its_born_energy() -> None:
    ion = Molecule.from_smiles("[NH4+]")
    energies = {
        solvent: get_calculator("dft", ion, solvent=solvent, **SMALL).get_potential_energy(
            ion.to_atoms()
        )
        for solvent in ("", "2", "78.36", "water")
    }
    # −(1 − 1/ε) e²/(2 a), a = 1.9 Å: 3.74 eV
    assert energies["78.36"] - energies[""] == pytest.approx(-3.74, abs=0.5)
    assert energies["water"] - energies[""] == pytest.approx(-3.74, abs=0.6)
    of_two = (energies["2"] - energies[""]) / (energies["78.36"] - energies[""])
    assert of_two == pytest.approx(0.5 / (1 - 1 / 78.36), rel=0.05)


def test_solvents_have_several_names() -> None:
    assert read_solvent("DMSO") == read_solvent("dimethylsulfoxide") == "dimethylsulfoxide"
    assert read_solvent("Water") == "water"
    assert dielectric_constant("water") == pytest.approx(78.4, abs=0.1)
    assert dielectric_constant("10.5") == 10.5


@pytest.mark.parametrize(
    ("solvent", "message"),
    [
        ("watr", "unknown solvent 'watr': did you mean water"),
        ("xyzzy", "give its dielectric constant"),
        ("0.5", "a dielectric constant must be finite and above 1"),
        ("nan", "a dielectric constant must be finite and above 1"),
    ],
)
def test_a_solvent_that_is_not_known_is_told_before_the_work(solvent, message) -> None:
    with pytest.raises(ValueError, match=message):
        relax_dft("CO", solvent=solvent)


def test_the_gas_phase_leaves_no_trace_in_settings() -> None:
    assert "solvent" not in DFTSettings().model_dump()
    assert DFTSettings(solvent="water").model_dump()["solvent"] == "water"
    settings = DFTSettings(xc="pbe", basis="sto-3g", solvent="water")
    assert settings.level == Level("PBE", "", "STO-3G", "water")


@pytest.mark.slow
def test_a_relaxation_in_water_ends_elsewhere_than_in_the_gas_phase() -> None:
    water = relax_dft("C=O", solvent="water", threads=1, **SMALL)
    gas = relax_dft("C=O", threads=1, **SMALL)
    assert water.converged and gas.converged
    lengths = [np.linalg.norm(np.subtract(*one.molecule.positions[:2])) for one in (gas, water)]
    assert lengths[1] - lengths[0] > 0.001  # the dipole of C=O grows


def test_the_hessian_knows_the_solvent() -> None:
    zwitterion = Molecule.from_smiles("[NH3+]CC(=O)[O-]")
    change = gfn2_hessian(zwitterion, "water") - gfn2_hessian(zwitterion)
    assert np.abs(change).max() > 1.0  # eV/Å²


@pytest.mark.parametrize(("solvent", "lacks"), [("CH2Cl2", True), ("water", False)])
def test_a_hessian_without_the_solvent_is_told(solvent, lacks) -> None:
    profile = {"program": "orca", "method": "PBE", "basis": "def2-SVP", "solvent": solvent}
    hessian, notes = start_hessian(Molecule.from_smiles("O"), DFTSettings(calculator=profile))
    assert hessian is not None
    assert notes == (("the gfn2-xtb Hessian is that of the gas phase",) if lacks else ())
