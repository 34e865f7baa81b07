import json

import pytest

from diffrelax.levels import distances
from diffrelax.levels.distances import Distance, Nearest, nearest_level

KNOWN = (
    "wB97M-D3/def2-TZVPP", "B3LYP/6-31G(2df,p)", "M06-2X/def2-TZVP", "r2SCAN-3c", "B3LYP/def2-SVP",
    "BP86/def2-SVP", "GFN2-xTB",
)  # fmt: skip


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.setattr(distances, "measured", tuple)


@pytest.mark.parametrize(
    ("wanted", "level"),
    [
        ("b3lyp/6-31g(2DF,p)", "B3LYP/6-31G(2df,p)"),
        ("ωB97M-D3 / def2-TZVPP", "wB97M-D3/def2-TZVPP"),
        ("aimnet2", "wB97M-D3/def2-TZVPP"),
        ("gfn2-xtb", "GFN2-xTB"),
        ("b3lyp/6-31G(2df,p) in water", "B3LYP/6-31G(2df,p)"),
        ("m062x/def2-tzvp", "M06-2X/def2-TZVP"),
        ("M06-2X/Def2TZVP", "M06-2X/def2-TZVP"),
        ("M06-2X def2-TZVP", "M06-2X/def2-TZVP"),
        ("b3lyp/6-31g2dfp", "B3LYP/6-31G(2df,p)"),
        ("r2SCAN-3c/def2-mTZVPP", "r2SCAN-3c"),
    ],
)
def test_a_level_that_is_known_is_its_own_nearest(wanted, level):
    assert nearest_level(wanted, KNOWN)[:2] == (level, "")


@pytest.mark.parametrize(
    ("wanted", "level", "why"),
    [
        ("b3lyp-d3(bj)/def2-svp", "B3LYP/def2-SVP", "the same functional and the same basis"),
        ("b3lyp-d3bjm/def2-svp", "B3LYP/def2-SVP", "the same functional and the same basis"),
        ("b3lyp-d3zeromatm/def2-svp", "B3LYP/def2-SVP", "the same functional and the same basis"),
        ("B3LYP/G/def2-SVP", "B3LYP/def2-SVP", "the same functional and the same basis"),
        ("b3lyp-d3bj/def2-tzvp", "B3LYP/6-31G(2df,p)", "the same functional and the same size"),
        ("b3lyp/6-31g*", "B3LYP/def2-SVP", "the same functional and the same size"),
        ("r2scan-d4/def2-tzvp", "r2SCAN-3c", "the same functional and the same size"),
        (
            "pbe/def2-svp",
            "BP86/def2-SVP",
            "the functional most alike in exact exchange and the same",
        ),
        ("pbe0/def2-svp", "B3LYP/def2-SVP", "the functional most alike in exact exchange"),
        ("pw6b95/def2-tzvp", "B3LYP/6-31G(2df,p)", "the functional most alike in exact exchange"),
        ("hf/6-31g*", "wB97M-D3/def2-TZVPP", "the functional most alike in exact exchange"),
        ("b97-3c", "r2SCAN-3c", "the functional most alike in exact exchange and the same size"),
        ("B97-D3(BJ)/def2-TZVP", "r2SCAN-3c", "the functional most alike in exact exchange and"),
        ("wb97x-3c", "wB97M-D3/def2-TZVPP", "the functional most alike in exact exchange"),
        ("wb97x-d3bj/def2-tzvp", "wB97M-D3/def2-TZVPP", "the functional most alike in exact"),
        ("m062x/6-311+g(d,p)", "M06-2X/def2-TZVP", "the same functional and the same size"),
        ("lc-wpbe/def2-svp", "wB97M-D3/def2-TZVPP", "the functional most alike in exact exchange"),
        ("pbe/6-31G(3df,3pd)", "r2SCAN-3c", "the functional most alike in exact exchange and the"),
        ("hse06/def2-svp", "B3LYP/def2-SVP", "the functional most alike in exact exchange and"),
    ],
)
def test_what_was_not_measured_goes_by_rule_and_says_so(unmeasured, wanted, level, why):
    found = nearest_level(wanted, KNOWN)
    assert found.level == level
    assert found.why.startswith(why) and found.why.endswith("by rule and not measured")
    assert found.told("m-1", wanted) == (
        f"m-1 aims at {level}, of what it has learned the nearest to {wanted}: {found.why}"
    )


@pytest.mark.parametrize("wanted", ["mmff94", "gfn-ff"])
def test_of_what_has_neither_functional_nor_measurement_nothing_is_said(unmeasured, wanted):
    found = nearest_level(wanted, KNOWN)
    assert found == (KNOWN[0], f"nothing is known of how far it is from {wanted}", False)


def test_what_was_measured_goes_before_what_is_alike(monkeypatch):
    rows = (
        Distance("PBE/def2-SVP", "BP86/def2-SVP", 10, bonds=0.009, angles=0.01),
        Distance("M06-2X/def2-TZVP", "PBE/def2-SVP", 20, bonds=0.004, angles=0.01),
        Distance("PBE/def2-SVP", "PBE0/def2-SVP", 30, bonds=0.001, angles=0.01),
        Distance("PBE/def2-SVP", "r2SCAN-3c", 9, bonds=0.001, angles=0.01),
    )
    monkeypatch.setattr(distances, "measured", lambda: rows)
    found = nearest_level("pbe/def2-svp", KNOWN)
    assert found.level == "M06-2X/def2-TZVP"
    assert found.why == "bonds 4.0 mÅ from those of pbe/def2-svp, measured on 20 molecules"


def test_the_table_that_is_installed_can_be_read():
    rows = distances.measured()
    assert json.loads(distances.TABLE.read_text())["units"]["bonds"] == "Å"
    assert all(0 < row.bonds < 0.05 and row.molecules > 0 for row in rows)
    assert nearest_level("bp86/def2-svpd", KNOWN).level == "BP86/def2-SVP"


def test_a_level_in_a_solvent_is_its_own_nearest_where_it_was_learned():
    known = ("B3LYP/def2-SVP", "B3LYP/def2-SVP in water")
    assert nearest_level("b3lyp/def2-svp in water", known) == Nearest(known[1], "")
    for wanted in ("b3lyp/def2-svp", "b3lyp/def2-svp in ethanol"):
        assert nearest_level(wanted, known) == Nearest(known[0], "")


def test_a_model_of_one_level_has_no_choice_to_explain():
    found = nearest_level("gfn2-xtb", ["B3LYP/6-31G(2df,p)"])
    assert found.told("m-1", "gfn2-xtb") == "m-1 aims at B3LYP/6-31G(2df,p)"
