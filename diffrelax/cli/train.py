"""``diffrelax train`` and ``diffrelax finetune``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from diffrelax.cli.options import Device, Threads, set_threads

if TYPE_CHECKING:
    from diffrelax.finetuning import Minima
    from diffrelax.models.release import Model
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.geometries import GeometrySet

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
    from diffrelax.data.qm9 import load_qm9
    from diffrelax.finetuning import ENVIRONMENTS, load_minima
    from diffrelax.models.release import load_model, qm9_environments
    from diffrelax.molecule.environments import (
        count_environments,
        read_environments,
        write_environments,
    )
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.devices import check_compiler, check_device
    from diffrelax.training.geometries import GeometrySet
    from diffrelax.training.loop import RESUME, check_folder

    settings = ModelConfig.read(config)
    check_folder(config.parent, resume)
    check_device(device)
    set_threads(threads)
    if compiled:
        check_compiler(device)
    base = None
    if settings.training.base and not (config.parent / RESUME).exists():
        base = load_model(settings.training.base)
        settings = settings.model_copy(update={"learned": base.config.learned | settings.learned})
    known = config.parent / ENVIRONMENTS
    own: Mapping[str, int] = {}
    if settings.training.data == "qm9":
        starts = settings.training.starts
        sets = load_qm9("train", starts), load_qm9("validation", starts)
        own = qm9_environments()
    elif (packed := config.parent / settings.training.data).is_dir():
        sets = GeometrySet.load(packed / "train.npz"), GeometrySet.load(packed / "validation.npz")
        if not known.exists():
            own = count_environments({text.decode() for text in sets[0].smiles.tolist()})
    else:
        minima = load_minima(config.parent / settings.training.data, settings)
        if settings.training.base is None:
            settings = settings.model_copy(update=minima.domain)
        sets = _tell_of(minima)
        own = minima.environments
    if not known.exists():
        write_environments(Counter(own) | Counter(base.environments if base else None), known)
    environments = read_environments(known)
    _run(settings, config.parent, sets, environments, base, device, max_minutes, resume, compiled)


def finetune(
    model: Annotated[
        str, typer.Argument(help="Released model, folder of one, or .safetensors file")
    ],
    data: Annotated[Path, typer.Argument(help="Minima: .extxyz, .xyz or .sdf")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model")],
    level: Annotated[str, typer.Option(help="Level of theory of the minima")],
    steps: Annotated[int, typer.Option(min=1, help="Length of the run")] = 2048,
    only_level: Annotated[
        bool,
        typer.Option(
            "--only-level",
            help="Learn only what tells levels of theory apart; nothing changes at other levels",
        ),
    ] = False,
    max_minutes: MaxMinutes = 1e9,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Fine-tune a model on minima of your own.

    To go on: diffrelax train OUTPUT/config.yaml --resume.
    """
    from diffrelax.finetuning import ENVIRONMENTS, begin_finetuning
    from diffrelax.models.release import load_model
    from diffrelax.molecule.environments import read_environments
    from diffrelax.training.devices import check_device

    check_device(device)
    set_threads(threads)
    base = load_model(model)
    config, minima = begin_finetuning(
        base, model, data, output, level=level, steps=steps, only_level=only_level
    )
    known = read_environments(output / ENVIRONMENTS)
    _run(config, output, _tell_of(minima), known, base, device, max_minutes)


def _tell_of(minima: Minima) -> tuple[GeometrySet, GeometrySet]:
    for one in minima.left_out:
        _tell(f"left out {one.source} {one.name}: {one.reason}", file=sys.stderr)
    sets = minima.train_set, minima.validation_set
    learned, kept = (len(set(one.index.tolist())) for one in sets)
    _tell(f"{learned} minima to learn, {kept} to validate on")
    return sets


def _tell(text: str, file: TextIO | None = None) -> None:
    """Print a line, once for all processes that train together."""
    from diffrelax.training.ranks import is_first

    if is_first():
        print(text, file=file)


def _run(
    config: ModelConfig,
    folder: Path,
    sets: tuple[GeometrySet, GeometrySet],
    environments: Mapping[str, int],
    base: Model | None,
    device: str,
    max_minutes: float,
    resume: bool = False,
    compiled: bool = False,
) -> None:
    from diffrelax.finetuning import prepare_base
    from diffrelax.training.loop import WEIGHTS, train
    from diffrelax.training.state import load_tensors

    begun, new = prepare_base(base, config.network.levels) if base else (None, {})
    for level, nearest in new.items():
        if level in sets[0].levels:
            _tell(f"{level} begins as {nearest.level}" + (nearest.why and f": {nearest.why}"))
    state = train(
        config,
        folder,
        *sets,
        device=device,
        max_minutes=max_minutes,
        resume=resume,
        base=begun,
        compiled=compiled,
        environments=environments,
    )
    _tell(f"step {state.step} of {config.training.steps} after {state.time.wall / 3600:.2f} h")
    released: Any = load_tensors(folder / WEIGHTS)[1]["config"]
    unbounded = [level for level in released["learned"] or [config.level]
                 if level not in released["calibrations"]]  # fmt: skip
    if config.relaxation.bridge and unbounded:
        _tell("too few molecules to validate on: the model tells no bounds on its errors at "
              f"{', '.join(unbounded)}")  # fmt: skip
