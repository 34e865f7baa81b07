"""``diffrelax speedup``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.choices import DEFAULT_BASIS
from diffrelax.cli.inputs import choose_level, each_input
from diffrelax.cli.options import (
    BasisSet,
    Calculator,
    Charge,
    Fmax,
    Inputs,
    Json,
    ModelName,
    SettingsFile,
    Solvent,
    Threads,
    Xc,
    read_settings,
    set_threads,
)
from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.benchmark.speedup.arms import SpeedupArm, Subject
    from diffrelax.benchmark.speedup.run import Outcome
    from diffrelax.benchmark.speedup.units import Units
    from diffrelax.dft import DFTSettings

Texts = list[str] | None
# settings that recipes decide, and those of checks that are not made
RECIPE_SETTINGS = ("optimizer", "hessian", "check_minimum", "thermo", "temperature", "pressure")


def speedup(
    context: typer.Context,
    inputs: Inputs,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the report")],
    start: Annotated[
        Texts,
        typer.Option(
            help="mmff94, uff, gfn-ff, gfn2-xtb, aimnet2, diffusion or given. May be repeated. "
            "Default: mmff94, gfn2-xtb, diffusion"
        ),
    ] = None,
    recipe: Annotated[
        Texts,
        typer.Option(
            help="Optimizer, alone or with +hessian (GFN2-xTB) or +aimnet2-hessian. May be "
            "repeated. Default: bfgs, tric+hessian"
        ),
    ] = None,
    xc: Xc = "b3lyp",
    basis: BasisSet = DEFAULT_BASIS,
    solvent: Solvent = "",
    calculator: Calculator = None,
    fmax: Fmax = 0.03,
    model: ModelName = "default",
    charge: Charge = None,
    threads: Threads = None,
    settings_file: SettingsFile = None,
    json_lines: Json = False,
) -> None:
    """Compare DFT relaxations from several starts, pair by pair.

    Finished work is kept: rerun the command to resume.
    """
    from diffrelax.benchmark.speedup.arms import (
        DEFAULT_RECIPES,
        DEFAULT_STARTS,
        check_arms,
        combine,
        subjects_of,
    )
    from diffrelax.benchmark.speedup.report import made_with
    from diffrelax.benchmark.speedup.units import Units
    from diffrelax.cli.settings import SpeedupSettings
    from diffrelax.dft.optimization import check_settings
    from diffrelax.files.reading import each_molecule
    from diffrelax.files.writing import make_folder
    from diffrelax.models.release import load_model
    from diffrelax.store import Store

    level, own = read_settings(context, SpeedupSettings, without=RECIPE_SETTINGS)
    check_settings(level)
    starts = start or DEFAULT_STARTS
    arms = combine(starts, recipe or DEFAULT_RECIPES)
    check_arms(arms)
    set_threads(threads)
    about: dict[str, Any] = {"model": model, "model_sha256": ""}
    made_by: dict[str, Any] = {"seed": own.seed}
    if "diffusion" in starts:
        loaded = load_model(model)
        choose_level(loaded, level.level)
        about = made_with(loaded, level.level)
        made_by |= {"model_sha256": loaded.sha256}
    _check_folder(output, level, inputs, made_by)
    make_folder(output)
    units = Units(Store.in_folder(output / "units"), model, level.level, threads)
    subjects = subjects_of(each_molecule(each_input(inputs, charge), seed=own.seed))
    _tell_cost(subjects, arms, level)
    outcomes, finished = _compare(subjects, arms, level, units)
    about |= {"seed": own.seed, "level": level.model_dump()}
    if outcomes:
        _report(output, outcomes, about, own.watts, threads, json_lines)
    if not finished:
        done = len({outcome.name for outcome in outcomes})
        print(
            f"interrupted: {done} of {len(subjects)} molecules are done; rerun the command "
            "to resume, also within a molecule",
            file=sys.stderr,
        )
        raise typer.Exit(130)
    raise typer.Exit(0 if not any(o.reason and not o.repeated for o in outcomes) else 1)


def _check_folder(
    output: Path, level: DFTSettings, inputs: list[str], more: dict[str, Any]
) -> None:
    """Refuse a folder if inputs, other files or a report with other settings would be lost."""
    from diffrelax.benchmark.speedup.report import FILES
    from diffrelax.dft import DFTSettings
    from diffrelax.files.writing import check_no_input
    from diffrelax.results.beside import differing

    there = [path for name in FILES if (path := output / name).exists()]
    for path in there:
        check_no_input(path, inputs)
    path = output / "about.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if there:
            raise InputError(
                f"{there[0]} does not belong to a report and would be replaced: choose "
                "another folder"
            ) from None
        return
    except ValueError:
        about = None
    held = about.get("level") if isinstance(about, dict) else None
    wanted = level.model_dump(mode="json") | more
    if not isinstance(held, dict):
        raise InputError(
            f"{path} does not belong to a report and would be replaced: choose another folder"
        )
    # empty if the report was made without the model
    known = {name: value for name, value in about.items() if value != ""}
    held = held | {name: known.get(name, value) for name, value in more.items()}
    defaults = {name: field.default for name, field in DFTSettings.model_fields.items()}
    if different := differing(defaults | held, defaults | wanted):
        raise InputError(
            f"{output} has a report with {different}, which would be replaced: choose "
            "another folder"
        )


def _tell_cost(subjects: list[Subject], arms: list[SpeedupArm], level: DFTSettings) -> None:
    from diffrelax.results.tables import counted

    n = sum(subject.base is not None for subject in subjects)
    duration = "" if level.calculator else f": {_duration(subjects, arms, level)}"
    print(
        f"{counted(n, 'molecule')} in {counted(len(arms), 'arm')}: {n * len(arms)} DFT "
        "relaxations, plus tighter ones to distinguish minima, which are not "
        f"counted{duration}",
        file=sys.stderr,
    )


def _duration(subjects: list[Subject], arms: list[SpeedupArm], level: DFTSettings) -> str:
    from diffrelax.benchmark.speedup.run import estimate_seconds

    minutes = estimate_seconds(subjects, arms, level) / 60
    duration = f"{minutes / 60:.0f} hours" if minutes > 120 else f"{max(1, minutes):.0f} min"
    return (
        f"about {duration} of processor time in total (within a factor of three), less for "
        "finished work"
    )


def _compare(
    subjects: list[Subject], arms: list[SpeedupArm], level: DFTSettings, units: Units
) -> tuple[list[Outcome], bool]:
    """Return the outcomes, and whether they are complete; Ctrl-C ends the work early."""
    from diffrelax.benchmark.speedup.run import compare_arms

    outcomes: list[Outcome] = []
    try:
        for of_one in compare_arms(subjects, arms, level, units, progress=True):
            outcomes += of_one
    except KeyboardInterrupt:
        return outcomes, False
    return outcomes, True


def _report(
    output: Path,
    outcomes: list[Outcome],
    about: dict[str, Any],
    watts: float,
    threads: int | None,
    json_lines: bool,
) -> None:
    from diffrelax.benchmark.hardware import describe_hardware
    from diffrelax.benchmark.speedup.report import write_report
    from diffrelax.benchmark.speedup.rows import OutcomeRow
    from diffrelax.levels.pyscf_library import pyscf_threads

    threads = threads or pyscf_threads()
    about = {
        "command": shlex.join(["diffrelax", *sys.argv[1:]]),
        **about,
        "hardware": describe_hardware("cpu"),
        "threads": threads,
    }
    tables = write_report(output, outcomes, about, watts)
    if json_lines:
        for outcome in outcomes:
            print(json.dumps(OutcomeRow.of(outcome).model_dump(), ensure_ascii=False))
    else:
        print(tables)
    print(f"report in {output}", file=sys.stderr)
