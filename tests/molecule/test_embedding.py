"""Structures of molecules whose bonds no force field describes."""

from __future__ import annotations

import os
import signal
import threading
from itertools import combinations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem.rdMolTransforms import GetDihedralDeg
from scipy.spatial.distance import pdist

from diffrelax.geometry import superpose
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import embed
from diffrelax.molecule.strained_rings import has_strained_ring
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.units import KCAL_PER_MOL

CYCLOSPORIN = (
    "CC[C@H]1C(=O)N(CC(=O)N([C@H](C(=O)N[C@H](C(=O)N([C@H](C(=O)N[C@H](C(=O)N[C@@H](C(=O)N([C@H]("
    "C(=O)N([C@H](C(=O)N([C@H](C(=O)N([C@H](C(=O)N1)[C@@H]([C@H](C)C/C=C/C)O)C)C(C)C)C)CC(C)C)C)CC"
    "(C)C)C)C)C)CC(C)C)C)C(C)C)CC(C)C)C)C"
)


def test_an_interrupt_while_rdkit_embeds_ends_all() -> None:
    """RDKit tells it as a failure, after which another trial would give another geometry."""
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        embed(Chem.MolFromSmiles(CYCLOSPORIN), seed=42)
    timer.join()


@pytest.mark.parametrize(
    ("smiles", "left_open"),
    [
        ("CC(O)F", True),
        ("C[C@H](O)F", False),
        ("CC=CC", True),
        ("OC1CCC(O)CC1", True),
        ("CC=N", True),
        ("[H]/N=C/C", False),
        ("CC(C)=N", False),
        ("N=C1CCCCC1", False),
        ("NC(N)=N", False),
        ("CC(N)=N", True),
        ("CN=N", True),
        ("CC(N)=[NH2+]", False),
        ("CC(=O)O", False),
        ("[2H]C(O)C", False),
        ("[13CH3]C", False),
        ("C1CN2CCC1CC2", False),
        ("OC(=O)C12C3C4C5C3C1C5C24", False),  # cubanecarboxylic acid
        ("C1=CC=CC=CC=CC=CC=CC=CC=CC=C1", True),  # [18]annulene, aromatic for RDKit
        ("OP(=O)([O-])OC", False),
        ("CNC(=[NH+]C)NCC", False),
        ("CN1[C@H]2CC[C@@H]1C[C@H](C2)O", False),
        ("CN1C2CCC1CC(C2)O", True),
        ("C1CC2CCC1C2", False),
        ("CC1CC2CCC1C2", True),
        ("CC1C2CCC1CC2", False),
        ("CC1(C)C2CCC1(C)C(=O)C2", True),
        ("OC1C2CC3CC(C2)CC1C3", False),
        ("C1CCC2CCCCC2C1", True),
        ("C1CCCCC2CCCCCC(CCCC1)CC2", True),
        ("CC1CCCC[N+]1(C)[O-]", True),
        ("C[C@H]1CCCC[N@+]1(C)[O-]", False),
        ("C[C@H](O)C[NH+](C)CC", False),
        ("CC=C=C=CC", True),
        ("CC=C=CC", True),
        ("CC=C=C", False),
        ("CC=CC |w:1.0|", True),
        ("CC(F)Cl |w:1.0|", True),
        ("C[C@H](F)Cl |&1:1|", True),
        ("C[C@H](F)Cl |o1:1|", True),
        ("C[C@H](F)Cl |a:1|", False),
    ],
)
def test_what_a_source_leaves_open_is_known(smiles: str, left_open: bool) -> None:
    molecule = Molecule.from_smiles(smiles)
    assert molecule.left_open == left_open
    assert MoleculeDocument.from_molecule(molecule).to_molecule().left_open == left_open


@pytest.mark.parametrize(
    ("smiles", "torsion", "is_flat"),
    [
        ("c1ccccc1/N=N/c1ccccc1", "cc-!@N=N", True),
        ("c1ccccc1/N=N\\c1ccccc1", "cc-!@N=N", False),
        ("CSC(=S)N(C)C", "[CH3]SC=S", True),
        ("CCOC(=O)C=[N+]=[N-]", "O=C-C=[N+]", True),
        ("c1ccccc1N=[N+]=[N-]", "cc-N=[N+]", True),
        ("Cc1cccc(C)c1N=[N+]=[N-]", "cc-N=[N+]", False),
        ("c1ccccc1N=S=O", "cc-N=S", True),
        ("Cc1cncnc1N", "[#1]Ncc", True),
        ("COc1cc(Cc2cnc(N)nc2N)cc(OC)c1OC", "[#1]Ncc", True),
        ("CC(C)Nc1nc(-c2ccncc2)nc(-c2ccccc2)c1C#N", "[#1]Ncc", True),
        ("[H]/N=C(\\N)N(C(C)C)C(C)C", "[#1][NH2]C=N", True),
    ],
)
def test_what_conjugation_keeps_in_a_plane_is_embedded_so(
    smiles: str, torsion: str, is_flat: bool
) -> None:
    """MMFF94 turns azobenzene by 62°, dithiocarbamates by 85°, some aminopyrimidines by 60°."""
    mol = Molecule.from_smiles(smiles).to_rdkit()
    for ends in mol.GetSubstructMatches(Chem.MolFromSmarts(torsion)):
        angle = abs(GetDihedralDeg(mol.GetConformer(), *ends[-4:]))
        assert (min(angle, 180 - angle) < 10) == is_flat


def test_what_no_force_field_can_take_apart_says_so() -> None:
    with pytest.raises(ValueError, match=r"has parameters for O=S.*coordinates"):
        Molecule.from_smiles("O=S(F)(F)(F)F", seed=1)


@pytest.mark.parametrize(
    "smiles", ["FS(F)(F)(F)(F)F", "F[P-](F)(F)(F)(F)F", "FS(F)(F)(F)(F)c1ccccc1"]
)
@pytest.mark.parametrize("seed", [1, 2, 42])
def test_six_neighbours_are_an_octahedron(smiles: str, seed: int) -> None:
    molecule = Molecule.from_smiles(smiles, seed=seed)
    (centre,) = np.flatnonzero((molecule.numbers == 15) | (molecule.numbers == 16))
    near = [i + j - centre for i, j, _ in molecule.bonds if centre in (i, j)]
    angles = [
        molecule.to_atoms().get_angle(i, centre, j) for i, j in combinations(near, 2)
    ]  # three of 180°, twelve of 90°
    assert sum(angle > 145 for angle in angles) == 3
    assert min(angles) > 70
    assert pdist(molecule.positions[molecule.numbers == 9]).min() > 1.4


@pytest.mark.parametrize("smiles", ["O.O", "S.S", "O.O.O", "[Na+].[Na+]"])
@pytest.mark.parametrize("seed", [1, 42])
def test_fragments_stay_together(smiles: str, seed: int) -> None:
    """MMFF94 would drive some of them a hundred Å apart."""
    molecule = Molecule.from_smiles(smiles, seed=seed)
    assert pdist(molecule.positions).max() < 12.0


@pytest.mark.parametrize(
    "smiles",
    [
        "OB(O)CCc1ccccc1",
        "COB(OC)OC",
        "CB(N(C)C)O",
        "CC1(C)OB(OC1(C)C)c1ccccc1",
        "B1(C)NB(C)NB(C)N1",
        "OB(O)[C@H](C)NC(C)=O",
    ],
)
def test_lone_pairs_about_boron_lie_in_its_plane(smiles: str) -> None:
    """As in the minimum of GFN2-xTB that is near; UFF alone stands them upright on it."""
    molecule = Molecule.from_smiles(smiles)
    end = relax_at_level(molecule, "gfn2-xtb", fmax=0.05, max_steps=300)
    mol = molecule.to_rdkit()
    for before in (True, False):
        conformer = mol.GetConformer()
        conformer.SetPositions(molecule.positions if before else end.positions)
        for ends in mol.GetSubstructMatches(Chem.MolFromSmarts("*~[O,N]~[B;D3]~*")):
            turn = abs(GetDihedralDeg(conformer, *ends))
            assert min(turn, 180 - turn) < (15 if before else 35)
    assert superpose(end.positions, molecule.positions)[1] < 0.6


@pytest.mark.parametrize(
    "smiles", ["B12OCCN(CCO1)CCO2", "CC12COB(OC1)OC2", "B12N(C)CCN(CCN1C)CCN2C", "B12OCC(O1)CO2"]
)
def test_boron_that_a_cage_holds_is_left_as_it_is(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    lengths = [
        np.linalg.norm(molecule.positions[bond.begin] - molecule.positions[bond.end])
        for bond in molecule.bonds
        if 5 in molecule.numbers[[bond.begin, bond.end]]
    ]
    assert 1.3 < min(lengths) < max(lengths) < 1.65


@pytest.mark.parametrize(
    "smiles",
    [
        "C1CCC=C=CCCC1",  # was embedded flat, 49 kcal/mol up
        "C1=C=C=CCCCC1",  # was trans with one seed in four, 70 kcal/mol up
        "C1CCCCCC/C=C/C1",  # was 21 kcal/mol up
        "C1Cc2ccc(CC1)cc2",
    ],
)
def test_strained_rings_start_near_their_lowest_minimum(smiles: str) -> None:
    starts = [Molecule.from_smiles(smiles, seed=seed) for seed in (2, 42)]
    lowest = min(relax_at_level(start, "gfn2-xtb").energy for start in starts)
    for start in starts:
        energy = get_calculator("gfn2-xtb", start).get_potential_energy(start.to_atoms())
        assert energy - lowest < 12 * KCAL_PER_MOL
        assert relax_at_level(start, "gfn2-xtb").energy - lowest < 3 * KCAL_PER_MOL


@pytest.mark.parametrize(
    ("smiles", "is_strained"),
    [
        ("C1=C=CCCC1", True),
        ("C1CCCCC#CC1", True),
        ("C1CCCC=CCC1", True),
        ("c1cc2cc(c1)CCCC2", True),
        ("C1CC2=CC=C(C=C2)CCC2=CC=C1C=C2", True),
        ("C1=CC=CC=CC=CC=CC=CC=CC=CC=C1", True),
        ("C1CCCCC=C1", False),
        ("c1ccc2ccccc2c1", False),
        ("C1CCCCCCC1", False),
        ("c1cc2cc3ccc([nH]3)cc3ccc(cc4ccc(cc1n2)[nH]4)n3", False),  # porphine
    ],
)
def test_a_part_that_is_straight_or_stiff_strains_a_ring(smiles: str, is_strained: bool) -> None:
    assert has_strained_ring(Chem.MolFromSmiles(smiles)) == is_strained
