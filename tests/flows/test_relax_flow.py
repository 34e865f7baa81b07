from __future__ import annotations

import runpy
import subprocess
import sys
from typing import Any

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from source_tree import ROOT

from diffrelax import relaxation
from diffrelax.flows import (
    DFTRelaxMaker,
    DiffusionRelaxMaker,
    ForceFieldRelaxMaker,
    RelaxFlowMaker,
)
from diffrelax.flows.summary import Summary, SummaryRow, summary_row
from diffrelax.results.provenance import Provenance

INPUTS = ["CCO", "C1CC", "C[Se]C selenide", "CO", "CO", "C=O"]


def make(**settings: Any):
    minimise = ForceFieldRelaxMaker(level="gfn2-xtb")
    return RelaxFlowMaker(minimise_maker=minimise, batch_size=4, **settings).make(INPUTS)


def run(flow) -> Summary:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    responses = run_locally(flow, store=store, log=False)
    return Summary.model_validate(responses[flow.jobs[-1].uuid][1].output)


def test_each_input_is_in_the_summary_exactly_once() -> None:
    summary = run(make())
    assert [row.index for row in summary.rows] == list(range(6))
    assert [row.name for row in summary.rows] == ["CCO", "C1CC", "selenide", "CO", "CO", "C=O"]
    states = [row.state for row in summary.rows]
    assert states == ["converged", "failed", *["converged"] * 4]
    assert [row.verdict for row in summary.rows][2] == "refused"
    assert summary.rows[2].reason == "refused: the model was not trained on Se"
    assert "not a SMILES" in summary.rows[1].reason
    assert summary.counts == {"converged": 5, "failed": 1}


def test_molecules_of_a_batch_are_told_apart() -> None:
    flow = make(minimise_batch_size=3)
    assert [job.name for job in flow.jobs[2:]] == [
        "force field 0–2", "force field 3 CO", "force field 4–5", "summarise",
    ]  # fmt: skip
    assert [job.metadata["inputs"] for job in flow.jobs[2:5]] == [[0, 1, 2], [3], [4, 5]]
    batched, single = run(flow), run(make())
    energies = [row.energy for row in batched.rows]
    assert energies == pytest.approx([row.energy for row in single.rows])
    assert [row.reason for row in batched.rows] == [row.reason for row in single.rows]
    assert batched.rows[1].state == "failed"


def test_the_summary_runs_when_jobs_of_either_stage_die(monkeypatch) -> None:
    relax, minimise = relaxation.relax_molecules, ForceFieldRelaxMaker.calculate

    def dying_relax(molecules, *arguments, **settings):
        if "C=O" in [molecule.name for molecule in molecules]:
            raise OSError("the node is gone")
        return relax(molecules, *arguments, **settings)

    def dying_minimise(self, molecule, *arguments):
        if molecule.name == "CO":
            raise MemoryError
        return minimise(self, molecule, *arguments)

    monkeypatch.setattr(relaxation, "relax_molecules", dying_relax)
    monkeypatch.setattr(ForceFieldRelaxMaker, "calculate", dying_minimise)
    flow = make()
    summary = run(flow)
    states = [row.state for row in summary.rows]
    assert states == ["converged", "failed", "converged", "lost", "lost", "lost"]
    assert [row.stage for row in summary.rows][3:] == ["minimise", "relax", "relax"]
    assert flow.jobs[-2].uuid in summary.rows[5].reason


def test_jobs_say_what_they_are() -> None:
    flow = make()
    assert [job.name for job in flow.jobs] == [
        "relax 0–3",
        "relax 4–5",
        "force field 0 CCO",
        "force field 1 C1CC",
        "force field 2 selenide",
        "force field 3 CO",
        "force field 4 CO",
        "force field 5 C=O",
        "summarise",
    ]
    assert [job.metadata["formulas"] for job in flow.jobs[2:5]] == [["C2H6O"], [""], ["C2H6Se"]]


def test_updates_reach_the_makers_inside() -> None:
    maker = RelaxFlowMaker()
    for stage in (DiffusionRelaxMaker, DFTRelaxMaker):
        maker = maker.update_kwargs({"work": "/w"}, class_filter=stage)
    flow = make()
    flow.update_maker_kwargs({"work": "/w"}, class_filter=ForceFieldRelaxMaker)
    assert flow.jobs[2].maker.work == "/w" and flow.jobs[0].maker.work == ""
    assert maker.relax_maker.work == maker.minimise_maker.work == "/w"


def test_a_flow_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one molecule"):
        RelaxFlowMaker().make([])
    with pytest.raises(ValueError, match="batch size 0"):
        RelaxFlowMaker(batch_size=0).make("CO")


def test_an_input_whose_batch_is_lost_is_named_as_it_was_given() -> None:
    row = summary_row(7, "x", "some-uuid", None, None)
    assert (row.index, row.name, row.state, row.stage) == (7, "x", "lost", "relax")


@pytest.mark.parametrize(
    "smiles", ["CC(=O)OC", "CCO 4,4'-di", 'C $(touch x)`y`;#"\\', "C tab\tand more", "C é–=1,2+3"]
)
def test_names_of_jobs_are_no_code_in_the_scripts_of_schedulers(smiles: str) -> None:
    flow = RelaxFlowMaker().make([smiles])
    for job in flow.jobs:
        name = job.name.replace(" ", "_")  # as jobflow-remote does
        said = subprocess.run(["bash", "-c", f"echo {name}"], capture_output=True, check=True)
        assert said.stdout.decode() == f"{name}\n"


def test_a_name_that_ends_like_a_file_is_a_name(tmp_path) -> None:
    path = tmp_path / "titles.smi"
    path.write_text("CO\tmethanol.mol\n")
    minimise = ForceFieldRelaxMaker()
    (row,) = run(RelaxFlowMaker(minimise_maker=minimise).make(path)).rows
    assert (row.name, row.state) == ("methanol.mol", "converged")


@pytest.mark.parametrize(
    ("state", "status"), [("converged", 0), ("predicted", 0), ("not converged", 1), ("lost", 1)]
)
def test_the_script_to_copy_ends_as_the_command_does(monkeypatch, state: str, status: int) -> None:
    row = SummaryRow(index=0, name="O", state=state, stage="dft")
    summary = Summary(rows=(row,), counts={state: 1}, provenance=Provenance.here())
    monkeypatch.setattr("diffrelax.flows.run.run_flow", lambda *_: summary)
    monkeypatch.setattr(sys, "argv", ["relax_screen.py", "O"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "workflows" / "relax_screen.py"), run_name="__main__")
    assert int(end.value.code) == status
