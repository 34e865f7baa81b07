"""``diffrelax conformers``."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffrelax.choices import CurvatureLevel
from diffrelax.cli.options import (
    Basis,
    Charge,
    Functional,
    Json,
    ModelName,
    Overwrite,
    SettingsFile,
    Solvent,
    level_settings,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.sampling.ensemble import Ensemble


def conformers(
    molecule: Annotated[str, typer.Argument(help="SMILES, or a file with one molecule")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help=("Conformers: .sdf, .extxyz or .h5; an HTML report is written beside it"),
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", help=("Largest number of geometries that the model relaxes"))
    ] = 1000,
    level: Annotated[
        str,
        typer.Option(
            help="Level of theory: aimnet2, gfn2-xtb, mmff94, dft, …; auto is aimnet2 where it "
            "covers the molecule, else gfn2-xtb"
        ),
    ] = "auto",
    xc: Functional = None,
    basis: Basis = None,
    solvent: Solvent = "",
    window: Annotated[
        float, typer.Option(help=("Keep conformers up to this far above the lowest, kcal/mol"))
    ] = 6.0,
    temperature: Annotated[float, typer.Option(help="Temperature, K")] = 298.15,
    thermo: Annotated[
        CurvatureLevel,
        typer.Option(help="Level of the Hessian for free energies, with --level dft"),
    ] = "none",
    workers: Annotated[
        int, typer.Option(min=1, help=("Number of processes that relax at a cheap level"))
    ] = 1,
    model: ModelName = "default",
    charge: Charge = None,
    settings_file: SettingsFile = None,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Find the conformers of a molecule and their Boltzmann weights.

    Finished work is kept: rerun the command to resume.
    """
    from diffrelax.cli.settings import ConformersSettings
    from diffrelax.entries import read_validated
    from diffrelax.files.reading import read_one
    from diffrelax.files.writing import check_output, would_be_lost
    from diffrelax.models.release import load_model
    from diffrelax.results.beside import keep_written, open_beside, units_beside
    from diffrelax.results.tables import counted
    from diffrelax.sampling.conformers import choose_level, sample_conformers
    from diffrelax.sampling.conformers.page import conformers_page
    from diffrelax.sampling.ensemble.files import WRITERS

    if output:
        check_output(output, WRITERS, [molecule])
        page = _page_beside(output)
        if page.exists() and not (overwrite or units_beside(output).exists()):
            raise would_be_lost(page)
    own = ConformersSettings()
    if settings_file:
        own = read_validated(settings_file, ConformersSettings, "settings file", "seed: 7")
    set_threads(own.threads)
    given = read_one(molecule, seed=own.seed, charge=charge)
    loaded = load_model(model, own.device)
    chosen = choose_level(level_settings(level, xc, basis, solvent), given)
    settings = {
        "command": "conformers",
        "molecule": given.smiles,
        "level": chosen.model_dump(mode="json"),
        "window": window,
        "temperature": temperature,
        "thermo": thermo,
        "seed": own.seed,
        "surface": own.surface,
        "model": loaded.sha256,
    }
    with open_beside(output, settings, overwrite=overwrite) if output else nullcontext() as store:
        try:
            found = sample_conformers(
                given,
                loaded,
                n,
                level=chosen,
                window=window,
                temperature=temperature,
                thermo=thermo,
                surface=own.surface,
                seed=own.seed,
                checkpoint=store,
                workers=workers,
                progress=True,
            )
        except KeyboardInterrupt:
            kept = "nothing is kept: name a file with -o"
            if store:
                kept = f"what is done is kept in {store.path}; the same command resumes"
            print(f"interrupted: {kept}", file=sys.stderr)
            raise typer.Exit(130) from None
        if output and store:
            found.write(output)
            keep_written(store, output)
            command = shlex.join(["diffrelax", *sys.argv[1:]])
            conformers_page(found, command, f"All are in {output.name}.").write(page)
    _show(found, json_lines)
    for note in found.provenance.notes:
        print(note, file=sys.stderr)
    if output:
        print(f"{counted(len(found), 'conformer')} in {output}", file=sys.stderr)
        print(f"report: {page}", file=sys.stderr)


def _page_beside(output: Path) -> Path:
    return output.with_suffix(".report.html")


def _show(found: Ensemble, json_lines: bool) -> None:
    """Print a table for people, or a JSON object for each conformer."""
    if json_lines:
        for molecule, info in zip(found.molecules, found.infos, strict=True):
            geometry = {"symbols": molecule.symbols, "positions": molecule.positions.tolist()}
            row = {"name": molecule.name, "smiles": molecule.smiles, **info, **geometry}
            print(json.dumps(row, ensure_ascii=False))
        return
    from diffrelax.results.rows import text_table
    from diffrelax.sampling.conformers.page import conformer_rows

    print(f"{found.molecule.name}  {found.level}, {found.temperature:g} K")
    print(text_table(conformer_rows(found)))
