"""Stores of results: a folder, MongoDB, or the store of a jobflow-remote project."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from jobflow import JobStore
from maggma.stores import GridFSStore, MongoStore
from pymongo.errors import PyMongoError

from diffrelax.atomic import write_text
from diffrelax.choices import Kind
from diffrelax.errors import InputError, without_password
from diffrelax.extras import find_extra
from diffrelax.flows.embedded import SQLiteStore
from diffrelax.results.documents import ResultDocument
from diffrelax.results.stored import read_document

MONGODB = ("mongodb://", "mongodb+srv://")
PROJECT = "project:"
EMBEDDED = "results.sqlite"
LAST_RUN = "jobs.json"  # in the folder of a flow
STAGES = ("relax", "minimise")  # of a flow, whose outputs are results, even those of an old schema
KINDS = get_args(Kind)
DATABASE_SECONDS = 5  # to answer in


def open_store(where: str) -> JobStore:
    """Open a store of results.

    Parameters
    ----------
    where : str
        A folder for an SQLite file; the address of a MongoDB database,
        ``mongodb://[user:password@]host[:port]/database``; or ``project:NAME``, for the store of a
        jobflow-remote project. Trajectories are in GridFS of the same database, or where the
        project stores them.

    Returns
    -------
    jobflow.JobStore
        Connected. Its additional store is ``data``, as in atomate2.

    Raises
    ------
    ValueError
        If the address is invalid or has no database, or the project does not exist.
    ConnectionError
        If the database does not answer.
    """
    if where.startswith(MONGODB):
        try:
            store = _mongodb(where)
        except (PyMongoError, ValueError) as error:
            raise InputError(
                f"not the address of a database, {without_password(where)}: {error}"
            ) from None
    elif where.startswith(PROJECT):
        store = read_project(where.removeprefix(PROJECT)).get_jobstore()
    else:
        store = _embedded(Path(where))
    try:
        store.connect()
        store.docs_store.query_one({})
    except PyMongoError as error:
        raise ConnectionError(
            f"the database {without_password(where)} does not respond within {DATABASE_SECONDS} s: "
            f"start it, or check address, password and firewall ({type(error).__name__})"
        ) from error
    return store


def open_results(where: str) -> JobStore:
    """Open an existing store: as in `open_store`, or the folder of a flow.

    Raises
    ------
    ValueError, ConnectionError
        If it does not exist; see `open_store`.
    """
    if where.startswith((*MONGODB, PROJECT)):
        return open_store(where)
    for folder in (Path(where) / "store", Path(where)):
        if (folder / EMBEDDED).exists():
            return open_store(str(folder))
    raise InputError(
        f"there are no results in {where}: give the folder of a flow, mongodb://host/database or "
        f"{PROJECT}NAME"
    )


def read_project(name: str) -> Any:
    """Return a project of jobflow-remote; with an empty name, its default.

    Raises
    ------
    ValueError
        If jobflow-remote is not installed, or has no such project.
    """
    find_extra("jobflow_remote", "hpc", "a flow on a cluster")
    from jobflow_remote.config import ConfigError, ConfigManager

    try:
        return ConfigManager().get_project(name or None)
    except ConfigError as error:
        raise InputError(
            f"jobflow-remote has no project {name!r}: {error}; `jf project list` shows those that "
            "there are"
        ) from error


def keep_run(folder: Path, jobs: Sequence[str]) -> None:
    """Write the uuids of the jobs of a new run into the folder of its flow."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / LAST_RUN, json.dumps(list(jobs)))


def last_run(where: str) -> list[str] | None:
    """Return the uuids of the jobs of the last run; None if `where` is not a flow folder."""
    path = Path(where) / LAST_RUN
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_results(
    store: JobStore, jobs: Sequence[str] | None = None
) -> tuple[list[ResultDocument], list[str]]:
    """Read the results in a store without trajectories, each unit once.

    Parameters
    ----------
    store : JobStore
        Connected.
    jobs : sequence of str, optional
        Uuids of jobs to read. Default: all.

    Returns
    -------
    list of ResultDocument
        In the order of completion.
    list of str
        Messages about documents that cannot be read.
    """
    results: dict[tuple[str, str], ResultDocument] = {}
    problems: dict[str, int] = {}
    wanted = None if jobs is None else {"uuid": {"$in": list(jobs)}}
    for i, (_, record) in enumerate(_records(store, wanted)):
        try:
            document = read_document(_without_blobs(record))
        except ValueError as error:
            problems[str(error)] = problems.get(str(error), 0) + 1
            continue
        results[document.key or str(i), document.name] = document
    return list(results.values()), [f"{n} × {problem}" for problem, n in problems.items()]


def read_stages(store: JobStore, uuids: Sequence[str]) -> dict[int, dict[str, ResultDocument]]:
    """Read the documents of each input of a flow, without trajectories.

    Parameters
    ----------
    store : JobStore
        Connected.
    uuids : sequence of str
        Of the jobs.

    Returns
    -------
    dict
        Documents by index of input and stage, ``"relax"`` or ``"minimise"``; missing and unreadable
        ones are left out.
    """
    found: dict[int, dict[str, ResultDocument]] = {}
    fields = ["uuid", "output", "metadata"]
    for made in store.query({"uuid": {"$in": list(uuids)}}, fields):
        metadata, output = made.get("metadata") or {}, made["output"]
        if metadata.get("stage") not in STAGES:
            continue
        records = output if isinstance(output, list) else [output]
        for index, record in zip(metadata["inputs"], records, strict=False):
            with suppress(ValueError):
                document = read_document(_without_blobs(record))
                found.setdefault(index, {})[metadata["stage"]] = document
    return found


def find_result(store: JobStore, wanted: str) -> list[dict[str, Any]]:
    """Return the documents with a name, or a key with this beginning, with trajectories."""

    def is_wanted(record: dict[str, Any]) -> bool:
        by_key = len(wanted) >= 6 and record.get("key", "").startswith(wanted)
        return by_key or record.get("name", "") == wanted

    jobs = {job for job, record in _records(store) if is_wanted(record)}
    found = {
        (record.get("key", ""), record.get("name", "")): record
        for _, record in _records(store, {"uuid": {"$in": sorted(jobs)}}, load=True)
        if is_wanted(record)
    }
    return list(found.values())


def _embedded(folder: Path) -> JobStore:
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder.resolve() / EMBEDDED)
    return JobStore(SQLiteStore(path, "outputs"), {"data": SQLiteStore(path, "blobs")})


def _mongodb(uri: str) -> JobStore:
    if not re.match(r"[a-z+]+://[^/]+/[^/?]+", uri):
        raise InputError("it does not name a database: write mongodb://host:27017/database")
    options = {"mongoclient_kwargs": {"serverSelectionTimeoutMS": 1000 * DATABASE_SECONDS}}
    blobs = GridFSStore.from_uri(uri, "blobs", compression=True, **options)
    return JobStore(MongoStore.from_uri(uri, "outputs", **options), {"data": blobs})


def _records(
    store: JobStore, criteria: dict[str, Any] | None = None, load: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the outputs of diffrelax jobs, documents or lists of them, with the uuid of the job."""
    for made in store.query(criteria, ["uuid", "output", "metadata"], load=load):
        output = made["output"]
        if isinstance(output, dict) and output.get("kind") == "conformers":
            output = output["conformers"]
        outputs = output if isinstance(output, list) else [output]
        stage = (made.get("metadata") or {}).get("stage")
        for output in outputs:
            if isinstance(output, dict) and (output.get("kind") in KINDS or stage in STAGES):
                yield made["uuid"], output


def _without_blobs(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, dict) and "blob_uuid" in v else v for k, v in record.items()}
