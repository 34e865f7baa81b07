"""Resources that jobs request: cores, memory, time, and a GPU if needed."""

from __future__ import annotations

from math import ceil
from typing import Any, Self

from pydantic import Field

from diffrelax.entries import Entries
from diffrelax.errors import InputError

BASIS_FUNCTIONS_PER_CORE = 100  # below that, another core is mostly idle
MOST_CORES = 16
PROGRAM_GB = 1.0  # Python with all packages
GRID_GB = 0.01  # for each basis function; B3LYP took 1.1 GB with 114 functions, 2.0 GB with 208
FITTING_RATIO = 4  # auxiliary functions for each basis function
DISK_GB = 32  # PySCF keeps what is beyond on disk
PYSCF_SHARE = 0.8  # of the memory of a job; the program itself needs the rest


class StageResources(Entries):
    """Resources that the jobs of a stage request.

    Attributes
    ----------
    worker : str
        Worker of the jobflow-remote project; default: the first.
    cores : int, optional
    memory_gb : float, optional
        For the whole job.
    gpus : int, optional
    minutes : int, optional
        Wall time limit; default: that of the worker.
    """

    worker: str = ""
    cores: int | None = Field(default=None, gt=0)
    memory_gb: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    gpus: int | None = Field(default=None, ge=0)
    minutes: int | None = Field(default=None, gt=0)

    def filled(self, *, cores: int = 1, memory_gb: float = 2.0, gpus: int = 0) -> Self:
        """Return a copy with missing entries estimated."""
        estimates = {"cores": cores, "memory_gb": memory_gb, "gpus": gpus}
        given = self.model_dump(exclude_none=True)
        return self.model_copy(update=estimates | given)

    def with_more_memory(self) -> Self:
        """Return a copy with twice the memory."""
        return self.model_copy(update={"memory_gb": 2 * (self.memory_gb or 0)})


def dft_resources(n_basis: int) -> dict[str, Any]:
    """Estimate what a DFT relaxation needs.

    Parameters
    ----------
    n_basis : int
        Number of basis functions; 0 if not known.

    Returns
    -------
    dict
        ``cores`` and ``memory_gb``. Memory for functions on the grid, and for three-centre
        integrals of density fitting twice, except those on disk.
    """
    integrals = 8e-9 * FITTING_RATIO * n_basis * n_basis * (n_basis + 1) / 2
    return {
        "cores": min(MOST_CORES, max(1, round(n_basis / BASIS_FUNCTIONS_PER_CORE))),
        "memory_gb": round(PROGRAM_GB + min(DISK_GB, GRID_GB * n_basis + 2 * integrals), 1),
    }


def manager_config(asked: StageResources, project: Any) -> dict[str, Any]:
    """Return the jobflow-remote settings of a job.

    Parameters
    ----------
    asked : StageResources
        Resources with cores and memory.
    project : jobflow_remote.config.base.Project

    Returns
    -------
    dict
        ``worker``, ``resources`` (those of the worker, updated by the request, in the terms of its
        scheduler), and ``exec_config`` with limits for the job.

    Raises
    ------
    ValueError
        If the project has no such worker.
    """
    from qtoolkit.core.data_objects import QResources

    known = list(project.workers)
    name = asked.worker or (known or [""])[0]
    if name not in known:
        raise InputError(
            f"project {project.name!r} of jobflow-remote has no worker {name!r}; "
            f"it has: {', '.join(known) or 'none'}"
        )
    assert asked.cores and asked.memory_gb
    scheduler = project.workers[name].get_scheduler_io()
    wanted = {
        "nodes": 1,
        "processes_per_node": 1,
        "threads_per_process": asked.cores,
        "memory_per_thread": ceil(1024 * asked.memory_gb / asked.cores),
        "gpus_per_job": asked.gpus or None,
        "time_limit": 60 * asked.minutes if asked.minutes else None,
    }
    supported = {k: v for k, v in wanted.items() if k in scheduler.supported_qresources_keys}
    in_its_words = scheduler.check_convert_qresources(QResources(**supported))
    limits = {
        "OMP_NUM_THREADS": asked.cores,
        "PYSCF_MAX_MEMORY": int(1000 * PYSCF_SHARE * asked.memory_gb),  # MB
    }
    return {
        "worker": name,
        "resources": (project.workers[name].resources or {}) | in_its_words,
        "exec_config": {"export": limits},
    }
