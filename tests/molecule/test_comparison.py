import ase
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from scipy.spatial.transform import Rotation
from spyrmsd.rmsd import symmrmsd

from diffrelax.molecule import Molecule, comparison
from diffrelax.molecule.comparison import conformer_atoms, heavy_atom_rmsd, same_minimum
from diffrelax.molecule.identity import mirror_image


def turned(molecule: Molecule, *dihedral: int, degrees: float) -> Molecule:
    mol = molecule.to_rdkit()
    conformer = mol.GetConformer()
    start = rdMolTransforms.GetDihedralDeg(conformer, *dihedral)
    rdMolTransforms.SetDihedralDeg(conformer, *dihedral, start + degrees)
    return molecule.with_positions(conformer.GetPositions())


def turned_about(molecule, begin, end, atoms, degrees):
    axis = molecule.positions[end] - molecule.positions[begin]
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
    positions = molecule.positions.copy()
    positions[atoms] = turn.apply(positions[atoms] - positions[end]) + positions[end]
    return molecule.with_positions(positions)


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
    moved = b.with_positions(b.positions @ Rotation.random(random_state=3).as_matrix() + 1.0)
    expected = symmrmsd(
        a.positions[heavy], moved.positions[heavy], a.numbers[heavy], a.numbers[heavy],
        adjacency, adjacency, center=True, minimize=True,
    )  # fmt: skip
    rmsd = heavy_atom_rmsd(a, moved, polar_hydrogens=polar_hydrogens)
    assert rmsd == pytest.approx(expected, abs=1e-4)


def test_rmsd_maps_equivalent_atoms_in_any_order():
    a = Molecule.from_smiles("Cc1ccccc1", seed=1)
    order = np.random.default_rng(0).permutation(a.n_atoms)
    b = Molecule.from_atoms(
        ase.Atoms(
            a.numbers[order], a.positions[order] @ Rotation.random(random_state=2).as_matrix()
        )
    )
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


@pytest.mark.parametrize(
    ("smiles", "top", "axis"),
    [
        ("FC(F)(F)C(=O)OC", 1, 4),
        ("[SiH3]CCO", 0, 1),
        ("[NH3+]CCO", 0, 1),
        ("ClC(Cl)(Cl)C(=O)O", 1, 4),
    ],
)
def test_the_turn_of_a_top_is_no_other_minimum(smiles, top, axis):
    molecule = Molecule.from_smiles(smiles)
    near = np.flatnonzero(Chem.GetAdjacencyMatrix(molecule.to_rdkit())[top])
    ends = near[near != axis]
    assert not conformer_atoms(molecule)[ends].any() and conformer_atoms(molecule)[axis]
    other = turned_about(molecule, axis, top, ends, 40.0)
    assert same_minimum(molecule, other)
    assert (heavy_atom_rmsd(molecule, other) > 0.1) == (molecule.numbers[ends[0]] > 1)
    moved = molecule.positions.copy()
    moved[top] += 0.5
    assert not same_minimum(molecule, molecule.with_positions(moved))


def test_mirror_images_are_one_minimum_unless_the_molecule_is_chiral():
    gauche = turned(Molecule.from_smiles("CCCC"), 0, 1, 2, 3, degrees=120)
    assert heavy_atom_rmsd(gauche, mirror_image(gauche)) > 0.1
    assert same_minimum(gauche, mirror_image(gauche))
    chiral = Molecule.from_smiles("CC[C@H](F)Cl")
    assert not same_minimum(chiral, mirror_image(chiral))


@pytest.mark.parametrize("smiles", ["CCOCCO", "CO", "CC(C)(C)O", "O"])
def test_the_quick_look_at_two_geometries_rejects_none_that_coincide(smiles):
    molecule = Molecule.from_smiles(smiles)
    rng = np.random.default_rng(0)
    for size in (0.0, 0.02, 0.05, 0.15):
        shaken = molecule.positions + size * rng.normal(size=molecule.positions.shape)
        turn = Rotation.random(random_state=1).as_matrix() * rng.choice([-1, 1])
        other = molecule.with_positions(shaken @ turn.T + 5.0)
        straight = molecule.with_positions(shaken)
        if heavy_atom_rmsd(molecule, straight) < comparison.SAME_RMSD:
            assert comparison._may_coincide(molecule, other)


def test_conformers_of_another_shape_are_told_apart_quickly():
    butane = Molecule.from_smiles("CCCC")
    mol = butane.to_rdkit()
    shapes = []
    for degrees in (180.0, 60.0):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), 0, 1, 2, 3, degrees)
        shapes.append(butane.with_positions(mol.GetConformer().GetPositions()))
    assert not comparison._may_coincide(*shapes)


HIGHLY_SYMMETRIC = (
    "FC(F)(F)C(F)(C(F)(F)F)C(C(F)(F)F)(C(F)(F)F)C(F)(F)F",
    "F" + "C(F)(F)" * 10 + "F",
    "CC(C)[Si](C(C)C)(C(C)C)OCC(O)CO[Si](C(C)C)(C(C)C)C(C)C",
)


@pytest.mark.parametrize("smiles", HIGHLY_SYMMETRIC)
def test_a_geometry_is_itself_however_many_of_its_atoms_are_alike(smiles):
    molecule = Molecule.from_smiles(smiles)
    rng, positions = np.random.default_rng(0), molecule.positions.copy()
    for atom in molecule.to_rdkit().GetAtoms():
        if ends := [other.GetIdx() for other in atom.GetNeighbors() if other.GetDegree() == 1]:
            positions[ends] = positions[rng.permutation(ends)]
    turn = Rotation.from_rotvec([0.5, 2.0, -1.0])
    same = molecule.with_positions(turn.apply(positions) + rng.normal(0, 0.01, positions.shape))
    assert heavy_atom_rmsd(molecule, same, polar_hydrogens=True) < 0.02
    other = Molecule.from_smiles(smiles, seed=7)
    assert heavy_atom_rmsd(molecule, other) > 0.3


def test_atoms_with_one_neighbour_find_their_places():
    first, second = (Molecule.from_smiles("OCC(CO)(C(F)(F)F)CCl", seed=s) for s in (1, 2))
    graphs = [comparison._heavy_graph(molecule, False, True) for molecule in (second, first)]
    by_all_mappings = heavy_atom_rmsd(first, second)
    assert comparison._rmsd_by_inner_atoms(*graphs) == pytest.approx(by_all_mappings, abs=1e-6)
