"""Measure what a job costs beside its work, and how much work to give to one.

python workflows/overhead.py single_node -n 500 -o overhead.json

The runner of the project must run on this machine; best, nothing else is in the queue.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from jobflow import Flow
from tqdm.auto import tqdm

from diffrelax.atomic import replacing
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.flows.overhead import start_up
from diffrelax.flows.resources import StageResources, manager_config
from diffrelax.flows.stores import read_project

MOST_OVERHEAD = 0.05  # of the work


def measure(project: Any, worker: str, n: int) -> dict[str, Any]:
    """Send trivial jobs through a project, and wait for them.

    Best with nothing else in the queue.

    Parameters
    ----------
    project : jobflow_remote.config.base.Project
    worker : str
        Empty for the first of the project.
    n : int
        Number of jobs; independent of each other.

    Returns
    -------
    dict
        ``seconds_between_jobs`` (from the submission to the end of the last, for each job),
        ``submission_seconds`` (all jobs), ``worker`` (medians of `start_up`), and
        ``runner_processor_seconds`` and ``bytes`` in the database, both for each job.

    Raises
    ------
    RuntimeError
        If there is no runner on this machine, or a job fails.
    """
    from jobflow_remote import submit_flow

    started, used = time.monotonic(), runner_processor_seconds(project)
    config = manager_config(StageResources(worker=worker).filled(), project)
    jobs = [start_up() for _ in range(n)]
    for i, one in enumerate(jobs):
        one.append_name(f" {i}")
        one.config.manager_config = config
    flow = Flow(jobs, name="overhead")
    submit_flow(flow, project=project.name)
    submitted = time.monotonic()
    controller = project.get_job_controller()
    _wait(controller, flow)
    ended = time.monotonic()
    used = runner_processor_seconds(project) - used
    store = project.get_jobstore()
    store.connect()
    outputs = [store.get_output(one.uuid) for one in jobs]
    return {
        "n": n,
        "seconds_between_jobs": (ended - started) / n,
        "submission_seconds": submitted - started,
        "worker": {key: median(output[key] for output in outputs) for key in outputs[0]},
        "runner_processor_seconds": used / n,
        "bytes": database_bytes(controller, store, flow.uuid),
    }


def runner_processor_seconds(project: Any) -> float:
    """Return the processor time that the runner of a project has used so far, in s.

    Raises
    ------
    RuntimeError
        If there is no runner on this machine.
    """
    import psutil
    from jobflow_remote.jobs.daemon import DaemonManager

    number = DaemonManager.from_project(project).get_supervisord_pid()
    if number is None or not psutil.pid_exists(number):
        raise RuntimeError(
            f"no runner of {project.name!r} here: start it with jf -p {project.name} runner start"
        )
    processes = psutil.Process(number).children(recursive=True)
    times = [process.cpu_times() for process in processes]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def database_bytes(controller: Any, store: Any, flow_id: str) -> dict[str, float]:
    """Return the mean size of what the database keeps of each job of a flow.

    Returns
    -------
    dict
        ``job`` and its ``output``, and the share of a job in the document of its ``flow``.
    """
    from bson import encode

    jobs = list(controller.jobs.find({"job.hosts": flow_id}))
    outputs = list(store.query({"uuid": {"$in": [record["uuid"] for record in jobs]}}))
    kept = {"job": jobs, "output": outputs, "flow": [controller.flows.find_one({"uuid": flow_id})]}
    return {
        kind: round(sum(len(encode(record)) for record in records) / len(jobs))
        for kind, records in kept.items()
    }


def _wait(controller: Any, flow: Flow) -> None:
    query = {"job.hosts": flow.uuid}
    failed = query | {"state": {"$in": ["FAILED", "REMOTE_ERROR"]}}
    done = 0
    with tqdm(total=len(flow.jobs), unit="job", disable=None) as bar:
        while done < len(flow.jobs):
            time.sleep(max(1, len(flow.jobs) / 100))  # not to be a load on the database
            if record := controller.jobs.find_one(failed):
                why = record["error"] or record["remote"]["error"]
                raise RuntimeError(f"{record['job']['name']} failed: {why}")
            before, done = done, controller.jobs.count_documents(query | {"state": "COMPLETED"})
            bar.update(done - before)


def report(measured: Mapping[str, Any]) -> str:
    """Say in words what was measured, and what follows from it."""
    worker = measured["worker"]
    return (
        f"{measured['n']} jobs, one every {measured['seconds_between_jobs']:.1f} s\n"
        f"each started up for {worker['seconds']:.1f} s ({worker['processor_seconds']:.1f} s of a "
        f"processor), and took {measured['runner_processor_seconds']:.2f} s of the runner's\n"
        f"so that starting up is less than {MOST_OVERHEAD:.0%} of it, give a job "
        f"{worker['seconds'] / MOST_OVERHEAD:.0f} s of work or more"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", help="of jobflow-remote")
    parser.add_argument("--worker", default="", help="default: the first of the project")
    parser.add_argument("-n", type=int, default=500, help="jobs")
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    project = read_project(arguments.project)
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": describe_hardware("cpu"),
        "runner": project.runner.model_dump(mode="json"),
    }
    measured = measure(project, arguments.worker, arguments.n)
    print(report(measured))
    if arguments.output:
        about["load"] = os.getloadavg()
        with replacing(arguments.output) as part:
            part.write_text(json.dumps(about | measured, indent=1) + "\n", encoding="utf-8")
