"""The front door: a flow file in, the account of its molecules out."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

from diffrelax.flows.config import DFTLevel, FlowConfig
from diffrelax.flows.local import run_local
from diffrelax.flows.stores import open_store
from diffrelax.flows.summary import Summary


def run_flow(config: FlowConfig) -> Summary:
    """Run a flow to its end; run again, it goes on from where it stood.

    Progress is shown on standard error if that is a terminal: jobs by state, how many there are in
    a second, and the time left.

    Parameters
    ----------
    config : FlowConfig

    Returns
    -------
    Summary
        Each input exactly once.

    Raises
    ------
    ValueError
        If there is no such model, functional or level.
    ConnectionError
        If a database does not answer.
    """
    check_stages(config)
    flow = config.maker().make(config.inputs)
    with tqdm(total=len(flow.jobs), unit="job", disable=None) as bar:

        def show(ended: int, states: Mapping[str, int]) -> None:
            bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in states.items()))
            bar.update(ended - bar.n)

        store = open_store(config.results, config.blobs)
        return run_local(flow, store, config.folder, show)


def check_stages(config: FlowConfig) -> None:
    """Find out, before work begins, whether its stages can run at all.

    Raises
    ------
    ValueError
        If there is no such model or device, or no such functional.
    """
    from diffrelax.levels.density_functional import check_functional
    from diffrelax.models import load_model

    load_model(config.model)
    if isinstance(config.minimise, DFTLevel):
        check_functional(config.minimise.xc)
