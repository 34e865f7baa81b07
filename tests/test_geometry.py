from itertools import islice, permutations

import numpy as np
import pytest
from ase.build import molecule
from ase.data import covalent_radii
from rdkit.Chem import rdMolTransforms
from scipy.spatial.transform import Rotation

from diffrelax.geometry import (
    COVALENT_RADII,
    angles_apart,
    bond_matrix,
    dihedrals,
    geometry_errors,
    superpose,
    torsion_quads,
)
from diffrelax.molecule import Molecule


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    return atoms.numbers, atoms.positions


def test_a_rotated_copy_has_no_errors(ethanol):
    numbers, positions = ethanol
    turned = positions @ Rotation.random(random_state=0).as_matrix().T + 7.0
    errors = geometry_errors(numbers, turned, positions)
    assert errors.rmsd < 1e-9
    assert errors.bonds < 1e-9
    assert errors.angles < 1e-9
    assert errors.torsions < 1e-6


def test_a_stretched_bond_is_seen_where_it_is(ethanol):
    numbers, positions = ethanol
    bonds = np.argwhere(np.triu(bond_matrix(numbers, positions)))
    i, j = next((i, j) for i, j in bonds if {numbers[i], numbers[j]} == {1, 8})
    hydrogen, oxygen = (i, j) if numbers[i] == 1 else (j, i)
    direction = positions[hydrogen] - positions[oxygen]
    moved = positions.copy()
    moved[hydrogen] += 0.02 * direction / np.linalg.norm(direction)
    errors = geometry_errors(numbers, moved, positions)
    assert errors.bonds == pytest.approx(0.02 / len(bonds), rel=1e-6)
    assert errors.torsions < 1e-6


def test_bonds_are_those_of_the_molecule(ethanol):
    numbers, positions = ethanol
    degrees = bond_matrix(numbers, positions).sum(0)
    assert sorted(degrees[numbers == 6]) == [4, 4]
    assert list(degrees[numbers == 8]) == [2]
    assert set(degrees[numbers == 1]) == {1}


def test_elements_beyond_curium_have_bonds():
    assert bond_matrix(np.array([97, 9]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))[0, 1]


def test_superpose_agrees_with_scipy_and_does_not_reflect():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 3))
    _, rmsd = superpose(a, b)
    _, rssd = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
    assert rmsd == pytest.approx(rssd / np.sqrt(7), rel=1e-9)
    mirrored = b * [1, 1, -1]
    assert superpose(mirrored, b)[1] > 0.1


def test_dihedrals_are_those_of_rdkit():
    conformer = Molecule.from_smiles("CC(O)CN(C)C=O").to_rdkit().GetConformer()
    quads = list(islice(permutations(range(conformer.GetNumAtoms()), 4), None, None, 1009))
    theirs = [rdMolTransforms.GetDihedralRad(conformer, *quad) for quad in quads]
    ours = dihedrals(conformer.GetPositions()[quads])
    assert angles_apart(ours, np.array(theirs)).max() < 1e-6


def test_linear_molecules_have_no_torsions():
    atoms = molecule("C2H2")
    assert len(torsion_quads(bond_matrix(atoms.numbers, atoms.positions), atoms.positions)) == 0
    assert np.isnan(geometry_errors(atoms.numbers, atoms.positions, atoms.positions).torsions)


def test_radii_are_those_of_cordero():
    assert np.array_equal(COVALENT_RADII, covalent_radii[1 : len(COVALENT_RADII) + 1])
