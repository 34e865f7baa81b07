"""A flow in the queue of jobflow-remote: its progress, and restarts of jobs that died."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pymongo.errors import ConnectionFailure

from diffrelax.errors import UnfinishedError, reason_in
from diffrelax.flows.local import Show
from diffrelax.flows.resources import StageResources, manager_config

Job = dict[str, Any]
T = TypeVar("T")

STATES = {
    "WAITING": "waiting",
    "PAUSED": "waiting",
    "READY": "queued",
    "CHECKED_OUT": "queued",
    "UPLOADED": "queued",
    "SUBMITTED": "queued",
    "BATCH_SUBMITTED": "queued",
    "RUNNING": "running",
    "BATCH_RUNNING": "running",
    "RUN_FINISHED": "running",
    "DOWNLOADED": "running",
    "COMPLETED": "done",
    "FAILED": "failed",
    "REMOTE_ERROR": "failed",
    "STOPPED": "stopped",
    "USER_STOPPED": "stopped",
}
LOST = ("failed", "stopped")
ENDED = ("done", *LOST)
MEMORY = "out of memory"
KILLS = {  # what schedulers write into the standard error of a job, and what it means
    r"time limit|walltime": "out of time",
    r"memory limit|\boom|out of memory|exceeded.*memory|MemoryError": MEMORY,
    r"node.?fail|preempt": "lost its node",
    r"cancelled": "cancelled",
}
MEMORY_ERRORS = re.compile("MemoryError|KilledError")  # in the last line of a traceback
NOT_HANDED_OVER = "Remote error"  # as jobflow-remote begins its message
JOBS_PER_SECOND = 100  # to look at
MOST_SECONDS = 30  # between two looks
LOCK_AGE = timedelta(minutes=10)  # no step of the runner takes longer
LOCK_SECONDS = 30  # to wait for a lock
FIELDS = [
    "uuid", "index", "state", "error", "worker", "parents", "remote", "job.name", "job.metadata",
]  # fmt: skip


class FlowQueue:
    """The jobs of one flow in the queue.

    Parameters
    ----------
    controller : jobflow_remote.jobs.jobcontroller.JobController
    flow_id : str
        The uuid of the flow.
    """

    def __init__(self, controller: Any, flow_id: str) -> None:
        self.controller = controller
        self.flow_id = flow_id

    def jobs(self) -> list[Job]:
        """Return all jobs from the database."""
        return list(self.controller.get_jobs({"job.hosts": self.flow_id}, FIELDS))

    def has_runner(self) -> bool:
        """Return whether a runner is running."""
        return isinstance(self.controller.get_running_runner(), dict)

    def is_done(self) -> bool:
        """Return whether all jobs have ended."""
        return all(STATES[job["state"]] == "done" for job in self.jobs())

    def has_given_up(self, restarts: int) -> bool:
        """Return whether all jobs have ended, some without a result and without restarts left."""
        jobs = self.jobs()
        lost = [job for job in jobs if STATES[job["state"]] in LOST]
        ended = all(STATES[job["state"]] in ENDED for job in jobs)
        return ended and bool(lost) and not any(restart_reason(job, restarts) for job in lost)

    def summary_id(self) -> str:
        """Return the uuid of the summary job."""
        return next(job["uuid"] for job in self.jobs() if stage(job) == "summary")

    def reasons(self) -> dict[int, str]:
        """Return why inputs were lost, by index."""
        reasons: dict[int, str] = {}
        for job in self.jobs():
            if STATES[job["state"]] in LOST and (why := explain(job)):
                for index in job["job"]["metadata"].get("inputs", ()):
                    reasons.setdefault(index, f"{job['job']['name']}: {why}")
        return reasons

    def restart(self, job: Job, restarts: int) -> str:
        """Restart a killed job, with more memory if it ran out of it.

        Parameters
        ----------
        job : dict
        restarts : int
            How often a job may be restarted.

        Returns
        -------
        str
            Description of the restart; empty if the failure is final.
        """
        from jobflow_remote.jobs.state import JobState
        from jobflow_remote.utils.db import LockedDocumentError

        why = restart_reason(job, restarts)
        if not why:
            return ""
        metadata = job["job"]["metadata"]
        number = metadata.get("restarts", 0) + 1
        changes: dict[str, Any] = {"job.metadata.restarts": number}
        before: dict[str, Any] = {"job.metadata.restarts": number - 1}
        message = f"{job['job']['name']}: {why}; restart {number} of {restarts}"
        if why == MEMORY:
            too_little = StageResources.model_validate(metadata["asked"])
            asked = too_little.with_more_memory()
            changes |= self._asking(asked)
            before |= self._asking(too_little)
            message += f" with {asked.memory_gb:g} GB"
        which = {"job_id": job["uuid"], "job_index": job["index"], "wait": LOCK_SECONDS}
        failed = {"acceptable_states": [JobState.FAILED, JobState.REMOTE_ERROR], **which}
        try:
            self.controller.set_job_doc_properties(changes, **failed)
            try:
                # the summary may have run without this job: then it runs again
                self.controller.rerun_job(force=True, **which)
            except LockedDocumentError:
                self.controller.set_job_doc_properties(before, **failed)
                raise
        except LockedDocumentError:
            return f"{message}: not yet, the job is locked"
        except ValueError:
            return f"{message}: another process has restarted it"
        return message

    def _asking(self, asked: StageResources) -> dict[str, Any]:
        config = manager_config(asked, self.controller.project)
        return config | {"job.metadata.asked": asked.model_dump(mode="json")}

    def settle(self, job: Job, jobs: list[Job]) -> None:
        """Let the summary run although a job has failed and those after it cannot run."""
        from jobflow_remote.jobs.state import JobState
        from jobflow_remote.utils.db import LockedDocumentError

        stuck = [
            child
            for child in jobs
            if job["uuid"] in child["parents"]
            and child["state"] == "WAITING"
            and stage(child) != "summary"
        ]
        with suppress(LockedDocumentError):  # until the next look
            if job["state"] == "REMOTE_ERROR":
                ended = {"state": "FAILED", "error": job["remote"]["error"]}
                which = {"job_id": job["uuid"], "wait": LOCK_SECONDS}
                self.controller.set_job_doc_properties(ended, **which)
            for child in stuck:
                which = {"job_id": child["uuid"], "wait": LOCK_SECONDS}
                self.controller.set_job_state(JobState.USER_STOPPED, **which)
            if stuck or job["state"] == "REMOTE_ERROR":
                self.controller.refresh_children([job["uuid"] for job in jobs])

    def release_locks(self) -> None:
        """Release locks of runners that no longer exist."""
        oldest = datetime.now(UTC) - LOCK_AGE
        runner = self.controller.get_running_runner()
        if isinstance(runner, dict):
            oldest = max(oldest, runner["start_time"].replace(tzinfo=UTC))
        stale = {"lock_time": {"$lt": oldest}}
        released = {"$set": {"lock_id": None, "lock_time": None}}
        self.controller.jobs.update_many({"job.hosts": self.flow_id} | stale, released)
        self.controller.flows.update_many({"uuid": self.flow_id} | stale, released)


def patiently(ask: Callable[[], T], tell: Callable[[str], None]) -> T:
    """Repeat a query until the database answers."""
    while True:
        try:
            return ask()
        except ConnectionFailure as error:
            tell(f"the database does not respond ({type(error).__name__}): waiting")
            time.sleep(MOST_SECONDS)


def follow(queue: FlowQueue, restarts: int, show: Show, tell: Callable[[str], None]) -> None:
    """Follow a flow until its summary is complete.

    Parameters
    ----------
    queue : FlowQueue
    restarts : int
        How often a killed job is restarted.
    show, tell : callable
        See `diffrelax.flows.remote.run_remote`.

    Raises
    ------
    RuntimeError
        If the summary itself failed for good, or the flow was deleted.
    """

    def look() -> tuple[list[Job], int]:
        jobs = queue.jobs()
        if not jobs:
            raise UnfinishedError(f"flow {queue.flow_id} is no longer in the queue: it was deleted")
        queue.release_locks()
        return jobs, sum(deal_with(job, jobs, queue, restarts, tell) for job in jobs)

    while True:
        jobs, restarted = patiently(look, tell)
        states = Counter(STATES[job["state"]] for job in jobs)
        ended = sum(states[state] for state in ENDED)
        show(ended - restarted, len(jobs), states)
        if ended == len(jobs) and not restarted:
            return
        time.sleep(min(MOST_SECONDS, max(1, len(jobs) / JOBS_PER_SECOND)))


def deal_with(
    job: Job, jobs: list[Job], queue: FlowQueue, restarts: int, tell: Callable[[str], None]
) -> bool:
    """Restart a killed job, or let the others continue without it.

    Returns
    -------
    bool
        Whether it was restarted.

    Raises
    ------
    RuntimeError
        If it is the summary, and cannot be restarted.
    """
    state = STATES[job["state"]]
    if state not in LOST:
        return False
    if state == "failed" and (message := queue.restart(job, restarts)):
        tell(message)
        return True
    if stage(job) == "summary":
        raise UnfinishedError(f"the summary could not be made: {explain(job)}")
    queue.settle(job, jobs)
    return False


def stage(job: Job) -> str:
    """Return the stage of a flow that a job belongs to."""
    return job["job"]["metadata"].get("stage", "")


def restart_reason(job: Job, restarts: int) -> str:
    """Return why a job was killed; empty if it was not, or has no restarts left."""
    again = job["job"]["metadata"].get("restarts", 0) < restarts
    return kill_reason(job) if again and STATES[job["state"]] == "failed" else ""


def kill_reason(job: Job) -> str:
    """Return what killed a failed job; empty if it raised an exception.

    Parameters
    ----------
    job : dict
        In state FAILED or REMOTE_ERROR.
    """
    error = job["error"] or ""
    if job["state"] == "REMOTE_ERROR" or error.startswith(NOT_HANDED_OVER):
        return "could not be submitted to its worker"
    queue_error = job["remote"].get("queue_err") or ""
    if error.startswith("Traceback") and not MEMORY_ERRORS.search(error.strip().splitlines()[-1]):
        return ""
    for written in (queue_error, error):
        for pattern, meaning in KILLS.items():
            if re.search(pattern, written, re.IGNORECASE):
                return meaning
    last = queue_error.strip().splitlines()[-1:]
    return f"ended without a result ({last[0].strip()})" if last else "killed"


def explain(job: Job) -> str:
    """Return in one line why a job failed or was stopped."""
    if STATES[job["state"]] == "stopped":
        return "" if job["parents"] else "stopped by its user"
    error = job["error"] or job["remote"].get("error") or ""
    why = kill_reason(job)
    number = job["job"]["metadata"].get("restarts", 0)
    last = reason_in(error)
    if not why:
        return last
    message = f"{why}, after {number} restarts"
    return f"{message}: {last}" if error.startswith(NOT_HANDED_OVER) else message
