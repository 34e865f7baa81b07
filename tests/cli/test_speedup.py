"""The command ``diffrelax speedup``: its report, what goes wrong in it, and how it goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from kept import kinds
from read_page import ReadPage

from diffrelax.benchmark.speedup import units as speedup_units
from diffrelax.benchmark.speedup.units import dft_unit
from diffrelax.levels.density_functional import mean_field
from diffrelax.molecule import Molecule
from diffrelax.store import Store

LEVEL = ("--xc", "pbe", "--basis", "sto-3g", "--threads", "1")
QUICK = ("--start", "mmff94", "--start", "diffusion", "--recipe", "bfgs+hessian", *LEVEL)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the DFT relaxations that are calculated."""
    keys: list[str] = []

    def count(*arguments: Any, key: str, **settings: Any) -> dict[str, Any]:
        keys.append(key)
        return dft_unit(*arguments, key=key, **settings)

    monkeypatch.setattr(speedup_units, "dft_unit", count)
    return keys


def test_the_report_tells_costs_and_speedups_and_how_it_was_made(
    run: Run, counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "report"
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BufferedReader(BytesIO(b"O\n"))))
    status, out, err = run("speedup", "-", "-o", folder, *QUICK)
    assert status == 0
    assert "| mmff94 | bfgs+hessian | 1 | 1 |" in out
    assert "| mmff94, bfgs+hessian | diffusion, bfgs+hessian | 1 | 1 | 0 | 0 |" in out
    assert f"report in {folder}" in err
    page = (folder / "report.md").read_text()
    assert out.strip() in page
    assert "PBE/STO-3G, largest force at the end < 0.03 eV/Å" in page
    about = json.loads((folder / "about.json").read_text())
    assert about["command"].startswith("diffrelax speedup - -o")
    assert about["level"]["basis"] == "sto-3g"
    assert len(about["model_sha256"]) == 64 and about["packages"]["pyscf"]
    with (folder / "molecules.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["start"] for row in rows] == ["mmff94", "diffusion"]
    assert all(int(row["calls"]) > 1 and float(row["excess_ev"]) > 0 for row in rows)
    assert all(len(json.loads(row["energies_ev"])) == int(row["calls"]) for row in rows)
    assert (folder / "arms.csv").read_text().startswith("start,recipe,molecules,minima")
    assert (folder / "speedup.png").read_bytes().startswith(b"\x89PNG")
    page = ReadPage(folder / "report.html")
    assert page.tags["img"] == 1 and "diffrelax speedup - -o" in page.text
    found = [row for row in page.rows if row[:1] == ["O"]]
    assert [row[2] for row in found] == [row["calls"] for row in rows]
    (view,) = page.views
    shown = [frame["label"] for frame in view["frames"]]
    assert shown == ["start mmff94", "start diffusion", "minimum 0"]
    assert [json.loads(a["data-frames"]) for a in page.attributes if "data-frames" in a] == [
        ["start mmff94", "minimum 0"], ["start diffusion", "minimum 0"],
    ]  # fmt: skip
    assert view["lines"] == [
        f"{row['start']}, bfgs+hessian: {row['calls']} calls, minimum 0" for row in rows
    ]
    in_words = [line[2:-2].split(" | ") for line in out.splitlines() if line.startswith("| ")]
    numbers = [row for row in in_words if row[0].startswith(("mmff94", "diffusion"))]
    on_page = [[cell.replace("\u00a0", " ") for cell in row] for row in page.rows]
    assert len(numbers) == 2 + 2 + 1 and all(row in on_page for row in numbers)
    assert len(counted) == 3  # two arms and a reference

    status, out, _ = run("speedup", "O", "-o", folder, *QUICK, "--json")
    assert (status, len(counted)) == (0, 3)
    assert [json.loads(line)["start"] for line in out.splitlines()] == ["mmff94", "diffusion"]


def test_each_failure_is_in_the_report_with_its_reason(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ammonia_fails(molecule: Molecule, **settings: Any) -> Any:
        method = mean_field(molecule, **settings)
        method.max_cycle = 1 if molecule.formula == "H3N" else 50
        return method

    monkeypatch.setattr("diffrelax.levels.density_functional.mean_field", ammonia_fails)
    apart = tmp_path / "apart.xyz"
    apart.write_text("2\n\nH 0 0 0\nH 0 0 1.2\n")
    starts = ("--start", "uff", "--start", "diffusion", "--start", "given")
    level = ("--xc", "pbe", "--basis", "6-31g", "--threads", "1", "--recipe", "bfgs+hessian")
    inputs = ("O", "N", "Cl", "I", "C(", apart, "O again")
    status, out, _ = run("speedup", *inputs, "-o", tmp_path / "report", *starts, *level, "--json")
    assert status == 1
    rows = [json.loads(line) for line in out.splitlines()]
    found = {(row["name"], row["start"]): row["reason"] for row in rows}
    assert found["O", "uff"] == found["O", "diffusion"] == found["Cl", "uff"] == ""
    assert found["again", "uff"] == "the same molecule as O"
    assert found["O", "given"] == "there is no start given"
    assert "gradient call 1 failed: the SCF did not converge" in found["N", "uff"]
    assert "trained on molecules with C, N or O" in found["Cl", "diffusion"]
    assert "does not cover HI" in found["I", "uff"]
    assert "'C(' is not a SMILES" in found["C(", "uff"]
    assert found["apart", "given"].startswith("identity lost: bond H1–H2 formed")
    page = (tmp_path / "report" / "report.md").read_text()
    failures = page.split("## Without a minimum")[1].split("##")[0]
    assert all(reason in failures for reason in found.values())
    arms = csv.DictReader((tmp_path / "report" / "arms.csv").read_text().splitlines())
    assert {row["molecules"] for row in arms} == {"6"}
    assert "N (uff, bfgs+hessian; diffusion, bfgs+hessian)" in failures


def test_interrupted_command_goes_on(
    run: Run, counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("O", "N", "-o", tmp_path, *QUICK)
    with monkeypatch.context() as patch:

        def interrupt(*arguments: Any, **settings: Any) -> dict[str, Any]:
            if len(counted) == 4:
                raise KeyboardInterrupt
            counted.append(settings["key"])
            return dft_unit(*arguments, **settings)

        patch.setattr(speedup_units, "dft_unit", interrupt)
        status, out, err = run("speedup", *command)
    assert status == 130
    assert "interrupted: 1 of 2 molecules are done; rerun the command to resume" in err
    assert "| mmff94 | bfgs+hessian | 1 | 1 |" in out
    status, out, _ = run("speedup", *command)
    assert status == 0
    assert "| mmff94 | bfgs+hessian | 2 | 2 |" in out
    assert len(counted) == len(set(counted)) == 6


def test_command_interrupted_in_its_first_molecule_has_no_report_yet(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speedup_units, "dft_unit", interrupt)
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK)
    assert status == 130
    assert "interrupted: 0 of 1 molecules are done; rerun the command to resume" in err
    assert not list(tmp_path.glob("*.*"))


@pytest.mark.slow
def test_killed_command_goes_on_and_nothing_is_lost_or_done_twice(
    run: Run, counted: list[str], tmp_path: Path
) -> None:
    command = ("O", "N", "-o", str(tmp_path), *QUICK)
    program = "from diffrelax.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, "speedup", *command])
    units = tmp_path / "units"
    while True:
        if kinds(units)["unit"] >= 3:
            break
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = dict(Store.in_folder(units).each())
    assert run("speedup", *command)[0] == 0
    assert kept.items() <= dict(Store.in_folder(units).each()).items()
    assert not set(kept) & set(counted)
    assert 0 < len(counted) == len(set(counted))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--start", "am1"), "unknown start 'am1'"),
        (("--recipe", "newton"), "unknown recipe 'newton'"),
        (("--xc", "b4lyp"), "unknown functional"),
        (("--model", "none-1"), "there is no model"),
        (("--fmax", "-1"), "fmax"),
    ],
)
def test_bad_usage_ends_with_status_2_before_any_work(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = run("speedup", "O", "-o", tmp_path / "report", *arguments)
    assert status == 2
    assert message in err
    assert not (tmp_path / "report").exists()


def test_a_report_of_other_settings_is_not_replaced(run: Run, tmp_path: Path) -> None:
    about = tmp_path / "about.json"
    about.write_text(json.dumps({"level": {"xc": "pbe", "basis": "sto-3g", "fmax": 0.02}}))
    kept = about.read_text()
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK)
    assert status == 2
    assert f"{tmp_path} has a report with fmax 0.02, not 0.03, which would be replaced" in err
    assert about.read_text() == kept and list(tmp_path.iterdir()) == [about]


def test_a_report_of_another_model_is_not_replaced(run: Run, tmp_path: Path) -> None:
    about = tmp_path / "about.json"
    level = {"xc": "pbe", "basis": "sto-3g"}
    about.write_text(json.dumps({"level": level, "model_sha256": "0123", "seed": 42}))
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK, "--start", "diffusion")
    assert status == 2 and "has a report with model-sha256 0123, not" in err
    settings = tmp_path / "settings.yaml"
    settings.write_text("seed: 7")
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK, "--settings", settings)
    assert status == 2 and "seed 42, not 7" in err


def test_the_model_joins_a_report_and_leaves_it(run: Run, tmp_path: Path) -> None:
    for starts in (["mmff94"], ["mmff94", "diffusion"], ["mmff94"]):
        chosen = [option for start in starts for option in ("--start", start)]
        status, _, err = run("speedup", "O", "-o", tmp_path, *chosen, "--recipe", "bfgs", *LEVEL)
        assert status == 0, err
        with (tmp_path / "molecules.csv").open() as file:
            assert [row["start"] for row in csv.DictReader(file)] == starts


def test_a_report_of_verified_minima_is_not_replaced_by_predicted_ones(
    run: Run, tmp_path: Path
) -> None:
    about = tmp_path / "about.json"
    about.write_text(json.dumps({"level": {"xc": "pbe", "basis": "sto-3g"}}))
    settings = tmp_path / "settings.yaml"
    settings.write_text("one_call: true")
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK, "--settings", settings)
    assert status == 2
    assert "has a report with one-call False, not True, which would be replaced" in err


@pytest.mark.parametrize("content", ["[]", "{}", '{"level": "pbe"}', "no JSON"])
def test_an_about_json_of_other_software_is_not_replaced(
    run: Run, tmp_path: Path, content: str
) -> None:
    about = tmp_path / "about.json"
    about.write_text(content)
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK)
    assert status == 2
    assert (
        f"{about} does not belong to a report and would be replaced: choose another folder"
    ) in err
    assert about.read_text() == content and list(tmp_path.iterdir()) == [about]


def test_what_a_comparison_costs_is_told_before_it_begins(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speedup_units, "dft_unit", stop)
    few = ("speedup", "O", "CO", "no molecule", "-o", tmp_path, *QUICK)
    _, _, err = run(*few)
    assert "2 molecules in 2 arms: 4 DFT relaxations, plus tighter ones" in err
    assert "about 1 min of processor time" in err
    _, _, err = run(*few, "--basis", "def2-qzvp", "--recipe", "bfgs", "C" * 12)
    assert "3 molecules in 4 arms: 12 DFT relaxations" in err
    assert re.search(r"about \d+ hours of processor time", err)


def test_a_report_replaces_no_input_and_no_other_files(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "molecules.csv"
    path.write_text("smiles\nO\n")
    status, _, err = run("speedup", path, "-o", tmp_path, *QUICK)
    assert status == 2 and "is an input: choose another output" in err
    status, _, err = run("speedup", "O", "-o", tmp_path, *QUICK)
    assert status == 2 and f"{path} does not belong to a report and would be replaced" in err
    assert path.read_text() == "smiles\nO\n"
