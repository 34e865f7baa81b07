"""``diffrelax relax``."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from diffrelax.cli.inputs import choose_level, load_checked, read_parts
from diffrelax.cli.options import (
    Charge,
    Device,
    Inputs,
    Json,
    ModelName,
    NoiseLevel,
    Output,
    Overwrite,
    Seed,
    Threads,
    Workers,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.files.reading import Input, Rejected
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation
    from diffrelax.results.output import InputResult

PART = 64  # molecules that are read, relaxed and written together, at most


def relax(
    inputs: Inputs,
    output: Output = None,
    model: ModelName = "default",
    level: Annotated[
        str | None,
        typer.Option(
            help="Level of theory, such as B3LYP/def2-SVP; the nearest learned level is used",
            show_default="the model's own, unlike dft",
        ),
    ] = None,
    noise_level: NoiseLevel = None,
    max_error: Annotated[
        float, typer.Option(min=0, help="Fall back if the error bound is larger, Å")
    ] = math.inf,
    fast: Annotated[
        bool,
        typer.Option("--fast", help=("Start from force-field geometries: faster, less accurate")),
    ] = False,
    device: Device = "cpu",
    charge: Charge = None,
    seed: Seed = 42,
    threads: Threads = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model.

    Finished work is kept: rerun the command to resume.
    """
    from diffrelax.cli.report import Report, report_each
    from diffrelax.files.writing import check_output
    from diffrelax.models.domain import atom_limit
    from diffrelax.relaxation import relax_molecules

    if output:
        check_output(output, inputs=inputs)
    set_threads(threads)
    loaded = load_checked(model, device, noise_level, max_error, level)
    if level is not None:
        level = choose_level(loaded, level)
    elif len(loaded.config.levels) > 1:
        described = loaded.nearest_level().described(loaded.name)
        print(f"{described}; choose another with --level", file=sys.stderr)
    level = level or loaded.config.level
    settings = {
        "command": "relax",
        "model": loaded.sha256,
        "noise_level": noise_level,
        "max_error": max_error,
        "seed": seed,
        **({} if level == loaded.config.level else {"level": level}),
        **({"fast": True} if fast else {}),
    }
    relax_part = partial(
        relax_molecules,
        model=loaded,
        level=level,
        noise_level=noise_level,
        max_error=max_error,
        fast=fast,
    )

    def results(left: Iterator[Input]) -> Iterator[list[InputResult]]:
        parts = read_parts(left, PART, seed=seed, workers=workers, max_atoms=atom_limit(loaded))
        for part in parts:
            relaxed = relax_part([molecule for _, molecule, _ in part])
            yield [
                _result(source, read, one)
                for (source, read, _), one in zip(part, relaxed, strict=True)
            ]

    report = Report(
        output,
        settings,
        lambda row: row["verdict"] == "relaxed",
        overwrite=overwrite,
        json_lines=json_lines,
    )
    report_each(inputs, charge, report, results)


def _result(source: Input, read: Molecule | Rejected, relaxed: Relaxation) -> InputResult:
    from diffrelax.cli.report import carried, starts_of
    from diffrelax.files.reading import Rejected
    from diffrelax.results.output import InputResult
    from diffrelax.results.rows import MoleculeRow

    row = MoleculeRow.of_relaxation(relaxed)
    again = isinstance(read, Rejected) and read.again
    properties, frames = carried(source, row), starts_of(relaxed)
    return InputResult(source, row, relaxed.molecule, properties, again, relaxed.error, frames)
