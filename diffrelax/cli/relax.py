"""``diffrelax relax``."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import islice
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
    Workers,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.relaxation import Relaxation

PART = 200  # molecules that are read and relaxed together


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
    workers: Workers = 1,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model; Ctrl-C keeps what is done."""
    from diffrelax.report import announce, relaxation_row, report

    results: list[Relaxation] = []
    status = 0
    try:
        for result, _ in relax_inputs(
            inputs,
            output,
            seed,
            model,
            device,
            noise_level,
            threads,
            max_error,
            workers,
            embed_all=False,
        ):
            results.append(result)
            if result.verdict != "relaxed":
                status = 1
    except KeyboardInterrupt:
        tell_interrupted(len(results), inputs)
        status = 130
    rows = [relaxation_row(result) for result in results]
    molecules = [result.molecule for result in results]
    report(rows, output, molecules, json_lines)
    announce(output, rows, molecules)
    raise typer.Exit(status)


def tell_interrupted(done: int, inputs: list[str]) -> None:
    """Say on standard error how many of the inputs of a command are done."""
    from diffrelax.files import count_molecules

    print(f"interrupted: {done} of {count_molecules(inputs)} molecules are done", file=sys.stderr)


def relax_inputs(
    inputs: list[str],
    output: Path | None,
    seed: int,
    model: str,
    device: str,
    noise_level: float | None,
    threads: int | None,
    max_error: float = math.inf,
    workers: int = 1,
    *,
    embed_all: bool = True,
) -> Iterator[tuple[Relaxation, float]]:
    """Relax the inputs of a command; yield each with the seconds that it took to read it.

    What is too large for the model is embedded only where ``embed_all`` says so.
    """
    from tqdm.auto import tqdm

    from diffrelax.clock import timed
    from diffrelax.domain import atom_limit
    from diffrelax.files import count_molecules, each_molecule
    from diffrelax.models import load_model
    from diffrelax.relaxation import choose_calibration, choose_schedule, relax_molecules
    from diffrelax.writing import check_output

    if output:
        check_output(output, inputs=inputs)
    set_threads(threads)
    loaded = load_model(model, device)
    choose_schedule(loaded, noise_level)
    choose_calibration(loaded, noise_level, max_error)
    max_atoms = None if embed_all else atom_limit(loaded)
    read = timed(each_molecule(inputs, seed=seed, workers=workers, max_atoms=max_atoms))
    with tqdm(total=count_molecules(inputs), unit="mol", disable=None) as bar:
        while part := list(islice(read, PART)):
            results = relax_molecules(
                [molecule for molecule, _ in part],
                loaded,
                noise_level=noise_level,
                max_error=max_error,
            )
            yield from zip(results, (time.wall for _, time in part), strict=True)
            bar.update(len(part))
