"""``diffrelax export``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.choices import DEFAULT_BASIS, Target
from diffrelax.cli.inputs import choose_level, load_checked, read_parts
from diffrelax.cli.options import (
    Charge,
    Inputs,
    Json,
    ModelName,
    SettingsFile,
    Threads,
    set_threads,
)
from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.dft import DFTSettings
    from diffrelax.files.reading import Input, Rejected
    from diffrelax.models.release import Model
    from diffrelax.molecule import Molecule

    Prepared = tuple[dict[str, Any], Molecule | None, Exception | None]  # row, geometry, error

TABLE = "molecules.csv"
COLUMNS = ("name", "smiles", "charge", "multiplicity", "verdict", "reason", "files")


def export(
    inputs: Inputs,
    to: Annotated[Target, typer.Option(help="Program to write inputs for")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the inputs")],
    xc: Annotated[
        str, typer.Option(help="Functional, or a level such as PBE0-D3(BJ)/def2-SVP")
    ] = "b3lyp",
    basis: Annotated[
        str | None,
        typer.Option(help="Basis set", show_default=f"{DEFAULT_BASIS}, none for -3c methods"),
    ] = None,
    solvent: Annotated[str, typer.Option(help="Name of a solvent in the program")] = "",
    hessian: Annotated[
        str,
        typer.Option(help="Level of the Initial Hessian for the program, or none"),
    ] = "gfn2-xtb",
    processors: Annotated[
        int | None, typer.Option(min=1, help="Processors requested in the inputs")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="Total memory requested in the inputs, GB")
    ] = None,
    relax: Annotated[
        bool, typer.Option(help="Relax with the model first, or use the geometries as they are")
    ] = True,
    model: ModelName = "default",
    charge: Charge = None,
    threads: Threads = None,
    settings_file: SettingsFile = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Allow a folder that is not empty")
    ] = False,
    json_lines: Json = False,
) -> None:
    """Relax molecules, and write inputs for another program."""
    from diffrelax.cli.report import Report, report_each
    from diffrelax.cli.settings import ModelSettings
    from diffrelax.dft import DFTSettings
    from diffrelax.entries import read_validated
    from diffrelax.files.writing import check_no_input, make_folder
    from diffrelax.levels import check_installed
    from diffrelax.levels.level import Level
    from diffrelax.levels.names import WITHOUT_BASIS
    from diffrelax.levels.program_words import doubts, profile_of, resources
    from diffrelax.results.output import InputResult
    from diffrelax.results.tables import counted, harmless

    level = Level.of(xc, basis or "", solvent)
    if not level.basis and level.method not in WITHOUT_BASIS:
        level = replace(level, basis=DEFAULT_BASIS)
    for doubt in doubts(level, to):
        print(f"warning: {doubt}", file=sys.stderr)
    profile = profile_of(level, to, resources(to, processors, memory))
    settings = DFTSettings(calculator=profile, hessian=hessian)
    own = ModelSettings()
    if settings_file:
        own = read_validated(settings_file, ModelSettings, "settings file", "seed: 1")
    if hessian != "none":
        check_installed(hessian)
    check_no_input(output / TABLE, inputs)
    make_folder(output)
    if not overwrite and any(output.iterdir()):
        raise InputError(
            f"the folder {output} is not empty: choose another, or start again with --overwrite"
        )
    set_threads(threads)
    prepare: Callable[[Molecule | Rejected], Prepared] = _as_given
    if relax:
        loaded = load_checked(model, own.device, own.noise_level)
        nearest = choose_level(loaded, level)
        prepare = partial(_relaxed, loaded, nearest, own.noise_level)
    taken: set[str] = set()

    def results(left: Iterator[Input]) -> Iterator[list[InputResult]]:
        for ((source, molecule, _),) in read_parts(left, 1, seed=own.seed):
            row, end, error = prepare(molecule)
            row["files"] = []
            if end:
                row["files"], notes = _write(end, output, taken, settings)
                row["reason"] = "; ".join(filter(None, (row["reason"], *notes)))
            cells = [*(row[name] for name in COLUMNS[:-1]), " ".join(row["files"])]
            write_line(map(harmless, cells))
            yield [InputResult(source, row, end, error=error)]
        made = counted(len(taken), "input")
        print(f"{made} for {to} in {output}, listed in {TABLE}", file=sys.stderr)

    report = Report(None, {}, lambda row: bool(row["files"]), json_lines=json_lines)
    with (output / TABLE).open(
        "w" if overwrite else "x",  # another process may have started here
        encoding="utf-8",
        errors="backslashreplace",
        newline="",
        buffering=1,
    ) as table:
        write_line = csv.writer(table, lineterminator="\n").writerow
        write_line(COLUMNS)
        report_each(inputs, charge, report, results)


def _as_given(read: Molecule | Rejected) -> Prepared:
    from diffrelax.files.reading import Rejected
    from diffrelax.results.rows import MoleculeRow

    if isinstance(read, Rejected):
        return MoleculeRow.of(read.name, None, "failed", read.reason), None, None
    return MoleculeRow.of(read.name, read, "as given", ""), read, None


def _relaxed(
    model: Model, level: str, noise_level: float | None, read: Molecule | Rejected
) -> Prepared:
    from diffrelax.relaxation import relax_molecules
    from diffrelax.results.rows import MoleculeRow

    (result,) = relax_molecules([read], model, level=level, noise_level=noise_level)
    return MoleculeRow.of_relaxation(result), result.molecule, result.error


def _write(
    molecule: Molecule, folder: Path, taken: set[str], settings: DFTSettings
) -> tuple[list[str], tuple[str, ...]]:
    """Write the files of a molecule, and return their names and notes."""
    from diffrelax.dft.descent import start_hessian
    from diffrelax.dft.export import safe_stem, write_input

    assert settings.calculator is not None
    hessian, notes = start_hessian(molecule, settings)
    stem = safe_stem(molecule.name, taken)
    paths = write_input(molecule, folder, stem, settings.calculator, hessian)
    return [path.name for path in paths], notes
