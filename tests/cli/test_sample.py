"""``diffrelax sample``."""

import itertools
import json

import numpy as np
import pytest

from diffrelax import Ensemble, sample_conformers
from diffrelax.cli.sample import _levels
from diffrelax.levels import Surface
from diffrelax.sampling.boltzmann import moves, sampling
from diffrelax.sampling.boltzmann.diagnostics import Diagnostics
from diffrelax.sampling.boltzmann.remembered import ENERGY, RememberedSurface
from diffrelax.store import Store


@pytest.fixture(autouse=True)
def short(monkeypatch):
    few = {"TUNING": 6, "REFINEMENTS": 3, "REFINING": 1, "WALK": 3, "WALK_TUNING": 2}
    for name, steps in few.items():
        monkeypatch.setattr(moves, name, steps)
    monkeypatch.setattr(sampling, "THIN", 2)


@pytest.fixture
def chains(tmp_path):
    """Name a settings file with a number of chains."""

    def written(n, **more):
        path = tmp_path / "settings.yaml"
        path.write_text(json.dumps({"chains": n, **more}))
        return "--settings", path

    return written


def test_samples_that_have_not_converged_are_written_with_status_1(run, chains, tmp_path):
    path = tmp_path / "samples.h5"
    status, out, err = run("sample", "CCO", "-n", 12, *chains(3), "-o", path)
    assert status == 1
    assert out.startswith("CCO  mmff94, 300 K, 12 samples\n")
    assert "energy calls" in out
    assert "converged" not in out
    assert "not converged: " in err
    assert "draw more samples (-n 48)" in err
    assert len(Ensemble.read(path)) == 12


def test_converged_samples_end_with_status_0(run, chains, monkeypatch):
    good = Diagnostics({"energy": 900.0}, {"energy": 1.001}, 1000)
    monkeypatch.setattr(sampling.Diagnostics, "of", lambda _: good)
    status, out, err = run("sample", "CO", "-n", 8, *chains(2))
    assert (status, "not converged" in err) == (0, False)
    assert out.endswith("converged\n")


def test_json_is_one_object_and_reweighting_is_told(run, chains, tmp_path):
    path = tmp_path / "samples.h5"
    arguments = ("-n", 12, *chains(3), "--json", "--reweight", "uff", "-o", path)
    status, out, err = run("sample", "CCO", *arguments)
    row = json.loads(out)
    assert status == 1
    assert (row["level"], row["n_samples"], row["converged"]) == ("uff", 12, False)
    assert row["reweighted_ess"] < 12
    assert "effective sample size at uff is" in err
    assert Ensemble.read(path).level.name == "uff"


def test_an_interrupt_ends_with_status_130_and_keeps_draws(run, chains, monkeypatch, tmp_path):
    energies = Surface.energies
    limit = 2 * (1 + 6 + 3 * 1 + 5 * 2 + 1)

    def interrupted(self, positions):
        if self.n_calls >= limit:
            raise KeyboardInterrupt
        return energies(self, positions)

    monkeypatch.setattr(Surface, "energies", interrupted)
    path = tmp_path / "samples.h5"
    status, _, err = run("sample", "CO", "-n", 40, *chains(2), "-o", path)
    assert status == 130
    assert "interrupted: 5 of 20 samples" in err
    assert len(Ensemble.read(path)) == 10
    asked = itertools.count()
    remembered = RememberedSurface.energies

    def interrupted_sooner(self, positions):
        if next(asked) == 14:
            raise KeyboardInterrupt
        return remembered(self, positions)

    monkeypatch.setattr(RememberedSurface, "energies", interrupted_sooner)
    status, _, err = run("sample", "CO", "-n", 40, *chains(2), "-o", path)
    assert status == 130 and f"{path} keeps the 10 samples that it has" in err
    assert len(Ensemble.read(path)) == 10
    limit = 2 * (1 + 3)
    status, out, err = run("sample", "CO", "-n", 40, *chains(2))
    assert (status, out) == (130, "")
    assert "interrupted before the first sample" in err


def test_the_same_command_goes_on_and_asks_for_no_energy_again(run, chains, monkeypatch, tmp_path):
    energies, asked = Surface.energies, []

    def counted(self, positions):
        if isinstance(self, RememberedSurface):
            asked.append(len(positions))
            if len(asked) == 12:
                raise SystemExit(137)  # as a kill, between two energies
        return energies(self, positions)

    monkeypatch.setattr(Surface, "energies", counted)
    killed, straight = tmp_path / "killed.h5", tmp_path / "straight.h5"
    command = ("sample", "CO", "-n", 8, *chains(2), "-o")
    assert run(*command, killed)[0] == 137
    asked.clear()
    asked += [0] * 12
    status = run(*command, straight)[0]
    all_calls = len(asked)
    asked.clear()
    asked += [0] * 12
    units = tmp_path / "killed.h5.units"
    again, _, err = run(*command, killed)
    assert again == status and f"continuing with the energies in {units}" in err
    assert len(asked) == all_calls - 11
    one, other = Ensemble.read(killed), Ensemble.read(straight)
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.energies, other.energies)
    asked.clear()
    assert run(*command, killed)[0] == status and not asked
    status, _, err = run(*command, killed, *chains(2, seed=1))
    assert status == 2 and "was made with seed 42, not 1: choose another file" in err
    units.unlink()
    status, _, err = run(*command, killed)
    assert status == 2 and "exists: choose another file" in err


def test_the_command_that_is_advised_goes_on_from_the_energies_of_the_first(run, chains, tmp_path):
    path, straight = tmp_path / "samples.h5", tmp_path / "straight.h5"
    command = ("sample", "CO", *chains(2), "-o")
    assert "draw more samples (-n 32)" in run(*command, path, "-n", 8)[2]
    units = tmp_path / "samples.h5.units"
    few = dict(Store(units).each(ENERGY))
    status, _, err = run(*command, path, "-n", 32)
    assert status == 1 and f"continuing with the energies in {units}" in err
    assert few.items() < dict(Store(units).each(ENERGY)).items()
    run(*command, straight, "-n", 32)
    one, other = Ensemble.read(path), Ensemble.read(straight)
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.energies, other.energies)


def test_conformers_of_a_file_are_jumped_between(run, chains, model, tmp_path):
    path = tmp_path / "conformers.h5"
    sample_conformers("CCCO", model, level="mmff94").write(path)
    command = ("-n", 40, *chains(2), "--json", "--conformers", path)
    _, out, _ = run("sample", "CCCO", *command)
    assert "well jump" in json.loads(out)["acceptance"]
    status, _, err = run("sample", "CCO", *command)
    assert status == 2 and "the conformers are of another molecule" in err


def test_energies_of_reweighting_are_kept(run, chains, monkeypatch, tmp_path):
    energies, asked = Surface.energies, []

    def counted(self, positions):
        if self._calculator.level == "uff":
            asked.append(1)
            if len(asked) == 3:
                raise KeyboardInterrupt
        return energies(self, positions)

    monkeypatch.setattr(Surface, "energies", counted)
    path = tmp_path / "samples.h5"
    command = ("sample", "CO", "-n", 8, *chains(2), "--reweight", "uff", "-o", path)
    status, _, err = run(*command)
    assert status == 130
    assert f"interrupted; the samples at mmff94 are in {path}, rerun the command to resume" in err
    assert run(*command)[0] == 1
    found = Ensemble.read(path)
    distinct = len(np.unique(found.positions.round(7), axis=0))
    assert found.level.name == "uff"
    assert len(asked) == distinct + 1  # the one that was interrupted
    run(*command)
    assert len(asked) == distinct + 1
    assert run("sample", "CCX", *command[2:], "--overwrite")[0] == 2
    run(*command)
    assert len(asked) == distinct + 1
    run(*command, "--overwrite")
    assert len(asked) == 2 * distinct + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CCO", "--temperature", "0"), "temperature 0.0 K: give a positive number of kelvin"),
        (("CCO", "--level", "am1"), "unknown level of theory 'am1'"),
        (("CCO", "--reweight", "am1"), "unknown level of theory 'am1'"),
        (("CCO", "--xc", "pbe"), "level mmff94 has no xc: use --level dft"),
        (("CCO", "--settings", "none.yaml"), "cannot read the settings file none.yaml"),
        (("CCO", "-o", "samples.pdb"), "unknown suffix: write to .h5, .sdf, .extxyz"),
    ],
)
def test_bad_input_ends_with_status_2(run, arguments, message):
    status, out, err = run("sample", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_functional_and_basis_belong_to_the_level_that_is_dft():
    drawn, weighted = _levels("mmff94", "dft", "pbe", None, "water")
    assert (drawn.name, drawn.settings) == ("mmff94", {})
    assert weighted.settings == {"xc": "pbe", "basis": "6-31G(2df,p)", "solvent": "water"}
