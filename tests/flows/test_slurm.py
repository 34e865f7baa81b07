from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from read_page import ReadPage
from source_tree import ROOT

from diffrelax.flows import ConformerFlowMaker
from diffrelax.flows.resources import StageResources, manager_config
from diffrelax.flows.stores import read_project
from diffrelax.store import Store, Unit

from .cluster import Cluster, missing_programs, running_cluster, wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"needs {', '.join(missing_programs())}"),
]

FLOW = """
inputs: [CCO ethanol, C=O formaldehyde, C1CC unclosed, CO methanol, COC ether, CC#N acetonitrile]
batch_size: 3
minimise: {level: gfn2-xtb}
remote:
  project: single_node
  relax: {cores: 1, memory_gb: 0.25}
  minimise: {memory_gb: 1.5, minutes: 10}
"""
NAMES = ["ethanol", "formaldehyde", "unclosed", "methanol", "ether", "acetonitrile"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(Path(tempfile.mkdtemp(prefix="slurm-"))) as cluster:
        yield cluster


@pytest.fixture
def project(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the project of the cluster, whose runner runs."""
    from jobflow_remote import SETTINGS

    monkeypatch.setattr(SETTINGS, "projects_folder", str(cluster.folder / "projects"))
    cluster.start_runner()
    return read_project("single_node")


class Watched:
    """The command ``diffrelax run`` in the cluster, and the units that it has finished."""

    def __init__(self, cluster: Cluster, flow: Path) -> None:
        self.cluster = cluster
        self.flow = flow
        self.units: dict[str, Unit] = {}
        self.errors = ""

    def start(self) -> None:
        # a shell that starts the tests in the background has SIGINT ignored
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from diffrelax.cli import main; main()"
        )
        arguments = ["run", str(self.flow), "--engine", "remote", "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=self.flow.with_suffix(".err").open("ab"),
            text=True,
        )

    def wait_for(self, condition, seconds: float = 600) -> None:
        def holds() -> bool:
            self.look()
            if condition():
                return True
            assert self.process.poll() is None, self.told()
            return False

        wait_for(holds, seconds)

    def look(self) -> None:
        """No unit that has been finished may be written again."""
        for key, unit in Store.in_folder(self.flow.parent / self.flow.stem / "work").each():
            assert self.units.setdefault(key, unit) == unit

    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.process.stdout.read().splitlines()]

    def told(self) -> str:
        return self.flow.with_suffix(".err").read_text(encoding="utf-8")


def test_a_flow_ends_whatever_happens_to_its_jobs_and_its_runner(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.kill_runner()
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW, encoding="utf-8")
    run = Watched(cluster, flow)
    run.start()
    run.wait_for(lambda: "submitted to project" in run.told())
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait() == 130
    cluster.start_runner()
    wait_for(cluster.ended_jobs, 300)  # too little memory, nobody looks
    run.start()
    run.wait_for(lambda: "following it" in run.told())

    run.wait_for(lambda: "out of memory; restart 1 of 3 with 0.5 GB" in run.told())
    cancelled: set[str] = set()

    def cancel() -> bool:
        """Cancel jobs, each once, until one of them was caught before its end."""
        for number in set(cluster.running_jobs("gfn2-xtb")) - cancelled:
            cluster.call("scancel", number)
            cancelled.add(number)
        return "cancelled; restart 1 of 3" in run.told()

    run.wait_for(cancel)
    run.wait_for(lambda: cluster.running_jobs("gfn2-xtb"))
    cluster.kill_runner()
    cluster.start_runner()
    run.wait_for(lambda: run.process.poll() is not None)

    rows = run.rows()
    assert [row["name"] for row in rows] == NAMES
    assert [row["state"] for row in rows] == [
        "converged",
        "converged",
        "failed",
        "converged",
        "converged",
        "converged",
    ]
    run.look()
    assert len(run.units) == 10  # relaxations and minimisations of five molecules
    page = ReadPage(tmp_path / "flow" / "report.html")
    assert [row[1] for row in page.rows[1:]] == NAMES
    assert sorted(view["name"] for view in page.views) == sorted(set(NAMES) - {"unclosed"})
    assert all(len(view["frames"]) > 1 for view in page.views)
    listed = cluster.call("jf", "job", "list")
    for name in ("relax 0–2", "gfn2-xtb 0 ethanol", "summarise"):
        assert name in listed


def test_what_a_worker_lacks_is_told_for_each_input(cluster: Cluster, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(
        "inputs: [CO methanol, CC ethane]\nmodel: /nowhere/model.safetensors\n"
        "remote: {project: single_node}\n",
        encoding="utf-8",
    )
    cluster.start_runner()
    run = Watched(cluster, flow)
    run.start()
    run.wait_for(lambda: run.process.poll() is not None)
    rows = run.rows()
    assert [(row["name"], row["state"]) for row in rows] == [
        ("methanol", "lost"),
        ("ethane", "lost"),
    ]
    for row in rows:
        assert "relax 0–1: there is no model file /nowhere/model.saf" in row["reason"]
        assert "put the file where all workers can read it" in row["reason"]
    assert "restart" not in run.told()


def test_jobs_added_at_run_time_get_what_was_asked_for_them(project: Any) -> None:
    from jobflow_remote import submit_flow

    network = manager_config(StageResources(minutes=5).filled(), project)
    level = manager_config(StageResources(minutes=7).filled(memory_gb=1.5), project)
    flow = ConformerFlowMaker(n=2, level="mmff94").make("CCO ethanol")
    asked = {"manager_config": network, "response_manager_config": level}
    flow.update_config(asked, dynamic=False)
    submit_flow(flow, project=project.name)
    controller = project.get_job_controller()

    def jobs() -> list[dict[str, Any]]:
        return list(controller.jobs.find({"job.hosts": flow.uuid}))

    wait_for(lambda: {job["state"] for job in jobs()} == {"COMPLETED"}, 600)
    search, *added = jobs()
    assert search["resources"] == network["resources"]
    assert [job["job"]["name"] for job in added][-2:] == ["weights ethanol", "store_inputs"]
    for job in added:
        assert job["resources"] == level["resources"]
        assert "--time=0-0:7:0" in Path(job["run_dir"], "submit.sh").read_text()


def test_what_a_job_costs_beside_its_work_is_measured(project: Any) -> None:
    measure = runpy.run_path(str(ROOT / "workflows" / "overhead.py"))["measure"]
    measured = measure(project, "", 2)
    assert measured["n"] == 2
    worker = measured["worker"]
    assert (
        0 < worker["processor_seconds"] < worker["seconds"] < 2 * measured["seconds_between_jobs"]
    )
    assert measured["runner_processor_seconds"] > 0
    assert min(measured["bytes"].values()) > 100
