from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest
from jobflow import JobStore, OnMissing, run_locally
from kept import kinds
from maggma.stores import MemoryStore
from source_tree import OLDER

from diffrelax.files.reading import Rejected
from diffrelax.flows import ConformerFlowMaker
from diffrelax.flows.arguments import failure
from diffrelax.flows.conformers import ConformersDocument
from diffrelax.flows.reports import export
from diffrelax.flows.stores import find_result, open_store, read_results
from diffrelax.molecule import Molecule
from diffrelax.results.rows import ResultRow
from diffrelax.sampling.conformers import Funnel, sample_conformers


def run(flow) -> Any:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(flow, store=store, log=False)
    return store.get_output(flow.jobs[0].uuid, load=True)


def test_the_flow_finds_what_the_function_finds(model, tmp_path: Path) -> None:
    maker = ConformerFlowMaker(model=OLDER, n=6, level="mmff94", work=str(tmp_path))
    found = ConformersDocument.model_validate(run(maker.make("CCCO propanol")))
    expected = sample_conformers("CCCO propanol", model, 6, level="mmff94")
    assert [c.weight for c in found.conformers] == pytest.approx(expected.weights)
    assert [c.energy for c in found.conformers] == pytest.approx(expected.energies)
    assert sum(c.n_starts for c in found.conformers) == expected.columns["n_starts"].sum()
    assert found.name == "propanol"
    assert (found.provenance.model_sha256, found.provenance.seed) == (model.sha256, 42)
    assert kinds(tmp_path)["unit"] >= len(found.conformers)


def test_a_conformer_whose_job_dies_leaves_a_note(monkeypatch) -> None:
    relax = Funnel.finish

    def dying(self, near):
        if near[0].start == "etkdg 0":
            raise MemoryError
        return relax(self, near)

    monkeypatch.setattr(Funnel, "finish", dying)
    maker = ConformerFlowMaker(n=6, level="mmff94")
    found = ConformersDocument.model_validate(run(maker.make("CCCO")))
    assert found.conformers
    (lost,) = (note for note in found.notes if "its job did not finish" in note)
    assert lost.startswith("etkdg 0, ") and "above the lowest, failed" in lost


def test_jobs_that_are_added_ask_for_what_was_said_of_them() -> None:
    flow = ConformerFlowMaker(n=2, level="mmff94").make("CCO")
    network, level = {"worker": "gpu"}, {"worker": "cpu"}
    asked = {"manager_config": network, "response_manager_config": level}
    flow.update_config(asked, dynamic=False)
    (search,) = flow.jobs
    store = JobStore(MemoryStore())
    store.connect()
    *near, choose, _ = search.run(store).replace.jobs  # the last one passes the output on
    assert near and search.config.manager_config == network
    for job in near:
        job.run(store)
    *finish, weigh, _ = choose.run(store).replace.jobs
    assert finish
    assert all(job.config.manager_config == level for job in (*near, choose, *finish, weigh))
    for job in (choose, weigh):
        assert job.config.on_missing_references is OnMissing.NONE


def test_conformers_are_results_like_others(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    flow = ConformerFlowMaker(n=6, level="mmff94").make("CCCO propanol")
    run_locally(flow, store=store, log=False)
    found, problems = read_results(store)
    assert not problems and len(found) > 2
    rows = [ResultRow.of(document) for document in found]
    assert {(row.name, row.state, row.level) for row in rows} == {
        ("propanol", "conformer", "mmff94")
    }
    assert sum(row.weight for row in rows) == pytest.approx(1)
    assert export(tmp_path / "all.extxyz", found) == len(found)
    (shown,) = find_result(store, found[1].key)
    assert shown["energy"] == found[1].energy
    hot = ConformerFlowMaker(n=6, level="mmff94", temperature=500).make("CCCO propanol")
    run_locally(hot, store=store, log=False)
    weights: dict[float, float] = {}
    for document in read_results(store)[0]:
        weights[document.temperature] = weights.get(document.temperature, 0) + document.weight
    assert weights == pytest.approx({298.15: 1, 500: 1})


def test_without_a_level_the_best_cheap_one_is_taken() -> None:
    output = run(ConformerFlowMaker(n=2).make("CCO"))
    assert output["level"]["name"] == "aimnet2"


def test_what_is_no_molecule_or_has_no_minimum_is_a_failure(monkeypatch) -> None:
    maker = ConformerFlowMaker(n=2, level="mmff94")
    for given, reason in [("C1CC", "not a SMILES"), ("[Kr]", "Kr")]:
        output = run(maker.make(given))
        assert output["kind"] == "failure" and reason in output["reason"]
    with pytest.raises(ValueError, match="unknown level of theory 'am1'"):
        ConformerFlowMaker(level="am1")
    with pytest.raises(ValueError, match=r"level dft \(xc=b3lyp basis=.*\): thermo"):
        ConformerFlowMaker(level="dft", thermo="gfn2")
    with pytest.raises(ValueError, match="level mmff94 has no free energies"):
        ConformerFlowMaker(level="mmff94", thermo="dft")


def test_a_worker_without_the_model_is_no_failure_of_the_molecule() -> None:
    search = ConformerFlowMaker(model="nowhere.safetensors", level="mmff94").make("CCO").jobs[0]
    with pytest.raises(ValueError, match=r"no model file nowhere.safetensors \(on .*\): install"):
        search.run(JobStore(MemoryStore()))


def test_outputs_of_other_software_and_failures_come_in_as_they_are() -> None:
    search = ConformerFlowMaker.search.original
    maker = ConformerFlowMaker(n=2, level="mmff94")
    assert search(maker, Molecule.from_smiles("CCO").to_atoms()).replace.jobs
    failed = failure(Rejected("CO", "CO", "the level failed"), stage="dft", key="k")
    assert search(maker, failed) == failed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"window": inf}, "window inf"), ({"n": 0}, "n = 0"), ({"seed": -1}, "seed -1")],
)
def test_what_would_end_in_the_last_job_is_refused_at_once(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        ConformerFlowMaker(level="mmff94", **wrong)
