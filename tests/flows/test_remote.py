from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from maggma.stores import MemoryStore
from pymongo import _csot
from source_tree import OLDER, ROOT

from diffrelax.flows import RelaxFlowMaker, remote
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.queue import FlowQueue, explain, follow, kill_reason
from diffrelax.flows.remote import ask_for_resources, check_sizes, find_flow, flow_key
from diffrelax.flows.resources import StageResources, dft_resources, manager_config
from diffrelax.flows.run import run_flow
from diffrelax.levels.basis import count_functions
from diffrelax.levels.density_functional import mean_field
from diffrelax.models import release as models
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule

pytest.importorskip("jobflow_remote")

CLUSTERS = ROOT / "workflows" / "clusters"


@pytest.fixture
def project(tmp_path: Path, monkeypatch):
    """Return a function that reads one of the projects in workflows/clusters, filled in."""
    from jobflow_remote import SETTINGS
    from jobflow_remote.config import ConfigManager

    monkeypatch.setattr(SETTINGS, "projects_folder", str(tmp_path))

    def read(name: str):
        text = (CLUSTERS / f"{name}.yaml").read_text(encoding="utf-8")
        for key, value in {"port": "9", "database": "results"}.items():
            text = text.replace(f"{{{key}}}", value)
        text = re.sub(r"\{[^}]*\}", "/x", text)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return ConfigManager().get_project(name)

    return read


@pytest.mark.parametrize("name", ["local_shell", "single_node", "multi_node"])
def test_each_example_is_a_project_of_jobflow_remote(project, name) -> None:
    read = project(name)
    assert read.name == name
    assert "data" in read.get_jobstore().additional_stores


def test_a_job_asks_on_top_of_what_its_worker_asks_in_the_words_of_the_scheduler(project) -> None:
    asked = StageResources(worker="cpu", minutes=90).filled(cores=4, memory_gb=6)
    config = manager_config(asked, project("multi_node"))
    assert config["worker"] == "cpu"
    assert config["resources"] == {
        "partition": "/x",
        "account": "/x",
        "time": "0-1:30:0",
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": 4,
        "mem_per_cpu": 1536,
    }
    assert config["exec_config"]["export"] == {"OMP_NUM_THREADS": 4, "PYSCF_MAX_MEMORY": 4800}
    gpu = manager_config(StageResources().filled(gpus=1), project("multi_node"))
    assert (gpu["worker"], gpu["resources"]["gres"]) == ("gpu", "gpu:1")
    assert (
        manager_config(asked.model_copy(update={"worker": ""}), project("local_shell"))["resources"]
        == {}
    )
    with pytest.raises(ValueError, match="has no worker 'cpu'; it has: slurm"):
        manager_config(asked, project("single_node"))


def test_functions_are_counted_without_a_geometry() -> None:
    for basis in ("6-31G(2df,p)", "def2-svp", "6-31G*"):
        molecule = Molecule.from_smiles("CC(N)=O")
        expected = mean_field(molecule, basis=basis).mol.nao
        assert count_functions(molecule.numbers, basis) == expected
    with pytest.raises(ValueError, match="nosuch"):
        count_functions([6], "nosuch")


def test_larger_dft_asks_for_more_cores_and_memory_up_to_a_limit() -> None:
    estimates = [dft_resources(n) for n in (0, 100, 208, 500, 1000, 10_000)]
    assert [e["cores"] for e in estimates] == [1, 1, 2, 5, 10, 16]
    memory = [e["memory_gb"] for e in estimates]
    assert memory == sorted(memory) and memory[-1] < 40
    assert estimates[2]["memory_gb"] > 2.0  # measured


def test_each_stage_asks_for_what_it_needs(project) -> None:
    config = FlowConfig(
        inputs=("CCO", "C1CC", "CBr"),
        folder="flow",
        device="cuda",
        remote={"relax": {"worker": "gpu"}, "minimise": {"worker": "cpu", "minutes": 60}},
    )
    flow = config.flow()
    ask_for_resources(flow, config, project("multi_node"))
    managed = [job.config.manager_config for job in flow.jobs]
    assert [m["worker"] for m in managed] == ["gpu"] + ["cpu"] * 5
    assert ["gres" in m["resources"] for m in managed] == [True] + [False] * 5
    ethanol, bad, not_covered = (m["resources"]["mem_per_cpu"] for m in managed[2:5])
    assert ethanol > bad == not_covered
    assert flow.jobs[-1].config.on_missing_references.value == "none"
    untouched = RelaxFlowMaker().make("CO").jobs[-1].config
    assert untouched.manager_config == {}


def test_what_another_program_needs_is_asked_of_the_user(project) -> None:
    orca = {"calculator": {"program": "orca", "method": "r2SCAN-3c"}}
    config = FlowConfig(inputs=("CO",), folder="flow", minimise=orca)
    with pytest.raises(ValueError, match="what jobs of orca need is unknown: set cores"):
        ask_for_resources(config.flow(), config, project("multi_node"))
    asked = {"minimise": {"cores": 8, "memory_gb": 16}}
    config = FlowConfig(inputs=("CO",), folder="flow", minimise=orca, remote=asked)
    flow = config.flow()
    ask_for_resources(flow, config, project("multi_node"))
    (job,) = (job for job in flow.jobs if job.metadata["stage"] == "minimise")
    assert (job.metadata["asked"]["cores"], job.metadata["asked"]["memory_gb"]) == (8, 16)


def test_what_does_not_fit_into_a_document_is_refused(monkeypatch) -> None:
    flow = RelaxFlowMaker(batch_size=3).make(["CCO", "C1CC", "CO", "C"])
    check_sizes(flow)
    monkeypatch.setattr("diffrelax.flows.remote.MOST_ATOMS", 14)
    with pytest.raises(ValueError, match=r"3 molecules with 15 atoms .* make it 2 molecules or"):
        check_sizes(flow)
    monkeypatch.setattr("diffrelax.flows.remote.MOST_MOLECULES", 3)
    with pytest.raises(ValueError, match=r"flow of 4 molecules .* flows of 3 or fewer"):
        check_sizes(flow)


KILLED = "The output file was downloaded, but the job was likely killed before completing"
PROGRAM_KILLED = "KilledError: orca was killed (SIGKILL), perhaps because it ran out of memory"
TRACEBACK = "Traceback (most recent call last):\n  File ...\n{}\n"


@pytest.mark.parametrize(
    ("error", "written", "reason"),
    [
        (
            KILLED,
            "slurmstepd: error: *** JOB 3 ON n1 CANCELLED AT now DUE TO TIME LIMIT ***",
            "time",
        ),
        (KILLED, "error: Step 3 exceeded memory limit (1 > 0), being killed", "out of memory"),
        (KILLED, "error: Detected 1 oom_kill event in StepId=3.batch", "out of memory"),
        (
            KILLED,
            "error: *** JOB 3 ON n1 CANCELLED AT now DUE TO NODE FAILURE ***",
            "lost its node",
        ),
        (KILLED, "error: *** JOB 3 ON n1 CANCELLED AT now DUE TO PREEMPTION ***", "lost its node"),
        (KILLED, "error: *** JOB 3 ON n1 CANCELLED AT now ***", "cancelled"),
        (KILLED, "*** JOB 3 ON bloom12 CANCELLED AT now DUE TO NODE FAILURE ***", "lost its node"),
        (
            "Remote error: submission failed.\nsbatch: error: invalid partition specified",
            None,
            "not be submitted to its worker",
        ),
        (KILLED, None, "killed"),
        (KILLED, "a warning\nscript: line 15: jf: command not found\n", "jf: command not found"),
        (TRACEBACK.format(PROGRAM_KILLED), None, "out of memory"),
        (TRACEBACK.format(PROGRAM_KILLED), "*** JOB 3 CANCELLED DUE TO PREEMPTION ***", "its node"),
        (TRACEBACK.format("MemoryError"), None, "out of memory"),
        (
            TRACEBACK.format("numpy._ArrayMemoryError: Unable to allocate 9 GiB"),
            "",
            "out of memory",
        ),
        (TRACEBACK.format("ValueError: there is no model 'x'"), "CANCELLED", ""),
    ],
)
def test_what_killed_a_job_is_told_from_what_it_did_wrong(error, written, reason) -> None:
    job = {
        "state": "FAILED",
        "error": error,
        "remote": {"queue_err": written},
        "job": {"metadata": {"restarts": 2}},
        "parents": [],
    }
    found = kill_reason(job)
    assert reason in found and bool(reason) == bool(found)
    expected = "after 2 restarts" if reason else "ValueError: there is no model 'x'"
    assert expected in explain(job)
    if error.startswith("Remote error"):
        assert explain(job).endswith(": sbatch: error: invalid partition specified")


class Queue:
    """A controller whose jobs are locked, or have been restarted by another process."""

    def __init__(self, project, error: Exception) -> None:
        self.project = project
        self.error = error
        self.job: dict = {}

    def set_job_doc_properties(self, values, **_) -> None:
        self.job |= values

    def rerun_job(self, **_) -> None:
        raise self.error


def test_a_job_that_cannot_be_restarted_yet_keeps_its_restarts_and_its_memory(project) -> None:
    from jobflow_remote.utils.db import LockedDocumentError

    asked = StageResources().filled(cores=1, memory_gb=2)
    metadata = {"restarts": 1, "asked": asked.model_dump(mode="json")}
    job = {
        "uuid": "u",
        "index": 1,
        "state": "FAILED",
        "error": "MemoryError",
        "remote": {},
        "job": {"name": "dft CCO", "metadata": metadata},
    }
    read = project("single_node")
    locked = Queue(read, LockedDocumentError("locked"))
    assert FlowQueue(locked, "f").restart(job, 3).endswith("not yet, the job is locked")
    assert locked.job == {
        "job.metadata.restarts": 1,
        "job.metadata.asked": metadata["asked"],
        **manager_config(asked, read),
    }
    taken = Queue(read, ValueError("The Job is in the READY state"))
    assert FlowQueue(taken, "f").restart(job, 3).endswith("another process has restarted it")
    assert taken.job["job.metadata.restarts"] == 2


def test_the_same_flow_has_the_same_key_and_another_flow_another(tmp_path: Path) -> None:
    file = tmp_path / "a.smi"
    file.write_text("CO\n")
    config = FlowConfig(inputs=(str(file), "CC"), folder=tmp_path)
    key = flow_key(config)
    elsewhere = file.rename(tmp_path / "b.smi")
    same = config.model_copy(update={"inputs": (str(elsewhere), "CC"), "folder": tmp_path / "x"})
    assert flow_key(same) == key
    assert flow_key(same.model_copy(update={"seed": 1})) != key
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"1")
    mine = same.model_copy(update={"model": str(weights)})
    once = flow_key(mine)
    weights.write_bytes(b"2")
    assert flow_key(mine) != once
    elsewhere.write_text("CCO\n")
    assert flow_key(same) != key


def test_a_new_release_of_the_model_makes_another_flow(tmp_path: Path, monkeypatch) -> None:
    config = FlowConfig(inputs=("CO",), folder=tmp_path)
    key = flow_key(config)
    older = config.model_copy(update={"model": OLDER})
    assert flow_key(older) != key
    monkeypatch.setattr(models, "load_model", lambda name: load_model(OLDER))
    assert flow_key(config) == flow_key(older)


class Controller:
    """The queue with one flow whose summary has been made, and one failed job in it."""

    def __init__(self, error: str, restarts: int) -> None:
        store = MemoryStore()
        store.connect()
        self.flows = store._collection
        ended = {"metadata": {"key": "k"}}
        self.flows.insert_many([ended | {"uuid": f"{day}", "created_on": day} for day in (2, 3, 1)])
        metadata = {"restarts": restarts}
        self.failed = {
            "state": "FAILED", "error": error, "remote": {}, "job": {"metadata": metadata},
        }  # fmt: skip
        self.ended = {"state": "COMPLETED"}

    def get_jobs(self, query, projection):
        return [self.failed, self.ended] if query == {"job.hosts": "3"} else []


@pytest.mark.parametrize(
    ("error", "restarts", "found"),
    [(KILLED, 0, "3"), (KILLED, 3, ""), (TRACEBACK.format("ValueError: wrong"), 0, "")],
)
def test_a_flow_goes_on_whose_jobs_were_killed_while_nobody_looked(error, restarts, found) -> None:
    controller = Controller(error, restarts)
    assert find_flow(controller, "k", 3) == found
    assert find_flow(controller, "another", 3) == ""


def test_a_flow_that_has_ended_is_found_unless_it_lost_inputs() -> None:
    controller = Controller("", 0)
    controller.failed["state"] = "COMPLETED"
    assert find_flow(controller, "k", 3) == "3"
    controller.failed["state"] = "USER_STOPPED"
    assert find_flow(controller, "k", 3) == ""
    controller.ended["state"] = "RUNNING"
    assert find_flow(controller, "k", 3) == "3"


def test_a_flow_that_was_deleted_is_told_of() -> None:
    queue = FlowQueue(Controller("", 0), "4")
    with pytest.raises(RuntimeError, match="flow 4 is no longer in the queue: it was deleted"):
        follow(queue, 3, Mock(), Mock())


def test_a_database_that_answers_is_not_told_to_be_slow(project, monkeypatch, tmp_path) -> None:
    """Where it takes long to know the flow, or to look for it."""

    def controller() -> SimpleNamespace:
        return SimpleNamespace(db=SimpleNamespace(command=lambda _: None))

    def slow(*_: object) -> str:
        assert _csot.get_timeout() is None
        return "f"

    monkeypatch.setattr(remote, "flow_key", slow)
    monkeypatch.setattr(remote, "find_flow", slow)
    read = SimpleNamespace(name="single_node", get_job_controller=controller)
    monkeypatch.setattr(remote, "read_project", lambda _: read)
    told: list[str] = []
    monkeypatch.setattr(remote, "FlowQueue", lambda *_: told.append("followed") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        remote.run_remote(FlowConfig(inputs=("CO",), folder=tmp_path), print, told.append)
    assert told[0].startswith("flow f is already in the queue") and told[1] == "followed"


def test_what_the_remote_engine_cannot_do_says_what_to_do(project, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("diffrelax.flows.remote.DATABASE_SECONDS", 0.2)
    project("single_node")
    config = FlowConfig(inputs=("CO",), folder=tmp_path, remote={"project": "single_node"})
    with pytest.raises(
        ConnectionError, match=r"127.0.0.1 of project 'single_node' does not respond"
    ):
        run_flow(config, "remote")
    for change, message in [
        ({"store": "results"}, "leave out `store`"),
        ({"remote": {"project": "nosuch"}}, "no project 'nosuch'.*jf project list"),
        ({"minimise": {"level": "gnf2-xtb"}}, "unknown level of theory 'gnf2-xtb'"),
    ]:
        changed = FlowConfig.model_validate(config.model_dump() | change)
        with pytest.raises(ValueError, match=message):
            run_flow(changed, "remote")
