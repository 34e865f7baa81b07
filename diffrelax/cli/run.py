"""``diffrelax run``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from diffrelax.choices import Engine
from diffrelax.cli.options import Json


def run(
    flow: Annotated[
        Path, typer.Argument(help=("flow.yaml with the molecules, the stages and where they run"))
    ],
    engine: Annotated[
        Engine,
        typer.Option(help="local: in this process; remote: with jobflow-remote"),
    ] = "local",
    json_lines: Json = False,
) -> None:
    """Run a flow.

    Rerun the command to resume.
    """
    from diffrelax.flows.config import FlowConfig
    from diffrelax.flows.reports import summary_table
    from diffrelax.flows.run import run_flow
    from diffrelax.flows.stores import without_password
    from diffrelax.flows.summary import GOOD

    config = FlowConfig.read(flow)
    try:
        summary = run_flow(config, engine)
    except KeyboardInterrupt:
        print("interrupted: rerun the command to resume", file=sys.stderr)
        raise typer.Exit(130) from None
    if json_lines:
        for row in summary.rows:
            print(row.model_dump_json())
    else:
        print(summary_table(summary))
    where = f"project:{config.remote.project}" if engine == "remote" else config.folder
    place = without_password(config.store) or str(where)
    print(f"results: diffrelax results list {shlex.quote(place)}", file=sys.stderr)
    raise typer.Exit(0 if all(row.state in GOOD for row in summary.rows) else 1)
