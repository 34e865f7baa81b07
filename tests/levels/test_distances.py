import json
import re

import pytest

from diffrelax.errors import InputError
from diffrelax.levels import distances
from diffrelax.levels.distances import Distance, nearest_level
from diffrelax.levels.level import Level

KNOWN = (
    "wB97M-D3/def2-TZVPP", "B3LYP/6-31G(2df,p)", "M06-2X/def2-TZVP", "r2SCAN-3c", "B3LYP/def2-SVP",
    "BP86/def2-SVP", "GFN2-xTB",
)  # fmt: skip


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.setattr(distances, "measured", tuple)


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        ("b3lyp/6-31g(2DF,p)", "B3LYP/6-31G(2df,p)"),
        ("ωB97M-D3 / def2-TZVPP", "wB97M-D3/def2-TZVPP"),
        ("aimnet2", "wB97M-D3/def2-TZVPP"),
        ("gfn2-xtb", "GFN2-xTB"),
        ("m062x/def2-tzvp", "M06-2X/def2-TZVP"),
        ("M06-2X/Def2TZVP", "M06-2X/def2-TZVP"),
        ("M06-2X def2-TZVP", "M06-2X/def2-TZVP"),
        ("b3lyp/6-31g2dfp", "B3LYP/6-31G(2df,p)"),
        ("r2SCAN-3c/def2-mTZVPP", "r2SCAN-3c"),
    ],
)
def test_a_level_that_is_known_is_its_own_nearest(asked, level):
    assert nearest_level(asked, KNOWN)[1:] == (level, (), "")


@pytest.mark.parametrize(
    ("asked", "level", "differences"),
    [
        ("b3lyp-d3(bj)/def2-svp", "B3LYP/def2-SVP", ["dispersion (D3(BJ), none)"]),
        ("B3LYP-GD3BJ/def2-SVP", "B3LYP/def2-SVP", ["dispersion (D3(BJ), none)"]),
        ("b3lyp-d3/def2-svp", "B3LYP/def2-SVP", ["dispersion (D3, none)"]),
        ("m06-2x-d3/def2-TZVP", "M06-2X/def2-TZVP", ["dispersion (D3, none)"]),
        ("bp86-d4/def2-svp", "BP86/def2-SVP", ["dispersion (D4, none)"]),
        (
            "b3lyp-d3bj/def2-tzvp",
            "B3LYP/6-31G(2df,p)",
            ["dispersion (D3(BJ), none)", "basis set (def2-TZVP, 6-31G(2df,p))"],
        ),
        ("b3lyp/6-31g*", "B3LYP/def2-SVP", ["basis set (6-31G*, def2-SVP)"]),
        ("r2scan-d4/def2-tzvp", "r2SCAN-3c", ["basis set (def2-TZVP, def2-mTZVPP)"]),
        ("PBEPBE/def2SVP", "BP86/def2-SVP", ["functional (PBE, BP86)"]),
        ("pbe0/def2-svp", "B3LYP/def2-SVP", ["functional (PBE0, B3LYP)"]),
        ("hse06/def2-svp", "B3LYP/def2-SVP", ["functional (HSE06, B3LYP)"]),
        ("pw6b95/def2-tzvp", "B3LYP/6-31G(2df,p)", ["functional (PW6B95, B3LYP)", "basis set"]),
        ("hf/6-31g*", "wB97M-D3/def2-TZVPP", ["method (HF, wB97M)", "dispersion", "basis set"]),
        ("b97-3c", "r2SCAN-3c", ["functional (B97-D, r2SCAN)", "dispersion", "basis set"]),
        (
            "B97-D3(BJ)/def2-TZVP",
            "r2SCAN-3c",
            ["functional (B97-D, r2SCAN)", "dispersion", "basis"],
        ),
        ("wb97x-3c", "wB97M-D3/def2-TZVPP", ["functional", "dispersion (D4, D3)", "basis set"]),
        ("wb97x-d3bj/def2-tzvpp", "wB97M-D3/def2-TZVPP", ["functional (wB97X, wB97M)"]),
        ("wB97X-D/6-31G*", "wB97M-D3/def2-TZVPP", ["functional", "dispersion (D, D3)", "basis"]),
        ("lc-wpbe/def2-tzvpp", "wB97M-D3/def2-TZVPP", ["functional (LC-wPBE, wB97M)", "disp"]),
        ("m062x/6-311+g(d,p)", "M06-2X/def2-TZVP", ["basis set (6-311+G**, def2-TZVP)"]),
        ("pbe/6-31G(3df,3pd)", "r2SCAN-3c", ["functional (PBE, r2SCAN)", "dispersion", "basis"]),
        ("b3lyp-d4/def2-svp in DMSO", "B3LYP/def2-SVP", ["dispersion", "solvent (DMSO, none)"]),
    ],
)
def test_what_was_not_measured_goes_by_rule_and_what_differs_is_named(
    unmeasured, asked, level, differences
):
    found = nearest_level(asked, KNOWN)
    assert found.level == level and found.why == "the nearest by rule (not measured)"
    assert len(found.differences) == len(differences)
    assert all(map(str.startswith, found.differences, differences))
    described = found.described("m-1")
    assert described.startswith(f"m-1 has not learned {Level.parse(asked)}: it relaxes to minima")
    assert all(one in described for one in found.differences)


@pytest.mark.parametrize("asked", ["mmff94", "gfn-ff", "CCSD(T)/cc-pVTZ"])
def test_of_what_has_neither_functional_nor_measurement_nothing_is_said(unmeasured, asked):
    found = nearest_level(asked, KNOWN)
    assert found.level == KNOWN[0] and found.why.startswith(
        "its own level, because their difference is unknown"
    )
    assert found.differences[0].startswith("method")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no level of theory in ''"),
        ("  /  ", "no level of theory in '  /  '"),
        ("b3lpy/def2-svp", "unknown method 'b3lpy': did you mean B3LYP?"),
        ("b3lyp/def2-spv", "unknown basis set 'def2-spv': did you mean def2-SVP"),
        ("gfn2", "did you mean GFN2-xTB?"),
        ("xtb", "did you mean GFN2-xTB?"),
        ("GFN1-xTB", "did you mean GFN2-xTB?"),
        ("b3lyp", "B3LYP needs a basis set"),
    ],
)
def test_no_level_is_nearest_to_a_mistake(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        nearest_level(text, KNOWN)


def test_a_level_that_was_learned_may_have_any_name():
    assert nearest_level("my lab's method", [*KNOWN, "My lab's method"]).level == "My lab's method"


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
    assert found.why == "the nearest (bonds differ by 4.0 mÅ, measured on 20 molecules)"


def test_the_table_that_is_installed_can_be_read():
    rows = distances.measured()
    assert json.loads(distances.TABLE.read_text())["units"]["bonds"] == "Å"
    assert all(0 < row.bonds < 0.05 and row.molecules > 0 for row in rows)
    assert nearest_level("bp86/def2-svpd", KNOWN).level == "BP86/def2-SVP"


def test_a_level_in_a_solvent_is_its_own_nearest_where_it_was_learned():
    known = ("B3LYP/def2-SVP", "B3LYP/def2-SVP in water")
    for asked, level in [("b3lyp/def2-svp in water", known[1]), ("b3lyp/def2-svp", known[0])]:
        assert nearest_level(asked, known)[1:] == (level, (), "")
    found = nearest_level("b3lyp/def2-svp in ethanol", known)
    assert found.level == known[0] and found.differences == ("solvent (ethanol, none)",)


def test_a_model_of_one_level_names_what_differs_too():
    known = ["B3LYP/6-31G(2df,p)"]
    assert nearest_level("gfn2-xtb", known).described("m-1") == (
        "m-1 has not learned GFN2-xTB: it relaxes to minima of B3LYP/6-31G(2df,p), its "
        "only level; they differ in method (GFN2-xTB, B3LYP)"
    )
    assert nearest_level("b3lyp/6-31g2dfp", known).described("m-1") == (
        "m-1 relaxes to minima of B3LYP/6-31G(2df,p)"
    )
