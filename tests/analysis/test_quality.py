import ase
import pytest
from ase.build import molecule
from paper.quality import accepted_by_rdkit, constitutions, generation_quality, stable_atoms

from diffrelax.generation import judge
from diffrelax.molecule import Molecule


@pytest.mark.parametrize("name", ["CH4", "C2H4", "C2H2", "CH3CH2OH", "H2CO", "NH3"])
def test_sound_molecules_are_stable(name):
    assert stable_atoms(molecule(name)).all()


def test_a_triple_bond_is_told_by_its_length():
    nitrile = molecule("CH3CN")
    for length, stable in ((1.16, True), (1.25, False)):  # Å
        nitrile.set_distance(1, 2, length, fix=0)
        assert stable_atoms(nitrile).all() == stable


def test_atoms_with_too_few_or_too_many_bonds_are_not_stable():
    assert not stable_atoms(molecule("CH3"))[0]
    hydrogens = stable_atoms(molecule("CH4") + ase.Atoms("H", [[0.9, 0, 0]]))
    assert not hydrogens[0]


def test_rdkit_has_to_accept_all_fragments_and_radicals_are_accepted():
    far = molecule("H2O")
    far.positions += 4.0
    assert accepted_by_rdkit(molecule("CH3CH2OH") + far) == "[H]OC([H])([H])C([H])([H])[H]"
    assert accepted_by_rdkit(molecule("CH3"))
    crowded = molecule("CH4") + ase.Atoms("H", [[0.9, 0, 0]])
    assert accepted_by_rdkit(crowded) == ""
    crowded.positions += 8.0
    assert accepted_by_rdkit(molecule("C6H6") + crowded) == ""


def test_shares_are_counted(geometries):
    known = constitutions(geometries)
    assert known == {"CCO", "CC=O", "C1CC1", "C#C", "CC(N)=O", "c1ccoc1"}
    made = [judge(molecule(n)) for n in ("CH3CH2OH", "CH3CH2OH", "CH4", "CH3")]
    quality = generation_quality(made, known)
    assert quality.n == 4
    assert quality.valid == 0.75
    assert quality.valid_by_rdkit == 1.0
    assert quality.valid_and_unique_by_rdkit == 0.75
    assert quality.unique == pytest.approx(2 / 3)
    assert quality.novel == 0.5
    assert quality.stable_molecules == 0.75
    assert quality.stable_atoms == pytest.approx((9 + 9 + 5 + 3) / 27)
    assert quality.reasons == {"an odd number of electrons": 1}


def test_mirror_images_are_one_molecule():
    chiral = Molecule.from_smiles("C[C@H](O)F").to_atoms()
    mirrored = ase.Atoms(chiral.numbers, chiral.positions * [-1, 1, 1])
    made = [judge(atoms) for atoms in (chiral, mirrored)]
    assert made[0].molecule.smiles != made[1].molecule.smiles
    assert generation_quality(made, set()).unique == 0.5


def test_atoms_in_one_place_are_one_reason_whatever_their_names():
    made = [judge(ase.Atoms(pair, [[0, 0, 0], [0.1, 0, 0]])) for pair in ("C2", "CN")]
    assert generation_quality(made, set()).reasons == {"two atoms in one place": 2}
