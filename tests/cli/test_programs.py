"""``diffrelax dft --calculator`` and ``diffrelax speedup --calculator``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from diffrelax.files.reading import read_molecules

needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")


@needs_xtb
def test_a_crash_of_the_program_costs_its_molecule_only(run, tmp_path: Path) -> None:
    program = tmp_path / "my-xtb"
    whole = f'exec {shutil.which("xtb")} "$@"\n'
    program.write_text(f'#!/bin/sh\ncase "$*" in *"--chrg 1"*) exit 139;; esac\n{whole}')
    program.chmod(0o755)
    profile = tmp_path / "xtb.yaml"
    profile.write_text(f"program: xtb\ncommand: {program}\nmethod: gfn2-xtb\n")
    output = tmp_path / "ends.extxyz"
    arguments = ["dft", "C[NH3+]", "CO", "--calculator", str(profile), "-o", str(output)]
    status, out, err = run(*arguments, "--compare", "mmff94", "--json")
    assert status == 1, err
    bad, good = (json.loads(line) for line in out.splitlines())
    assert not bad["converged"]
    assert "gradient call 1 failed: xtb failed: it ended with status 139" in bad["reason"]
    assert good["converged"] and good["gradient_calls"] >= 1
    assert (good["level"], good["scf_cycles"]) == ("GFN2-xTB by xtb", None)
    assert good["density_fit"] is None
    assert [arm["start"] for arm in good["arms"]] == ["diffusion", "mmff94"]
    assert "1 failed; rerun the command to try again" in err
    assert [one.name for one in read_molecules(output)] == ["CO"]
    program.write_text(f"#!/bin/sh\n{whole}")
    again, out, told = run(*arguments, "--compare", "mmff94", "--json")
    (mended,) = (json.loads(line) for line in out.splitlines())
    assert again == 0 and mended["name"] == "C[NH3+]" and mended["converged"], told
    assert "1 molecule done before" in told
    assert [one.name for one in read_molecules(output)] == ["CO", "C[NH3+]"]
    again, _, told = run(*arguments, "--compare", "mmff94")
    assert again == 0 and "all inputs are done" in told


@needs_xtb
def test_starts_are_compared_with_the_program_as_the_level(run, tmp_path: Path) -> None:
    profile = tmp_path / "xtb.yaml"
    profile.write_text("program: xtb\nmethod: gfn2-xtb\nkeywords: [--acc 0.5]\n")
    arms = ("--start", "mmff94", "--start", "diffusion", "--recipe", "tric+hessian")
    command = ("speedup", "CO", "-o", tmp_path / "report", "--calculator", profile, *arms)
    status, out, err = run(*command)
    assert status == 0, err
    assert "2 DFT relaxations, plus tighter ones" in err and "processor time" not in err
    compared = next(line for line in out.splitlines() if line.startswith("| mmff94, tric+hessian"))
    calls, _, _, *cycles, timed = compared.split(" | ")[6:12]
    assert float(calls) >= 1 and cycles == ["–", "–"] and timed == "1"
    page = (tmp_path / "report" / "report.md").read_text()
    assert "GFN2-xTB by xtb, largest force at the end < 0.03 eV/Å" in page
    units = {path: path.read_bytes() for path in (tmp_path / "report" / "units").glob("*.json")}
    assert run(*command)[0] == 0
    again = {path: path.read_bytes() for path in (tmp_path / "report" / "units").glob("*.json")}
    assert again == units

    profile.write_text("program: xtb\nmethod: gfn2-xtb\n")
    status, _, err = run(*command)
    assert status == 2 and "which would be replaced: choose another folder" in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "program: orca\ncommand: no-such-orca\nmethod: HF\n",
            "'no-such-orca' for orca was not found",
        ),
        ("program: orca\n", "is not a profile of a program: method: Field required"),
        ("- orca\n", "write entries such as program: orca"),
    ],
)
def test_a_wrong_profile_ends_the_command(run, tmp_path: Path, text: str, told: str) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text(text)
    status, _, err = run("dft", "CCO", "--calculator", str(profile))
    assert status == 2 and told in err


def test_a_level_of_pyscf_beside_a_profile_is_refused(run, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("program: orca\nmethod: HF\n")
    for option in (("--xc", "pbe"), ("--xc", "b3lyp")):
        status, _, err = run("dft", "CCO", "--calculator", str(profile), *option)
        assert status == 2 and f"{option[0]} is set in the profile" in err
