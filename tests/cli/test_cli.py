import errno
import io
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
import torch
import yaml
from rdkit import Chem
from read_page import ReadPage
from typer.main import get_command

from diffrelax import relaxation
from diffrelax.cli import EXAMPLES, app, main
from diffrelax.cli.options import set_threads
from diffrelax.diffusion.denoiser import DenoiserConfig
from diffrelax.diffusion.joint import GenerationConfig
from diffrelax.files.reading import read_molecules
from diffrelax.generation import phases, read_trajectories
from diffrelax.levels.pyscf_library import pyscf_threads
from diffrelax.models.release import load_model, releases
from diffrelax.molecule import Molecule
from diffrelax.network.config import NetworkConfig
from diffrelax.training.config import ModelConfig, TrainingConfig, build_denoiser
from diffrelax.training.geometries import GeometrySet
from diffrelax.training.learned import Learned
from diffrelax.training.state import save_tensors

KEYS = {
    "name",
    "smiles",
    "charge",
    "multiplicity",
    "verdict",
    "reason",
    "converged",
    "start",
    "noise_level",
    "n_evaluations",
    "level",
    "model_level",
    "error_bound",
    "gradient_calls",
    "scf_cycles",
    "seconds",
    "energy_ev",
    "excess_ev",
    "symbols",
    "positions",
}


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory):
    """Options that name a generative model that has learnt nothing, and none to relax."""
    config = ModelConfig(
        name="tiny-1",
        level="none",
        network=NetworkConfig(channels=8, radial=6, layers=2, cutoff=10.0),
        denoiser=DenoiserConfig(sigma_min=0.01, sigma_max=15.0),
        generation=GenerationConfig(sizes={6: 1}, n_levels=4),
    )
    torch.manual_seed(0)
    tensors = dict(build_denoiser(config).named_parameters())
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    save_tensors(tensors, path, {"config": config.model_dump(mode="json"), "step": 0})
    return "--model", path, "--relaxer", "none"


def test_relax_writes_geometries_and_tells_each_verdict(run, tmp_path):
    path = tmp_path / "out.extxyz"
    status, out, err = run("relax", "CCO", "CC(=O)OC", "-o", path)
    assert status == 0
    told = [line.partition(" (")[0] for line in out.splitlines()]
    assert told == ["CCO  relaxed", "CC(=O)OC  relaxed"]
    assert "2 geometries in" in err
    frames = ase.io.read(path, ":")
    assert [a.get_chemical_formula() for a in frames] == ["C2H6O", "C3H6O2"]
    assert frames[1].info["smiles"] == "COC(C)=O"
    assert frames[1].info["verdict"] == "relaxed"


def test_the_charge_of_ions_whose_file_tells_none(run, tmp_path):
    ion = Molecule.from_smiles("CC[NH3+]")
    rows = zip(ion.symbols, ion.positions, strict=True)
    atoms = "".join(f"{symbol} {x} {y} {z}\n" for symbol, (x, y, z) in rows)
    path, output = tmp_path / "ion.xyz", tmp_path / "out.xyz"
    path.write_text(2 * f"{ion.n_atoms}\n -12.345\n{atoms}")
    status, out, _ = run("relax", path)
    assert status == 1 and out.count("refused: multiplicity 2") == 2
    status, out, _ = run("relax", path, "CO", "--charge", 1, "-o", output)
    assert status == 0 and out.count("charge +1, multiplicity 1  relaxed") == 2
    assert [atoms.info["charge"] for atoms in ase.io.read(output, ":")] == [1, 1, 0]
    status, _, err = run("relax", path, "CO", "--charge", 3, "-o", output)
    assert status == 2 and "was made from other molecules" in err
    status, out, _ = run("conformers", path, "--charge", 1, "--level", "mmff94")
    assert status == 2  # two molecules
    path.write_text(f"{ion.n_atoms}\n\n{atoms}")
    status, out, _ = run("conformers", path, "--charge", 1, "--level", "mmff94", "-n", 5)
    assert status == 0 and out.startswith("ion  mmff94")


def test_json_is_one_object_for_each_molecule(run):
    status, out, _ = run("relax", "CCO", "C(", "CCCl", "--json", "--model", "relax-qm9-2")
    assert status == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [r["verdict"] for r in rows] == ["relaxed", "failed", "refused"]
    assert all(set(r) >= KEYS for r in rows)
    assert np.array(rows[0]["positions"]).shape == (9, 3)
    assert rows[0]["gradient_calls"] is rows[0]["energy_ev"] is rows[1]["positions"] is None


def test_the_bound_on_the_error_is_shown_to_people(run):
    _, out, _ = run("relax", "CC(=O)OC", "N#N", "--model", "relax-qm9-2")
    known, unknown = out.splitlines()
    assert re.fullmatch(r"CC\(=O\)OC  relaxed \(error bound 0\.\d+ Å\)", known)
    assert "error bound" not in unknown and "no training molecule" in unknown


def test_a_name_of_two_lines_has_one_line_for_people(run, tmp_path):
    (tmp_path / "names.csv").write_text('smiles,name\nCCO,"two\nlines"\n')
    status, out, _ = run("relax", tmp_path / "names.csv")
    assert status == 0 and out.startswith("two lines  relaxed") and out.count("\n") == 1


def test_bad_molecules_cost_only_themselves(run, tmp_path):
    good = tmp_path / "good.smi"
    good.write_text("CCO ethanol\nxyz bad\n\nCC ethane\n")
    empty = tmp_path / "empty.smi"
    empty.write_text("")
    nan = tmp_path / "nan.xyz"
    nan.write_text("2\n\nC 0 0 0\nO 0 0 nan\n")
    place = tmp_path / "place.xyz"
    place.write_text("2\n\nC 0 0 0\nO 0 0 0\n")
    whole = tmp_path / "whole.sdf"
    assert run("relax", "CO", "-o", whole)[0] == 0
    cut = tmp_path / "cut.sdf"
    cut.write_text(whole.read_text() + whole.read_text()[:200])
    status, out, _ = run("relax", good, empty, nan, place, cut, "C", "no.sdf", "--json")
    assert status == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(r["name"], r["verdict"]) for r in rows] == [
        ("ethanol", "relaxed"),
        ("bad", "failed"),
        ("ethane", "relaxed"),
        ("empty.smi", "failed"),
        ("nan", "failed"),
        ("place", "failed"),
        ("CO", "relaxed"),
        ("CO", "failed"),
        ("C", "relaxed"),
        ("no.sdf", "failed"),
    ]
    reasons = [r["reason"] for r in rows if r["verdict"] == "failed"]
    for reason, words in zip(
        reasons,
        ("not a SMILES", "empty", "not finite", "coincide", "truncated", "no such file"),
        strict=True,
    ):
        assert words in reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CCO", "--model", "none-1"], "there is no model"),
        (["CCO", "-o", "missing/out.extxyz"], "does not exist"),
        (["CCO", "-o", "out.pdf"], "unknown suffix"),
        (["CCO", "--charge", "1"], "the charge 1 is for .xyz, .extxyz, .pdb, whose geometries"),
        (["CCO", "--noise-level", "9"], "noise level 9"),
        (["CCO", "--device", "tpu"], "cannot be used"),
        (["CCO", "--max-error", "0"], "give a positive number"),
        (["CCO", "--noise-level", "0.1", "--max-error", "0.1"], "leave out one of the two"),
    ],
)
def test_bad_usage_ends_with_status_2_before_any_work(run, arguments, message, monkeypatch):
    monkeypatch.delattr("diffrelax.files.reading.read_smiles")
    status, out, err = run("relax", *arguments)
    assert status == 2
    assert out == ""
    assert message in err


def test_unknown_options_and_missing_arguments_end_with_status_2(run):
    assert run("relax")[0] == 2
    assert run("relax", "CCO", "--colour", "red")[0] == 2
    status, _, err = run("dft", "CCO", "--fmax", "-1")
    assert status == 2 and err == "diffrelax: --fmax: Input should be greater than 0\n"
    status, _, err = run("dft", "CCO", "--xc", "nonsense")
    assert status == 2
    assert "unknown functional xc='nonsense'" in err


def test_dft_confirms_the_minimum_and_compares(run, tmp_path):
    path = tmp_path / "out.json"
    status, out, _ = run(
        "dft",
        "O",
        "--xc",
        "pbe",
        "--basis",
        "def2-svp",
        "--compare",
        "mmff94",
        "-o",
        path,
        "--json",
    )
    row = json.loads(out)
    assert status == 0
    assert row["converged"] is True
    assert row["excess_ev"] >= 0
    assert [a["start"] for a in row["arms"]] == ["diffusion", "mmff94"]
    assert all(a["gradient_calls"] >= 1 and a["scf_cycles"] >= 3 for a in row["arms"])
    written = json.loads(path.read_text())[0]
    assert written["energy_ev"] == row["energy_ev"]
    assert written["level"] == row["level"] == "PBE/def2-SVP"
    assert row["fmax"] < 0.03 and row["criterion"] == "largest force on an atom < 0.03 eV/Å"
    assert (row["optimizer"], row["hessian"], row["density_fit"]) == ("tric", "gfn2-xtb", True)
    assert (row["check_minimum"], row["lowest_frequency"]) == ("none", None)
    assert written["positions"] == row["positions"]


def test_threads_hold_for_pyscf_too():
    set_threads(3)
    assert pyscf_threads() == torch.get_num_threads() == 3


def test_a_saddle_point_is_left_where_that_is_asked(run, tmp_path):
    flat = ["H 0 1.0 0", "H .866 -.5 0", "H -.866 -.5 0"]
    path = tmp_path / "planar_ammonia.xyz"
    path.write_text("\n".join(["4", "", "N 0 0 0", *flat]))
    cheap = ("--xc", "pbe", "--basis", "sto-3g", "--json")
    status, out, _ = run("dft", path, *cheap, "--check-minimum", "gfn2-xtb")
    row = json.loads(out)
    assert (status, row["converged"]) == (0, True)
    assert "displaced from a saddle point" in row["reason"]
    assert row["lowest_frequency"] > 100


@pytest.fixture
def settings(tmp_path):
    """Return the option for a settings file with some entries."""

    def write(**entries):
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(entries), encoding="utf-8")
        return "--settings", path

    return write


def test_a_minimum_is_predicted_where_that_is_asked(run, settings):
    level = ("--xc", "pbe", "--basis", "def2-svp", "--model", "relax-qm9-2")
    cheap = ("O", *level, "--fmax", "0.3", *settings(one_call=True))
    status, out, _ = run("dft", *cheap)
    assert status == 0
    energy = r"-\d{2}\.\d{6} Hartree \(-2\d{3}\.\d{4} eV\)"
    assert re.search(rf"; DFT predicted after 1 gradient call and [\d.]+ s, {energy}: ", out)
    assert (
        "predicted, not verified: for molecules like QM9's, nine in ten have no force above 0."
    ) in out
    status, out, _ = run("dft", *cheap, "--json")
    row = json.loads(out)
    assert (row["converged"], row["gradient_calls"], row["fmax"]) == (True, 1, None)
    assert 0 < row["fmax_bound"] < 0.3 and row["energy_bound_ev"] > 0 and row["rmsd_bound"] > 0
    status, _, err = run("dft", "O", *settings(one_call=True), "--thermo", "dft")
    assert status == 2 and "--check-minimum and --thermo need a verified minimum" in err
    status, _, err = run("dft", "O", *settings(temperature=400))
    assert status == 2 and "temperature and pressure are for free energies" in err


def test_options_come_before_the_settings_file(run, settings, tmp_path):
    file = settings(xc="pbe", basis="def2-svp", optimizer="bfgs", max_steps=0, seed=1)
    status, out, _ = run("dft", "O", *file, "--basis", "sto-3g", "--json")
    row = json.loads(out)
    assert status == 1 and row["gradient_calls"] == 1
    assert (row["level"], row["optimizer"]) == ("PBE/STO-3G", "bfgs")


@pytest.mark.parametrize(
    ("command", "entries", "message"),
    [
        ("dft", {"optimiser": "bfgs"}, "settings.yaml has optimiser: choose among xc, basis, fmax"),
        ("dft", {"optimizer": "magic"}, "optimizer: 'magic' is none of tric, geometric, bfgs"),
        ("dft", {"max_steps": -1}, "max_steps: Input should be greater than or equal to 0"),
        ("dft", {"fmax": -1}, "--fmax: Input should be greater than 0"),
        ("dft", {"calculator": "orca.yaml"}, "cannot read the profile"),
        ("dft", {"calculator": {"program": "orca", "method": "HF"}, "grid_level": 3},
         "grid_level is set in the profile: leave it out"),
        ("speedup", {"optimizer": "bfgs"}, "settings.yaml has optimizer: choose among xc, basis"),
        ("speedup", {"watts": -1}, "watts: Input should be greater than or equal to 0"),
        ("export", {"max_steps": 3}, "settings.yaml is not a settings file: max_steps: Extra"),
    ],
)  # fmt: skip
def test_a_wrong_settings_file_ends_the_command(run, settings, tmp_path, command, entries, message):
    target = ("--to", "orca") if command == "export" else ()
    status, _, err = run(command, "O", *target, "-o", tmp_path / "a.sdf", *settings(**entries))
    assert status == 2 and message in err


def test_free_energies_say_of_what_they_are(run, settings):
    cheap = ("--xc", "hf", "--basis", "sto-3g", *settings(temperature=400), "--json")
    status, out, _ = run("dft", "O", "--thermo", "gfn2-xtb", *cheap)
    row = json.loads(out)
    assert (status, row["thermo"], row["check_minimum"]) == (0, "gfn2-xtb", "gfn2-xtb")
    assert (row["temperature"], row["pressure"], row["symmetry_number"]) == (400, 101_325, 2)
    assert len(row["frequencies"]) == 3
    difference = row["enthalpy_ev"] - 400 * row["entropy_ev_per_kelvin"]
    assert row["gibbs_energy_ev"] == pytest.approx(difference)


def test_an_unknown_basis_is_refused_before_any_work(run, monkeypatch):
    monkeypatch.delattr("diffrelax.files.reading.read_smiles")
    status, _, err = run("dft", "O", "--basis", "nonsense")
    assert status == 2 and "unknown basis 'nonsense'" in err
    status, _, err = run("speedup", "O", "-o", "report", "--basis", "nonsense")
    assert status == 2 and "unknown basis 'nonsense'" in err


def test_a_name_that_cannot_be_printed_costs_no_other_molecule(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.argv", ["diffrelax", "relax", "C( \udcff", "CO \x1b[2Jmine\x07"])
    with pytest.raises(SystemExit) as ended:
        main()
    out.seek(0)
    first, second, *_ = out.read().splitlines()
    assert first.startswith("\\udcff  failed") and second.startswith("[2Jmine  relaxed")
    assert ended.value.code == 1


@pytest.mark.parametrize("command", ["relax", "dft"])
def test_results_are_written_before_they_are_printed(run, tmp_path, monkeypatch, command):
    def closed(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("diffrelax.cli.report.print", closed, raising=False)
    level = ("--xc", "pbe", "--basis", "sto-3g") if command == "dft" else ()
    path = tmp_path / "out.extxyz"
    run(command, "[H][H]" if command == "dft" else "CCO", *level, "-o", path)
    assert len(ase.io.read(path, ":")) == 1


def test_dft_table_for_people(run):
    status, out, _ = run(
        "dft",
        "O",
        "--xc",
        "pbe",
        "--basis",
        "sto-3g",
        "--compare",
        "mmff94",
        "--compare",
        "gfn2-xtb",
    )
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("O  relaxed; DFT converged after")
    assert lines[1].split()[:4] == ["start", "above", "its", "end"]
    assert [line.split()[0] for line in lines[3:]] == ["diffusion", "mmff94", "gfn2-xtb"]
    assert "same minimum" in lines[4]


def test_dft_goes_on_after_a_molecule_that_fails(run, tmp_path, settings):
    path = tmp_path / "out.extxyz"
    status, out, err = run(
        "dft",
        "C(",
        "O",
        "--xc",
        "pbe",
        "--basis",
        "sto-3g",
        *settings(max_steps=0),
        "-o",
        path,
        "--json",
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [r["converged"] for r in rows] == [None, False]
    assert "not converged" in rows[1]["reason"]
    assert "1 geometry in" in err
    assert len(ase.io.read(path, ":")) == 1


@pytest.fixture
def several_levels(several, tmp_path, monkeypatch):
    """A file of a model of several levels."""
    path = tmp_path / "several.safetensors"
    metadata = {
        "config": several.config.model_dump(mode="json"),
        "step": 1,
        "environments": dict(several.environments),
    }
    save_tensors(dict(several.denoiser.named_parameters()), path, metadata)
    return path


def test_a_level_is_chosen_by_name_or_the_nearest_is_taken(run, several_levels, tmp_path):
    output = tmp_path / "out.jsonl"
    relax = ("relax", "CCCl", "CCO", "--model", several_levels)
    status, out, _ = run(*relax, "--level", "b3lyp/6-31G(2df,p)", "-o", output)
    assert status == 0
    assert "at B3LYP/6-31G(2df,p) the model has learned Cl only at other levels" in out
    status, _, err = run(*relax, "-o", output)
    assert status == 2 and "level" in err  # of other settings
    status, out, err = run(*relax, "--level", "R2SCAN-3C")
    assert status == 0 and "elsewhere" not in out
    assert "several-1 relaxes to minima of r2SCAN-3c\n" in err
    _, same, err = run(*relax)
    assert same == out
    assert "several-1 relaxes to minima of r2SCAN-3c; choose another with --level" in err
    status, near, err = run(*relax, "--level", "B3LYP-D3(BJ)/6-31G(2df,p)")
    assert (
        status == 0
        and "at B3LYP/6-31G(2df,p) the model has learned Cl only at other levels" in near
    )
    assert "several-1 has not learned B3LYP-D3(BJ)/6-31G(2df,p): it relaxes to minima of" in err
    assert "they differ in dispersion (D3(BJ), none)" in err
    for level, message in [("", "no level of theory"), ("b3lpy/def2-svp", "did you mean B3LYP")]:
        status, _, err = run(*relax, "--level", level)
        assert status == 2 and message in err


def test_what_a_model_does_not_cover_is_told_one_by_one(run, several_levels):
    chain = "C" * 99 + "O"
    bad = ("CCBr", "[NH3+]CC[NH3+]", "OO", "CCl.Cl", chain)
    status, out, _ = run("relax", *bad, "CCO", "--model", several_levels, "--json")
    assert status == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["verdict"] for row in rows] == [*["refused"] * 4, "failed", "relaxed"]
    for row, reason in zip(rows, ("trained on Br", "charge +2", "O–O", "2 fragments",
                                  "300 atoms: not embedded"), strict=False):  # fmt: skip
        assert reason in row["reason"]


def test_dft_starts_from_the_level_nearest_to_its_own_and_says_what_differs(
    run, several_levels, settings
):
    few = settings(max_steps=0)
    dft = ("dft", "O=C=O", "--model", several_levels, *few, "--threads", 1)
    for given in (("--xc", "b3lyp", "--basis", "sto-3g"), ("--xc", "uB3LYP/STO-3G")):
        _, _, err = run(*dft, *given)
        assert (
            "several-1 has not learned B3LYP/STO-3G: it relaxes to minima of B3LYP/6-31G(2df,p), "
            "the nearest by rule (not measured); they differ in basis set (STO-3G, 6-31G(2df,p))"
        ) in err
    status, _, err = run(*dft, "--xc", "b3lyp/sto-3g", "--basis", "def2-svp")
    assert status == 2 and "includes STO-3G" in err


def test_models_lists_the_releases(run):
    status, out, _ = run("models")
    assert status == 0
    *lines, last = out.splitlines()
    names = [line.split("  ")[0] for line in lines if not line.startswith(" ")]
    assert names == list(releases())
    assert {"generate-qm9-2", "relax-qm9-2"} <= set(names)
    assert "  H, C, N, O, F; charges 0; trained on at most 9 heavy atoms, used up to 100" in out
    assert last == f"default: {load_model().name}"
    assert "B3LYP/6-31G(2df,p)" in out


def test_train_with_a_bad_configuration(run, tmp_path):
    status, _, err = run("train", tmp_path / "config.yaml")
    assert status == 2
    assert "cannot read the model configuration" in err


@pytest.mark.parametrize("command", list(EXAMPLES), ids=lambda command: command.__name__)
def test_help_has_examples_that_can_be_run(run, command):
    status, out, _ = run(command.__name__, "--help")
    assert status == 0 and "Examples:" in out
    for line in EXAMPLES[command]:
        words = shlex.split(line.rpartition("| ")[2])
        assert words[:2] == ["diffrelax", command.__name__]
        assert "diffrelax " + command.__name__ in out
        get_command(app).commands[command.__name__].make_context("", words[2:])


def test_shells_complete_the_command_line(run):
    status, out, _ = run("--help")
    assert status == 0 and "--install-completion" in out


def test_version(run):
    status, out, _ = run("--version")
    assert status == 0
    assert out.strip() == version("diffrelax")


def test_train_and_evaluate_on_a_small_data_set(run, tmp_path, geometries, monkeypatch):
    monkeypatch.setattr("diffrelax.data.qm9.load_qm9", lambda split, starts=(): geometries)
    folder = tmp_path / "tiny-1"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "name: tiny-1\nlevel: none\nnetwork: {channels: 8, layers: 2}\n"
        "training: {steps: 6, batch_size: 4, log_every: 2, validate_every: 4, warmup: 2}\n"
    )
    status, out, _ = run("train", folder / "config.yaml")
    assert status == 0
    assert out.startswith("step 6 of 6 after")
    assert run("train", folder / "config.yaml")[0] == 2
    assert run("train", folder / "config.yaml", "--resume")[0] == 0
    result = tmp_path / "result.json"
    weights = folder / "model.safetensors"
    status, out, _ = run("evaluate", weights, "-n", 3, "--peer", "uff", "-o", result)
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()[2:]] == ["mmff94", "uff", "tiny-1"]
    record = json.loads(result.read_text())
    assert record["split"] == "test"
    assert record["command"].startswith("diffrelax evaluate")
    levels = ("--peer", "uff", "--noise-level", 0.1, "--noise-level", 0.05)
    _, out, _ = run("evaluate", weights, "-n", 3, *levels)
    rows = [line.split(" | ")[0] for line in out.splitlines()[4:]]
    assert rows == ["| tiny-1, from 0.1 Å", "| tiny-1, from 0.05 Å"]
    _, out, _ = run("evaluate", weights, "-n", 3, "--peer", "uff", "--start", "minimum")
    assert out.startswith("| start: DFT minimum | aligned RMSD, Å |")
    assert out.splitlines()[2].startswith("| minimum | 0.000 | 0.0 |")
    replace(geometries, levels=("none",)).save(tmp_path / "own.npz")
    own = ("evaluate", weights, "--data", tmp_path / "own.npz", "-n", 3, "-o", result)
    status, out, err = run(*own)
    assert status == 2 and not out and "exists: choose another file" in err
    _, out, _ = run(*own, "--overwrite")
    assert [line.split()[1] for line in out.splitlines()[2:]] == ["mmff94", "gfn2-xtb", "tiny-1"]
    assert json.loads(result.read_text())["split"] == "own.npz"
    status, _, err = run("evaluate", weights, "-n", 3, "--model-level", "r2SCAN")
    assert status == 2 and "r2SCAN needs a basis set, as in r2SCAN/def2-SVP" in err
    strict = TrainingConfig(max_start_rmsd=0.0145)
    monkeypatch.setattr("diffrelax.benchmark.sample.TRAINED_ON", strict)
    status, _, err = run("evaluate", weights, "-n", 6, "--peer", "uff", "--start", "embedded")
    assert status == 0 and "3 of 6 molecules have no start embedded" in err
    status, _, err = run("evaluate", weights, "-n", 3, "--noise-level", 9)
    assert status == 2
    assert "noise level 9.0 Å: the model supports" in err
    for output in (tmp_path / "none" / "x.json", tmp_path, tmp_path / "x.txt"):
        assert run("evaluate", weights, "-o", output)[0] == 2
    monkeypatch.setattr("diffrelax.levels.xtb_program.shutil.which", lambda _: None)
    status, _, err = run("evaluate", weights, "-n", 3, "--peer", "gfn-ff")
    assert status == 2 and "needs the program xtb" in err


@pytest.mark.parametrize("command", [("evaluate", "default", "--peer"), ("dft", "O", "--compare")])
def test_any_cheap_level_is_compared_with_and_no_other(run, command):
    status, _, err = run(*command, "gfn3")
    assert status == 2 and "unknown level of theory 'gfn3': did you mean gfn2-xtb?" in err
    status, _, err = run(*command, "dft")
    assert status == 2 and "level 'dft' is not a cheap level" in err


def test_training_on_packed_sets_leaves_all_that_a_release_needs(run, tmp_path, geometries):
    charged = replace(geometries, levels=("two",), charge=np.array([0, 0, 0, 1, 1, 1]))
    both = GeometrySet.join([replace(geometries, levels=("one",)), charged])
    both = replace(both, index=np.arange(len(both)))
    (tmp_path / "config.yaml").write_text(
        "name: packed-1\nlevel: two\nlimit: 250\n"
        "network: {levels: [one, two, three], charges: [-1, 0, 1], elements: [1, 6, 7, 8, 16], "
        "channels: 8, layers: 1}\n"
        "training: {data: sets, steps: 2, batch_size: 4, warmup: 1, checkpoints: 0}\n"
    )
    for split in ("train", "validation"):
        both.save(tmp_path / "sets" / f"{split}.npz")
    status, out, _ = run("train", tmp_path / "config.yaml")
    assert status == 0
    assert "the model has no error bounds at one, two" in out
    model = load_model(tmp_path)
    assert model.environments["CH3 -CH2"] == 1
    assert {level: one.charges for level, one in model.config.learned.items()} == {
        "one": (0,), "two": (0, 1),
    }  # fmt: skip
    assert model.config.levels == ("one", "two")  # of the third it has seen nothing
    assert (model.config.elements, model.config.charges) == ((1, 6, 7, 8), (0, 1))
    assert model.config.largest == both.sizes.max() and model.config.most_heavy < 9
    assert (7, 9) not in model.bonds
    _, out, _ = run("relax", "CCO", "--model", tmp_path, "--level", "one", "--json")
    assert json.loads(out)["model_level"] == "one"


def test_a_model_knows_what_its_base_has_learned(run, tmp_path, geometries):
    """Also where the run goes on without it, and where both have learned at one level."""

    def learn(name, levels, numbers, charge, training, options=(), more=""):
        folder = tmp_path / name
        charges = np.full(len(geometries), charge)
        one = replace(geometries, levels=levels, numbers=numbers, charge=charges)
        for split in ("train", "validation"):
            one.save(folder / "sets" / f"{split}.npz")
        (folder / "config.yaml").write_text(
            f"name: {name}\nlevel: {levels[0]}\n"
            "network: {levels: [one, two, three], charges: [-1, 0, 1, 2], "
            "elements: [1, 6, 7, 8, 16, 17], channels: 8, layers: 1}\n"
            f"training: {{data: sets, batch_size: 4, warmup: 1, checkpoints: 0{training}}}\n{more}"
        )
        status, out, _ = run("train", folder / "config.yaml", *options)
        assert status == 0
        return None if options else load_model(folder).config, out

    sulfur = np.where(geometries.numbers == 8, 16, geometries.numbers).astype(np.uint8)
    learn("first-1", ("one",), sulfur, 1, ", steps: 1")
    base = f", steps: 2, base: {tmp_path / 'first-1' / 'model.safetensors'}"
    _, out = learn("second-1", ("two",), geometries.numbers, 0, base, ("--max-minutes", 0))
    assert "two starts as a copy of one" in out
    (tmp_path / "first-1" / "model.safetensors").rename(tmp_path / "gone.safetensors")
    status, *_ = run("train", tmp_path / "second-1" / "config.yaml", "--resume")
    second = load_model(tmp_path / "second-1")
    assert (status, second.step, second.config.levels) == (0, 2, ("one", "two"))
    assert second.config.elements == (1, 6, 7, 8, 16)
    assert second.config.charges == (0, 1)
    assert second.environments["CH3 -CH2"] == 1
    chlorine = np.where(geometries.numbers == 8, 17, geometries.numbers).astype(np.uint8)
    base = f", steps: 1, base: {tmp_path / 'second-1'}"
    third, out = learn("third-1", ("two",), chlorine, -1, base, more="most_heavy: 4\n")
    assert "starts as a copy of" not in out
    assert third.learned["two"] == Learned(
        minima=6, elements=(1, 6, 7, 8, 17), charges=(-1, 0), most_heavy=5
    )  # of minima that may be the same
    assert (third.most_heavy, third.largest) == (4, second.config.largest)
    assert third.learned["one"].elements == (1, 6, 7, 16)
    bounds = "{settled: 0.01, near: 0.02, unseen: 0.1, after_schedule: {scale: 1.0, exponent: 0.5}}"
    told = f"calibrations: {{one: {bounds}}}\nlargest: 5\n"
    base += ", learn: level"
    fourth, _ = learn("fourth-1", ("two",), geometries.numbers, 0, base, more=told)
    assert (set(fourth.calibrations), fourth.largest) == ({"one"}, 5)
    base = f", steps: 1, learn: level, base: {tmp_path / 'fourth-1'}"
    for name, level, known in (("fifth-1", "two", {"one"}), ("sixth-1", "one", set())):
        config, _ = learn(name, (level,), geometries.numbers, 0, base)
        assert set(config.calibrations) == known  # at other levels it is as it was


def test_nothing_but_results_goes_to_standard_output():
    done = subprocess.run(
        [
            Path(sys.executable).with_name("diffrelax"),
            "relax",
            "CCO",
            "--json",
            "--level",
            "r2scan-3c",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["verdict"] == "relaxed"
    lines = [line for line in done.stderr.splitlines() if " elapsed" not in line]  # of progress
    assert lines == ["relax-reach-3 relaxes to minima of r2SCAN-3c"]


def test_generate_writes_everything_and_marks_what_is_no_molecule(run, tiny_generator, tmp_path):
    output, trajectories = tmp_path / "made.extxyz", tmp_path / "made.h5"
    arguments = ("generate", "-n", 3, "--seed", 0, *tiny_generator, "-o", output)
    status, out, _ = run(*arguments, "--trajectories", trajectories)
    assert status == 0
    assert "0 of 3 are molecules" in out
    assert [line.partition("  ")[0] for line in out.splitlines()[:3]] == [
        f"generated-{i}" for i in range(3)
    ]
    frames = ase.io.read(output, ":")
    assert [frame.info["verdict"] for frame in frames] == ["invalid"] * 3
    assert all(frame.info["reason"] for frame in frames)
    groups = read_trajectories(trajectories)
    assert sorted(groups) == [0, 1, 2]
    for frame in frames:
        last = groups[int(frame.info["name"].removeprefix("generated-"))].numbers[-1]
        assert len(last) == len(frame)
    output.unlink()
    status, _, err = run(*arguments, "--trajectories", trajectories)
    assert status == 2 and "made.h5 exists: choose another file" in err and not output.exists()


FREED = """
import resource
from diffrelax.memory import keep_freed

keep_freed()
large = 40 << 20  # bytes, which glibc would ask the system for each time
counts = []
for _ in range(10):
    text = b"x" * large
    del text
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[-1] - counts[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only for glibc")
def test_the_command_line_does_not_ask_for_the_same_memory_twice():
    command = [sys.executable, "-c", FREED]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 1000  # pages; 10,240 for each


@pytest.mark.parametrize("command", ["relax", "dft", "sample", "conformers"])
def test_an_input_is_not_overwritten(run, tmp_path, command):
    path = tmp_path / "in.extxyz"
    ase.io.write(path, ase.build.molecule("CH3OH"))
    before = path.read_bytes()
    (tmp_path / "link.extxyz").symlink_to(path)
    for output in (path, tmp_path / "link.extxyz"):
        status, _, err = run(command, path, "-o", output)
        assert status == 2 and "is an input: choose another output" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0", "-o", "a.extxyz"), "n = 0: give 1 to"),
        (("-o", "a.extxyz", "--model", "relax-qm9-2"), "relax-qm9-2 relaxes but does not generate"),
        (("-o", "a.extxyz", "--seed", "x"), "Invalid value for '--seed'"),
        (("-o", "a.extxyz", "--relaxer", "relax-qm9-2"), "relax-qm9-2 has not learned none"),
        (("-o", "none/a.extxyz"), "the folder none does not exist"),
        (("-o", "a.pdb"), "a.pdb has an unknown suffix: write to .extxyz"),
        (("-o", "a.extxyz", "--trajectories", "t.npz"), "t.npz has an unknown suffix"),
    ],
)
def test_generate_says_what_is_wrong(
    run, tiny_generator, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    status, _, errors = run("generate", *tiny_generator, *arguments)
    assert status == 2
    assert message in errors
    assert not list(tmp_path.glob("a.*"))


def test_relax_keeps_what_is_done_when_it_is_interrupted(run, tmp_path, monkeypatch):
    def interrupt(molecules, *arguments, **options):
        if any(molecule.name == "third" for molecule in molecules):
            raise KeyboardInterrupt
        return relax_molecules(molecules, *arguments, **options)

    relax_molecules = relaxation.relax_molecules
    monkeypatch.setattr(relaxation, "relax_molecules", interrupt)
    monkeypatch.setattr("diffrelax.cli.relax.PART", 2)
    path, output = tmp_path / "in.smi", tmp_path / "out.sdf"
    path.write_text("CCO first\nC\nO third\nCC\n")
    status, out, err = run("relax", path, "-o", output)
    assert status == 130
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["first", "relaxed"],
        ["C", "relaxed"],
    ]
    assert "interrupted: 2 of 4 molecules are done" in err and f"2 geometries in {output}" in err
    assert [m.name for m in read_molecules(output)] == ["first", "C"]


def test_sigterm_keeps_what_is_done(run, tmp_path, monkeypatch):
    def end(molecules, *arguments, **options):
        if any(molecule.name == "third" for molecule in molecules):
            os.kill(os.getpid(), signal.SIGTERM)
        return relax_molecules(molecules, *arguments, **options)

    relax_molecules = relaxation.relax_molecules
    monkeypatch.setattr(relaxation, "relax_molecules", end)
    monkeypatch.setattr("diffrelax.cli.relax.PART", 2)
    output = tmp_path / "out.sdf"
    status, _, err = run("relax", "CCO first", "C", "O third", "-o", output)
    assert status == 130 and "interrupted: 2 of 3 molecules are done" in err
    assert [m.name for m in read_molecules(output)] == ["first", "C"]


@pytest.mark.parametrize("command", [["relax"], ["dft", "--basis", "sto-3g"]])
def test_rows_that_cannot_be_written_are_shown(run, tmp_path, monkeypatch, command):
    def full(file, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(file.path))

    monkeypatch.setattr("diffrelax.results.output.ResultFile._write", full)
    status, out, err = run(*command, "O", "-o", tmp_path / "out.sdf")
    assert status == 2 and f"{tmp_path / 'out.sdf'}: no space left on device" in err
    assert out.startswith("O  relaxed")


def test_charge_and_multiplicity_are_told(run):
    status, out, _ = run("dft", "[OH-]", "O", "--basis", "sto-3g")
    charged, neutral = out.splitlines()
    assert status == 0
    assert charged.startswith("[OH-]  charge -1, multiplicity 1  relaxed; DFT converged")
    assert neutral.startswith("O  relaxed; DFT converged")
    _, out, _ = run("relax", "[CH3]", "--json")
    row = json.loads(out)
    assert (row["charge"], row["multiplicity"]) == (0, 2)


def test_generate_keeps_what_is_done_when_it_is_interrupted(
    run, tiny_generator, tmp_path, monkeypatch
):
    batches = []

    def interrupt(*arguments):
        batches.append(arguments)
        if len(batches) > 1:
            raise KeyboardInterrupt
        return generate_batch(*arguments)

    generate_batch = phases._generate_batch
    monkeypatch.setattr(phases, "_generate_batch", interrupt)
    monkeypatch.setattr(phases, "MOLECULES_IN_BATCH", 2)
    output = tmp_path / "made.extxyz"
    status, out, err = run("generate", "-n", 5, *tiny_generator, "-o", output)
    assert status == 130
    assert "interrupted: 2 of 5 are done" in err and "0 of 2 are molecules" in out
    assert len(ase.io.read(output, ":")) == 2
    monkeypatch.setattr(phases, "_generate_batch", generate_batch)
    status, out, err = run("generate", "-n", 5, *tiny_generator, "-o", output)
    assert status == 0
    assert "2 done before" in err and "0 of 5 are molecules" in out
    straight = tmp_path / "straight.extxyz"
    run("generate", "-n", 5, *tiny_generator, "-o", straight)
    assert output.read_text() == straight.read_text()
    monkeypatch.setattr(phases, "_generate_batch", interrupt)
    ways = [tmp_path / "made.h5", tmp_path / "again.h5"]
    again = ("generate", "-n", 5, *tiny_generator, "-o", tmp_path / "again.extxyz")
    batches.clear()
    status, _, err = run(*again, "--trajectories", ways[1])
    assert status == 130 and "rerun the command to resume" in err
    monkeypatch.setattr(phases, "_generate_batch", generate_batch)
    first = ("generate", "-n", 5, *tiny_generator, "-o", output)
    for command, way in zip((first, again), ways, strict=True):
        status, _, err = run(*command, "--trajectories", way)
        assert status == 0 and "molecules were done before; trajectories are generated again" in err
        assert sorted(read_trajectories(way)) == [0, 1, 2, 3, 4]
    assert (tmp_path / "again.extxyz").read_text() == straight.read_text()
    monkeypatch.setattr(phases, "_generate_batch", interrupt)
    kept = ways[1].read_bytes()
    assert run(*again, "--trajectories", ways[1])[0] == 0 and ways[1].read_bytes() == kept
    other = tmp_path / "other.h5"
    other.write_bytes(b"something else")
    status, _, err = run(*again, "--trajectories", other)
    assert status == 2 and "other.h5 exists: choose another file" in err
    status, _, err = run("generate", "-n", 6, *tiny_generator, "-o", output)
    assert status == 2 and "made with n 5, not 6" in err


def test_commands_on_molecules_take_the_release_that_covers_most():
    commands = get_command(app).commands
    defaults = {
        name: parameter.default
        for name, command in commands.items()
        for parameter in command.params
        if "--model" in parameter.opts
    }
    assert {"relax", "dft", "speedup", "conformers"} <= defaults.keys()
    assert {v for n, v in defaults.items() if n != "generate"} == {"default"}


def test_conformers_are_written_and_shown_with_their_weights(run, tmp_path):
    path = tmp_path / "ensemble.sdf"
    status, out, err = run("conformers", "CCCC", "-n", 8, "--level", "mmff94", "-o", path)
    assert status == 0
    assert f"2 conformers in {path}" in err
    title, header, trans, gauche = out.splitlines()
    assert title == "CCCC  mmff94, 298.15 K"
    assert header.split()[:4] == ["conformer", "energy,", "kcal/mol", "weight,"]
    assert trans.split()[:5] == ["1", "0.00", "65.2", "2", "1"]
    assert gauche.split()[:5] == ["2", "0.78", "34.8", "2", "2"]
    report = tmp_path / "ensemble.report.html"
    assert f"report: {report}" in err
    page = ReadPage(report)
    assert [row[:5] for row in page.rows[1:3]] == [trans.split()[:5], gauche.split()[:5]]
    (view,) = page.views
    assert [frame["label"] for frame in view["frames"]] == ["1", "2"]
    assert [a["data-frames"] for a in page.attributes[1:3]] == ['["1"]', '["2"]']
    assert "diffrelax conformers CCCC -n 8" in page.text
    before = path.read_text()
    again = run("conformers", "CCCC", "-n", 8, "--level", "mmff94", "-o", path)
    assert again[:2] == (0, out) and path.read_text() == before
    path.write_text(before + "\n")
    status, _, err = run("conformers", "CCCC", "-n", 8, "--level", "mmff94", "-o", path)
    assert status == 2 and f"{path} was modified after it was written" in err
    path.write_text(before)
    other = ("conformers", "CCC", "-n", 8, "--level", "mmff94", "-o", path)
    status, out, err = run(*other)
    assert (status, out) == (2, "") and "was made with molecule CCCC, not CCC: choose an" in err
    assert path.read_text() == before
    for lost in (tmp_path / "ensemble.sdf.units", path):
        lost.unlink()
        status, _, err = run(*other)
        assert status == 2 and f"{report} exists: choose another file" in err
    status, out, _ = run("conformers", "CCCC", "-n", 8, "--level", "mmff94", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [row["mirror_images"] for row in rows] == [1, 2]
    assert sum(row["weight"] for row in rows) == pytest.approx(1)
    assert len(rows[0]["positions"]) == len(rows[0]["symbols"]) == 14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CCO", "--temperature", "-1"), "temperature -1.0 K: give a positive number of kelvin"),
        (("CCO", "--level", "am1"), "unknown level of theory 'am1'"),
        (("CCO", "--level", "mmff94", "--xc", "pbe"), "level mmff94 has no xc: use --level dft"),
        (
            ("CC[NH3+]", "--model", "relax-qm9-2"),
            "charge +1: the model was trained on neutral molecules",
        ),
        (("CCO", "--settings", "none.yaml"), "cannot read the settings file none.yaml"),
        (("CCO", "-o", "ensemble.pdb"), "unknown suffix: write to .h5, .sdf, .extxyz"),
    ],
)
def test_conformers_of_bad_input_end_with_status_2(run, arguments, message):
    status, out, err = run("conformers", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_what_is_rarely_changed_of_conformers_is_in_a_settings_file(run, tmp_path):
    path = tmp_path / "settings.yaml"
    command = ("conformers", "CCO", "-n", 4, "--level", "mmff94", "--settings", path)
    path.write_text("seed: -1\n")
    status, _, err = run(*command)
    assert status == 2 and "seed -1: give an integer" in err
    path.write_text("seed: 7\nsurface: uff\n")
    status, out, err = run(*command)
    assert status == 0 and out.startswith("CCO  mmff94")
    assert "distinct minima of uff" in err
    path.write_text("surfaces: uff\n")
    status, _, err = run(*command)
    assert status == 2 and "settings.yaml is not a settings file: surfaces: Extra" in err


def test_workers_give_the_same_rows(run):
    rows = []
    for workers in (1, 2):
        status, out, _ = run("relax", "CCO", "C(", "CCC", "--workers", workers, "--json")
        assert status == 1
        rows.append([json.loads(line) for line in out.splitlines()])
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]
    assert run("relax", "C", "--workers", "0")[0] == 2


def test_an_interrupt_while_the_command_line_is_imported_is_quiet() -> None:
    program = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from diffrelax.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_smiles_of_a_salt_beside_a_molecule_is_kept(run, tmp_path):
    with Chem.SDWriter(str(tmp_path / "in.sdf")) as writer:
        for smiles in ("CC(=O)O.[Na]", "CC(=O)O"):
            acid = Chem.MolFromSmiles("CC(=O)O")
            acid.SetProp("smiles", smiles)
            writer.write(acid)
    output = tmp_path / "out.sdf"
    status, _, _ = run("relax", tmp_path / "in.sdf", "-o", output)
    salt, acid = (mol.GetPropsAsDict() for mol in Chem.SDMolSupplier(str(output)))
    assert (status, salt["smiles"], acid["smiles"]) == (0, "CC(=O)O", "CC(=O)O")
    assert salt["input_smiles"] == "CC(=O)O.[Na]" and "input_smiles" not in acid


def test_labels_beside_the_title_are_kept(run, tmp_path):
    mol = Chem.MolFromSmiles("CCO")
    properties = {
        "name": "ethanol",
        "Name": "alcohol",
        "SMILES": "OCC.Cl",
        "charge": "",
        "_id": "7",
    }
    for key, value in properties.items():
        mol.SetProp(key, value)
    block = Chem.MolToMolBlock(mol)
    told = "".join(f">  <{key}>\n{value}\n\n" for key, value in properties.items())
    (tmp_path / "in.sdf").write_text(f"{block}{told}$$$$\n")
    first, second = tmp_path / "out.sdf", tmp_path / "out.extxyz"
    for output in (first, second):
        assert run("relax", tmp_path / "in.sdf", "-o", output)[0] == 0
    (mol,) = Chem.SDMolSupplier(str(first))
    found = mol.GetPropsAsDict()
    kept = ("input_name", "Name", "SMILES", "id")
    assert [found[key] for key in kept] == ["ethanol", "alcohol", "OCC.Cl", 7]
    info = ase.io.read(second).info
    kept = ("input_name", "input_Name", "input_SMILES", "_id")
    assert [info.get(key) for key in kept] == ["ethanol", "alcohol", "OCC.Cl", 7]
    table = tmp_path / "in.csv"
    table.write_text("smiles,%inh,inh\nC,5,7\n")
    run("relax", table, "-o", tmp_path / "inh.extxyz")
    info = ase.io.read(tmp_path / "inh.extxyz").info
    assert (info["inh"], info["input_inh"]) == (5, 7)


def test_columns_of_the_input_that_are_called_as_our_own_are_kept(run, tmp_path):
    table, first, second = (tmp_path / name for name in ("in.csv", "first.sdf", "second.extxyz"))
    table.write_text(
        "ID,SMILES,verdict,start,input_start,logP,formula,total_energy\n"
        "a,CCO,keep,2020,x,0.3,C1,-5\n"
    )
    assert run("relax", table, "-o", first)[0] == 0
    (mol,) = Chem.SDMolSupplier(str(first))
    kept = {"input_verdict": "keep", "input_start": "x", "input_input_start": "2020", "logP": "0.3"}
    kept |= {"input_formula": "C1", "input_total_energy": "-5"}
    found = mol.GetPropsAsDict(autoConvertStrings=False)
    assert (kept | {"verdict": "relaxed"}).items() <= found.items()
    assert run("relax", first, "-o", second)[0] == 0
    info = ase.io.read(second).info
    assert info["input_verdict"] == "keep" and info["logP"] == 0.3  # and not of our own output
    assert info["input_total_energy"] == -5
    assert info["verdict"] == "relaxed" and "input_seconds" not in info
    exported = tmp_path / "exported.csv"
    exported.write_text("name,smiles,kind,state,stage\nmethane,C,minimisation,converged,mmff94\n")
    run("relax", exported, "-o", tmp_path / "again.extxyz", "--model", "relax-qm9-2")
    info = ase.io.read(tmp_path / "again.extxyz").info
    assert (info["input_state"], info["input_kind"]) == ("converged", "minimisation")
    assert not info.keys() & {"state", "kind", "stage"}
