from __future__ import annotations

import json
from pathlib import Path

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from read_page import ReadPage

from diffrelax.benchmark.speedup import run as speedup
from diffrelax.benchmark.speedup.arms import DEFAULT_RECIPES, DEFAULT_STARTS
from diffrelax.flows import SpeedupFlowMaker
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule

SETTINGS = {"xc": "lda,vwn", "basis": "sto-3g", "grid_level": 1}


def run(flow):
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(flow, store=store, log=False)
    return store.get_output(flow.jobs[-1].uuid, load=True)


def test_every_molecule_is_in_the_report_whatever_became_of_it(tmp_path: Path, monkeypatch) -> None:
    run_arm = speedup.run_arm

    def dying(subject, *arguments):
        if subject.name == "OO":
            raise MemoryError
        return run_arm(subject, *arguments)

    monkeypatch.setattr(speedup, "run_arm", dying)
    monkeypatch.chdir(tmp_path)
    maker = SpeedupFlowMaker(
        starts=("mmff94", "diffusion"), recipes=("bfgs",), settings=SETTINGS, work="work"
    )
    flow = maker.make(["C water", "C1CC bad", "C water", "OO"])
    assert [job.name for job in flow.jobs] == [
        "speedup 0 water", "speedup 1 bad", "speedup 2 water", "speedup 3 OO", "speedup report",
    ]  # fmt: skip
    output = run(flow)
    assert output["lost"] == ["OO"]
    of_other_software = Molecule.from_smiles("C", name="methane").to_atoms()
    record, _ = SpeedupFlowMaker.compare.original(maker, of_other_software)
    assert record["name"] == "methane" and record["smiles"] == "C"
    for given in ("C1CC bad", "[CH3] refused"):
        json.dumps(SpeedupFlowMaker.compare.original(maker, given), allow_nan=False)
    rows = {(row["name"], row["start"]): row for row in output["rows"]}
    assert len(rows) == 6
    assert "not a SMILES" in rows["bad", "mmff94"]["reason"]
    first = rows["water", "diffusion"]
    assert first["converged"] and first["calls"] >= 1 and first["basin"] == 0
    assert first["processor_seconds_dft"] > 0
    assert first["processor_seconds_total"] > first["processor_seconds_dft"]
    assert rows["water (2)", "diffusion"]["reason"] == "the same molecule as water"
    assert "Cost of each arm" in output["tables"]
    report = tmp_path / "report.md"
    assert output["tables"] in report.read_text(encoding="utf-8")
    about, model = json.loads((tmp_path / "about.json").read_text()), load_model()
    assert (about["model"], about["model_sha256"]) == (model.name, model.sha256)
    assert about["model_level"] == model.nearest_level("lda,vwn/sto-3g").level
    views = ReadPage(tmp_path / "report.html").views
    labels = {view["name"]: [frame["label"] for frame in view["frames"]] for view in views}
    assert labels["water"] == ["start mmff94", "start diffusion", "minimum 0"]


def test_arms_that_cannot_be_run_are_refused() -> None:
    for wrong, message in [
        ({"starts": ("xray",)}, "unknown start 'xray'"),
        ({"recipes": ("newton",)}, "unknown recipe 'newton'"),
        ({"settings": {"basiss": "sto-3g"}}, "basiss"),
    ]:
        with pytest.raises(ValueError, match=message):
            SpeedupFlowMaker(**wrong)


def test_the_flow_compares_the_arms_of_the_command() -> None:
    maker = SpeedupFlowMaker()
    assert (maker.starts, maker.recipes) == (DEFAULT_STARTS, DEFAULT_RECIPES)
