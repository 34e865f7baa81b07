"""``diffrelax train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffrelax.cli.options import Device, Threads, set_threads


def train(
    config: Annotated[Path, typer.Argument(help="config.yaml in the folder of the model")],
    max_minutes: Annotated[float, typer.Option(min=0, help="Stop and save after this time")] = 1e9,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run there")] = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train a model; writes beside its config.yaml."""
    from diffrelax.qm9 import load_qm9
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.loop import check_device, check_folder
    from diffrelax.training.loop import train as run

    settings = ModelConfig.read(config)
    check_folder(config.parent, resume)
    check_device(device)
    set_threads(threads)
    state = run(
        settings,
        config.parent,
        load_qm9("train"),
        load_qm9("validation"),
        device=device,
        max_minutes=max_minutes,
        resume=resume,
    )
    print(f"step {state.step} of {settings.training.steps} after {state.seconds / 3600:.2f} h")
