import copy
import itertools
import pickle

import ase
import ase.build
import ase.constraints
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers

from diffrelax.files.reading import Rejected, read_molecules
from diffrelax.molecule import Bond, Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.molecule.identity import identity_change

WATER = ase.build.molecule("H2O")


def stripped(molecule: Molecule) -> ase.Atoms:
    return ase.Atoms(molecule.numbers, molecule.positions)


def test_smiles_keeps_the_atom_order_of_rdkit():
    molecule = Molecule.from_smiles("OC(=O)c1ccncc1")
    expected = Chem.AddHs(Chem.MolFromSmiles("OC(=O)c1ccncc1"))
    assert molecule.symbols == tuple(a.GetSymbol() for a in expected.GetAtoms())
    assert molecule.formula == "C6H5NO2"
    assert molecule.start == "mmff94"
    assert molecule.name == "OC(=O)c1ccncc1"
    assert molecule.smiles == "O=C(O)c1ccncc1"
    assert {bond.order for bond in molecule.bonds} == {1.0, 1.5, 2.0}


def test_embedding_is_repeatable_and_depends_on_the_seed():
    first, again = (Molecule.from_smiles("CCCCO", seed=1).positions for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, Molecule.from_smiles("CCCCO", seed=2).positions, atol=0.1)


def test_geometry_is_a_minimum_of_mmff94():
    mol = Molecule.from_smiles("CC(=O)OC").to_rdkit()
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    assert np.abs(field.CalcGrad()).max() < 1e-2  # kcal/mol/Å


def test_uff_where_mmff94_has_no_parameters():
    assert Molecule.from_smiles("C[Se]C").start == "uff"
    assert Molecule.from_smiles("[He]").start == "embedded"


@pytest.mark.parametrize(
    "smiles",
    [
        "C[C@H](F)Cl",
        "C[C@@H](F)Cl",
        "F/C=C/F",
        "F/C=C\\F",
        "C[C@@H]1CC[C@@H](C)CC1",
        "OC[C@H]1[C@H]2C[C@@H]1C2",  # a cage that RDKit's own tests of an embedding refuse
        "C1=C[C@@]23CC[C@]2(C1)C3",  # all neighbours of an atom on one side of it
    ],
)
def test_stereochemistry_of_the_smiles_is_that_of_the_geometry(smiles):
    molecule = Molecule.from_smiles(smiles)
    assert molecule.smiles == Chem.CanonSmiles(smiles)
    assert Molecule.from_atoms(stripped(molecule)).smiles == molecule.smiles


def test_open_stereochemistry_is_named_by_the_embedding():
    assert Molecule.from_smiles("CC(F)Cl").smiles in {"C[C@H](F)Cl", "C[C@@H](F)Cl"}


@pytest.mark.parametrize(
    "smiles", ["C1OC23CC4CC12OC34", "C1N=C2C3OC4C1N2C34", "C12C3C4C1C5C2C3C45"]
)
def test_cages_are_embedded(smiles):
    assert Molecule.from_smiles(smiles).start == "mmff94"


@pytest.mark.parametrize(
    ("smiles", "charge", "multiplicity"),
    [
        ("O=O", 0, 1),
        ("[O][O]", 0, 3),
        ("[CH3]", 0, 2),
        ("[NH4+]", 1, 1),
        ("CC(=O)[O-]", -1, 1),
        ("O=[N]", 0, 2),
        ("C[CH]", 0, 3),
        ("CN1C=CN(C)[C]1", 0, 1),
        ("[C]=O", 0, 1),
        ("[C]=C", 0, 1),
        ("C[SiH]", 0, 1),
        ("Cl[Sn]Cl", 0, 1),
        ("F[B]", 0, 1),
        ("[Mg]", 0, 1),
        ("[CH]", 0, 2),
        ("[C]", 0, 3),
    ],
)
def test_charge_and_multiplicity_from_smiles(smiles, charge, multiplicity):
    molecule = Molecule.from_smiles(smiles)
    assert (molecule.charge, molecule.multiplicity) == (charge, multiplicity)


def test_multiplicity_can_be_given():
    assert Molecule.from_smiles("O=O", multiplicity=3).multiplicity == 3
    with pytest.raises(ValueError, match="multiplicity 2 does not fit 16 electrons"):
        Molecule.from_smiles("O=O", multiplicity=2)


@pytest.mark.parametrize(
    ("atoms", "smiles", "multiplicity"),
    [
        ("H", "", 2),
        ("H2", "[H][H]", 1),
        ("CH3CN", "CC#N", 1),
        ("CO2", "O=C=O", 1),
        ("C2H2", "C#C", 1),
        ("CH3", "[CH3]", 2),
        ("NO2", "[O]N=O", 2),
        ("SO2", "O=S=O", 1),
    ],
)
def test_small_and_linear_molecules_and_radicals_from_coordinates(atoms, smiles, multiplicity):
    molecule = Molecule.from_atoms(stripped(Molecule.from_atoms(ase.build.molecule(atoms))))
    assert molecule.smiles == smiles
    assert molecule.multiplicity == multiplicity
    assert molecule.start == "given"


@pytest.mark.parametrize(
    "smiles", ["c1ccccc1", "CC", "CCO", "C#CC=C", "NCC#N", "CN=C=O", "OC(=O)c1ccncc1", "C1CC1N"]
)
def test_coordinates_without_hydrogens_are_told(smiles):
    molecule = Molecule.from_smiles(smiles)
    atoms = stripped(molecule)
    on_carbon = [bond.end for bond in molecule.bonds
                 if atoms.numbers[[bond.begin, bond.end]].tolist() == [6, 1]]  # fmt: skip
    polar_only = atoms.copy()
    del polar_only[on_carbon]
    for bare in (atoms[atoms.numbers > 1], polar_only):
        with pytest.raises(ValueError, match="hydrogens are missing: the bonds of C"):
            Molecule.from_atoms(bare)
        bare.info["smiles"] = smiles
        with pytest.raises(ValueError, match="hydrogens are missing: the bonds of C"):
            Molecule.from_atoms(bare)


@pytest.mark.parametrize("name", ["O3", "C60", "CO2", "OCS", "N2O", "CCl4", "CF4", "CO", "N2"])
def test_molecules_of_databases_without_hydrogen_are_read(name):
    atoms = ase.build.molecule(name)
    atoms.set_initial_magnetic_moments(None)
    assert Molecule.from_atoms(atoms).bonds


def test_initial_moments_and_charges_of_atoms_are_honoured():
    oxygen = ase.build.molecule("O2")  # ASE knows it as a triplet
    assert Molecule.from_atoms(oxygen).multiplicity == 3
    assert Molecule.from_atoms(oxygen, multiplicity=1).multiplicity == 1
    oxygen.info["multiplicity"] = 1
    assert Molecule.from_atoms(oxygen).multiplicity == 1
    hydroxide = ase.Atoms("OH", [(0, 0, 0), (0, 0, 0.97)], charges=[-1.2, 0.2])
    assert Molecule.from_atoms(hydroxide).smiles == "[OH-]"
    hydroxide.set_initial_charges([-0.9, 0.3])
    with pytest.raises(ValueError, match=r"add up to -0\.60, which is not an integer"):
        Molecule.from_atoms(hydroxide)
    assert Molecule.from_atoms(hydroxide, charge=-1).smiles == "[OH-]"
    hydroxide.set_initial_charges([-1.2, 0.2])
    hydroxide.info["name"] = None
    assert Molecule.from_atoms(hydroxide).name == "[OH-]"
    hydroxide.set_initial_charges([np.nan, 0.0])
    with pytest.raises(ValueError, match="atomic charges are not finite"):
        Molecule.from_atoms(hydroxide)


@pytest.mark.parametrize(
    "smiles",
    [
        "C[N+](=O)[O-]",
        "CN=[N+]=[N-]",
        "[NH3+]CC(=O)[O-]",
        "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
        "Cc1c([N+](=O)[O-])cc([N+](=O)[O-])cc1[N+](=O)[O-]",
        "[c]1ccccc1",
        "CO[O]",
        "C[n+]1ccccc1",
        "C.c1ccccc1",
        "N#[N+][O-]",
        "[C-]#[O+]",
        "CS(C)=O",
        "O=C=S",
        "S=C=S",
        "O=S(Cl)Cl",
        "CC(N)=S",
        "CS(=O)(=O)[O-]",
        "C[S+](C)C",
        "C=CC[P+](c1ccccc1)(c1ccccc1)c1ccccc1",
        "C[P+](C)(C)C",
        "C[PH3+]",
        "C[P+](C)(C)CC(=O)[O-]",
        "CN(C)[P+](N(C)C)(N(C)C)N(C)C",
        "CP(C)(C)=O",
        "CP(C)(C)=CC=O",
        "CP(C)P(C)C",
        "CP(C)SP(C)C",
        "CP1P(C)P1C",
        "C[S@](=O)[S@](C)=O",
        # without hydrogen on carbon
        "ClC#CCl",
        "FC(F)=C(F)F",
        "ClC(Cl)=C(Cl)Cl",
        "Fc1c(F)c(F)c(F)c(F)c1F",
        "FC(F)(F)C(F)(F)F",
        "O=C=C=C=O",
        "[C-]#[N+]C(F)(F)F",
        "N#CC(C#N)=C(C#N)C#N",
        "[C-]#[O+]",
        "NC(N)=O",
        "NC#N",
        "OC(=O)C(=O)O",
        "F[C](F)F",
        "FC(F)(Cl)Br",
        "O=C(Cl)Cl",
    ],
)
def test_bonds_perceived_from_coordinates(smiles):
    molecule = Molecule.from_smiles(smiles)
    seen = Molecule.from_atoms(stripped(molecule), charge=molecule.charge)
    assert seen.smiles == molecule.smiles
    assert {bond[:2] for bond in seen.bonds} == {bond[:2] for bond in molecule.bonds}


@pytest.mark.parametrize(
    ("smiles", "label"),
    [
        ("CCO", "COC"),
        ("CC(C)=O", "C=C(C)O"),
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),
        ("C/C=C/C", "C/C=C\\C"),
        ("C[C@H](O)[C@H](F)Cl", "CC(O)[C@@H](F)Cl"),
    ],
)
def test_a_smiles_of_another_molecule_is_told(smiles, label):
    atoms = stripped(Molecule.from_smiles(smiles))
    for fitting in (smiles, Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)):
        atoms.info["smiles"] = fitting
        assert Molecule.from_atoms(atoms).smiles
    atoms.info["smiles"] = label
    with pytest.raises(ValueError, match="does not match its positions"):
        Molecule.from_atoms(atoms)


@pytest.mark.parametrize(
    "label",
    ["CC(=N)N", "CN=N", "[CH3:1][C@H:2]([OH:3])[CH2:4][CH3:5]", "[13CH3][C@H](O)CC", "[2H]OC",
     "C[C@H]1CO[C@]2(O1)OC[C@H](C)O2"],
)  # fmt: skip
def test_a_smiles_of_the_same_molecule_is_taken(label):
    molecule = Molecule.from_smiles(label)
    assert Molecule.from_atoms(Molecule.from_smiles(label).to_atoms()).smiles == molecule.smiles
    atoms = stripped(molecule)
    atoms.info["smiles"] = label
    assert Molecule.from_atoms(atoms).smiles == molecule.smiles


@pytest.mark.parametrize("smiles", ["C=C[C@H](C)CC", "O=C[C@H](O)CO", "C[P@](=O)(O)F"])
def test_a_geometry_without_its_hydrogens_keeps_its_configuration(smiles):
    molecule = Molecule.from_smiles(smiles)
    for seed in range(4):
        heavy = Chem.RemoveHs(molecule.to_rdkit())
        assert Molecule.from_rdkit(heavy, seed=seed).smiles == molecule.smiles


def test_a_pose_without_hydrogens_stays_in_its_basin():
    """As docking writes them: heavy atoms alone, in 3D."""
    smiles = "CC(C)C[C@H](NC(=O)CCc1ccccc1)C(=O)O"
    for seed in (3, 4, 5):
        pose = Molecule.from_smiles(smiles, seed=seed)
        read = Molecule.from_rdkit(Chem.RemoveHs(pose.to_rdkit()), seed=42)
        assert (read.smiles, read.start) == (pose.smiles, "mmff94")
        assert heavy_atom_rmsd(read, pose) < 0.3
        assert heavy_atom_rmsd(Molecule.from_smiles(smiles), pose) > 0.5


def test_a_pose_with_polar_hydrogens_alone_gets_the_others():
    pose = Molecule.from_smiles("CC(C)C[C@H]([NH3+])CO")
    mol = Chem.RWMol(pose.to_rdkit())
    nonpolar = mol.GetSubstructMatches(Chem.MolFromSmarts("[#1]-[#6]"))
    for hydrogen in sorted((h for h, _ in nonpolar), reverse=True):
        mol.RemoveAtom(hydrogen)
    read = Molecule.from_rdkit(Chem.MolFromMolBlock(Chem.MolToMolBlock(mol), removeHs=False))
    assert (read.smiles, read.charge, read.start) == (pose.smiles, 1, "mmff94")
    assert heavy_atom_rmsd(read, pose) < 0.3


def test_a_torn_pose_is_embedded():
    pose = Chem.RemoveHs(Molecule.from_smiles("CCCCCO").to_rdkit())
    pose.GetConformer().SetPositions(np.zeros((6, 3)) + 1e-3 * np.arange(18).reshape(6, 3))
    read = Molecule.from_rdkit(pose)
    lengths = [np.linalg.norm(read.positions[b.begin] - read.positions[b.end]) for b in read.bonds]
    assert min(lengths) > 0.9 and max(lengths) < 1.6


def test_molecule_whose_bonds_are_not_perceived_is_kept():
    molecule = Molecule.from_smiles("C[Hg]C")
    seen = Molecule.from_atoms(stripped(molecule))
    assert (seen.bonds, seen.formal_charges, seen.smiles) == ((), (), "")
    assert seen.name == "C2H6Hg"


def test_bonds_that_do_not_fit_the_charge_are_not_perceived():
    assert Molecule.from_atoms(stripped(Molecule.from_smiles("CN(C)CCN(C)C")), charge=2).bonds == ()


@pytest.mark.parametrize(
    "smiles",
    ["CCCN=[N+]=[N-]", "C=[N+]=[N-]", "CC(N)=[NH2+]", "CCNC(NC)=[NH+]C", "C[n+]1cc[nH]c1",
     "CN(C)c1cc[nH+]cc1", "Nc1nccc[nH+]1", "c1nn[n-]n1", "c1c[n-]cn1", "O=c1ccnc([O-])[nH]1",
     "[NH2-]", "C[N-]C", "[NH-]c1ccccc1", "c1ccc2c(c1)[n-]c1ccccc12", "[N-]=[N+]=[N-]",
     "O=S(=O)([N-]S(=O)(=O)C(F)(F)F)C(F)(F)F", "C[P+](C)(C)C", "CC([O-])=S",
     "CS(=O)(=O)[N-]c1ccccc1", "O=[N+]([O-])c1ccccc1", "CN(C)/C=C/C=[N+](C)C",
     "[N-]=[N+]=Nc1ccc(C(=O)O)cc1", "[N-]=[N+]=Nc1ccccc1[N+](=O)[O-]", "CC(=O)C=[N+]=[N-]",
     "Cc1c(CCO)sc[n+]1C", "CSC(N)=[NH2+]", "CC(=O)[N-]S(=O)(=O)c1ccccc1",
     "C[n+]1ccc(-c2cc[n+](C)cc2)cc1", "c1cc[n+]2c(c1)-c1cccc[n+]1CC2"],
)  # fmt: skip
def test_coordinates_are_read_as_one_form_in_any_atom_order(smiles):
    molecule = Molecule.from_smiles(smiles)
    for seed in range(4):
        atoms = stripped(molecule)[np.random.default_rng(seed).permutation(molecule.n_atoms)]
        assert Molecule.from_atoms(atoms, charge=molecule.charge).smiles == smiles


@pytest.mark.parametrize(
    "smiles",
    ["CC(=O)[O-].[Na+]", "[K+].[OH-]", "[Li+].[Br-]", "[Cl-].[NH3+]CCCl",
     "[Na+].[Na+].[O-]C(=O)C(=O)[O-]"],
)  # fmt: skip
def test_a_salt_comes_back_with_its_smiles(smiles):
    salt = Molecule.from_smiles(smiles)
    atoms = salt.to_atoms()[np.random.default_rng(0).permutation(salt.n_atoms)]
    read = Molecule.from_atoms(atoms)
    assert read.smiles == salt.smiles and len(read.bonds) == len(salt.bonds)


@pytest.mark.parametrize("name", ["multiplicity", "spin_multiplicity", "mult"])
def test_a_multiplicity_has_several_names(name):
    atoms = ase.build.molecule("O2")
    atoms.set_initial_magnetic_moments([0, 0])
    atoms.info = {name: 3}
    assert Molecule.from_atoms(atoms).multiplicity == 3
    atoms.info = {"spin": 1}
    with pytest.raises(ValueError, match="spin is ambiguous: write multiplicity"):
        Molecule.from_atoms(atoms)
    atoms.info = {"spin": 0}
    assert Molecule.from_atoms(atoms).multiplicity == 1


def test_bonds_may_be_plain():
    water = Molecule.from_smiles("O")
    plain = tuple(tuple(bond) for bond in water.bonds)
    assert Molecule(water.numbers, water.positions, bonds=plain).bonds[0].order == 1.0


def test_an_amidinium_turns_into_no_other_isomer():
    ion = Molecule.from_smiles("CCNC(NC)=[NH+]C")
    for seed in range(4):
        other = Molecule.from_smiles("CCNC(NC)=[NH+]C", seed=seed)
        assert identity_change(ion, other.positions) == ""


@pytest.mark.parametrize(
    "smiles",
    ["CCCSP(=O)(OCC)SCCC", "COP(=O)(NC(C)=O)SC", "COP(=S)(OC)SC",
     "C[N+](C)(C)CCOC(=O)CCC(=O)OCC[N+](C)(C)C", "NC(=[NH2+])NCCC[C@H]([NH3+])C(=O)O",
     "[NH3+]CCCC[C@H]([NH3+])C(=O)O"],
)  # fmt: skip
def test_a_geometry_is_read_as_the_same_molecule_in_any_order_of_its_atoms(smiles):
    molecule = Molecule.from_smiles(smiles)
    for seed in range(6):
        atoms = stripped(molecule)[np.random.default_rng(seed).permutation(molecule.n_atoms)]
        assert Molecule.from_atoms(atoms, charge=molecule.charge).smiles == molecule.smiles


def test_smiles_beside_coordinates_gives_the_bonds_in_any_atom_order():
    molecule = Molecule.from_smiles("C[Hg]C")
    atoms = stripped(molecule)[::-1]
    atoms.info["smiles"] = "C[Hg]C"
    seen = Molecule.from_atoms(atoms)
    assert seen.smiles == molecule.smiles
    lengths = [np.linalg.norm(seen.positions[b.begin] - seen.positions[b.end]) for b in seen.bonds]
    assert max(lengths) < 2.3


@pytest.mark.parametrize(
    "smiles",
    ["CC1=CC=CC=CC=C1C", "CC1=C(C)C=CC=CC=C1", "FC1=C(F)C=C1", "FC1=CC=C1F", "C1=CC2=CC=CC2=C1",
     "CC1=CC(=O)C=CC1=O"],
)  # fmt: skip
def test_double_bonds_of_rings_are_where_bonds_are_short(smiles):
    """Whatever the order of the atoms, and with a SMILES, which leaves open where they are."""
    molecule = Molecule.from_smiles(smiles)
    expected = Chem.CanonSmiles(smiles)
    for seed, told in itertools.product(range(6), ("", smiles)):
        atoms = stripped(molecule)[np.random.default_rng(seed).permutation(molecule.n_atoms)]
        atoms.info["smiles"] = told
        seen = Molecule.from_atoms(atoms)
        plain = Chem.MolToSmiles(Chem.MolFromSmiles(seen.smiles), isomericSmiles=False)
        assert plain == expected
        lengths = [
            np.linalg.norm(seen.positions[b.begin] - seen.positions[b.end])
            for b in seen.bonds
            if b.order == 2
        ]
        assert max(lengths) < 1.4


def test_a_kekule_structure_is_the_same_molecule_and_a_dative_bond_is_refused():
    toluene = Molecule.from_smiles("Cc1ccccc1")
    mol = toluene.to_rdkit()
    Chem.Kekulize(mol, clearAromaticFlags=True)
    assert Molecule.from_rdkit(mol).bonds == toluene.bonds
    with pytest.raises(ValueError, match="write dative bonds with charges, as in"):
        Molecule.from_smiles("[NH3]->B")


def test_smiles_beside_coordinates_confirms_a_long_bond():
    atoms = ase.build.molecule("F2")  # 0.28 Å longer than the covalent radii
    assert Molecule.from_atoms(atoms).smiles == ""
    atoms.info["smiles"] = "FF"
    assert Molecule.from_atoms(atoms).bonds == (Bond(0, 1, 1.0),)


def test_round_trip_through_ase_and_rdkit():
    molecule = Molecule.from_smiles("C[C@H](N)C(=O)[O-]", name="alanine anion")
    for other in (
        Molecule.from_atoms(molecule.to_atoms()),
        Molecule.from_rdkit(molecule.to_rdkit()),
        pickle.loads(pickle.dumps(molecule)),
    ):
        assert other.bonds == molecule.bonds
        assert (other.name, other.smiles, other.charge) == (
            "alanine anion",
            molecule.smiles,
            -1,
        )
        assert np.array_equal(other.positions, molecule.positions)


def test_rdkit_conformer_is_taken_as_it_stands():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=7)
    molecule = Molecule.from_rdkit(mol, name="ethanol")
    assert np.array_equal(molecule.positions, mol.GetConformer().GetPositions())
    assert (molecule.start, molecule.name) == ("given", "ethanol")


def test_flat_molecule_is_taken_as_it_stands_but_a_drawing_is_embedded():
    mol = Molecule.from_atoms(ase.build.molecule("C2H4")).to_rdkit()
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions()[:, [1, 2, 0]])
    mol.GetConformer().Set3D(False)
    assert Molecule.from_rdkit(mol).start == "given"
    rdDepictor.Compute2DCoords(mol)
    assert Molecule.from_rdkit(mol).start == "mmff94"


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize(
    ("smiles", "ends", "upright"),
    [
        ("FC=C=CF", (0, 1, 3, 4), True),
        ("CC=C=C(C)O", (0, 1, 3, 5), True),
        ("CC=C=NC", (0, 1, 3, 4), True),
        ("CN=C=NC", (0, 1, 3, 4), True),
        ("CC=C=C=CC", (0, 1, 4, 5), False),
    ],
)
def test_cumulenes_are_embedded_as_they_are(smiles, ends, upright, seed):
    angle = Molecule.from_smiles(smiles, seed=seed).to_atoms().get_dihedral(*ends)
    assert abs(np.cos(np.radians(angle))) == pytest.approx(0.0 if upright else 1.0, abs=0.05)


@pytest.mark.parametrize(
    ("smiles", "what"),
    [
        ("CC=[C@]=CC", "the configuration of an allene"),
        ("CC=[C@@]=CC", "the configuration of an allene"),
        ("CC=[C@AL1]=CC", "the configuration of an allene"),
        ("Cl[Pt@SP1](Cl)([NH3])[NH3]", "the configuration of a centre that is not tetrahedral"),
        ("C/C=C=C=C/C", "E or Z across cumulated double bonds"),
        ("C/C=C=C=C\\C", "E or Z across cumulated double bonds"),
        ("C1CC/C=C/CC1", "a trans double bond in a ring of 7"),
        ("C1C/C=C/CC1", "a trans double bond in a ring of 6"),
        ("C/C1=C(/C)CCCC1", "a trans double bond in a ring of 6"),
        ("C/C=C1/CC[C@H](C)CC1", "E or Z of a double bond between equal branches of a ring"),
    ],
)
def test_a_configuration_that_would_be_ignored_is_refused(smiles, what):
    with pytest.raises(ValueError, match=f"specifies {what}, which cannot be embedded"):
        Molecule.from_smiles(smiles)


@pytest.mark.parametrize("smiles", ["CC1(C)[C@@H]2CC[C@@]1(C)C(=O)C2", "C12=C3C1=C23"])
def test_cages_are_not_torn(smiles):
    molecule = Molecule.from_smiles(smiles)
    assert identity_change(molecule, molecule.positions) == ""


def test_an_isomer_that_its_rings_do_not_allow_is_refused():
    with pytest.raises(ValueError, match=r"no 3D structure found .*check its stereochemistry"):
        Molecule.from_smiles("CC1(C)[C@@H]2CC[C@]1(C)C(=O)C2")


@pytest.mark.parametrize(
    ("smiles", "read"),
    [
        ("C1C/C=C\\CC1", "C1=CCCCC1"),
        ("C/C1=C(\\C)CCCC1", "CC1=C(C)CCCC1"),
        ("C/C=C(/C)C", "CC=C(C)C"),
        ("C[N@](F)CC", "CCN(C)F"),
        ("C1C[N@]2CC[C@@H]1CC2", "C1CN2CCC1CC2"),
    ],
)
def test_tags_that_mean_nothing_are_read(smiles, read):
    assert Molecule.from_smiles(smiles).smiles == read


@pytest.mark.parametrize(
    "smiles",
    [
        "C[N@]1C[C@H]1C",
        "C[N@@]1C[C@H]1C",
        "C[N@]1[C@@H](C)[C@H]1C",
        "C[N@]1[C@H]2CC[C@@H]12",
        "C[N@]1C[N@]1C",
        "C[C@@H]1C[N@]2CC[C@H]1CC2",
        "C=C[C@H]1C[N@]2CC[C@H]1C[C@H]2[C@H](O)c1ccnc2ccc(OC)cc12",
        "C[P@](F)CC",
        "C[P@@](F)CC",
        "C[S@](=O)CC",
        "CC[N@@+](C)(F)C=C",
    ],
)
def test_pyramids_that_do_not_invert_are_embedded_as_asked(smiles):
    assert Molecule.from_smiles(smiles).smiles == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("smiles", ["C[N@]1C[C@H]1C", "C[N@@]1C[C@H]1C", "C[P@](F)CC"])
def test_pyramids_are_seen_in_coordinates(smiles):
    molecule = Molecule.from_smiles(smiles)
    assert Molecule.from_atoms(stripped(molecule)).smiles == Chem.CanonSmiles(smiles)


def test_a_drawing_that_says_it_is_in_3d_is_embedded_too():
    mol = Molecule.from_smiles("CC(=O)OC").to_rdkit()
    assert Molecule.from_rdkit(mol).start == "given"
    rdDepictor.Compute2DCoords(mol)
    mol.GetConformer().Set3D(True)
    assert Molecule.from_rdkit(mol).start == "mmff94"
    assert mol.GetConformer().Is3D()  # the caller's stays as it is


def test_rdkit_without_hydrogens_is_embedded():
    molecule = Molecule.from_rdkit(Chem.MolFromSmiles("CCO"))
    assert (molecule.start, molecule.n_atoms) == ("mmff94", 9)


def test_a_geometry_that_lacks_a_hydrogen_is_no_other_molecule():
    mol = Molecule.from_smiles("CC[O-]").to_rdkit()
    for atom in mol.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetNoImplicit(False)
        atom.SetNumRadicalElectrons(0)
    with pytest.raises(ValueError, match="1 hydrogens are missing: add them, or correct"):
        Molecule.from_rdkit(mol)


def test_arrays_are_read_only_and_copied():
    positions = np.zeros((1, 3))
    molecule = Molecule(np.array([2]), positions)
    positions[0] = 5.0
    assert np.array_equal(molecule.positions, [[0, 0, 0]])
    with pytest.raises(ValueError, match="read-only"):
        molecule.positions[0] = 1.0
    for other in (copy.deepcopy(molecule), pickle.loads(pickle.dumps(molecule))):
        assert not (other.positions.flags.writeable or other.numbers.flags.writeable)


def test_with_positions_keeps_everything_else():
    molecule = Molecule.from_smiles("CCO")
    moved = molecule.with_positions(molecule.positions + 1.0, start="given")
    assert (moved.bonds, moved.smiles, moved.start) == (molecule.bonds, molecule.smiles, "given")
    with pytest.raises(ValueError, match="shape"):
        molecule.with_positions(molecule.positions[:-1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"numbers": [8, 1, 0]}, "atom 3 is not an element"),
        ({"numbers": [8, 1, 119]}, "atom 3 is not an element"),
        ({"positions": np.zeros((3, 3))}, "O1 and H2 coincide"),
        ({"positions": np.full((3, 3), np.nan)}, "atom 1 is not finite"),
        ({"multiplicity": 2}, "multiplicity 2 does not fit 10 electrons"),
        ({"multiplicity": 0}, "multiplicity 0 does not fit"),
        ({"charge": 1}, "multiplicity 1 does not fit 9 electrons"),
        ({"charge": 10}, "leaves 0 electrons"),
        ({"numbers": [8.5, 1, 1]}, "not whole numbers"),
        ({"charge": 0.5}, "charge 0.5 is not an integer"),
        ({"multiplicity": "triplet"}, "multiplicity 'triplet' is not an integer"),
        ({"bonds": (Bond(0, 1, 1.0), Bond(0, 1, 2.0))}, "two bonds join the same atoms"),
        ({"bonds": (Bond(0, 3, 1.0),)}, "is not a bond"),
        ({"bonds": (Bond(0, 1, 4.0),)}, "is not a bond"),
        ({"formal_charges": (1, 0, 0)}, "do not fit"),
    ],
)
def test_nonsense_is_refused(change, reason):
    water = {"numbers": WATER.numbers, "positions": WATER.positions}
    Molecule(**water)
    with pytest.raises(ValueError, match=reason):
        Molecule(**{**water, **change})


def test_atoms_with_constraints_are_refused():
    atoms = WATER.copy()
    atoms.set_constraint(ase.constraints.FixAtoms([0]))
    with pytest.raises(ValueError, match=r"constraints \(FixAtoms\), but all atoms would move"):
        Molecule.from_atoms(atoms)


def test_periodic_atoms_are_refused():
    atoms = WATER.copy()
    atoms.pbc = True
    with pytest.raises(ValueError, match="periodic"):
        Molecule.from_atoms(atoms)


def test_one_bad_molecule_leaves_the_others_alone(capfd):
    given = ["CCO", "C(C", WATER, "C*", None, Chem.MolFromSmiles("C"), "CC(C)(C)(C)C", "[Xx]"]
    results = read_molecules(given)
    assert [isinstance(r, Rejected) for r in results] == [
        False, True, False, True, True, False, True, True
    ]  # fmt: skip
    assert "'C(C' is not a SMILES" in results[1].reason
    assert "dummy atoms" in results[3].reason
    assert "None is not a molecule" in results[4].reason
    assert "valence" in results[6].reason
    assert capfd.readouterr().err == ""


def test_query_is_rejected():
    for smarts in ("[#6]-[#8]", "CCO"):
        (result,) = read_molecules(Chem.MolFromSmarts(smarts))
        assert isinstance(result, Rejected) and "SMARTS" in result.reason


@pytest.mark.parametrize("seed", [-1, 2**31 - 8, 1.0, True, None])
def test_seeds_that_rdkit_cannot_take(seed):
    for call in (Molecule.from_smiles, read_molecules):
        with pytest.raises(ValueError, match="seed"):
            call("C", seed=seed)
    assert Molecule.from_smiles("C", seed=2**31 - 9).start == "mmff94"


def test_too_many_atoms_to_embed():
    with pytest.raises(ValueError, match="305 atoms, 101 without hydrogens, are too many"):
        Molecule.from_smiles("C" * 101)


def test_embedding_has_a_limit_in_seconds(monkeypatch):
    monkeypatch.setattr("diffrelax.molecule.embedding.EMBEDDING_SECONDS", -1)
    with pytest.raises(ValueError, match="no 3D structure found for CCO in -1 s of processor"):
        Molecule.from_smiles("CCO")


def test_embedding_of_large_molecules_can_be_left_out():
    (result,) = read_molecules("CCO", max_atoms=8)
    assert result.reason == "9 atoms: not embedded, because at most 8 are used here"
    assert read_molecules("CCO", max_atoms=9)[0].n_atoms == 9
    molecule = Molecule.from_smiles("CCO")
    assert read_molecules(molecule, max_atoms=8) == [molecule]


@pytest.mark.parametrize("smiles", ["F.F", "[H][H].[H][H]", "[Ar].[Ar]", "Cl.Cl", "O.O.O"])
def test_fragments_stand_apart(smiles):
    molecule = Molecule.from_smiles(smiles)
    assert molecule.smiles == smiles
    assert Molecule.from_atoms(stripped(molecule)).smiles == smiles


def test_every_form_of_input():
    molecule = Molecule.from_smiles("O")
    assert read_molecules([]) == []
    assert read_molecules(molecule) == [molecule]
    assert [m.formula for m in read_molecules(("O", WATER, molecule))] == ["H2O"] * 3
    assert read_molecules("CCO ethanol, dry")[0].name == "ethanol, dry"


@pytest.mark.parametrize("smiles", ["[H][H]", "[He]", "C#C", "C" * 39, "O.O", "[Cl-].[Na+]"])
def test_unusual_molecules_are_molecules(smiles):
    (molecule,) = read_molecules(smiles)
    assert molecule.smiles == smiles
    assert molecule.n_atoms == Chem.AddHs(Chem.MolFromSmiles(smiles)).GetNumAtoms()


@pytest.mark.parametrize("text", ["", "   ", "not a smiles", "C1CC", "C" * 300 + "("])
def test_text_that_is_no_smiles(text):
    (result,) = read_molecules(text)
    assert isinstance(result, Rejected)
    assert result.reason


def test_rdkit_names_are_kept_where_bonds_are_perceived():
    mol = Chem.MolFromXYZBlock("3\n\nO 0 0 0.12\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\n")
    mol.SetProp("_Name", "water")
    assert Molecule.from_rdkit(mol).name == "water"


def test_a_molecule_is_shown_in_a_line():
    assert repr(Molecule.from_smiles("CC[O-]", name="m")) == (
        "Molecule('m', C2H5O, charge -1, start 'mmff94')"
    )
    assert repr(Molecule.from_smiles("[CH3]")) == (
        "Molecule('[CH3]', CH3, multiplicity 2, start 'mmff94')"
    )


@pytest.mark.parametrize("smiles", ["[11BH3]", "[10BH3]", "[2H]C", "[35Cl]C", "[13CH4]"])
def test_isotopes_go_with_the_masses_of_atoms(smiles):
    molecule = Molecule.from_smiles(smiles)
    assert any(molecule.isotopes)
    assert Molecule.from_atoms(molecule.to_atoms()).isotopes == molecule.isotopes
    bare = Chem.RWMol(molecule.to_rdkit())
    for atom, isotope in zip(bare.GetAtoms(), molecule.isotopes, strict=True):
        atom.SetIsotope(isotope)
    for bond in list(bare.GetBonds()):
        bare.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    assert Molecule.from_rdkit(bare).isotopes == molecule.isotopes


def test_masses_of_no_isotope_mean_nothing():
    """As those that are moved from heavy atoms to hydrogens for long steps of dynamics."""
    atoms = Molecule.from_smiles("CO").to_atoms()
    for masses in ([1.0] * 6, [5.96, 12.9, 3.024, 3.024, 3.024, 3.024], [float("nan")] * 6):
        atoms.set_masses(masses)
        assert Molecule.from_atoms(atoms).isotopes == ()
