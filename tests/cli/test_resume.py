"""Commands that keep what is done: the same command goes on, whatever ended it."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import pytest
from kept import kinds

from diffrelax import relaxation
from diffrelax.benchmark.speedup import units
from diffrelax.cli.inputs import read_parts
from diffrelax.files.reading import read_molecules
from diffrelax.files.writing import write_molecules
from diffrelax.levels import batch
from diffrelax.models import batches
from diffrelax.molecule import Molecule
from diffrelax.results.beside import units_beside

PROGRAM = Path(sys.executable).with_name("diffrelax")
IN_PARTS = (
    "import sys; import diffrelax.cli.relax as relax; relax.PART = int(sys.argv.pop(1))\n"
    "from diffrelax.cli import main; main()"
)
CHEAP = ("--basis", "sto-3g", "--xc", "pbe")


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "in.smi"
    path.write_text("CCO a\nC1C b\nC c\nC[Se]C d\nCC e\n")
    return path


def test_the_same_command_goes_on_where_it_was_interrupted(run, tmp_path, library, monkeypatch):
    def interrupt(molecules, *arguments, **options):
        if any(molecule.name == "e" for molecule in molecules):
            raise KeyboardInterrupt
        return whole(molecules, *arguments, **options)

    whole = relaxation.relax_molecules
    monkeypatch.setattr("diffrelax.cli.relax.PART", 2)
    output, straight = tmp_path / "out.extxyz", tmp_path / "straight.extxyz"
    run("relax", library, "-o", straight)
    monkeypatch.setattr(relaxation, "relax_molecules", interrupt)
    status, out, err = run("relax", library, "-o", output)
    assert status == 130 and len(out.splitlines()) == 4
    assert "interrupted: 4 of 5 molecules are done" in err and "rerun the command to resume" in err
    monkeypatch.setattr(relaxation, "relax_molecules", whole)
    status, out, err = run("relax", library, "-o", output)
    assert status == 1 and out.startswith("e  relaxed") and out.count("\n") == 1
    assert "4 molecules done before, resuming" in err
    assert f"4 geometries in {output}; 1 without a geometry\n2 of 5 molecules failed, were" in err
    assert f"their reasons: diffrelax results list {output}" in err
    same = [re.sub(r" seconds=\S+", "", path.read_text()) for path in (output, straight)]
    assert same[0] == same[1]
    rows = map(json.loads, run("results", "list", output, "--json")[1].splitlines())
    verdicts = ("relaxed", "failed", "relaxed", "refused", "relaxed")
    assert [(r["name"], r["verdict"]) for r in rows] == [*zip("abcde", verdicts, strict=True)]
    lines = run("results", "list", output)[1].splitlines()
    assert lines[1].startswith("b  failed: ") and len(lines) == 5
    status, out, err = run("relax", library, "-o", output)
    assert (status, out) == (1, "") and "all inputs are done; use --overwrite to start again" in err


def test_other_settings_are_not_mixed_and_nothing_is_overwritten(run, tmp_path, library):
    output = tmp_path / "out.sdf"
    assert run("relax", library, "-o", output)[0] == 1
    made = output.read_bytes()
    status, out, err = run("relax", library, "-o", output, "--seed", 1)
    assert (status, out) == (2, "") and "made with seed 42, not 1: choose another file" in err
    status, _, err = run("relax", "CCO", "-o", output)
    assert status == 2 and "number 1 is now a different one" in err
    status, _, err = run("dft", library, "-o", output)
    assert status == 2 and "command relax, not dft" in err
    units_beside(output).unlink()
    status, _, err = run("relax", library, "-o", output)
    assert status == 2 and "exists: choose another file" in err
    assert output.read_bytes() == made
    assert run("relax", "CCO", "-o", output, "--overwrite")[0] == 0
    assert [one.name for one in read_molecules(output)] == ["CCO"]


def test_dft_goes_on_with_the_next_molecule(run, tmp_path, monkeypatch):
    def interrupt(molecule, *arguments, **options):
        if molecule.name == "methane":
            raise KeyboardInterrupt
        return relax_with(molecule, *arguments, **options)

    relax_with = units.relax_with
    monkeypatch.setattr(units, "relax_with", interrupt)
    output = tmp_path / "out.json"
    command = ("dft", "C( bad", "O water", "C methane", *CHEAP, "-o", output)
    status, _, err = run(*command)
    assert status == 130 and "interrupted: 2 of 3 molecules are done" in err
    assert [one["name"] for one in json.loads(output.read_text())] == ["water"]
    monkeypatch.setattr(units, "relax_with", relax_with)
    status, out, err = run(*command)
    assert status == 1 and out.startswith("methane  relaxed; DFT converged")
    assert "2 molecules done before" in err
    assert [one["name"] for one in json.loads(output.read_text())] == ["water", "methane"]
    status, _, err = run(*command, "--fmax", "0.1")
    assert status == 2 and "fmax 0.03, not 0.1" in err


def test_dft_goes_on_within_a_molecule(run, tmp_path, monkeypatch):
    def interrupt(*arguments, callback, **options):
        def after(call, *told):
            callback(call, *told)
            if call == 2:
                raise KeyboardInterrupt

        return relax_with(*arguments, callback=after, **options)

    def elsewhere(*arguments, **options):
        """Relax as another processor does, whose last digits are others."""
        (result,) = relax_molecules(*arguments, **options)
        moved = result.molecule.with_positions(result.molecule.positions + 5e-6, start="diffusion")
        return [replace(result, molecule=moved)]

    relax_with, relax_molecules = units.relax_with, relaxation.relax_molecules
    output = tmp_path / "out.extxyz"
    command = ("dft", "CO", *CHEAP, "-o", output)
    monkeypatch.setattr(units, "relax_with", interrupt)
    status, _, err = run(*command)
    assert status == 130 and "CO: finished work is kept\ninterrupted: 0 of 1" in err
    store = units_beside(output)
    assert kinds(store) == {"settings": 1, "unit": 1, "dft": 1}
    calls = []

    def count(*arguments, callback, **options):
        return relax_with(*arguments, callback=lambda call, *_: calls.append(call), **options)

    monkeypatch.setattr(units, "relax_with", count)
    monkeypatch.setattr(relaxation, "relax_molecules", elsewhere)
    assert run(*command)[0] == 0
    assert calls[0] == 3
    assert kinds(store) == {"settings": 1, "result": 1}


def test_a_killed_command_goes_on(tmp_path):
    path, output = tmp_path / "in.smi", tmp_path / "out.sdf.gz"
    smiles = ("CCO", "CC", "CO", "C1CC1", "CC=O", "O", "C#C") * 20
    path.write_text("".join(f"{one} m{i}\n" for i, one in enumerate(smiles)))
    command = [sys.executable, "-c", IN_PARTS, "5", "relax", path, "-o", output]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not output.exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "molecules done before, resuming" in done.stderr
    assert len(done.stdout.splitlines()) <= 135
    assert [one.name for one in read_molecules(output)] == [f"m{i}" for i in range(len(smiles))]


def test_results_are_there_before_the_end(tmp_path):
    output = tmp_path / "out.sdf"
    process = subprocess.Popen(
        [sys.executable, "-c", IN_PARTS, "1", "relax", "-", "-o", output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdin.write(b"CCO first\nCC second\nC third\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith(b"first  relaxed")
    assert "first" in output.read_text()
    process.stdin.close()
    rest = [line.split()[:2] for line in process.stdout.read().splitlines()]
    assert rest == [[b"second", b"relaxed"], [b"third", b"relaxed"]]
    assert process.wait() == 0
    process.stdout.close()


def test_molecules_from_standard_input(run, tmp_path, monkeypatch):
    lines = gzip.compress(b"CCO ethanol\n\nC( bad\nInChI=1S/CH4/h1H4\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(lines))))
    status, out, _ = run("relax", "-", "CC ethane", "-o", tmp_path / "out.sdf.gz")
    told = [line.split("  ")[:2] for line in out.splitlines()]
    assert told[1] == ["bad", told[1][1]] and told[1][1].startswith("failed")
    assert [one[0] for one in told] == ["ethanol", "bad", "InChI=1S/CH4/h1H4", "ethane"]
    assert status == 1 and len(read_molecules(tmp_path / "out.sdf.gz")) == 3
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"\n"))))
    status, out, _ = run("relax", "-")
    assert status == 1 and "standard input is empty" in out
    status, _, err = run("relax", "-", "-")
    assert status == 2 and "can be given only once" in err


@pytest.mark.parametrize("suffix", [".extxyz", ".sdf", ".pdb", ".json", ".xyz.gz"])
def test_no_name_costs_the_other_molecules(run, tmp_path, suffix):
    path = tmp_path / "in.smi"
    path.write_text("CCO _JSON {}1\nCC ethane\nC $$$$\nO = \"'[{\\\nCO \x1b[31m\n")
    status, _, err = run("relax", path, "-o", tmp_path / f"out{suffix}")
    assert status == 0 and "5 geometries in" in err


def test_properties_go_with_their_molecules(run, tmp_path):
    block = tmp_path / "in.sdf"
    infos = [{"assay": "a/b", "pIC50": 7.25, "energy": -1.0, "verdict": "refused", "cas": "007"}]
    write_molecules(block, [Molecule.from_smiles("CCO", name="m")] * 2, infos * 2)
    assert run("relax", block, "-o", tmp_path / "out.sdf")[0] == 0
    (tmp_path / "in.csv").write_text("smiles,id,pIC50,verdict\nCCO,m,7.25,refused\n")
    assert run("relax", tmp_path / "in.csv", "-o", tmp_path / "out.extxyz")[0] == 0
    frame = ase.io.read(tmp_path / "out.extxyz")
    assert (frame.info["name"], frame.info["pIC50"]) == ("m", 7.25)
    assert frame.info["verdict"] == "relaxed" and frame.calc is None
    text = (tmp_path / "out.sdf").read_text()
    assert len(read_molecules(tmp_path / "out.sdf")) == text.count("<pIC50>") == 2
    assert re.search(r"<assay>.*\na/b\n", text) and re.search(r"<cas>.*\n007\n", text)
    assert "<energy>" not in text and re.search(r"<input_energy>.*\n-1\.0\n", text)
    assert re.search(r"<input_verdict>.*\nrefused\n", text)


def test_inputs_that_gave_no_geometry_may_be_others_the_next_time(run, tmp_path):
    path, output = tmp_path / "in.smi", tmp_path / "out.sdf"
    path.write_text("C1CC a\nnone b\n")
    status, _, err = run("relax", path, "-o", output)
    assert status == 1 and f"{output} was not written" in err
    path.write_text("C1CC a\nC b\nCC c\n")
    status, out, err = run("relax", path, "-o", output)
    assert status == 1 and f"2 geometries in {output}; 1 without" in err
    assert [line.split()[0] for line in out.splitlines()] == ["b", "c"]
    status, _, err = run("relax", path, "-o", output)
    assert status == 1 and "all inputs are done" in err and "1 of 3 molecules failed" in err
    path.write_text("CO a\nC b\nCC c\n")
    for _ in range(2):
        assert run("relax", path, "-o", output)[0] == 0
    path.write_text("CO a\n")
    assert "number 2 is now missing" in run("relax", path, "-o", output)[2]


def test_a_file_that_was_missing_is_read_the_next_time(run, tmp_path):
    late, output = tmp_path / "late.smi", tmp_path / "out.sdf"
    assert run("relax", "CCO", late, "-o", output)[0] == 1
    late.write_text("CO a\nC b\n")
    status, out, _ = run("relax", "CCO", late, "-o", output)
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == ["a", "b"]
    assert [one.name for one in read_molecules(output)] == ["CCO", "a", "b"]


def test_a_pipe_with_a_name_is_read_once(run, tmp_path):
    pipe = tmp_path / "in.smi"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("CCO a\nCO b\n",))
    writer.start()
    status, out, _ = run("relax", pipe, "-o", tmp_path / "out.sdf")
    writer.join()
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == ["a", "b"]


def test_the_calls_before_a_program_was_killed_are_kept(run, tmp_path):
    xtb, counted, killed = shutil.which("xtb"), tmp_path / "counted", tmp_path / "killed"
    if xtb is None:
        pytest.skip("needs the xtb program")
    third = f"test $(wc -l < {counted}) = 3 && test ! -e {killed}"
    program = tmp_path / "xtb"
    kill = f"{third} && touch {killed} && kill -KILL $$"
    program.write_text(f'#!/bin/sh\necho >> {counted}\n{kill}\nexec {xtb} "$@"\n')
    program.chmod(0o755)
    profile = tmp_path / "xtb.yaml"
    profile.write_text(f"program: xtb\ncommand: {program}\nmethod: gfn2-xtb\n")
    command = ("dft", "CCO", "O", "--calculator", profile, "--fmax", "0.001",
               "-o", tmp_path / "out.extxyz")  # fmt: skip
    status, out, _ = run(*command)
    assert status == 1 and "xtb was killed (SIGKILL)" in out
    before = len(counted.read_text())
    status, out, _ = run(*command, "--json")
    row = json.loads(out)
    assert status == 0 and row["converged"]
    assert len(counted.read_text()) - before == row["gradient_calls"] - 2
    assert not list(tmp_path.glob("*.checkpoint"))


def test_an_error_inside_is_told_from_bad_usage(run, monkeypatch):
    def broken(*_, **__):
        import numpy as np

        return np.zeros(2) + np.zeros(3)

    monkeypatch.setattr(batches, "relax_batch", broken)
    status, out, err = run("relax", "CCO name")
    assert status == 3 and out.startswith("name  failed: internal error, ValueError: operands")
    level, first, second = err.splitlines()
    assert "relaxes to minima of" in level
    assert first.startswith("diffrelax: internal error, ValueError: operands could not be")
    assert second.endswith("diffrelax --debug relax 'CCO name'")
    status, _, err = run("--debug", "relax", "CCO name")
    assert status == 3 and "Traceback" in err and "np.zeros(3)" in err
    monkeypatch.setattr(batches, "relax_batch", lambda *_, **__: {}["missing"])
    status, _, err = run("relax", "CCO")
    assert status == 3 and "KeyError: 'missing'" in err
    status, _, err = run("relax", "CCO", "--seed", "-1")
    assert status == 2 and "\ndiffrelax: seed -1: give an integer" in err


def test_an_error_inside_costs_one_molecule_only(run, tmp_path, library, monkeypatch):
    def broken(molecules, *arguments, **options):
        if any(molecule.name == "c" for molecule in molecules):
            raise KeyError("odd")
        return whole(molecules, *arguments, **options)

    whole = batches.relax_batch
    monkeypatch.setattr(batches, "relax_batch", broken)
    status, out, _ = run("relax", library, "-o", tmp_path / "out.sdf")
    assert status == 1 and "c  failed: internal error, KeyError: 'odd'" in out.splitlines()
    assert [one.name for one in read_molecules(tmp_path / "out.sdf")] == ["a", "d", "e"]


COMMANDS = {
    "relax": (),
    "dft": CHEAP,
    "export": ("--to", "orca", "--hessian", "none"),
    "minima": ("--level", "mmff94", "--fmax", "0.05"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_inside_at_the_first_molecule_costs_only_that(run, tmp_path, monkeypatch, command):
    """Where molecules are read one by one, too; it is tried again by the same command."""

    def broken(molecules, *arguments, **options):
        if any(molecule.name == "bad" for molecule in molecules):
            raise KeyError("odd")
        return whole(molecules, *arguments, **options)

    where, name = (batch, "relax_many") if command == "minima" else (batches, "relax_batch")
    whole = getattr(where, name)
    monkeypatch.setattr(where, name, broken)
    output = tmp_path / ("inputs" if command == "export" else "out.extxyz")
    line = (command, "C bad", "O good", *COMMANDS[command], "-o", output)
    status, out, err = run(*line)
    bad, good = out.splitlines()
    assert status == 1 and bad == "bad  failed: internal error, KeyError: 'odd'"
    assert good.startswith("good")
    if command == "export":
        return
    assert "1 failed; rerun the command to try again" in err
    monkeypatch.setattr(where, name, whole)
    status, out, _ = run(*line)
    assert status == 0 and out.startswith("bad") and out.count("\n") == 1
    assert [one.name for one in read_molecules(output)] == ["good", "bad"]


def test_an_error_that_all_molecules_meet_ends_the_command(run, tmp_path, monkeypatch, library):
    monkeypatch.setattr(batches, "relax_batch", lambda *_, **__: {}["missing"])
    monkeypatch.setattr("diffrelax.cli.relax.PART", 2)
    monkeypatch.setattr("diffrelax.cli.report.MOST_ERRORS", 2)
    status, out, err = run("relax", library, "-o", tmp_path / "out.sdf")
    assert status == 3 and len(out.splitlines()) == 4 and "KeyError: 'missing'" in err


def test_a_pipe_that_is_closed_does_not_end_in_a_traceback(tmp_path):
    (tmp_path / "in.smi").write_text("CCO\n" * 3)
    command = f"{PROGRAM} relax {tmp_path}/in.smi | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_names_of_files_need_not_be_known_for_a_molecule_of_python(tmp_path, model):
    from diffrelax import relax

    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"id,SMILES\nx,CCO\n"))
    (result,) = relax(tmp_path / "in.csv.gz", model)
    assert (result.name, result.verdict) == ("x", "relaxed")
    assert relax("InChI=1S/CH4/h1H4", model).verdict == "relaxed"


def test_no_output_keeps_nothing_and_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("relax", "CCO")
    assert status == 0 and "no file was written: give one with -o" in err
    assert os.listdir(tmp_path) == []
    assert [one.name for one in read_molecules("CCO")] == ["CCO"]


def test_molecules_that_take_long_to_embed_are_kept_one_by_one(run, tmp_path, monkeypatch):
    """As they come, not when a whole part of a command has been read."""
    monkeypatch.setattr("diffrelax.cli.inputs.PART_SECONDS", 0.0)
    read = read_parts(iter(["C", "CC", "CCC"]), 64, seed=42)
    assert [[molecule.smiles for _, molecule, _ in part] for part in read] == [
        ["C"],
        ["CC"],
        ["CCC"],
    ]


def test_a_molecule_whose_worker_was_killed_is_tried_again_by_its_name(run, tmp_path, monkeypatch):
    path = tmp_path / "some.smi"
    path.write_text("C a\nCC b\nCCC c\n")

    def killed(function, items, workers, lost, seconds):
        for i, item in enumerate(items):
            yield lost(item, "the process that worked on it crashed") if i == 1 else function(item)

    command = ("relax", path, "-o", tmp_path / "out.jsonl", "--model", "relax-qm9-2", "--json")
    with monkeypatch.context() as broken:
        broken.setattr("diffrelax.files.reading.ordered_map", killed)
        status, out, err = run(*command)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["name"], row["verdict"]) for row in rows] == [
        ("a", "relaxed"), ("b", "failed"), ("c", "relaxed"),
    ]  # fmt: skip
    assert "1 failed; rerun the command to try again" in err
    status, out, _ = run(*command)
    assert (status, json.loads(out)["name"], json.loads(out)["verdict"]) == (0, "b", "relaxed")


def test_parts_are_as_large_as_a_second_of_work(monkeypatch):
    """However long reading takes, or what is done with a part: a kill loses little."""
    now = [0.0]
    monkeypatch.setattr("diffrelax.cli.inputs.monotonic", lambda: now[0])
    sizes = []
    for part in read_parts(iter(["C"] * 110), 64, seed=42):
        sizes.append(len(part))
        now[0] += len(part) * (0.02 if len(sizes) < 4 else 0.5)
    assert sizes == [8, 16, 32, 50, 2, 2]
