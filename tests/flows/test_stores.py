from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from jobflow import Flow, run_locally
from pyarrow import parquet

from diffrelax.flows import DFTRelaxMaker, DiffusionRelaxMaker
from diffrelax.flows.stores import find_result, open_results, open_store, read_results, read_stages
from diffrelax.results.documents import FailureDocument
from diffrelax.results.provenance import Provenance

DEAD = "mongodb://someone:secret@127.0.0.1:9/results"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with results: of one good molecule and one bad one."""
    folder = tmp_path_factory.mktemp("flow")
    relax = DiffusionRelaxMaker(work=str(folder / "work")).make(["O water", "no bad"])
    settings = {"xc": "lda,vwn", "basis": "sto-3g", "hessian": "none"}
    stages = [
        DFTRelaxMaker(settings=settings).make(relax.output[0]),
        DFTRelaxMaker(settings=settings).make(relax.output[1]),
    ]
    store = open_store(str(folder / "store"))
    run_locally(Flow([relax, *stages]), store=store, log=False)
    return folder


def test_results_outlive_the_process_and_are_told_once(folder: Path) -> None:
    results, problems = read_results(open_results(str(folder)))
    assert not problems
    assert [(r.name, r.kind) for r in results] == [
        ("water", "relaxation"),
        ("bad", "failure"),
        ("water", "minimisation"),
    ]


def test_what_jobs_left_of_each_input_is_read_by_stage(folder: Path) -> None:
    store = open_results(str(folder))
    jobs = list(store.query())
    stages = {0: "relax", 1: "minimise", 2: "minimise"}
    for i, made in enumerate(jobs):
        inputs = [0, 1] if stages[i] == "relax" else [i - 1]
        made["metadata"] = {"stage": stages[i], "inputs": inputs}
    newer = jobs[2] | {"output": jobs[2]["output"] | {"schema_version": 99}}
    other = open_store(str(folder / "other"))
    other.docs_store.update([*jobs[:2], newer, jobs[1] | {"uuid": "of another flow"}])
    found = read_stages(other, [made["uuid"] for made in jobs])
    kinds = {i: {stage: one.kind for stage, one in of.items()} for i, of in found.items()}
    assert kinds == {
        0: {"relax": "relaxation", "minimise": "minimisation"}, 1: {"relax": "failure"}
    }  # fmt: skip


def test_trajectories_lie_apart_and_come_with_the_document(folder: Path) -> None:
    store = open_results(str(folder))
    (bare,) = store.query({"output.kind": "minimisation"})
    assert "blob_uuid" in bare["output"]["trajectory"]
    (_, minimisation) = find_result(store, "water")
    trajectory = minimisation["trajectory"]
    assert len(trajectory["energies"]) == minimisation["gradient_calls"]
    assert find_result(store, minimisation["key"][:8]) == [minimisation]
    assert find_result(store, "nobody") == []


def test_tables_have_all_results_and_geometry_files_those_with_one(run, folder, tmp_path) -> None:
    for name in ("all.csv", "all.parquet", "all.extxyz"):
        status, _, err = run("results", "export", folder, "-o", tmp_path / name)
        assert status == 0
    assert "2 of 3 results" in err
    frames = ase.io.read(tmp_path / "all.extxyz", ":")
    assert [f.info["state"] for f in frames] == ["relaxed", "converged"]
    rows = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert rows[2]["energy_ev"] == frames[1].info["energy_ev"]
    assert [row["level"] for row in rows] == [None, None, "lda,vwn/STO-3G"]
    assert "largest force" in rows[2]["criterion"]
    assert (tmp_path / "all.csv").read_text().count("\n") == 4
    (tmp_path / "all.csv").write_text("mine")
    again = ("results", "export", folder, "-o", tmp_path / "all.csv")
    status, _, err = run(*again)
    assert status == 2 and "all.csv exists: choose another file" in err
    assert (tmp_path / "all.csv").read_text() == "mine"
    assert run(*again, "--overwrite")[0] == 0


def test_only_what_has_converged_is_exported_on_request(run, folder, tmp_path) -> None:
    path = tmp_path / "minima.extxyz"
    status, _, err = run("results", "export", folder, "--converged", "-o", path)
    assert status == 0 and "1 of 1 results" in err
    assert [f.info["state"] for f in ase.io.read(path, ":")] == ["converged"]
    none = tmp_path / "none.extxyz"
    status, _, err = run("results", "export", folder, "--kind", "failure", "-o", none)
    assert status == 2 and "none of the 1 results has a geometry" in err
    status, _, err = run(
        "results", "export", folder, "--kind", "relaxation", "--converged", "-o", none
    )
    assert status == 2 and "there is no converged minimisation in" in err
    assert not none.exists()


def test_levels_are_told_apart(run, folder, tmp_path) -> None:
    path = tmp_path / "minima.extxyz"
    level = ("--level", "LDA,VWN/sto-3g")
    assert run("results", "export", folder, *level, "-o", path)[0] == 0
    assert [f.info["level"] for f in ase.io.read(path, ":")] == ["lda,vwn/STO-3G"]
    status, out, _ = run("results", "list", folder, *level)
    assert status == 0 and len(out.splitlines()) == 2
    status, _, err = run("results", "list", folder, "--level", "pbe/sto-3g")
    assert status == 2
    assert "no result is at the level 'pbe/sto-3g'; there are lda,vwn/STO-3G" in err


def test_minima_of_several_levels_are_told_of(run, folder, tmp_path, monkeypatch) -> None:
    results, problems = read_results(open_results(str(folder)))
    changes = ({"settings": {"xc": "pbe", "basis": "sto-3g"}}, {"level": "gfn2-xtb"})
    several = [results[-1].model_copy(update=change) for change in changes]
    monkeypatch.setattr("diffrelax.flows.stores.read_results", lambda *_: (several, problems))
    status, _, err = run("results", "export", folder, "--converged", "-o", tmp_path / "m.extxyz")
    assert status == 0
    assert "minima of several levels: PBE/STO-3G, gfn2-xtb; --level takes one" in err


def test_the_command_line_lists_and_shows(run, folder) -> None:
    status, out, _ = run("results", "list", folder, "--kind", "failure")
    assert status == 0 and len(out.splitlines()) == 2 and "not a SMILES" in out
    status, _, err = run("results", "list", folder, "--kind", "static")
    assert status == 0 and "no static in" in err
    status, out, _ = run("results", "list", folder, "--json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["water", "bad", "water"]
    status, out, _ = run("results", "show", folder, "water")
    assert status == 0 and '"trajectory"' in out
    status, _, err = run("results", "show", folder, "nobody")
    assert status == 2 and "see diffrelax results list" in err


def test_no_results_and_no_database_say_what_to_do(run, tmp_path) -> None:
    status, _, err = run("results", "list", tmp_path)
    assert status == 2 and "give the folder of a flow" in err
    status, _, err = run("results", "list", "mongodb://me:secret@host:27017")
    assert status == 2 and "mongodb://host:27017: it does not name a database" in err


def test_a_database_that_does_not_answer_is_named_without_its_password(run, monkeypatch) -> None:
    monkeypatch.setattr("diffrelax.flows.stores.DATABASE_SECONDS", 0.2)
    status, _, err = run("results", "list", DEAD)
    assert status == 2
    assert "mongodb://127.0.0.1:9/results does not respond" in err and "start it" in err
    assert "secret" not in err


def test_documents_of_other_schemas_leave_the_others_alone(run, tmp_path) -> None:
    store = open_store(str(tmp_path))
    good = FailureDocument(name="x", stage="embed", reason="bad", provenance=Provenance.here())
    record = good.model_dump(mode="json")
    older = {k: v for k, v in record.items() if k != "schema_version"}
    newer = record | {"schema_version": 99}
    more = record | {"mood": "good"}
    outputs = {
        "a": record,
        "b": older,
        "c": newer,
        "d": {"of": "other software"},
        "e": older,
        "f": more,
    }
    for uuid, output in outputs.items():
        store.update({"uuid": uuid, "index": 1, "output": output, "metadata": {}})
    status, out, err = run("results", "list", tmp_path)
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "2 × a document without a schema version" in err and "calculate it again" in err
    assert "1 × a document of schema version 99" in err and "install the newer one" in err
    assert "fields unknown to diffrelax 0.1.0 (mood): install the version that wrote it" in err
