"""The command ``diffrelax minima``."""

import json
from dataclasses import replace
from math import nan

import pytest

from diffrelax.files.reading import read_molecules
from diffrelax.levels import batch, get_calculator, relax_at_level
from diffrelax.levels.batch import relax_many
from diffrelax.molecule import Molecule


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "in.smi"
    path.write_text("CCCO a\nC1C b\nCC(=O)[O-] c\n[CH3] d\nCBr e\n")
    return path


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_minima_are_made_and_every_molecule_is_accounted_for(run, tmp_path, library):
    output = tmp_path / "minima.extxyz.gz"
    status, out, err = run("minima", library, "-o", output, "--fmax", 0.01)
    assert status == 1
    told = [line.split()[0] for line in out.splitlines()]
    assert told == ["a", "b", "c", "d", "e"]
    assert "'C1C' is not a SMILES" in out and "closed shells" in out
    assert f"3 geometries in {output}; 2 without a geometry" in err
    found = read_molecules(output)
    assert [(m.name, m.charge) for m in found] == [("a", 0), ("c", -1), ("e", 0)]
    for molecule in found:
        atoms = molecule.to_atoms()
        atoms.calc = get_calculator("aimnet2", molecule)
        assert abs(atoms.get_forces()).max() < 0.012


def test_the_same_command_goes_on(run, tmp_path, library, monkeypatch):
    def interrupt(molecules, level, **settings):
        if any(molecule.name == "e" for molecule in molecules):
            raise KeyboardInterrupt
        return relax_many(molecules, level, **settings)

    output = tmp_path / "minima.sdf"
    monkeypatch.setattr(batch, "relax_many", interrupt)
    command = ("minima", library, "-o", output, "--level", "mmff94", "--fmax", 0.05, "--json")
    status, out, err = run(*command)
    assert status == 130 and "interrupted: 4 of 5 molecules are done" in err
    monkeypatch.setattr(batch, "relax_many", relax_many)
    status, again, err = run(*command)
    rows = [json.loads(line) for line in (out + again).splitlines()]
    assert [row["name"] for row in rows] == ["a", "b", "c", "d", "d", "e"]  # d has failed
    assert {row["verdict"] for row in rows if row["name"] in "ac"} == {"minimum"}
    assert run("minima", library, "-o", output, "--level", "uff")[0] == 2
    for fmax in (0, "inf"):
        assert run("minima", library, "-o", tmp_path / "x.sdf", "--fmax", fmax)[0] == 2


def test_what_a_crash_has_cost_is_tried_again(run, tmp_path, monkeypatch):
    def crashed(molecules, level, **settings):
        ends = relax_many(molecules, level, **settings)
        return [replace(end, energy=nan, reason="killed by SIGSEGV") for end in ends]

    command = ("minima", "O water", "-o", tmp_path / "minima.sdf", "--level", "uff")
    with monkeypatch.context() as broken:
        broken.setattr(batch, "relax_many", crashed)
        status, out, _ = run(*command)
    assert (status, out) == (1, "water  failed: killed by SIGSEGV\n")
    status, out, _ = run(*command)
    assert status == 0 and out.startswith("water  minimum")


def test_each_molecule_keeps_its_place_and_its_own_failure():
    molecules = [Molecule.from_smiles(s) for s in ("CCO", "[CH3]", "C")]
    many = relax_many(molecules, "mmff94", fmax=0.05)
    assert many[0].energy == relax_at_level(molecules[0], "mmff94", fmax=0.05).energy
    assert [len(end.positions) for end in many] == [9, 4, 5]


def test_stereochemistry_that_was_left_open_is_told(run, tmp_path):
    status, out, _ = run("minima", "CC(O)F", "-o", tmp_path / "o.sdf", "--level", "mmff94")
    assert status == 0 and "stereochemistry not specified: chosen as C[C@" in out


def test_gfn2_xtb_needs_no_program(run, tmp_path, monkeypatch):
    monkeypatch.setattr("diffrelax.levels.xtb_program.shutil.which", lambda _: None)
    status, out, _ = run("minima", "O water", "-o", tmp_path / "o.sdf", "--level", "gfn2-xtb")
    assert status == 0 and out.startswith("water  minimum")
