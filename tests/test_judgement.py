import re
from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import diffrelax as dr
from diffrelax.geometry import superpose
from diffrelax.judgement import expected_rise, rise, uneven_bonds
from diffrelax.levels import relax_at_level
from diffrelax.molecule.bent_bonds import flat_cumulene, has_bent_bonds


def test_gfn2_is_asked_less_of_minima_that_are_unlike_its_own(monkeypatch):
    """Minima of BP86/def2-SVP are above MMFF94's geometries for GFN2-xTB: their bonds are long."""
    monkeypatch.setattr("diffrelax.judgement.rise", lambda start, positions: 2.0)
    model = dr.load_model()
    molecule = dr.Molecule.from_smiles("CN=N")
    assert len(molecule.bonds) == 6
    assert expected_rise(molecule, "M06-2X/def2-TZVP") == pytest.approx(0.5, abs=0.15)
    assert 2.0 < expected_rise(molecule, "BP86/def2-SVP") < 4.0
    for level, verdict in (("BP86/def2-SVP", "relaxed"), ("M06-2X/def2-TZVP", "fell_back")):
        assert dr.relax(molecule, model, level=level).verdict == verdict


@pytest.mark.parametrize(
    ("smiles", "uneven"),
    [
        ("CN(C)C=CC=CC=[N+](C)C", True),  # a cyanine, C2v
        ("c1ccc2cccc-2cc1", True),  # azulene
        ("c1ccccc1", False),
        ("CC(=O)C=C", False),
        ("C[N+](C)=C(C)C", False),
        ("c1ccc2c(c1)c1ccccc1c1ccccc21", False),  # triphenylene: the ends of unlike bonds are alike
    ],
)
def test_bonds_that_a_lewis_structure_alone_tells_apart_are_alike(smiles, uneven):
    molecule = dr.Molecule.from_smiles(smiles)  # MMFF94 keeps the bonds of the Lewis structure
    assert bool(uneven_bonds(molecule, molecule.positions)) == uneven


def test_an_uneven_end_is_told_and_has_no_bound():
    ungated = replace(dr.load_model(), environments=None)  # its kinds of atoms are rare
    cyanine = dr.relax("CN(C)/C=C/C=C/C=[N+](C)C", ungated, fast=True)
    assert cyanine.verdict == "relaxed" and isnan(cyanine.error_bound)
    assert re.match(r"C\d+–C\d+ and C\d+–C\d+, which differ only in", cyanine.reason)
    even = cyanine.molecule.with_positions(
        relax_at_level(cyanine.molecule, "gfn2-xtb", fmax=0.02).positions
    )
    assert not uneven_bonds(even, even.positions)


def test_gfn2_is_no_judge_of_what_is_above_its_own_minimum():
    """B3LYP/def2-SVP finds it 2 kcal/mol above the model's end."""
    embedded = dr.Molecule.from_smiles("CS(C)=O")
    minimum = relax_at_level(embedded, "gfn2-xtb", fmax=0.05).positions
    given = embedded.with_positions(minimum, "given")
    level = "wB97M-D3/def2-TZVPP"
    assert expected_rise(given, level) == pytest.approx(expected_rise(embedded, level) + 1.5)
    shaken = given.with_positions(minimum * 1.02)
    assert expected_rise(shaken, level) == expected_rise(embedded, level)
    assert dr.relax(given, dr.load_model()).verdict == "relaxed"


@pytest.mark.parametrize("smiles", ["C1Cc2ccc(CC1)cc2", "C1CCCc2cccc1c2"])
@pytest.mark.parametrize("level", [None, "GFN2-xTB"])
def test_a_strained_end_far_above_a_minimum_is_replaced_by_it(smiles, level):
    """The model's ends are 5 to 17 kcal/mol up, at atoms of usual kinds."""
    result = dr.relax(smiles, dr.load_model(), level=level, fast=True)
    assert (result.verdict, result.molecule.start) == ("fell_back", "gfn2-xtb")
    assert re.match(
        r"strained: GFN2-xTB finds the end \d+\.\d kcal/mol above its own", result.reason
    )
    assert isnan(result.error_bound)
    minimum = relax_at_level(result.molecule, "gfn2-xtb").positions
    assert rise(result.molecule.with_positions(minimum), result.molecule.positions) < 0.1


def test_a_strained_end_that_gfn2_cannot_relax_has_a_caution_in_energy(monkeypatch):
    monkeypatch.setattr("diffrelax.judgement.STEPS", 1)
    result = dr.relax("C1Cc2ccc(CC1)cc2", dr.load_model(), fast=True)
    assert result.verdict == "relaxed" and isnan(result.error_bound)
    assert re.fullmatch(
        r"strained: according to GFN2-xTB about \d+ kcal/mol above a minimum", result.reason
    )


@pytest.mark.parametrize("smiles", ["CCO", "Cc1ccccc1", "CC#CC", "CC=C=CC", "C=C1C=CC=C1"])
def test_ordinary_bonds_are_not_bent(smiles):
    molecule = dr.Molecule.from_smiles(smiles)
    assert not has_bent_bonds(molecule, molecule.positions)
    assert not flat_cumulene(molecule, molecule.positions)


def test_an_allene_whose_ends_lie_in_one_plane_is_named():
    allene = dr.Molecule.from_smiles("C=C=C")
    flat = allene.positions.copy()
    hydrogens = [j for i, j, _ in allene.bonds if i == 0 and allene.numbers[j] == 1]
    axis = np.subtract(*flat[[2, 0]]) / np.linalg.norm(np.subtract(*flat[[2, 0]]))
    flat[hydrogens] = flat[0] + Rotation.from_rotvec(np.pi / 2 * axis).apply(
        flat[hydrogens] - flat[0]
    )
    assert flat_cumulene(allene, flat) == "C1=C2=C3"


def test_the_bound_of_a_dianion_is_no_smaller_than_gfn2_moves_it():
    """Its carboxylates turn away from each other, by 0.3 Å; the bound was 0.18 Å."""
    result = dr.relax("[O-]C(=O)c1ccccc1C(=O)[O-]", dr.load_model())
    minimum = relax_at_level(result.molecule, "gfn2-xtb").positions
    off = superpose(result.molecule.positions, minimum)[1]
    assert result.error_bound == pytest.approx(off, abs=0.02) and off > 0.25
