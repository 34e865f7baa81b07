"""``diffrelax minima``."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffrelax.cli.options import (
    Charge,
    Inputs,
    Json,
    Overwrite,
    Seed,
    Threads,
    Workers,
    set_threads,
)
from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.files.reading import Input, Rejected
    from diffrelax.levels import LevelRelaxation
    from diffrelax.molecule import Molecule
    from diffrelax.results.output import InputResult

PART, PART_SECONDS = 128, 30.0  # molecules that are relaxed side by side


def minima(
    inputs: Inputs,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Minima: .extxyz .sdf .jsonl …, also with .gz")
    ],
    level: Annotated[
        str, typer.Option(help="Level of theory: aimnet2, gfn2-xtb, gfn-ff, mmff94, uff, …")
    ] = "aimnet2",
    fmax: Annotated[float, typer.Option(help="Largest force at the end, eV/Å")] = 0.015,
    charge: Charge = None,
    seed: Seed = 42,
    threads: Threads = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Make minima to learn from at a cheap level of theory.

    Finished work is kept: rerun the command to resume.
    """
    from diffrelax.cli.inputs import read_parts
    from diffrelax.cli.report import Report, report_each
    from diffrelax.errors import each_or_error
    from diffrelax.files.reading import Rejected
    from diffrelax.files.writing import check_output
    from diffrelax.levels import check_installed
    from diffrelax.levels.batch import relax_many
    from diffrelax.levels.calculators import check_cheap, level_class

    if not 0 < fmax < inf:
        raise InputError(f"fmax {fmax} eV/Å: give a positive, finite number")
    check_output(output, inputs=inputs)
    check_cheap(level)
    check_installed(level)
    set_threads(threads)
    settings = {"command": "minima", "level": level, "fmax": fmax, "seed": seed}

    size = PART if level_class(level).for_many() else 1

    def results(left: Iterator[Input]) -> Iterator[list[InputResult]]:
        for part in read_parts(left, size, seed=seed, workers=workers, seconds=PART_SECONDS):
            read = [one for _, one, _ in part if not isinstance(one, Rejected)]
            ends = iter(each_or_error(lambda some: relax_many(some, level, fmax=fmax), read))
            yield [
                _rejected(source, one)
                if isinstance(one, Rejected)
                else _result(source, one, next(ends), level)
                for source, one, _ in part
            ]

    report = Report(
        output,
        settings,
        lambda row: row["verdict"] == "minimum",
        overwrite=overwrite,
        json_lines=json_lines,
    )
    report_each(inputs, charge, report, results)


def _rejected(source: Input, read: Rejected) -> InputResult:
    from diffrelax.results.output import InputResult
    from diffrelax.results.rows import MoleculeRow

    row = MoleculeRow.of(read.name, None, "failed", read.reason)
    return InputResult(source, row, None, again=read.again)


def _result(
    source: Input, molecule: Molecule, end: LevelRelaxation | Exception, level: str
) -> InputResult:
    from diffrelax.errors import error_inside
    from diffrelax.molecule.doubts import odd_reading
    from diffrelax.results.output import InputResult
    from diffrelax.results.rows import MoleculeRow

    if isinstance(end, Exception):
        row = MoleculeRow.of(molecule.name, None, "failed", error_inside(end))
        return InputResult(source, row, None, error=end)
    minimum = molecule.with_positions(end.positions, level) if end.converged else None
    row = MoleculeRow.of(
        molecule.name,
        minimum,
        "minimum" if minimum else "failed",
        "; ".join(filter(None, (odd_reading(molecule), end.reason))),
        level=level,
        start=molecule.start,
        gradient_calls=end.n_calls,
        fmax=end.fmax,
        energy_ev=end.energy,
        seconds=end.seconds,
    )
    frames = {"start": molecule} if minimum else {}
    return InputResult(source, row, minimum, again=isnan(end.energy), frames=frames)
