"""The front door: a flow file in, the account of its molecules out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Literal

from tqdm.auto import tqdm

from diffrelax.flows.config import DFTLevel, FlowConfig
from diffrelax.flows.local import run_local
from diffrelax.flows.remote import run_remote
from diffrelax.flows.stores import open_store
from diffrelax.flows.summary import Summary

Engine = Literal["local", "remote"]


def run_flow(config: FlowConfig, engine: Engine = "local") -> Summary:
    """Run a flow to its end; run again, it goes on from where it stood.

    Progress is shown on standard error if that is a terminal: molecules or jobs by state, jobs in a
    second, and the time left.

    Parameters
    ----------
    config : FlowConfig
    engine : {"local", "remote"}
        Whether jobs run here, one after another, or where a project of jobflow-remote sends them.

    Returns
    -------
    Summary
        Each input exactly once.

    Raises
    ------
    ValueError
        If there is no such model, functional or level; or no such project or worker.
    ConnectionError
        If a database does not answer.
    RuntimeError
        If the job that sums the flow up failed for good.
    """
    check_stages(config, engine)
    with tqdm(unit="job", disable=None) as bar:

        def show(ended: int, total: int, states: Mapping[str, int]) -> None:
            bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in states.items()), False)
            bar.total = total
            bar.update(ended - bar.n)

        if engine == "remote":
            tell = partial(tqdm.write, file=sys.stderr)
            return run_remote(config, show, tell)
        flow = config.maker().make(config.inputs)
        return run_local(flow, open_store(config.results), config.folder, show)


def check_stages(config: FlowConfig, engine: Engine) -> None:
    """Find out, before work begins, whether its stages can run at all.

    Raises
    ------
    ValueError
        If there is no such model, functional or basis, if the model does not know the noise level,
        if with the local engine a level, an optimizer or the device is not there, or if the store
        is not that of the engine.
    """
    from diffrelax.dft.optimization import check_settings
    from diffrelax.levels import check_installed
    from diffrelax.levels.density_functional import check_basis
    from diffrelax.levels.functionals import read_functional
    from diffrelax.models.batches import choose_schedule
    from diffrelax.models.release import load_model

    if engine == "local" or not config.model.endswith(".safetensors"):  # workers may have that file
        device = config.device if engine == "local" else "cpu"
        choose_schedule(load_model(config.model, device), config.noise_level)
    if engine == "local" and isinstance(config.minimise, DFTLevel):
        check_settings(config.minimise)
    elif engine == "local":
        check_installed(config.minimise.level)
    elif isinstance(config.minimise, DFTLevel):  # what is not installed here may be on workers
        read_functional(config.minimise.xc)
        check_basis(config.minimise.basis)
    if engine == "remote" and config.store:
        raise ValueError(
            "with the remote engine, results go to the store of the jobflow-remote project: leave "
            "out store"
        )
