from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.units import Hartree, J, _amu, _me, invcm, kB, mol
from pyscf import gto
from pyscf.hessian import thermo

from diffrelax.dft import relax_dft
from diffrelax.dft.hessian import vibrations
from diffrelax.dft.thermochemistry import standard_state, thermochemistry
from diffrelax.levels import relax_at_level
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.molecule import Molecule
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.store import work_key
from diffrelax.units import KCAL_PER_MOL

ROOM = {"temperature": 298.15, "pressure": 101_325.0}


def minimum(smiles: str) -> Molecule:
    molecule = Molecule.from_smiles(smiles)
    return molecule.with_positions(relax_at_level(molecule, "gfn2-xtb", fmax=0.001).positions)


# NIST-JANAF at 298.15 K and 1 bar, J/(mol K)
@pytest.mark.parametrize(
    ("smiles", "entropy", "symmetry"),
    [
        ("[He]", 126.152, 1),
        ("N#N", 191.609, 2),
        ("O", 188.834, 2),
        ("C", 186.251, 12),
        ("C=C", 219.330, 4),
        ("[O][O]", 205.147, 2),
    ],
)
def test_entropies_are_those_of_experiments(smiles: str, entropy: float, symmetry: int) -> None:
    molecule = Molecule.from_smiles(smiles) if smiles == "[He]" else minimum(smiles)
    frequencies = vibrations(molecule, gfn2_hessian(molecule))[0] if molecule.n_atoms > 1 else []
    gas = thermochemistry(molecule, frequencies, 0.0, temperature=298.15, pressure=1e5)
    assert gas.symmetry_number == symmetry
    assert gas.entropy * mol / J == pytest.approx(entropy, rel=0.004)
    assert gas.gibbs_energy == pytest.approx(gas.enthalpy - 298.15 * gas.entropy)


@pytest.mark.parametrize("smiles", ["CO", "C#C", "[O-]C=O"])
def test_another_program_agrees(smiles: str) -> None:
    molecule = minimum(smiles)
    frequencies = vibrations(molecule, gfn2_hessian(molecule))[0]
    ours = thermochemistry(molecule, frequencies, -10 * Hartree, **ROOM)

    mol_of_pyscf = gto.M(
        atom=list(zip(molecule.symbols, molecule.positions, strict=True)),
        charge=molecule.charge,
        verbose=0,
    )

    class Method:
        mol, e_tot = mol_of_pyscf, -10.0

    theirs = thermo.thermo(Method, frequencies * invcm / Hartree / np.sqrt(_me / _amu), **ROOM)
    assert ours.zero_point_energy == pytest.approx(theirs["ZPE"][0] * Hartree, rel=1e-5)
    assert ours.enthalpy == pytest.approx(theirs["H_tot"][0] * Hartree, abs=1e-4)
    symmetry = theirs["sym_number"][0]
    correction = 298.15 * kB * np.log(ours.symmetry_number / symmetry)
    assert ours.gibbs_energy - correction == pytest.approx(theirs["G_tot"][0] * Hartree, abs=1e-3)


def test_the_methyl_radical_is_that_of_nwchem() -> None:
    level = {"xc": "hf", "basis": "6-31G*", "density_fit": False, "thermo": "dft"}
    relaxation = relax_dft("[CH3]", fmax=0.003, **level)
    gas = relaxation.thermochemistry
    assert gas is not None and gas.symmetry_number == 6
    # NWChem 7.2.3, `task dft freq` at the end of this relaxation: Eh, and cal/(mol K)
    electrons, zero_point, thermal, entropy = -39.558747023, 0.030945, 0.035138, 45.811
    spin = kB * np.log(2)  # NWChem leaves it out
    enthalpy = (electrons + thermal) * Hartree
    gibbs = enthalpy - 298.15 * (entropy / 1000 * KCAL_PER_MOL + spin)
    within = {"abs": 0.02 * KCAL_PER_MOL}
    assert relaxation.energy == pytest.approx(electrons * Hartree, **within)
    assert gas.zero_point_energy == pytest.approx(zero_point * Hartree, **within)
    assert gas.enthalpy == pytest.approx(enthalpy, **within)
    assert gas.gibbs_energy == pytest.approx(gibbs, **within)


def test_soft_vibrations_turn_into_rotors() -> None:
    molecule = minimum("CCO")
    n = 3 * molecule.n_atoms - 6
    stiff, soft = (
        thermochemistry(molecule, [lowest, *[800.0] * (n - 1)], 0.0, **ROOM)
        for lowest in (600.0, 5.0)
    )
    assert stiff.gibbs_energy_quasi_harmonic == pytest.approx(stiff.gibbs_energy, abs=1e-3)
    assert soft.gibbs_energy_quasi_harmonic - soft.gibbs_energy > 0.02
    left = thermochemistry(molecule, [-5.0, *[800.0] * (n - 1)], 0.0, **ROOM)
    assert left.gibbs_energy == pytest.approx(soft.gibbs_energy)


def test_what_is_left_of_an_imaginary_frequency_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_rest(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        frequencies, motions = vibrations(*arguments)
        return np.array([-8.0, *frequencies[1:]]), motions

    level = {"xc": "lda,vwn", "basis": "sto-3g", "threads": 1, "thermo": "dft"}
    assert not relax_dft("O", **level).notes
    monkeypatch.setattr("diffrelax.dft.minimum.vibrations", with_a_rest)
    (note,) = relax_dft("O", **level).notes
    assert note.startswith("an imaginary frequency of 8 cm⁻¹")


def test_free_energies_in_a_solvent_tell_of_their_standard_state() -> None:
    level = {"xc": "lda,vwn", "basis": "sto-3g", "solvent": "water", "thermo": "dft"}
    (note,) = relax_dft("[He]", **level).notes
    assert "at 101325 Pa: at 1 mol/L (pressure 2478956 Pa)" in note
    assert note.endswith("differ by +1.89 kcal/mol")
    assert not standard_state(298.15, 2_478_956.0)


@pytest.mark.parametrize("smiles", ["[2H]O[2H]", "[2H]OC", "[13CH3]C=O"])
def test_isotopes_obey_the_product_rule(smiles: str) -> None:
    """Of Teller and Redlich: masses and moments of inertia fix the product of frequencies."""
    labelled = Molecule.from_smiles(smiles)
    labelled = labelled.with_positions(
        relax_at_level(labelled, "gfn2-xtb", fmax=1e-3, max_steps=200).positions
    )
    natural = replace(labelled, isotopes=())
    hessian = gfn2_hessian(labelled)
    logs, rotors = [], []
    for molecule in (labelled, natural):
        atoms = molecule.to_atoms()
        logs.append(np.log(vibrations(molecule, hessian)[0]).sum())
        moments = np.log(atoms.get_moments_of_inertia()).sum()
        masses = np.log(atoms.get_masses())
        rotors.append((moments + 3 * np.log(atoms.get_masses().sum()) - 3 * masses.sum()) / 2)
    assert logs[0] - logs[1] == pytest.approx(rotors[0] - rotors[1], abs=1e-3)
    assert logs[0] < logs[1] - 0.01


def test_an_isotope_breaks_symmetry_and_is_part_of_what_a_unit_is_known_by() -> None:
    names = ("O", "[2H]O[2H]", "[2H]O")
    light, heavy, mixed = waters = [Molecule.from_smiles(name) for name in names]
    frequencies = (1600.0, 3600.0, 3700.0)
    symmetries = [
        thermochemistry(
            water, frequencies, 0.0, temperature=298.15, pressure=101325.0
        ).symmetry_number
        for water in waters
    ]
    assert symmetries == [2, 2, 1]
    assert {water.smiles for water in waters} == {"O"}
    same = light.with_positions(heavy.positions[[1, 0, 2]])
    assert len({work_key("dft", one, {}) for one in (same, replace(same, isotopes=(0, 2, 2)))}) == 2
    for molecule in (heavy, mixed):
        assert Molecule.from_atoms(molecule.to_atoms()).isotopes == molecule.isotopes
        document = MoleculeDocument.from_molecule(molecule)
        assert document.to_molecule().isotopes == molecule.isotopes
    with pytest.raises(ValueError, match="there is no isotope 99C"):
        Molecule.from_smiles("[99CH4]")
