"""``diffrelax train`` and ``diffrelax finetune``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from diffrelax.cli.options import Device, Threads, set_threads

Compiled = Annotated[
    bool,
    typer.Option("--compile", help="Compile the network first; needs a C++ compiler"),
]
MaxMinutes = Annotated[float, typer.Option(min=0, help="Stop and save after this time")]


def train(
    config: Annotated[Path, typer.Argument(help="config.yaml in the folder of the model")],
    max_minutes: MaxMinutes = 1e9,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run there")] = False,
    compiled: Compiled = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train a model; writes beside its config.yaml."""
    from diffrelax.finetuning import load_minima
    from diffrelax.models import load_model
    from diffrelax.qm9 import load_qm9
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.loop import RESUME, check_compiler, check_device, check_folder
    from diffrelax.training.loop import train as run

    settings = ModelConfig.read(config)
    check_folder(config.parent, resume)
    check_device(device)
    set_threads(threads)
    if compiled:
        check_compiler()
    base = None
    if settings.training.base and not (config.parent / RESUME).exists():
        base = load_model(settings.training.base).denoiser
    if settings.training.data == "qm9":
        starts = settings.training.starts
        train_set, validation_set = load_qm9("train", starts), load_qm9("validation", starts)
    else:
        minima = load_minima(config.parent / settings.training.data, settings)
        train_set, validation_set = minima.train_set, minima.validation_set
        for one in minima.left_out:
            print(f"left out {one.source} {one.name}: {one.reason}", file=sys.stderr)
        print(f"{len(train_set)} minima to learn, {len(validation_set)} to validate on")
    state = run(
        settings,
        config.parent,
        train_set,
        validation_set,
        device=device,
        max_minutes=max_minutes,
        resume=resume,
        base=base,
        compiled=compiled,
    )
    print(f"step {state.step} of {settings.training.steps} after {state.time.wall / 3600:.2f} h")


def finetune(
    model: Annotated[str, typer.Argument(help="Released model, or a .safetensors file")],
    data: Annotated[Path, typer.Argument(help="Minima: .extxyz, .xyz or .sdf")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model")],
    level: Annotated[str, typer.Option(help="Level of theory of the minima")],
    steps: Annotated[int, typer.Option(min=1, help="Length of the run")] = 2048,
    max_minutes: MaxMinutes = 1e9,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Fine-tune a model on minima of your own; goes on with `train OUTPUT/config.yaml --resume`."""
    from diffrelax.finetuning import begin_finetuning
    from diffrelax.models import load_model

    config = begin_finetuning(load_model(model), model, data, output, level=level, steps=steps)
    train(config, max_minutes, device=device, threads=threads)
