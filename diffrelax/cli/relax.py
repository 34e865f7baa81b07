"""``diffrelax relax``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffrelax.cli.options import (
    Device,
    Inputs,
    Json,
    ModelName,
    NoiseLevel,
    Output,
    Seed,
    Threads,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.relaxation import Relaxation


def relax(
    inputs: Inputs,
    output: Output = None,
    model: ModelName = "relax-qm9",
    noise_level: NoiseLevel = None,
    max_error: Annotated[
        float, typer.Option(min=0, help="Å; fall back where the bound on the error is larger")
    ] = math.inf,
    device: Device = "cpu",
    seed: Seed = 42,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model."""
    from diffrelax.report import relaxation_row, report

    results, _ = relax_inputs(inputs, output, seed, model, device, noise_level, threads, max_error)
    rows = [relaxation_row(result) for result in results]
    report(rows, output, [r.molecule for r in results], json_lines)
    raise typer.Exit(0 if all(r.verdict == "relaxed" for r in results) else 1)


def relax_inputs(
    inputs: list[str],
    output: Path | None,
    seed: int,
    model: str,
    device: str,
    noise_level: float | None,
    threads: int | None,
    max_error: float = math.inf,
) -> tuple[list[Relaxation], list[float]]:
    """Relax the inputs of a command; return also the seconds that it took to read each."""
    from diffrelax.clock import timed
    from diffrelax.files import each_molecule
    from diffrelax.models import load_model
    from diffrelax.relaxation import choose_calibration, choose_schedule, relax_molecules
    from diffrelax.writing import check_output

    if output:
        check_output(output)
    set_threads(threads)
    loaded = load_model(model, device)
    choose_schedule(loaded, noise_level)
    choose_calibration(loaded, noise_level, max_error)
    read = list(timed(each_molecule(inputs, seed=seed)))
    molecules, seconds = [molecule for molecule, _ in read], [time.wall for _, time in read]
    results = relax_molecules(
        molecules, loaded, noise_level=noise_level, max_error=max_error, progress=True
    )
    return results, seconds
