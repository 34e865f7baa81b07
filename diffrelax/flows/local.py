"""The local engine: jobs one after another, in this process."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from jobflow import Flow, JobStore, run_locally
from jobflow.core.schemas import JobStoreDocument

from diffrelax.documents import read_document
from diffrelax.flows.reports import result_row
from diffrelax.flows.summary import Summary

Show = Callable[[int, int, Mapping[str, int]], None]


class WatchedStore(JobStore):
    """A store that tells of each job that it keeps.

    Parameters
    ----------
    store : JobStore
    on_job : callable
        Called with the document of the job.
    """

    def __init__(self, store: JobStore, on_job: Callable[[JobStoreDocument], None]) -> None:
        super().__init__(store.docs_store, store.additional_stores, store.save, store.load)
        self._on_job = on_job

    def update(self, docs: Any, *args: Any, **kwargs: Any) -> None:
        """Keep a job and tell of it."""
        super().update(docs, *args, **kwargs)
        self._on_job(docs)


def run_local(flow: Flow, store: JobStore, folder: Path, show: Show) -> Summary:
    """Run a flow that `diffrelax.flows.RelaxFlowMaker` made, here and now.

    Run again after a crash, it takes finished units from the folder of work and goes on.

    Parameters
    ----------
    flow : jobflow.Flow
    store : jobflow.JobStore
        Connected.
    folder : path
        In which jobs run, and where ``jobflow.log`` tells of them.
    show : callable
        Called after each job with the number of jobs that have ended, that of all jobs, and the
        molecules by state.

    Returns
    -------
    Summary

    Raises
    ------
    RuntimeError
        If another process runs a flow in this folder, the store cannot be written to, or the
        installation is broken.
    """
    jobs = itertools.count(1)
    states: Counter[str] = Counter()

    def count(made: JobStoreDocument) -> None:
        if made.metadata.get("stage") == "minimise":
            outputs = made.output if isinstance(made.output, list) else [made.output]
            states.update(result_row(read_document(output))["state"] for output in outputs)
        show(next(jobs), len(flow.jobs), states)

    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "jobflow.log"
    with _alone_in(folder), _logging_to(log), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="jobflow")
        responses = run_locally(flow, store=WatchedStore(store, count), log=False, root_dir=folder)
    try:
        summary = Summary.model_validate(responses[flow.jobs[-1].uuid][1].output)
    except KeyError:
        raise RuntimeError(f"the flow did not come to its summary: see {log}") from None
    told = f"its job did not end: {log} tells why"
    return summary.with_reasons(dict.fromkeys(range(len(summary.rows)), told))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from running a flow in a folder; the lock ends with its process."""
    try:
        held = FileLock(folder / "running.lock").acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"another process runs a flow in {folder}: wait for its end") from None
    with held:
        yield


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    logger = logging.getLogger("jobflow")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
