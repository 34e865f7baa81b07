"""Running a flow file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tqdm import tqdm

from diffrelax.choices import Engine
from diffrelax.dft import DFTSettings
from diffrelax.errors import InputError
from diffrelax.files.writing import make_folder
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.local import run_local
from diffrelax.flows.page import flow_page
from diffrelax.flows.remote import run_remote
from diffrelax.flows.stores import PROJECT, open_store, read_stages
from diffrelax.flows.summary import Summary
from diffrelax.levels import Level, check_installed, check_level
from diffrelax.progress import progress_bar

PAGE = "report.html"


def run_flow(config: FlowConfig, engine: Engine = "local") -> Summary:
    """Run a flow; run it again to resume.

    At the end, ``report.html`` in its folder shows the results.

    Progress is shown on standard error: molecules or jobs by state, and the time left.

    Parameters
    ----------
    config : FlowConfig
    engine : {"local", "remote"}
        Run jobs here, one after another, or with jobflow-remote.

    Returns
    -------
    Summary
        One entry for each input.

    Raises
    ------
    ValueError
        If the model, functional, level, project or worker does not exist.
    ConnectionError
        If the database does not answer.
    RuntimeError
        If the summary job failed, or the flow was deleted.
    """
    check_stages(config, engine)
    with progress_bar(unit="job") as bar:

        def show(ended: int, total: int, states: Mapping[str, int]) -> None:
            bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in states.items()), False)
            bar.total = total
            bar.update(ended - bar.n)

        if engine == "remote":
            tell = partial(tqdm.write, file=sys.stderr)
            summary, jobs = run_remote(config, show, tell)
            store = open_store(f"{PROJECT}{config.remote.project}")
        else:
            make_folder(Path(config.work or config.folder))
            flow, store = config.flow(), open_store(config.results)
            jobs = list(flow.job_uuids)
            summary = run_local(flow, store, config.folder, show)
    path, page = config.folder / PAGE, flow_page(config, summary, read_stages(store, jobs))
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
        page.write(path)
    except OSError as error:
        print(f"{path} could not be written: {error}", file=sys.stderr)
    else:
        print(f"report: {path}", file=sys.stderr)
    return summary


def check_stages(config: FlowConfig, engine: Engine) -> None:
    """Check that the stages can run, before work begins.

    Also prints which learned level the model uses.

    Raises
    ------
    ValueError
        If the model, level, functional or basis does not exist; if the model does not support the
        noise level; if a level, optimizer or device is not available for the local engine; or if
        the store does not fit the engine.
    """
    from diffrelax.models.batches import choose_schedule
    from diffrelax.models.release import load_model

    model = None
    if engine == "local" or not config.model.endswith(".safetensors"):  # workers may have that file
        device = config.device if engine == "local" else "cpu"
        model = load_model(config.model, device)
        choose_schedule(model, config.noise_level)
    here = engine == "local"  # what is not installed here may be on workers
    if isinstance(config.minimise, DFTSettings):
        from diffrelax.dft.optimization import check_settings

        check_settings(config.minimise, installed=here)
    else:
        (check_installed if here else check_level)(config.minimise.level)
    if engine == "remote" and config.store:
        raise InputError(
            "with the remote engine, results go to the store of the jobflow-remote "
            "project: leave out `store`"
        )
    if model is not None:
        nearest = model.nearest_level(Level.parse(config.minimise.level, strict=False))
        tqdm.write(nearest.described(model.name), file=sys.stderr)
