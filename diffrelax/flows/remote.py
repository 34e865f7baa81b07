"""The remote engine: submits jobs to the queue of a jobflow-remote project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
from jobflow import Flow
from pymongo import timeout
from pymongo.errors import PyMongoError

from diffrelax.atomic import claimed
from diffrelax.dft import DFTSettings
from diffrelax.errors import InputError
from diffrelax.files.reading import is_path
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.local import Show
from diffrelax.flows.queue import FlowQueue, follow, patiently
from diffrelax.flows.resources import StageResources, dft_resources, manager_config
from diffrelax.flows.stores import DATABASE_SECONDS, read_project
from diffrelax.flows.summary import Summary
from diffrelax.store import work_key

# MongoDB keeps 16 MB in a document at most: the jobs of a flow and its summary, 0.5 kB for each
# molecule, and the results of a batch, 0.3 kB for each atom
MOST_MOLECULES, MOST_ATOMS = 20_000, 40_000
NOT_IN_KEY = {"inputs", "folder", "store", "remote"}


def run_remote(
    config: FlowConfig, show: Show, tell: Callable[[str], None]
) -> tuple[Summary, list[str]]:
    """Submit a flow, or find it in the queue, and follow it to its end.

    After an interrupt the jobs continue; run it again to follow the same flow, also if it has ended
    without lost inputs. Killed jobs are restarted only while the flow is followed.

    Parameters
    ----------
    config : FlowConfig
    show : callable
        See `diffrelax.flows.local.run_local`; the states are those of jobs.
    tell : callable
        Called with messages, for example about a restarted job.

    Returns
    -------
    Summary
        Lost inputs have the reason of their last job.
    list of str
        The uuids of the jobs.

    Raises
    ------
    ValueError
        If the project or worker does not exist, or the flow is too large.
    ConnectionError
        If the database does not answer.
    RuntimeError
        If the summary failed, or the flow was deleted.
    """
    project = read_project(config.remote.project)
    key = flow_key(config)
    with _answering(project):
        controller = project.get_job_controller()
        controller.db.command("ping")
    with _one_after_another(config.folder):
        if flow_id := patiently(lambda: find_flow(controller, key, config.remote.restarts), tell):
            tell(
                f"flow {flow_id} is already in the queue: following it. To submit it again, "
                f"delete it first: jf -p {project.name} flow delete -fid {flow_id}"
            )
        else:
            flow_id = _submit(config, project, key)
            tell(f"flow {flow_id} submitted to project {project.name!r}")
    queue = FlowQueue(controller, flow_id)
    if not patiently(lambda: queue.is_done() or queue.has_runner(), tell):
        tell(f"no runner is active: start it with jf -p {project.name} runner start")
    follow(queue, config.remote.restarts, show, tell)

    def summary() -> Summary:
        store = project.get_jobstore()
        store.connect()
        made = Summary.model_validate(store.get_output(queue.summary_id(), load=True))
        return made.with_reasons(queue.reasons())

    return patiently(summary, tell), patiently(lambda: [job["uuid"] for job in queue.jobs()], tell)


def flow_key(config: FlowConfig) -> str:
    """Return a key that equal flows share."""
    inputs = [_content(given) if is_path(given) else given for given in config.inputs]
    settings = config.model_dump(mode="json", exclude=NOT_IN_KEY)
    return work_key("flow", json.dumps(inputs), settings | {"model": _weights(config.model)})


def find_flow(controller: Any, key: str, restarts: int) -> str:
    """Return the uuid of the latest flow with a key; empty if there is none to follow.

    A flow that lost inputs or its summary is not found, so that they are tried again. Jobs that
    were killed while nobody followed the flow are still restarted.
    """
    latest = [("created_on", -1)]
    found = controller.flows.find_one({"metadata.key": key}, {"uuid": 1}, sort=latest)
    if found is None:
        return ""
    queue = FlowQueue(controller, str(found["uuid"]))
    return "" if queue.has_given_up(restarts) else queue.flow_id


def ask_for_resources(flow: Flow, config: FlowConfig, project: Any) -> None:
    """Set the worker and the resources of each job of a flow.

    Raises
    ------
    ValueError
        If the project has no such worker, or the needs of a program are unknown.
    """
    for job in flow.jobs:
        asked = _resources(job.metadata, config)
        # the metadata of a job outlive its restarts, and say what the next one starts from
        job.metadata["asked"] = asked.model_dump(mode="json")
        job.config = replace(job.config, manager_config=manager_config(asked, project))


def _resources(metadata: dict[str, Any], config: FlowConfig) -> StageResources:
    remote = config.remote
    if metadata["stage"] == "relax":
        return remote.relax.filled(cores=2, gpus=int(config.device.startswith("cuda")))
    if metadata["stage"] in ("hand on", "summary"):
        return StageResources(worker=remote.minimise.worker).filled()
    if not isinstance(config.minimise, DFTSettings):
        return remote.minimise.filled()
    if profile := config.minimise.calculator:
        if profile.program != "xtb" and None in (remote.minimise.cores, remote.minimise.memory_gb):
            raise InputError(
                f"what jobs of {profile.program} need is unknown: set cores and memory_gb "
                "of remote.minimise to match its input"
            )
        return remote.minimise.filled()
    basis = config.minimise.basis
    sizes = [_n_functions(formula, basis) for formula in metadata["formulas"]]
    return remote.minimise.filled(**dft_resources(max(sizes)))


def _n_functions(formula: str, basis: str) -> int:
    from diffrelax.levels.basis import count_functions

    try:
        return count_functions(ase.Atoms(formula).numbers, basis)
    except ValueError:  # the basis lacks an element: the job will say so
        return 0


def check_sizes(flow: Flow) -> None:
    """Check that a flow and its results fit into MongoDB documents.

    Raises
    ------
    ValueError
        If not.
    """
    atoms: dict[int, int] = {}
    for job in flow.jobs:
        if job.metadata["stage"] == "minimise":
            sizes = [len(ase.Atoms(formula)) for formula in job.metadata["formulas"]]
            atoms |= zip(job.metadata["inputs"], sizes, strict=True)
    if len(atoms) > MOST_MOLECULES:
        raise InputError(
            f"a flow of {len(atoms)} molecules is too large for a document of MongoDB: split them "
            f"into flows of {MOST_MOLECULES} or fewer"
        )
    for job in flow.jobs:
        batch = job.metadata.get("inputs", ())
        if (n := sum(atoms[i] for i in batch)) > MOST_ATOMS:
            raise InputError(
                f"the results of a batch of {len(batch)} molecules with {n} atoms are too large "
                f"for a document of MongoDB: make it {len(batch) * MOST_ATOMS // n} molecules or "
                "fewer (batch_size, minimise_batch_size)"
            )


def _submit(config: FlowConfig, project: Any, key: str) -> str:
    from jobflow_remote import submit_flow
    from jobflow_remote.config import ConfigError

    flow = config.flow()
    check_sizes(flow)
    ask_for_resources(flow, config, project)
    flow.metadata = {"key": key}
    try:
        submit_flow(flow, project=project.name)
    except ConfigError as error:
        raise InputError(
            f"project {project.name!r} cannot accept the flow: {error}; compare its file "
            "with workflows/clusters"
        ) from error
    return flow.uuid


def _weights(name: str) -> str:
    if name.endswith(".safetensors"):  # workers may have that file
        return _content(name)
    from diffrelax.models.release import load_model

    return load_model(name).sha256  # of a release of which there may be newer ones


def _content(given: str) -> str:
    path = Path(given)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else given


@contextmanager
def _one_after_another(folder: Path) -> Iterator[None]:
    """Wait until no other process submits a flow of this folder, if locks are supported."""
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / "submitting.lock"):
        yield


@contextmanager
def _answering(project: Any) -> Iterator[None]:
    try:
        with timeout(DATABASE_SECONDS):
            yield
    except PyMongoError as error:
        host = project.queue.store.get("host", "of the queue")
        raise ConnectionError(
            f"the database {host} of project {project.name!r} does not respond within "
            f"{DATABASE_SECONDS} s: start it, or check address, password and firewall in the "
            f"file of the project ({type(error).__name__})"
        ) from error
