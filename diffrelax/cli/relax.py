"""``diffrelax relax``."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.cli.options import (
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
    count_inputs,
    each_input,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.files.reading import Input, Rejected
    from diffrelax.models.release import Model
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation

PART = 64  # molecules that are read, relaxed and written together


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
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model; what is done is kept, the same command goes on."""
    from diffrelax.cli.report import Report, carried, relaxation_row
    from diffrelax.files.writing import check_output
    from diffrelax.models.domain import atom_limit
    from diffrelax.results.journal import Result

    if output:
        check_output(output, inputs=inputs)
    set_threads(threads)
    loaded = load_checked(model, device, noise_level, max_error)
    settings = {
        "command": "relax",
        "model": loaded.sha256,
        "noise_level": noise_level,
        "max_error": max_error,
        "seed": seed,
    }
    total = count_inputs(inputs)
    with Report(
        output, settings, _is_relaxed, overwrite=overwrite, json_lines=json_lines
    ) as report:
        try:
            for part in relax_inputs(
                report.left_of(each_input(inputs)),
                loaded,
                noise_level=noise_level,
                max_error=max_error,
                seed=seed,
                workers=workers,
                max_atoms=atom_limit(loaded),
                total=total,
                done=report.n_done,
            ):
                results = []
                for source, relaxation, _ in part:
                    row = relaxation_row(relaxation)
                    properties = carried(source, row)
                    results.append(Result(source, row, relaxation.molecule, properties))
                report.add(results)
            report.finish()
        except KeyboardInterrupt:
            report.tell_interrupted(total)
            raise typer.Exit(130) from None
    raise typer.Exit(1 if report.n_bad else 0)


def load_checked(
    model: str, device: str, noise_level: float | None, max_error: float = math.inf
) -> Model:
    """Load a model, and find out whether it can be used so, before the work begins."""
    from diffrelax.models.batches import choose_calibration, choose_schedule
    from diffrelax.models.release import load_model

    loaded = load_model(model, device)
    choose_schedule(loaded, noise_level)
    choose_calibration(loaded, noise_level, max_error)
    return loaded


def relax_inputs(
    inputs: Iterator[Input],
    model: Model,
    *,
    noise_level: float | None,
    seed: int,
    max_error: float = math.inf,
    workers: int = 1,
    max_atoms: int | None = None,
    part_size: int | None = None,
    total: int | None = None,
    done: int = 0,
) -> Iterator[list[tuple[Input, Relaxation, float]]]:
    """Relax inputs part by part; yield each with the seconds that it took to read it.

    No larger molecules are embedded than ``max_atoms``, if it is given.
    """
    from tqdm.auto import tqdm

    parts = read_parts(inputs, part_size or PART, seed=seed, workers=workers, max_atoms=max_atoms)
    with tqdm(total=total, initial=done, unit="mol", disable=None) as bar:
        for part in parts:
            molecules = [molecule for _, molecule, _ in part]
            relaxed = relax_or_fail(molecules, model, noise_level=noise_level, max_error=max_error)
            yield [
                (source, result, seconds)
                for result, (source, _, seconds) in zip(relaxed, part, strict=True)
            ]
            bar.update(len(part))


def read_parts(
    inputs: Iterator[Input],
    size: int,
    *,
    seed: int,
    workers: int = 1,
    max_atoms: int | None = None,
) -> Iterator[list[tuple[Input, Molecule | Rejected, float]]]:
    """Read inputs, so many together; yield each with what it is and the seconds that it took."""
    from diffrelax.clock import timed
    from diffrelax.files.reading import each_molecule

    waiting: deque[Input] = deque()

    def remembered() -> Iterator[Input]:
        for given in inputs:
            waiting.append(given)
            yield given

    read = timed(each_molecule(remembered(), seed=seed, workers=workers, max_atoms=max_atoms))
    while part := list(islice(read, size)):
        yield [(waiting.popleft(), molecule, time.wall) for molecule, time in part]


def relax_or_fail(
    molecules: Sequence[Molecule | Rejected], model: Model, **options: Any
) -> list[Relaxation]:
    """Relax molecules together; after an error inside, one by one, which costs one molecule.

    An error that all of them meet is no fault of a molecule, and raised.
    """
    from diffrelax.relaxation import Relaxation, relax_molecules

    try:
        return relax_molecules(molecules, model, **options)
    except Exception:
        if len(molecules) == 1:
            raise
    results, errors = [], []
    for molecule in molecules:
        try:
            results += relax_molecules([molecule], model, **options)
        except Exception as error:
            errors.append(error)
            reason = f"an error inside, {type(error).__name__}: {error}"
            results.append(Relaxation(molecule.name, "failed", reason, None, None))
    if len(errors) == len(molecules):
        raise errors[0]
    return results


def _is_relaxed(row: Mapping[str, Any]) -> bool:
    return row["verdict"] == "relaxed"
