"""What a job costs beside its work, with jobflow-remote and the scheduler of a worker."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from jobflow import Flow, job
from tqdm.auto import tqdm

from diffrelax.flows.resources import StageResources, manager_config


@job
def start_up() -> dict[str, float]:
    """Do nothing, and tell the age of this process and the processor time that it took, in s."""
    from psutil import Process

    age = time.time() - Process().create_time()
    return {"seconds": age, "processor_seconds": time.process_time()}


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
            time.sleep(1)
            if record := controller.jobs.find_one(failed):
                why = record["error"] or record["remote"]["error"]
                raise RuntimeError(f"{record['job']['name']} failed: {why}")
            before, done = done, controller.jobs.count_documents(query | {"state": "COMPLETED"})
            bar.update(done - before)
