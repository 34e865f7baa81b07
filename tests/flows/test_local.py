from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from jobflow import JobStore
from kept import kinds
from pymongo.errors import ServerSelectionTimeoutError
from read_page import ReadPage

from diffrelax.files.reading import read_molecules
from diffrelax.flows.arguments import as_arguments
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.local import run_local
from diffrelax.flows.run import run_flow
from diffrelax.flows.stores import open_store
from diffrelax.flows.summary import Summary
from diffrelax.store import Store

FLOW = """
inputs: [two.smi, CO]
folder: out
batch_size: 2
minimise: {level: dft, xc: "lda,vwn", basis: sto-3g}
"""


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    (tmp_path / "two.smi").write_text("OO peroxide\nC1CC bad\n")
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW)
    return path


def test_a_flow_killed_in_the_middle_goes_on_and_does_nothing_twice(run, flow: Path) -> None:
    program = "from diffrelax.cli import main; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", program, "run", str(flow)]
    process = subprocess.Popen(arguments, env=environment)
    work = flow.parent / "out" / "work"
    while not kinds(work)["dft"]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = dict(Store.in_folder(work).each())
    assert len(before) == 2  # relaxed in batches; no DFT relaxation is finished

    status, out, _ = run("run", flow, "--json")
    assert status == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(r["name"], r["state"]) for r in rows] == [
        ("peroxide", "converged"),
        ("bad", "failed"),
        ("CO", "converged"),
    ]
    after = dict(Store.in_folder(work).each())
    assert {key: after[key] for key in before} == before
    status, out, _ = run("results", "list", flow.parent / "out")
    assert len(out.splitlines()) == 1 + 5

    status, out, _ = run("run", flow)
    assert out.splitlines()[-1] == "3 inputs: 2 converged, 1 failed"
    assert dict(Store.in_folder(work).each()) == after


def cheap(folder: Path, *inputs: str, **settings: object) -> FlowConfig:
    return FlowConfig(inputs=inputs, folder=folder, minimise={"level": "mmff94"}, **settings)


def run_now(config: FlowConfig) -> Summary:
    store = open_store(config.results)
    return run_local(config.flow(), store, config.folder, lambda *_: None)


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_results_that_a_full_disk_cut_short_are_filled_again(
    run, tmp_path: Path, content: bytes | None
) -> None:
    config = cheap(tmp_path, "CO", "C1CC")
    run_now(config)
    work = {p.name: p.read_bytes() for p in (tmp_path / "work").iterdir()}
    path = tmp_path / "store" / "results.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    if content != b"":
        for command in ("list", "show"):
            status, _, err = run("results", command, tmp_path, *(["CO"] * (command == "show")))
            assert status == 2
            assert str(path) in err and "delete it and rerun the flow" in err
        path.unlink()
    assert run_now(config).counts == {"converged": 1, "failed": 1}
    assert {p.name: p.read_bytes() for p in (tmp_path / "work").iterdir()} == work
    status, out, _ = run("results", "list", tmp_path)
    assert (status, len(out.splitlines())) == (0, 1 + 3)


def test_a_full_disk_ends_a_flow_with_its_name_and_the_flow_goes_on_later(tmp_path: Path) -> None:
    config = cheap(tmp_path, "CO", "CCO", batch_size=1)
    store = open_store(config.results)
    pages = "PRAGMA max_page_count = 6"
    store.docs_store._collection.execute(pages)  # SQLite tells of them as of a full disk
    path = re.escape(str(tmp_path / "store" / "results.sqlite"))
    with pytest.raises(OSError, match=f"{path}: database or disk is full: free some disk space"):
        run_local(config.flow(), store, tmp_path, lambda *_: None)
    assert kinds(tmp_path / "work")["unit"] < 4
    assert run_now(config).counts == {"converged": 2}


def test_a_database_that_is_lost_ends_a_flow_which_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = cheap(tmp_path, "CO", "CCO", batch_size=1), []

    def lost(*_: object, **__: object) -> None:
        asked.append(1)
        raise ServerSelectionTimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "update", lost)
        with pytest.raises(ConnectionError, match="the database stopped responding"):
            run_now(config)
    assert len(asked) == 1
    assert run_now(config).counts == {"converged": 2}


def test_a_flow_that_another_process_runs_is_left_alone(run, flow: Path) -> None:
    folder = flow.parent / "out"
    folder.mkdir()
    with FileLock(folder / "running.lock"):
        status, out, err = run("run", flow)
    assert (status, out) == (2, "")
    assert f"another process is running a flow in {folder}" in err
    assert not (folder / "work").exists() and not (folder / "jobs.json").exists()


def test_progress_counts_the_molecules_of_a_batch(tmp_path: Path) -> None:
    config = cheap(tmp_path, "CO", "C1CC", "O", minimise_batch_size=2)
    seen = []
    run_local(
        config.flow(),
        open_store(config.results),
        tmp_path,
        lambda ended, total, states: seen.append((ended, total, dict(states))),
    )
    assert seen[0] == (1, 5, {})
    assert seen[-1] == (5, 5, {"converged": 2, "failed": 1})


def test_an_unknown_key_says_what_was_meant(run, flow: Path) -> None:
    for old, new, message in [
        ("basis:", "basiss:", "unknown key 'basiss' in minimise: did you mean basis?"),
        ("batch_size:", "batchsize:", "unknown key 'batchsize' at the top: did you mean batch_s"),
        ("minimise:", "dft:", "unknown key 'dft' at the top: known are batch_size"),
        ("folder:", "zzz:", "unknown key 'zzz' at the top: known are batch_size"),
        ("batch_size: 2", "batch_size: two", "batch_size: Input should be a valid integer"),
        ('xc: "lda,vwn"', "fmax: -1", "minimise.fmax: Input should be greater than 0"),
    ]:
        flow.write_text(FLOW.replace(old, new))
        status, _, err = run("run", flow)
        assert status == 2 and message in err, err
    for text, message in [
        ("- a", "write entries such as"),
        ("a: [", "is not YAML"),
        ("inputs: [C[NH3+]]", "it is not YAML (texts with brackets need quotes)"),
        (
            "inputs: [CO]\nseed: 1\ninputs: [CN]",
            "the key 'inputs' is in line 1 and again in line 3: give it once",
        ),
        (
            "inputs: [CO]\nminimise:\n  level: uff\n  level: mmff94",
            "the key 'level' is in line 3 and again in line 4: give it once",
        ),
        (
            "inputs: [CO]\nminimise: {level: B3LYP/def2-SVP}",
            "for DFT use the level dft, with xc B3LYP and basis def2-SVP",
        ),
        (
            "inputs: [NO]",
            "inputs.0: Input should be a valid string; give a list, with SMILES in quotes",
        ),
        ("inputs: {a: CO}", "inputs: Input should be a valid tuple; give a list"),
        ("inputs: [CO]\nminimise: gfn2-xtb", "minimise: Input should be a valid dictionary"),
        ("inputs: [CO]\nminimise: gfn2-xtb", "; write entries such as {level: gfn2-xtb}"),
        ("inputs: [CO]\nseed: -1", "seed -1: give an integer from 0 to 2147483639"),
        ("inputs: [CO]\nminimise:", "minimise: Input should be a valid dictionary"),
        (
            "inputs: [CO]\nminimise: {level: gfn2-xtb, basis: x}",
            "unknown key 'basis' in minimise: known are fmax, level, max_steps",
        ),
        (
            "inputs: [CO]\nminimise: {one_call: true, hessian: none}",
            "minimise: `one_call` needs",
        ),
    ]:
        flow.write_text(text)
        status, _, err = run("run", flow)
        assert status == 2 and message in err
    assert "write entries" not in err  # which is no help where entries are written
    status, _, err = run("run", flow.with_name("none.yaml"))
    assert status == 2 and "cannot read the flow" in err


def test_what_no_molecule_could_be_done_with_is_refused_before_work(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "diffrelax.dft.optimizers.sella", raising=False)
    config = FlowConfig.read(flow)
    for change, message in [
        ({"model": "nomodel"}, "there is no model 'nomodel'"),
        ({"minimise": {"level": "dft", "xc": "nosuch"}}, "unknown functional"),
        ({"minimise": {"level": "dft", "basis": "nosuch"}}, "unknown basis 'nosuch'"),
        ({"minimise": {"level": "am1"}}, "unknown level of theory 'am1'"),
        ({"minimise": {"level": "dft", "optimizer": "sella"}}, "the optimizer sella needs"),
        ({"noise_level": 3.0}, "noise level 3.0 Å: the model supports"),
        ({"device": "cuda:99"}, "cuda"),
    ]:
        changed = FlowConfig.model_validate(config.model_dump() | change)
        with pytest.raises(ValueError, match=message):
            run_flow(changed)
    assert not (flow.parent / "out").exists()


def test_paths_in_a_flow_file_are_relative_to_it(flow: Path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    config = FlowConfig.read(flow)
    assert config.inputs == (str(flow.parent / "two.smi"), "CO")
    assert config.folder == flow.parent / "out"
    assert config.results == str(flow.parent / "out" / "store")
    chains = f"{'C' * 200}.{'C' * 200}"  # longer than the name of a file can be
    flow.write_text(f"inputs: [{chains}]\n")
    assert FlowConfig.read(flow).inputs == (chains,)
    flow.write_text(f'{FLOW}work: "a:shared"\nstore: "b:kept"\n')
    config = FlowConfig.read(flow)
    assert config.maker().relax_maker.work == str(flow.parent / "a:shared")
    assert config.results == str(flow.parent / "b:kept")
    for address in ("mongodb://host/database", "project:cluster"):
        flow.write_text(f"{FLOW}store: {address}\n")
        assert FlowConfig.read(flow).results == address
    without_suffix = flow.with_suffix("")
    without_suffix.write_text("inputs: [CO]\n")
    with pytest.raises(ValueError, match="flow, the folder for its results, is a file"):
        FlowConfig.read(without_suffix)


def test_paths_of_a_flow_made_in_python_hold_in_the_folders_of_its_jobs(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.safetensors").touch()
    config = FlowConfig(inputs=("CO",), folder="out", work="shared", model="mine.safetensors")
    maker = config.maker().relax_maker
    assert maker.work == str(tmp_path / "shared")
    assert maker.model == str(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("name", ["mine", "relax-qm9"])
def test_the_folder_of_a_model_of_ones_own_holds_in_the_folders_of_jobs(
    tmp_path: Path, monkeypatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "model.safetensors").touch()
    path = tmp_path / "flow.yaml"
    path.write_text(f"inputs: [CO]\nmodel: {name}\n")
    known = name if name == "relax-qm9" else str(tmp_path / name)  # a release goes first
    assert FlowConfig.read(path).model == known
    monkeypatch.chdir(tmp_path)
    assert FlowConfig(inputs=("CO",), folder="out", model=name).maker().relax_maker.model == known


def test_an_input_is_counted_once_however_often_its_file_is_read(run, flow: Path) -> None:
    (flow.parent / "bad.xyz").write_text("3\n\nO 0 0 0\n")
    inputs = "[bad.xyz, C1CC bad, none.smi]"
    flow.write_text(f"inputs: {inputs}\nminimise: {{level: mmff94}}\n")
    for _ in range(2):
        status, out, _ = run("run", flow)
        assert (status, out.splitlines()[-1]) == (1, "3 inputs: 3 failed")
    _, out, _ = run("results", "list", flow.parent / "flow")
    assert len(out.splitlines()) == 1 + 3


def test_results_of_a_folder_are_those_of_its_last_run(run, tmp_path: Path) -> None:
    flow, entries = tmp_path / "flow.yaml", "minimise: {level: mmff94, fmax: %s}\n"
    for inputs, fmax in (("CCO ethanol, O water", 0.1), ("CCO ethanol, N water", 0.01)):
        flow.write_text(f"inputs: [{inputs}]\n{entries % fmax}")
        assert run("run", flow)[0] == 0
    minima = ("list", tmp_path / "flow", "--kind", "minimisation")
    _, out, err = run("results", *minima)
    assert len(out.splitlines()) == 1 + 2
    assert "3 results of earlier runs are left out: --all has them" in err
    _, out, err = run("results", *minima, "--all")
    assert len(out.splitlines()) == 1 + 4 and "left out" not in err
    table = tmp_path / "minima.sdf"
    _, _, err = run("results", "export", tmp_path / "flow", "--converged", "-o", table)
    assert "2 of 2 results" in err
    assert [one.smiles for one in read_molecules(table)] == ["CCO", "N"]


def test_an_input_that_is_not_beside_the_flow_is_not_looked_for_elsewhere(
    run, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "screen").mkdir()
    (tmp_path / "molecules.smi").write_text("CCO mine\n")
    flow = tmp_path / "screen" / "flow.yaml"
    flow.write_text("inputs: [molecules.smi]\nminimise: {level: mmff94}\n")
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("run", flow)
    assert status == 1 and f"no such file: {tmp_path / 'screen' / 'molecules.smi'}" in out


def test_a_charge_that_no_input_can_take_is_refused(run, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("inputs: [O water]\ncharge: 1\nminimise: {level: mmff94}\n")
    status, _, err = run("run", flow)
    assert status == 2 and "the charge 1 is for .xyz" in err


def test_charge_and_multiplicity_of_a_table_reach_the_jobs(tmp_path: Path) -> None:
    table = tmp_path / "o2.csv"
    table.write_text("smiles,name,charge,multiplicity\nO=O,dioxygen,,3\nO,water,1,\nC,methane,,\n")
    oxygen, water, methane = as_arguments(table)
    assert (oxygen["name"], oxygen["multiplicity"]) == ("dioxygen", 3)
    assert "the charge is 1, but that of the SMILES is 0" in water["reason"]
    assert methane == "C methane"


def test_the_page_of_a_flow_accounts_for_each_input_and_shows_its_geometries(
    run, tmp_path: Path
) -> None:
    flow = tmp_path / "flow.yaml"
    inputs = "[CCO twice, C1CC bad, '[NH4+] ion', CCO twice, C=O]"
    for level in ("uff", "mmff94"):  # of which the last one counts
        entries = f"model: relax-qm9-2\nbatch_size: 2\nminimise: {{level: {level}}}\n"
        flow.write_text(f"inputs: {inputs}\n{entries}")
        _, out, err = run("run", flow)
    assert f"report: {tmp_path / 'flow' / 'report.html'}" in err
    page = ReadPage(tmp_path / "flow" / "report.html")
    assert "relax-qm9-2, then mmff94 until no force exceeds 0.03 eV/Å" in page.text
    cells = [dict(zip(page.header, row, strict=True)) for row in page.rows[1:]]
    assert [(row["name"], row["verdict"], row["state"]) for row in cells] == [
        ("twice", "relaxed", "converged"),
        ("bad", "", "failed"),
        ("ion", "refused", "converged"),
        ("twice", "relaxed", "converged"),
        ("C=O", "relaxed", "converged"),
    ]
    assert "not a SMILES" in cells[1]["reason"]
    assert "the model was trained on neutral molecules" in cells[2]["reason"]
    assert all(row["calls"] in out for row in cells)
    linked = [attributes.get("data-view") for attributes in page.attributes[1:]]
    assert linked[1] is None
    views = [page.views[int(place)] for place in linked if place]
    assert [view["name"] for view in views] == ["twice", "ion", "twice", "C=O"]
    frames = [[frame["label"] for frame in view["frames"]] for view in views]
    assert frames[0] == frames[3] == ["start", "relaxed by the model", "minimum, mmff94"]
    assert frames[1] == ["start", "minimum, mmff94"]
    assert "relax-qm9-2" in page.text


def test_a_page_that_cannot_be_written_costs_no_result(run, flow: Path) -> None:
    flow.write_text("inputs: [O]\nminimise: {level: mmff94}\n")
    page = flow.parent / "flow" / "report.html"
    page.mkdir(parents=True)
    status, out, err = run("run", flow)
    assert status == 0 and "converged" in out
    assert f"{page} could not be written" in err and "report:" not in err


def test_a_lost_input_points_to_the_log(run, flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("diffrelax.relaxation.relax_molecules", broken)
    flow.write_text("inputs: [O]\nminimise: {level: mmff94}\n")
    _, out, _ = run("run", flow, "--json")
    log = flow.parent / "flow" / "jobflow.log"
    assert json.loads(out)["reason"] == f"RuntimeError: a defect: see {log}"
    assert "a defect" in log.read_text()
