"""Levels of theory as people write them."""

from __future__ import annotations

import pytest

from diffrelax.errors import InputError
from diffrelax.levels.level import Level


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("B3LYP-D3(BJ)/def2-TZVP", ("B3LYP", "D3(BJ)", "def2-TZVP", "")),
        ("b3lyp-gd3bj/def2tzvp", ("B3LYP", "D3(BJ)", "def2-TZVP", "")),
        ("B3LYP D3BJ def2-TZVP def2/J RIJCOSX", ("B3LYP", "D3(BJ)", "def2-TZVP", "")),
        ("! PBE0 D4 def2-SVP CPCM(water)", ("PBE0", "D4", "def2-SVP", "water")),
        (
            "# PBEPBE/6-31G(d) EmpiricalDispersion=GD3BJ SCRF=(SMD,solvent=water)",
            ("PBE", "D3(BJ)", "6-31G*", "water"),
        ),
        ("RB3LYP/6-31g(d,p)", ("B3LYP", "", "6-31G**", "")),
        ("uB3LYP/631g*", ("B3LYP", "", "6-31G*", "")),
        ("ROM062X/def2TZVP", ("M06-2X", "", "def2-TZVP", "")),
        ("RPBE/pcseg1", ("RPBE", "", "pcseg-1", "")),
        ("RI-BP86/def2-SVP", ("BP86", "", "def2-SVP", "")),
        ("ωB97X-D / 6-31G*", ("wB97X", "D", "6-31G*", "")),
        ("wB97M-V/aug-cc-pvtz", ("wB97M", "V", "aug-cc-pVTZ", "")),
        ("B97-D3/ma-def2-TZVP", ("B97-D", "D3", "ma-def2-TZVP", "")),
        ("B3LYP/G/def2-SVP", ("B3LYP/G", "", "def2-SVP", "")),
        ("r2scan3c in DMSO", ("r2SCAN-3c", "", "", "DMSO")),
        ("r2SCAN-3c/def2-mTZVPP", ("r2SCAN-3c", "", "", "")),
        ("gfn2-xtb", ("GFN2-xTB", "", "", "")),
        ("0.5*hf + 0.5*b88, lyp/def2-svp", ("0.5*hf + 0.5*b88, lyp", "", "def2-SVP", "")),
    ],
)
def test_a_level_is_read_as_people_write_it(text: str, parts: tuple[str, ...]) -> None:
    level = Level.parse(text)
    assert level == Level(*parts)
    assert Level.parse(str(level)) == level


@pytest.mark.parametrize(
    ("text", "xc"),
    [
        ("B3LYP-D3(0)", "b3lyp-d3zero"),
        ("M062X-D3(0)", "m06-2x-d3zero"),
        ("wb97xd3bj", "wb97xd3bj"),
        ("wB97X-D3BJ", "wb97x-d3bj"),
        ("B97-D", "b97-d"),
        ("b97d3bj", "b97-d3bj"),
        ("B3LYP/G", "b3lyp"),
        ("lda,vwn", "lda,vwn"),
    ],
)
def test_a_functional_is_named_as_pyscf_has_it(text: str, xc: str) -> None:
    assert Level.parse(text, strict=False).xc == xc


def test_a_method_with_its_own_basis_set_takes_no_other() -> None:
    for text in ("GFN2-xTB/def2-SVP", "r2SCAN-3c/def2-SVP"):
        with pytest.raises(InputError, match="includes its basis set: leave out def2-SVP"):
            Level.parse(text)
