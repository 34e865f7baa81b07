"""``diffrelax minima``."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diffrelax.cli.options import (
    Inputs,
    Json,
    Overwrite,
    Seed,
    Threads,
    Workers,
    count_inputs,
    each_input,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.levels import LevelRelaxation
    from diffrelax.molecule import Molecule

PART = 128  # molecules that are read, relaxed and written together


def minima(
    inputs: Inputs,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Minima: .extxyz .sdf .jsonl …, also with .gz")
    ],
    level: Annotated[
        Literal["aimnet2", "gfn2-xtb", "gfn-ff", "mmff94", "uff"],
        typer.Option(help="Level of theory; gfn2-xtb by the program xtb"),
    ] = "aimnet2",
    fmax: Annotated[float, typer.Option(help="Largest force at the end, eV/Å")] = 0.015,
    seed: Seed = 42,
    threads: Threads = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Make minima to learn from at a cheap level of theory; the same command goes on."""
    from tqdm.auto import tqdm

    from diffrelax.cli.relax import read_parts
    from diffrelax.cli.report import Report
    from diffrelax.files.reading import Rejected
    from diffrelax.files.writing import check_output
    from diffrelax.levels import check_installed
    from diffrelax.levels.batch import relax_many
    from diffrelax.levels.xtb_program import find_program
    from diffrelax.results.journal import Result

    if not fmax > 0:
        raise ValueError(f"fmax {fmax} eV/Å: give a positive number")
    check_output(output, inputs=inputs)
    check_installed(level)
    if level == "gfn2-xtb":
        find_program(level)
    set_threads(threads)
    settings = {"command": "minima", "level": level, "fmax": fmax, "seed": seed}
    total = count_inputs(inputs)
    with Report(
        output, settings, _is_minimum, overwrite=overwrite, json_lines=json_lines
    ) as report:
        left = report.left_of(each_input(inputs))
        bar = tqdm(total=total, initial=report.n_done, unit="mol", disable=None)
        try:
            for part in read_parts(left, PART, seed=seed, workers=workers):
                read = [one for _, one, _ in part if not isinstance(one, Rejected)]
                ends = iter(relax_many(read, level, fmax=fmax))
                results = []
                for source, one, _ in part:
                    if isinstance(one, Rejected):
                        results.append(Result(source, _row(one.name, None, one.reason), None))
                        continue
                    end = next(ends)
                    start = one.start
                    minimum = one.with_positions(end.positions, level) if end.converged else None
                    row = _row(one.name, minimum, end.reason) | _told(end, level, start)
                    results.append(Result(source, row, minimum))
                report.add(results)
                bar.update(len(part))
            report.finish()
        except KeyboardInterrupt:
            report.tell_interrupted(total)
            raise typer.Exit(130) from None
        finally:
            bar.close()
    raise typer.Exit(1 if report.n_bad else 0)


def _is_minimum(row: Mapping[str, Any]) -> bool:
    return row["verdict"] == "minimum"


def _row(name: str, minimum: Molecule | None, reason: str) -> dict[str, Any]:
    """Return what is told of a molecule; energies in eV, forces in eV/Å, times in seconds."""
    return {
        "name": name,
        "smiles": minimum.smiles if minimum else None,
        "charge": minimum.charge if minimum else None,
        "multiplicity": minimum.multiplicity if minimum else None,
        "verdict": "minimum" if minimum else "failed",
        "reason": reason,
        **dict.fromkeys(("level", "start", "gradient_calls", "fmax", "energy_ev", "seconds")),
        **dict.fromkeys(("converged", "error_bound")),
        "symbols": minimum.symbols if minimum else None,
        "positions": minimum.positions.tolist() if minimum else None,
    }


def _told(end: LevelRelaxation, level: str, start: str) -> dict[str, Any]:
    return {
        "level": level,
        "start": start,
        "gradient_calls": end.n_calls,
        "fmax": None if isnan(end.fmax) else end.fmax,
        "energy_ev": None if isnan(end.energy) else end.energy,
        "seconds": end.seconds,
    }
