import re
from dataclasses import replace
from math import isnan

import pytest

import diffrelax as dr
from diffrelax.judgement import expected_rise, uneven_bonds
from diffrelax.levels import relax_at_level


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
    cyanine = dr.relax("CN(C)/C=C/C=C/C=[N+](C)C", ungated)
    assert cyanine.verdict == "relaxed" and isnan(cyanine.error_bound)
    assert re.match(r"C\d+–C\d+ and C\d+–C\d+, which only the double bonds of", cyanine.reason)
    even = cyanine.molecule.with_positions(
        relax_at_level(cyanine.molecule, "gfn2-xtb", fmax=0.02).positions
    )
    assert not uneven_bonds(even, even.positions)


@pytest.mark.parametrize("smiles", ["CS(C)=O", "CN=[N+]=[N-]"])
def test_gfn2_is_no_judge_of_what_is_above_its_own_minimum(smiles):
    """B3LYP/def2-SVP finds these 2 and 4 kcal/mol above the model's ends."""
    embedded = dr.Molecule.from_smiles(smiles)
    minimum = relax_at_level(embedded, "gfn2-xtb", fmax=0.05).positions
    given = embedded.with_positions(minimum, "given")
    level = "wB97M-D3/def2-TZVPP"
    assert expected_rise(given, level) == pytest.approx(expected_rise(embedded, level) + 1.5)
    shaken = given.with_positions(minimum * 1.02)
    assert expected_rise(shaken, level) == expected_rise(embedded, level)
    assert dr.relax(given, dr.load_model()).verdict == "relaxed"
