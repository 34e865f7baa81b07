"""A program of the user's as the level of a flow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from jobflow import JobStore, run_locally
from kept import kinds
from maggma.stores import MemoryStore

from diffrelax.flows import DFTRelaxMaker
from diffrelax.flows.config import FlowConfig

needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")


@needs_xtb
def test_a_job_relaxes_with_a_program_and_is_found_again(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "xtb"
    program.write_text(f'#!/bin/sh\necho >> {calls}\nexec {shutil.which("xtb")} "$@"\n')
    program.chmod(0o755)
    profile = {"program": "xtb", "command": str(program), "method": "gfn2-xtb"}
    maker = DFTRelaxMaker(work=str(tmp_path / "work"), settings={"calculator": profile})
    for _ in range(2):
        job = maker.make("C[NH3+]")
        store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
        document = run_locally(job, store=store, ensure_success=True)[job.uuid][1].output
        assert document["converged"]
        assert document["settings"]["calculator"]["command"] == str(program)
        assert len(calls.read_text()) == document["gradient_calls"]


def test_a_program_that_is_killed_costs_no_other_molecule_and_its_job_fails(tmp_path) -> None:
    """So that a job of one molecule is restarted, with more memory."""
    program = tmp_path / "xtb"
    program.write_text("#!/bin/sh\ntest $(head -n 1 start.xyz) -gt 4 && kill -KILL $$\nexit 3\n")
    program.chmod(0o755)
    profile = {"program": "xtb", "command": str(program), "method": "gfn2-xtb"}
    maker = DFTRelaxMaker(work=str(tmp_path / "work"), settings={"calculator": profile})
    batch = maker.make_batch(["C", "O"])
    [methane, water] = run_locally(batch, store=_store(), ensure_success=True)[batch.uuid][1].output
    assert "xtb was killed (SIGKILL)" in methane["reason"]
    assert "ended with status 3" in water["reason"]
    one = maker.make("C")
    assert run_locally(one, store=_store()) == {}
    assert not kinds(tmp_path / "work")["unit"]


def _store() -> JobStore:
    return JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})


def test_a_flow_names_the_profile_beside_it(tmp_path: Path) -> None:
    (tmp_path / "orca.yaml").write_text("program: orca\nmethod: B97-3c\n")
    path = tmp_path / "flow.yaml"
    path.write_text("inputs: [CCO]\nminimise: {calculator: orca.yaml, fmax: 0.02}\n")
    maker = FlowConfig.read(path).maker().minimise_maker
    assert maker.level_name == "B97-3c"
    assert maker.plain_settings()["calculator"]["program"] == "orca"
    with pytest.raises(ValueError, match="program 'orca' for orca was not found"):
        maker.check_machine()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{program: orca, methd: X}", "unknown key 'methd' in minimise.calculator"),
        ("{program: vasp, method: X}", "minimise.calculator.program: Input should be 'orca'"),
        ("none.yaml", "cannot read the profile of a program .*none.yaml"),
    ],
)
def test_a_wrong_profile_in_a_flow_is_told_of(tmp_path: Path, entry: str, told: str) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(f"inputs: [CCO]\nminimise: {{calculator: {entry}}}\n")
    with pytest.raises(ValueError, match=told):
        FlowConfig.read(path)
