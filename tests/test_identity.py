import ase
import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms
from scipy.spatial.transform import Rotation
from spyrmsd.rmsd import symmrmsd

from diffrelax import identity
from diffrelax.identity import heavy_atom_rmsd, identity_change, same_minimum
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def mirrored(molecule: Molecule) -> Molecule:
    return molecule.with_positions(molecule.positions * [1, 1, -1])


def turned(molecule: Molecule, *dihedral: int, degrees: float) -> Molecule:
    mol = molecule.to_rdkit()
    conformer = mol.GetConformer()
    start = rdMolTransforms.GetDihedralDeg(conformer, *dihedral)
    rdMolTransforms.SetDihedralDeg(conformer, *dihedral, start + degrees)
    return molecule.with_positions(conformer.GetPositions())


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


def test_a_bond_that_was_long_before_can_break():
    ethane = Molecule.from_smiles("CC")
    positions = ethane.positions.copy()
    left = [0, 2, 3, 4]
    axis = positions[0] - positions[1]
    axis /= np.linalg.norm(axis)
    positions[left] += 0.45 * axis
    stretched = ethane.with_positions(positions)
    assert np.linalg.norm(positions[0] - positions[1]) > 1.92
    positions[left] += 0.1 * axis
    assert identity_change(stretched, positions) == ""
    positions[left] += 5 * axis
    assert identity_change(stretched, positions).startswith("bond C1–C2 broke (7.")


def test_collapse_and_nonsense_are_named():
    ethanol = Molecule.from_smiles("CCO")
    positions = ethanol.positions.copy()
    positions[8] = positions[2] + 0.01
    assert "O3–H9 collapsed" in identity_change(ethanol, positions)
    positions[0] = np.nan
    assert "not finite" in identity_change(ethanol, positions)
    with pytest.raises(ValueError, match="shape"):
        identity_change(ethanol, positions[1:])


def test_configurations_are_compared():
    chiral = Molecule.from_smiles("C[C@H](F)Cl")
    assert identity_change(chiral, mirrored(chiral).positions) == "C2 changed from R to S"
    alkene = Molecule.from_smiles("F/C=C/F")
    z = turned(alkene, 0, 1, 2, 3, degrees=180)
    assert identity_change(alkene, z.positions) == "C2=C3 changed from E to Z"
    achiral = Molecule.from_smiles("CCCC")
    assert identity_change(achiral, mirrored(achiral).positions) == ""


def test_allenes_are_compared():
    allene = Molecule.from_smiles("CC=C=CC")
    change = identity_change(allene, mirrored(allene).positions)
    assert change == "C3 changed its axial configuration"
    assert not same_minimum(allene, mirrored(allene))
    achiral = Molecule.from_smiles("CC=C=C(C)C")
    assert identity_change(achiral, mirrored(achiral).positions) == ""
    assert same_minimum(achiral, mirrored(achiral))


def test_an_allene_that_is_flattened_has_changed():
    allene = Molecule.from_smiles("FC=C=CF")
    relaxed = relax_at_level(allene, "mmff94")  # has no term for it
    assert not relaxed.converged
    assert relaxed.reason == "identity lost: the ends of the allene at C3 became parallel"
    flat = allene.with_positions(relaxed.positions)
    assert identity_change(flat, relaxed.positions) == ""


def test_inversion_of_an_amine_is_no_change():
    amine = Molecule.from_smiles("CN(F)CC")
    assert identity_change(amine, mirrored(amine).positions) == ""


def test_bonds_unknown_compares_close_pairs():
    mercury = Molecule.from_smiles("C[Hg]C")
    bare = Molecule.from_atoms(ase.Atoms(mercury.numbers, mercury.positions))
    assert bare.bonds == ()
    assert identity_change(bare, bare.positions) == ""
    positions = bare.positions.copy()
    positions[3] += 2.0
    assert "broke" in identity_change(bare, positions)


@pytest.mark.parametrize(
    "smiles",
    ["CCCCO", "CC(C)(C)CC", "Cc1ccccc1", "C1CCCCC1C", "NCC(=O)NC", "CCC", "CCC(C)C", "CCC(=O)OC",
     "FC(F)CO", "CC(C)OC(C)C"],
)  # fmt: skip
@pytest.mark.parametrize("polar_hydrogens", [False, True])
def test_rmsd_agrees_with_spyrmsd(smiles, polar_hydrogens):
    a, b = (Molecule.from_smiles(smiles, seed=seed) for seed in (1, 5))
    polar = {b.end for b in a.bonds if a.numbers[b.begin] != 6 and a.numbers[b.end] == 1}
    heavy = [i for i in range(a.n_atoms) if a.numbers[i] > 1 or (polar_hydrogens and i in polar)]
    adjacency = np.zeros((a.n_atoms, a.n_atoms), dtype=int)
    for bond in a.bonds:
        adjacency[bond.begin, bond.end] = adjacency[bond.end, bond.begin] = 1
    adjacency = adjacency[np.ix_(heavy, heavy)]
    moved = b.with_positions(b.positions @ rotation(3).T + 1.0)
    expected = symmrmsd(
        a.positions[heavy], moved.positions[heavy], a.numbers[heavy], a.numbers[heavy],
        adjacency, adjacency, center=True, minimize=True,
    )  # fmt: skip
    rmsd = heavy_atom_rmsd(a, moved, polar_hydrogens=polar_hydrogens)
    assert rmsd == pytest.approx(expected, abs=1e-4)


def test_rmsd_maps_equivalent_atoms_in_any_order():
    a = Molecule.from_smiles("Cc1ccccc1", seed=1)
    order = np.random.default_rng(0).permutation(a.n_atoms)
    b = Molecule.from_atoms(ase.Atoms(a.numbers[order], a.positions[order] @ rotation(2).T))
    assert heavy_atom_rmsd(a, b) < 1e-4
    before = b.positions.copy()
    heavy_atom_rmsd(a, b)
    assert np.array_equal(b.positions, before)


def test_rmsd_of_small_molecules_sees_hydrogens():
    methanol = Molecule.from_smiles("CO")
    rotated = turned(methanol, 2, 0, 1, 5, degrees=60)
    assert heavy_atom_rmsd(methanol, rotated) > 0.1
    with pytest.raises(ValueError, match="bond graphs"):
        heavy_atom_rmsd(methanol, Molecule.from_smiles("CN"))


def test_same_minimum():
    propanol = Molecule.from_smiles("CCCO")
    assert same_minimum(propanol, propanol)
    assert same_minimum(propanol, propanol, 0.004)
    assert not same_minimum(propanol, propanol, -0.005)
    assert not same_minimum(propanol, propanol, float("nan"))
    assert not same_minimum(propanol, turned(propanol, 0, 1, 2, 3, degrees=120))
    assert not same_minimum(propanol, Molecule.from_smiles("CC(C)O"))


@pytest.mark.parametrize(("smiles", "dihedral"), [("OC=O", (3, 0, 1, 2)), ("CCO", (0, 1, 2, 8))])
def test_rotamers_of_a_hydroxyl_are_two_minima(smiles, dihedral):
    molecule = Molecule.from_smiles(smiles)
    rotamer = turned(molecule, *dihedral, degrees=180)
    assert heavy_atom_rmsd(molecule, rotamer) < 1e-4
    assert not same_minimum(molecule, rotamer)


def test_mirror_images_are_one_minimum_unless_the_molecule_is_chiral():
    gauche = turned(Molecule.from_smiles("CCCC"), 0, 1, 2, 3, degrees=120)
    assert heavy_atom_rmsd(gauche, mirrored(gauche)) > 0.1
    assert same_minimum(gauche, mirrored(gauche))
    chiral = Molecule.from_smiles("CC[C@H](F)Cl")
    assert not same_minimum(chiral, mirrored(chiral))


@pytest.mark.parametrize("smiles", ["CCOCCO", "CO", "CC(C)(C)O", "O"])
def test_the_quick_look_at_two_geometries_rejects_none_that_coincide(smiles):
    molecule = Molecule.from_smiles(smiles)
    rng = np.random.default_rng(0)
    for size in (0.0, 0.02, 0.05, 0.15):
        shaken = molecule.positions + size * rng.normal(size=molecule.positions.shape)
        turn = Rotation.random(random_state=1).as_matrix() * rng.choice([-1, 1])
        other = molecule.with_positions(shaken @ turn.T + 5.0)
        straight = molecule.with_positions(shaken)
        if heavy_atom_rmsd(molecule, straight) < identity.SAME_RMSD:
            assert identity._may_coincide(molecule, other)


def test_conformers_of_another_shape_are_told_apart_quickly():
    butane = Molecule.from_smiles("CCCC")
    mol = butane.to_rdkit()
    shapes = []
    for degrees in (180.0, 60.0):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), 0, 1, 2, 3, degrees)
        shapes.append(butane.with_positions(mol.GetConformer().GetPositions()))
    assert not identity._may_coincide(*shapes)
