"""``diffrelax dft --calculator``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")


@needs_xtb
def test_a_crash_of_the_program_costs_its_molecule_only(run, tmp_path: Path) -> None:
    program = tmp_path / "my-xtb"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"--chrg 1"*) exit 139;; esac\nexec {shutil.which("xtb")} "$@"\n'
    )
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
    assert (good["level"], good["scf_cycles"], good["density_fit"]) == ("gfn2-xtb", None, None)
    assert [arm["start"] for arm in good["arms"]] == ["diffusion", "mmff94"]
    again, _, told = run(*arguments, "--compare", "mmff94")
    assert again == 1 and "nothing is left to do" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "program: orca\ncommand: no-such-orca\nmethod: HF\n",
            "'no-such-orca' of orca is not there",
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
    status, _, err = run("dft", "CCO", "--calculator", str(profile), "--xc", "pbe")
    assert status == 2 and "xc is said by the profile of the program" in err
