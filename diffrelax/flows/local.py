"""The local engine: runs jobs one after another in this process."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from jobflow import Flow, JobStore, run_locally
from jobflow.core.schemas import JobStoreDocument
from pymongo.errors import PyMongoError

from diffrelax.errors import InputError, UnfinishedError, reason_in
from diffrelax.flows.stores import keep_run
from diffrelax.flows.summary import Summary
from diffrelax.results.rows import ResultRow
from diffrelax.results.stored import read_document

Show = Callable[[int, int, Mapping[str, int]], None]


class Unwritable(BaseException):
    """A store cannot be written to. Not an `Exception`, after which jobflow would continue."""


class WatchedStore(JobStore):
    """A store that reports each job, and ends the flow if it cannot be written.

    Parameters
    ----------
    store : JobStore
    on_job : callable
        Called with the document of each job.
    """

    def __init__(self, store: JobStore, on_job: Callable[[JobStoreDocument], None]) -> None:
        super().__init__(store.docs_store, store.additional_stores, store.save, store.load)
        self._on_job = on_job

    def update(self, docs: Any, *args: Any, **kwargs: Any) -> None:
        """Store a job and report it."""
        try:
            super().update(docs, *args, **kwargs)
        except OSError as error:
            raise Unwritable from error
        except PyMongoError as error:
            raise Unwritable from ConnectionError(
                f"the database stopped responding ({type(error).__name__}): start it and "
                "rerun the command to resume"
            )
        self._on_job(docs)


def run_local(flow: Flow, store: JobStore, folder: Path, show: Show) -> Summary:
    """Run a flow of `diffrelax.flows.RelaxFlowMaker` in this process.

    After a crash, run it again to resume from finished units.

    Parameters
    ----------
    flow : jobflow.Flow
    store : jobflow.JobStore
        Connected.
    folder : path
        Run folder of jobs, and of ``jobflow.log``.
    show : callable
        Called after each job with the number of finished jobs, the number of all jobs, and the
        molecules by state.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError
        If another process runs a flow in this folder.
    OSError
        If the store cannot be written to.
    RuntimeError
        If the installation is broken.
    """
    jobs = itertools.count(1)
    states: Counter[str] = Counter()

    def count(made: JobStoreDocument) -> None:
        if made.metadata.get("stage") == "minimise":
            outputs = made.output if isinstance(made.output, list) else [made.output]
            states.update(ResultRow.of(read_document(output)).state for output in outputs)
        show(next(jobs), len(flow.jobs), states)

    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder), _logging_to(folder / "jobflow.log") as log, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="jobflow")
        keep_run(folder, flow.job_uuids)
        watched = WatchedStore(store, count)
        try:
            responses = run_locally(flow, store=watched, log=False, root_dir=folder)
        except Unwritable as stop:
            assert stop.__cause__ is not None
            raise stop.__cause__ from None
    try:
        summary = Summary.model_validate(responses[flow.jobs[-1].uuid][1].output)
    except KeyError:
        why = log.ends.get(flow.jobs[-1].name, "")
        raise UnfinishedError(
            f"the flow did not reach its summary ({why}): see {log.baseFilename}"
        ) from None
    return summary.with_reasons(
        {
            index: f"{log.ends[job.name]}: see {log.baseFilename}"
            for job in flow.jobs
            for index in job.metadata.get("inputs", ())
            if job.name in log.ends
        }
    )


class JobLog(logging.FileHandler):
    """The log of jobflow, and the last error of each failed job by name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.ends: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log record."""
        name, failed, trace = record.getMessage().partition(" failed with exception:\n")
        if failed:
            self.ends[name] = reason_in(trace)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Ignore write errors; the store reports a full disk."""


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder of a flow against other processes."""
    try:
        held = FileLock(folder / "running.lock").acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is running a flow in {folder}: wait until it has finished"
        ) from None
    with held:
        yield


@contextmanager
def _logging_to(path: Path) -> Iterator[JobLog]:
    logger = logging.getLogger("jobflow")
    log = JobLog(path)
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        logger.setLevel(level)
        logger.removeHandler(log)
        with suppress(OSError):  # of a full disk
            log.close()
