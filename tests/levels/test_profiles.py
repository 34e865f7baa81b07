from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from diffrelax.dft import DFTSettings
from diffrelax.levels.level import Level
from diffrelax.levels.profiles import Profile, read_profile

ORCA: dict[str, Any] = {"program": "orca", "method": "PBE0", "basis": "def2-SVP"}


def test_a_profile_is_read(tmp_path: Path) -> None:
    path = tmp_path / "orca.yaml"
    path.write_text(
        "program: orca\ncommand: \"'/opt/my orca/orca'\"\nmethod: r2SCAN-3c\nsolvent: water\n"
        "keywords:\n- '! TightSCF'\n- '%pal nprocs 4 end'\n"
    )
    profile = read_profile(path)
    assert profile == Profile(
        program="orca",
        command="'/opt/my orca/orca'",
        method="r2SCAN-3c",
        solvent="water",
        keywords=("! TightSCF", "%pal nprocs 4 end"),
    )
    assert profile.words == ["/opt/my orca/orca"]


def test_nothing_in_a_profile_runs_python(tmp_path: Path) -> None:
    path, made = tmp_path / "orca.yaml", tmp_path / "made"
    path.write_text(f"program: !!python/object/apply:os.mkdir ['{made}']\nmethod: PBE\n")
    with pytest.raises(ValueError, match="not a profile of a program: it is not YAML"):
        read_profile(path)
    assert not made.exists()


def test_brackets_without_end_are_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "orca.yaml"
    path.write_text("program: " + 5000 * "[")
    with pytest.raises(ValueError, match="not a profile of a program: it is not YAML"):
        read_profile(path)


def test_a_repeated_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "orca.yaml"
    path.write_text("program: orca\nmethod: HF\nmethod: PBE\n")
    with pytest.raises(ValueError, match="the key 'method' is in line 2 and again in line 3"):
        read_profile(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"program": "vasp"}, "program: Input should be 'orca'"),
        ({"functional": "PBE"}, "functional: Extra inputs"),
        ({"method": "PBE\n%run"}, "method: .*give one line"),
        ({"method": ""}, "method: "),
        ({"command": "'orca"}, "command: .*No closing quotation"),
        ({"command": "./orca/orca -q"}, "./orca/orca: give the full path of the program"),
        ({"command": "~/orca/orca"}, "~/orca/orca: give the full path of the program"),
        ({"keywords": ["! Opt"]}, "Opt is set for each molecule"),
        ({"keywords": ["! TightSCF TightOpt"]}, "TightOpt is set for each molecule"),
        ({"keywords": ["! OptTS"]}, "OptTS is set for each molecule"),
        ({"method": "B3LYP L-Opt"}, "L-Opt is set for each molecule"),
        ({"basis": "def2-SVP COpt"}, "COpt is set for each molecule"),
        ({"keywords": ["charge 1"]}, "charge is set for each molecule"),
        ({"program": "nwchem", "basis": ""}, "nwchem needs a basis"),
        ({"program": "gaussian", "method": "r2SCAN-3c", "basis": ""}, "gaussian has no r2SCAN-3c"),
        ({"program": "qchem", "solvent": "water"}, "qchem does not support solvent"),
        ({"program": "qchem", "keywords": ["SYM_IGNORE"]}, "a name and a value"),
        (
            {"program": "gaussian", "keywords": ["%subst l502 /tmp"]},
            "is not supported: use one of mem",
        ),
        ({"program": "gaussian", "method": "B3LYP-D4"}, "gaussian has no dispersion correction d4"),
        ({"program": "psi4", "command": "psi4"}, "psi4 is a Python module"),
        ({"program": "xtb"}, "xtb supports the methods gfn-ff, gfn2-xtb"),
    ],
)
def test_a_wrong_profile_is_told_of(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(ORCA | change))
    with pytest.raises(ValueError, match=f"(?s)mine.yaml is not a profile of a program: .*{told}"):
        read_profile(path)


def test_keywords_that_only_look_like_an_optimisation_are_taken() -> None:
    lines = ('%moinp "guess_opt.gbw"', "! TightSCF")
    assert Profile(program="orca", method="optpbe", keywords=lines).keywords == lines


@pytest.mark.parametrize(
    "line",
    ["--opt tight", "--acc 0.1 -o", "-opt", "-c 1", "--chrg 1", "-u 2", "--uhf 2", "--gfn 1",
     "--gfn1", "--gfnff", "--ohess", "--md", "--grad", "--alpb water", "-g acetone", "--cosmo dmf"],
)  # fmt: skip
def test_options_of_xtb_that_a_relaxation_sets_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is set for each molecule: leave"):
        Profile(program="xtb", method="gfn2-xtb", keywords=(line,))


def test_options_of_xtb_that_belong_to_the_level_are_taken() -> None:
    lines = ("--acc 0.1", "--etemp 500", "-P 1", "--iterations 500")
    assert Profile(program="xtb", method="gfn2-xtb", keywords=lines).keywords == lines


def test_keys_of_relaxations_by_pyscf_stay_what_they_were() -> None:
    assert DFTSettings().model_dump() == {
        "xc": "b3lyp",
        "basis": "6-31G(2df,p)",
        "fmax": 0.03,
        "optimizer": "tric",
        "hessian": "gfn2-xtb",
        "density_fit": True,
        "grid_level": 3,
        "max_steps": 200,
        "check_minimum": "none",
    }


def test_the_level_is_that_of_the_profile() -> None:
    settings = DFTSettings(calculator=ORCA | {"solvent": "CH2Cl2"}, fmax=0.01)
    assert str(settings.level) == "PBE0/def2-SVP in ch2cl2"
    assert settings.hessian_solvent == ""  # PySCF has no dielectric constant of that name
    assert DFTSettings(calculator=ORCA | {"solvent": "Water"}).hessian_solvent == "water"
    written = settings.model_dump(mode="json")
    assert DFTSettings(**written) == settings
    dispersed = DFTSettings(calculator=ORCA | {"method": "ωB97X-D3(BJ)"})
    assert dispersed.xc == "wb97x-d3bj"
    assert DFTSettings(**dispersed.model_dump(mode="json")) == dispersed
    assert not {"grid_level", "density_fit"} & set(written)
    assert DFTSettings(calculator={"program": "orca", "method": "B97-3c"}).level == Level("B97-3c")


@pytest.mark.parametrize("own", [{"xc": "pbe"}, {"basis": "sto-3g"}, {"grid_level": 5}])
def test_a_level_beside_that_of_the_profile_is_refused(own: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(own))}` is set in the profile"):
        DFTSettings(calculator=ORCA, **own)
