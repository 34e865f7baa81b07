"""``diffrelax train`` and ``diffrelax finetune``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from diffrelax.cli.options import Charge, Device, Threads, set_threads
from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.finetuning import Minima
    from diffrelax.models.release import Model
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.geometries import GeometrySet

Compiled = Annotated[
    bool,
    typer.Option("--compile", help="Compile the network; needs a C++ compiler"),
]
MaxMinutes = Annotated[float, typer.Option(min=0, help="Stop and save after this many minutes")]


def train(
    config: Annotated[Path, typer.Argument(help="config.yaml in the folder of the model")],
    max_minutes: MaxMinutes = 1e9,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in this folder")] = False,
    compiled: Compiled = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train a model; the output is written beside its config.yaml."""
    from diffrelax.data.qm9 import load_qm9
    from diffrelax.finetuning import covered, load_minima, write_known
    from diffrelax.models.release import qm9_environments
    from diffrelax.molecule.environments import count_environments
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.devices import check_compiler, check_device
    from diffrelax.training.geometries import GeometrySet
    from diffrelax.training.loop import check_folder
    from diffrelax.training.state import RESUME

    settings, folder = ModelConfig.read(config), config.parent
    check_folder(folder, resume)
    check_device(device)
    set_threads(threads)
    if compiled:
        check_compiler(device)
    begins, base = not (folder / RESUME).exists(), None
    if begins and settings.training.base:
        base = _load_base(settings.training.base, folder)
        settings = settings.model_copy(update={"learned": base.config.learned | settings.learned})
    own: Mapping[str, int] = {}
    if settings.training.data == "qm9":
        starts = settings.training.starts
        sets = load_qm9("train", starts), load_qm9("validation", starts)
        own = qm9_environments()
    elif (packed := folder / settings.training.data).is_dir():
        sets = GeometrySet.load(packed / "train.npz"), GeometrySet.load(packed / "validation.npz")
        if settings.training.learn == "all":
            given = settings.model_fields_set & {"largest", "most_heavy"}
            found = covered(settings, sets[0])
            settings = settings.model_copy(update={k: found[k] for k in found.keys() - given})
        if begins:
            own = count_environments({text.decode() for text in sets[0].smiles.tolist()})
    else:
        minima = load_minima(
            folder / settings.training.data, settings, charge=settings.training.charge
        )
        if settings.training.learn == "all":
            settings = settings.model_copy(update=covered(settings, minima.train_set, minima.bonds))
        sets = _tell_of(minima)
        own = minima.environments
    if settings.training.learn == "level":  # all other levels stay as they are
        known = (base or _load_base(str(settings.training.base), folder)).config.calibrations
        kept = {level: bounds for level, bounds in known.items() if level not in sets[0].levels}
        settings = settings.model_copy(update={"calibrations": kept | settings.calibrations})
    if begins:
        write_known(base, own, settings.training, folder)
    _run(settings, folder, sets, base, device, max_minutes, resume, compiled)


def finetune(
    model: Annotated[str, typer.Argument(help="Release, folder of a model, or .safetensors file")],
    data: Annotated[Path, typer.Argument(help="Minima: .extxyz, .xyz or .sdf")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model")],
    level: Annotated[str, typer.Option(help="Level of theory of the minima")],
    steps: Annotated[int, typer.Option(min=1, help="Number of training steps")] = 2048,
    only_level: Annotated[
        bool,
        typer.Option(
            "--only-level",
            help="Train only the parameters of this level; other levels do not change",
        ),
    ] = False,
    charge: Charge = None,
    max_minutes: MaxMinutes = 1e9,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Fine-tune a model on minima of your own.

    To continue: diffrelax train OUTPUT/config.yaml --resume.
    """
    from diffrelax.finetuning import begin_finetuning
    from diffrelax.models.release import load_model
    from diffrelax.training.devices import check_device
    from diffrelax.training.ranks import are_several

    if are_several():
        raise InputError(
            "fine-tuning starts in one process: run it with --max-minutes 0, then continue "
            f"with torchrun … diffrelax train {output / 'config.yaml'} --resume"
        )
    check_device(device)
    set_threads(threads)
    base = load_model(model)
    config, minima = begin_finetuning(
        base, model, data, output, level=level, charge=charge, steps=steps, only_level=only_level
    )
    _run(config, output, _tell_of(minima), base, device, max_minutes)


def _load_base(named: str, folder: Path) -> Model:
    from diffrelax.models.release import load_model, own_weights

    return load_model(str(own_weights(named, folder) or named))


def _tell_of(minima: Minima) -> tuple[GeometrySet, GeometrySet]:
    for one in minima.left_out:
        _tell(f"left out {one.source} {one.name}: {one.reason}", file=sys.stderr)
    for note in minima.notes:
        _tell(note, file=sys.stderr)
    sets = minima.train_set, minima.validation_set
    learned, kept = (len(set(one.index.tolist())) for one in sets)
    _tell(f"{learned} minima for training, {kept} for validation")
    return sets


def _tell(text: str, file: TextIO | None = None) -> None:
    """Print a line in the first of the processes that train together."""
    from diffrelax.training.ranks import is_first

    if is_first():
        print(text, file=file)


def _run(
    config: ModelConfig,
    folder: Path,
    sets: tuple[GeometrySet, GeometrySet],
    base: Model | None,
    device: str,
    max_minutes: float,
    resume: bool = False,
    compiled: bool = False,
) -> None:
    from diffrelax.finetuning import ENVIRONMENTS, prepare_base
    from diffrelax.molecule.environments import read_environments
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.loop import train
    from diffrelax.training.state import WEIGHTS, going_on, load_tensors

    begun, new = prepare_base(base, config.network.levels) if base else (None, {})
    for level, nearest in new.items():
        if level in sets[0].levels:
            differs = ", ".join(nearest.differences)
            _tell(f"{level} starts as a copy of {nearest.level}: they differ in {differs}")
    try:
        state = train(
            config,
            folder,
            *sets,
            device=device,
            max_minutes=max_minutes,
            resume=resume,
            base=begun,
            compiled=compiled,
            environments=read_environments(folder / ENVIRONMENTS),
        )
    except KeyboardInterrupt:
        _tell(f"interrupted; resume with: {going_on(folder)}", file=sys.stderr)
        raise typer.Exit(130) from None
    _tell(f"step {state.step} of {config.training.steps} after {state.time.wall / 3600:.2f} h")
    if not state.step:
        _tell(f"no step was taken, so there is no model yet; resume with: {going_on(folder)}")
        return
    released = ModelConfig.model_validate(load_tensors(folder / WEIGHTS)[1]["config"])
    stale = [level for level, one in released.learned.items() if one.stale]
    learned = [level for level in released.levels if level not in stale]
    unbounded = [level for level in learned if level not in released.calibrations]
    if config.relaxation.bridge and unbounded:
        _tell("too few molecules for validation: the model has no error bounds at "
            f"{', '.join(unbounded)}")  # fmt: skip
    if stale and config.training.learn == "level":
        _tell(f"all weights have learned other levels since {', '.join(stale)}: the model remains "
            "less accurate there, which --only-level does not repair")  # fmt: skip
    elif stale:
        _tell(f"all weights have learned {', '.join(learned)}: the model is now less accurate, "
            f"and has no error bounds, at {', '.join(stale)}; with --only-level, finetune keeps "
            "other levels unchanged")  # fmt: skip
