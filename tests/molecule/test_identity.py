import ase
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from scipy.spatial.transform import Rotation

from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.molecule.force_fields import force_field
from diffrelax.molecule.identity import has_enantiomer, identity_change, mirror_image
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.stereo import UNSPECIFIED, clear_nominal, mol_from_smiles


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


@pytest.mark.parametrize("smiles", ["CCO", "C[C@H](F)Cl", "F/C=C/F", "O.O", "C1CC1N1CC1", "[H][H]"])
def test_vibrations_rotations_and_translations_change_nothing(smiles):
    molecule = Molecule.from_smiles(smiles)
    noise = np.random.default_rng(0).normal(scale=0.03, size=molecule.positions.shape)
    moved = (molecule.positions + noise) @ rotation(1).T + [3.0, -2.0, 1.0]
    assert identity_change(molecule, moved) == ""


def test_broken_and_formed_bonds_are_named():
    ethanol = Molecule.from_smiles("CCO")
    positions = ethanol.positions.copy()
    hydrogen = 8  # the last atom, on the oxygen
    direction = positions[hydrogen] - positions[2]
    positions[hydrogen] += direction / np.linalg.norm(direction)
    assert identity_change(ethanol, positions).startswith("bond O3–H9 broke (1.9")
    positions[hydrogen] = positions[0] + 0.7 * (positions[0] - positions[1])
    change = identity_change(ethanol, positions)
    assert "O3–H9 broke" in change
    assert "C1–H9 formed (1.0" in change


def test_bonds_break_and_form_where_they_are_said_to():
    def at(distance):
        return np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]])

    bonded = Molecule.from_smiles("[H][H]")
    apart = Molecule(np.array([1, 1]), at(1.5), formal_charges=(0, 0))
    longest, closest = 0.62 + 0.40, 0.62 + 0.20  # covalent radii and the margins, Å
    assert identity_change(bonded, at(longest - 0.01)) == ""
    assert "broke" in identity_change(bonded, at(longest + 0.01))
    assert identity_change(apart, at(closest + 0.01)) == ""
    assert "formed" in identity_change(apart, at(closest - 0.01))
    salt = Molecule(np.array([11, 17]), at(3.0), formal_charges=(1, -1))
    assert identity_change(salt, at(2.4)) == ""


SPIROKETAL = "C[C@@H]1CCC[C@]2(O1)CCC[C@@H](C)O2"


@pytest.mark.parametrize("smiles", [SPIROKETAL, SPIROKETAL.replace("[C@]2", "[C@@]2")])
def test_spiro_atoms_keep_their_configuration(smiles):
    molecule, *others = (Molecule.from_smiles(smiles, seed=seed) for seed in range(4))
    assert {other.smiles for other in others} == {molecule.smiles}
    assert Molecule.from_smiles(molecule.smiles).smiles == molecule.smiles
    assert Molecule.from_atoms(molecule.to_atoms()).smiles == molecule.smiles
    for other in others:
        assert identity_change(molecule, other.positions) == ""
    assert "C6 changed its configuration" in identity_change(
        molecule, mirror_image(molecule).positions
    )


@pytest.mark.parametrize(
    "smiles", [SPIROKETAL, "C1CCO[C@]2(C1)CCCCO2", "C[C@H]1C[C@]2(CC[C@@H](O)C2)C[C@@H]1C"]
)
def test_names_of_spiro_rings_do_not_depend_on_the_order_of_atoms(smiles):
    molecule = Molecule.from_smiles(smiles)
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(molecule.n_atoms)
        atoms = ase.Atoms(molecule.numbers[order], molecule.positions[order])
        assert Molecule.from_atoms(atoms).smiles == molecule.smiles
    assert has_enantiomer(molecule)


def test_spiro_atoms_keep_their_configuration_beside_what_makes_no_stereocentre():
    phosphate = "CO[P@](=O)([O-])OC"
    smiles = f"{phosphate}[C@@H]1CCC[C@]2(O1)CCC[C@@H](CO[P@](=O)([O-])OC)O2"
    mol = Chem.AddHs(mol_from_smiles(smiles))
    clear_nominal(mol)
    tagged = {a.GetSymbol() for a in mol.GetAtoms() if a.GetChiralTag() != UNSPECIFIED}
    spiro = mol.GetAtomWithIdx(mol.GetSubstructMatch(Chem.MolFromSmarts("[x4]"))[0])
    assert tagged == {"C"} and spiro.GetChiralTag() != UNSPECIFIED


def test_spiro_atoms_make_diastereomers():
    both = SPIROKETAL, SPIROKETAL.replace("[C@]2", "[C@@]2")
    one, other = (Molecule.from_smiles(smiles) for smiles in both)
    assert one.smiles != other.smiles
    assert identity_change(one, other.positions) == "C6 changed its configuration"


@pytest.mark.parametrize(
    ("smiles", "drawn"),
    [
        ("CCO[P@](=O)([O-])OC", "CCOP(=O)([O-])OC"),
        ("CC[S@](=O)[O-]", "CCS(=O)[O-]"),
        ("C[C@H]1CNC=[NH+]C1", "CC1CNC=[NH+]C1"),
        ("C[C@H]1CC(=O)C=C([O-])C1", "CC1CC(=O)C=C([O-])C1"),
    ],
)
def test_mesomeric_neighbours_make_no_stereocentre(smiles, drawn):
    molecule = Molecule.from_smiles(smiles)
    assert molecule.smiles == drawn
    assert not has_enantiomer(molecule)


@pytest.mark.parametrize(
    "smiles", ["CC[S@@](C)=O", "CCO[P@@](=O)(O)OC", "CC[P@]([O-])(=S)OC", "CC[S@](C)(=N)=O"]
)
def test_other_centres_of_sulfur_and_phosphorus_do(smiles):
    molecule = Molecule.from_smiles(smiles)
    assert molecule.smiles == smiles
    assert has_enantiomer(molecule)


def test_a_sulfilimine_turns_about_its_bond():
    molecule = Molecule.from_smiles("CC[S@](C)=NC")
    assert molecule.smiles == Molecule.from_smiles("CC/[S@](C)=N/C").smiles == "CC[S@](C)=NC"
    mol = molecule.to_rdkit()
    turned = mol.GetConformer()
    rdMolTransforms.SetDihedralDeg(
        turned, 1, 2, 4, 5, rdMolTransforms.GetDihedralDeg(turned, 1, 2, 4, 5) + 180
    )
    assert identity_change(molecule, turned.GetPositions()) == ""


def stretched(smiles: str, first: int, second: int, left: list[int], length: float) -> Molecule:
    """Draw a bond of a molecule out to a length; ``left`` moves with its first atom."""
    molecule = Molecule.from_smiles(smiles)
    positions = molecule.positions.copy()
    axis = positions[first] - positions[second]
    now = np.linalg.norm(axis)
    positions[left] += (length - now) * axis / now
    return molecule.with_positions(positions)


def test_a_broken_start_excuses_no_broken_bond():
    ethane = [stretched("CC", 0, 1, [0, 2, 3, 4], x) for x in (1.75, 1.85, 2.5)]
    assert identity_change(ethane[2], ethane[0].positions) == ""
    assert identity_change(ethane[2], ethane[1].positions) == "bond C1–C2 stayed broken (1.85 Å)"
    assert identity_change(ethane[0], ethane[1].positions) == "bond C1–C2 broke (1.85 Å)"
    assert identity_change(ethane[2], ethane[2].positions) == "bond C1–C2 stayed broken (2.50 Å)"
    ethene = stretched("C=C", 0, 1, [0, 2, 3], 1.7)
    assert identity_change(ethene, ethene.positions) == "bond C1–C2 stayed broken (1.70 Å)"
    peroxide = [stretched("OO", 0, 1, [0, 2], x) for x in (1.8, 1.85)]
    assert identity_change(peroxide[0], peroxide[0].positions) == ""
    assert "O1–O2 stayed broken" in identity_change(peroxide[1], peroxide[1].positions)


def test_atoms_that_were_too_near_before_are_bonded():
    propane = Molecule.from_smiles("CCC")
    positions = propane.positions.copy()
    end = [2, 8, 9, 10]
    axis = positions[0] - positions[2]
    positions[end] += axis * (1 - 1.55 / np.linalg.norm(axis))
    near = propane.with_positions(positions)
    assert "C1–C3 had formed before (1.55 Å)" in identity_change(near, near.positions)


@pytest.mark.parametrize(
    ("smiles", "first", "second", "left", "length"),
    [
        ("C12C3C4C1C5C2C3C45", 0, 1, [], 1.57),  # cubane
        ("CC(C)(C)C(C)(C)C", 1, 4, [0, 1, 2, 3, *range(8, 17)], 1.80),  # known up to 1.81 Å
        ("O=[N+]([O-])[N+](=O)[O-]", 1, 3, [0, 1, 2], 1.80),
        ("O=NCl", 1, 2, [0, 1], 1.98),
        ("CI", 0, 1, [0, 2, 3, 4], 2.20),
        ("CSSC", 1, 2, [0, 1, 4, 5, 6], 2.30),
        ("C[Si](C)(C)[Si](C)(C)C", 1, 4, [0, 1, 2, 3, *range(8, 17)], 2.70),
        ("[NH3+][BH3-]", 0, 1, [0, 2, 3, 4], 2.30),  # long before: dative
    ],
)
def test_long_bonds_are_bonds(smiles, first, second, left, length):
    molecule = stretched(smiles, first, second, left, length)
    assert identity_change(molecule, molecule.positions) == ""


def test_collapse_and_nonsense_are_named():
    ethanol = Molecule.from_smiles("CCO")
    positions = ethanol.positions.copy()
    positions[8] = positions[2] + 0.01
    assert "O3–H9 collapsed" in identity_change(ethanol, positions)
    positions[0] = np.nan
    assert "not finite" in identity_change(ethanol, positions)
    ketene = Molecule.from_smiles("C=C=O")
    for factor in (0.93, 0.8):
        change = identity_change(ketene, factor * ketene.positions)
        assert ("C2–O3 collapsed" in change) == (factor < 0.9)
    with pytest.raises(ValueError, match="shape"):
        identity_change(ethanol, positions[1:])


def test_configurations_are_compared():
    chiral = Molecule.from_smiles("C[C@H](F)Cl")
    assert identity_change(chiral, mirror_image(chiral).positions) == "C2 changed from R to S"
    alkene = Molecule.from_smiles("F/C=C/F")
    mol = alkene.to_rdkit()
    conformer = mol.GetConformer()
    rdMolTransforms.SetDihedralDeg(conformer, 0, 1, 2, 3, 0.0)
    assert identity_change(alkene, conformer.GetPositions()) == "C2=C3 changed from E to Z"
    achiral = Molecule.from_smiles("CCCC")
    assert identity_change(achiral, mirror_image(achiral).positions) == ""


def test_allenes_are_compared():
    allene = Molecule.from_smiles("CC=C=CC")
    change = identity_change(allene, mirror_image(allene).positions)
    assert change == "C3 changed its axial configuration"
    assert not same_minimum(allene, mirror_image(allene))
    achiral = Molecule.from_smiles("CC=C=C(C)C")
    assert identity_change(achiral, mirror_image(achiral).positions) == ""
    assert same_minimum(achiral, mirror_image(achiral))


def test_a_meso_pair_of_allenes_has_no_enantiomer():
    by_kind = {True: [], False: []}
    for seed in range(1, 12):
        one = Molecule.from_smiles("CC=C=CCC=C=CC", seed=seed)
        by_kind[has_enantiomer(one)].append(one)
    assert by_kind[True] and by_kind[False]
    for has, molecules in by_kind.items():
        assert all(same_minimum(one, mirror_image(one)) is not has for one in molecules)


def test_an_allene_that_is_flattened_has_changed():
    allene = Molecule.from_smiles("FC=C=CF")
    relaxed = relax_at_level(allene, "mmff94")  # has no term for it
    assert not relaxed.converged
    assert relaxed.reason == "identity lost: the ends of the allene at C3 became parallel"
    flat = allene.with_positions(relaxed.positions)
    assert identity_change(flat, relaxed.positions) == ""


def test_cumulenes_of_an_even_number_of_atoms_are_cis_or_trans():
    triene = Molecule.from_smiles("CC=C=C=CC")
    positions = triene.positions.copy()
    mol = triene.to_rdkit()
    end = [5, *(a.GetIdx() for i in (4, 5) for a in mol.GetAtomWithIdx(i).GetNeighbors()
                if a.GetAtomicNum() == 1)]  # fmt: skip
    axis = positions[4] - positions[1]
    half_turn = Rotation.from_rotvec(np.pi * axis / np.linalg.norm(axis))
    positions[end] = positions[4] + half_turn.apply(positions[end] - positions[4])
    assert identity_change(triene, positions) == "C2=C3=C4=C5 changed its configuration"
    assert identity_change(triene, mirror_image(triene).positions) == ""
    assert not same_minimum(triene, triene.with_positions(positions))


def test_double_bonds_in_small_rings_are_compared():
    cis, trans = (Molecule.from_smiles(s) for s in ("C1CCC/C=C\\CC1", "C1CCC/C=C/CC1"))
    assert identity_change(cis, trans.positions) == "C5=C6 changed from Z to E"
    cis = Molecule.from_smiles("C1CCC=CCC1")
    trans = trans_cycloheptene(cis)
    assert identity_change(trans, cis.positions) == "C4=C5 changed its configuration"
    assert identity_change(cis, trans.positions) == "C4=C5 changed its configuration"
    with pytest.raises(ValueError, match="no 3D structure"):
        embed_again(trans, seed=1)


def trans_cycloheptene(cis: Molecule) -> Molecule:
    mol = cis.to_rdkit()
    field = force_field(mol, "mmff94")
    for ends, degrees in (((2, 3, 4, 5), 130), ((13, 3, 4, 14), 160)):
        field.MMFFAddTorsionConstraint(*ends, False, degrees, degrees, 100.0)
    field.Minimize(maxIts=5000)
    return cis.with_positions(mol.GetConformer().GetPositions())


def test_inversion_of_an_amine_is_no_change():
    for smiles in ("CN(F)CC", "CN1CCC1", "C1CN1"):
        amine = Molecule.from_smiles(smiles)
        assert identity_change(amine, mirror_image(amine).positions) == ""


def test_inverted_aziridines_and_phosphines_are_other_molecules():
    one, other = (Molecule.from_smiles(s) for s in ("C[N@]1C[C@H]1C", "C[N@@]1C[C@H]1C"))
    assert identity_change(one, other.positions) == "N2 changed from S to R"
    phosphine = Molecule.from_smiles("C[P@](F)CC")
    assert identity_change(phosphine, mirror_image(phosphine).positions) == "P2 changed from R to S"
    assert not same_minimum(phosphine, mirror_image(phosphine))


def test_bonds_unknown_compares_close_pairs():
    mercury = Molecule.from_smiles("C[Hg]C")
    bare = Molecule.from_atoms(ase.Atoms(mercury.numbers, mercury.positions))
    assert bare.bonds == ()
    assert identity_change(bare, bare.positions) == ""
    positions = bare.positions.copy()
    positions[3] += 2.0
    assert "broke" in identity_change(bare, positions)


IONS = {  # atoms of an acidic hydrogen, what holds it, and what may take it
    "[NH3+]CC(=O)[O-]": (5, 0, 4),
    "C[NH2+]CC=O": (8, 1, 4),
    "OC(=O)CCC(=O)[O-]": (8, 0, 7),
    "C[N+](=O)[O-]": (4, 0, 3),
    "COP(=O)([O-])OC": (7, 0, 4),
    "COP(=O)(O)OC": (10, 4, 3),
}


@pytest.mark.parametrize(("smiles", "atoms"), IONS.items())
def test_a_proton_that_moves_makes_another_molecule(smiles, atoms):
    """A zwitterion, an ammonium, a carboxylate, a nitro group, phosphates."""
    molecule = Molecule.from_smiles(smiles)
    noise = np.random.default_rng(0).normal(scale=0.03, size=molecule.positions.shape)
    assert identity_change(molecule, molecule.positions + noise) == ""
    hydrogen, holder, taker = atoms
    assert {(holder, hydrogen), (hydrogen, holder)} & {b[:2] for b in molecule.bonds}
    moved = molecule.positions.copy()
    others = np.delete(moved, [hydrogen, taker], axis=0)
    places = moved[taker] + 0.98 * np.concatenate([rotation(1), -rotation(1)])
    far = np.linalg.norm(places[:, None] - others, axis=2).min(1)
    moved[hydrogen] = places[far.argmax()]
    change = identity_change(molecule, moved)
    pair = f"{molecule.symbols[taker]}{taker + 1}–H{hydrogen + 1}"
    assert f"bond {molecule.symbols[holder]}{holder + 1}–H{hydrogen + 1} broke" in change
    assert f"bond {pair} formed (0.98 Å)" in change


def test_a_zwitterion_that_a_level_takes_apart_is_named():
    glycine = Molecule.from_smiles("[NH3+]CC(=O)[O-]")
    neutral = relax_at_level(glycine, "gfn2-xtb", fmax=0.05).positions
    assert "bond N1–H" in identity_change(glycine, neutral)
