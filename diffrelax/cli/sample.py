"""``diffrelax sample``."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import nullcontext
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.cli.options import (
    Basis,
    Charge,
    Functional,
    Json,
    Overwrite,
    SettingsFile,
    Solvent,
    level_settings,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.sampling.ensemble import Ensemble, LevelSettings
    from diffrelax.store import Store

COLUMNS = {"rhat": 3, "ess": 0, "autocorrelation": 0}


def sample(
    molecule: Annotated[str, typer.Argument(help="SMILES, or a file with one molecule")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Samples: .h5, .extxyz or .sdf")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Number of samples")] = 5000,
    temperature: Annotated[float, typer.Option(help="Temperature, K")] = 300.0,
    level: Annotated[str, typer.Option(help="Level of theory: mmff94, gfn2-xtb, dft, …")] = (
        "mmff94"
    ),
    conformers: Annotated[
        Path | None,
        typer.Option(
            help="Output of `diffrelax conformers` for the same input and level: jump between them"
        ),
    ] = None,
    reweight: Annotated[
        str | None, typer.Option(help="Reweight the samples to this level of theory")
    ] = None,
    xc: Functional = None,
    basis: Basis = None,
    solvent: Solvent = "",
    charge: Charge = None,
    settings_file: SettingsFile = None,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Sample the geometries of a molecule at a temperature.

    Finished work is kept: rerun the command to resume.
    """
    from diffrelax.cli.settings import SamplingSettings
    from diffrelax.entries import read_validated
    from diffrelax.files.reading import read_one
    from diffrelax.files.writing import check_output
    from diffrelax.levels import Surface
    from diffrelax.results.beside import keep_written, open_beside
    from diffrelax.results.tables import counted
    from diffrelax.sampling.boltzmann import sample_boltzmann
    from diffrelax.sampling.boltzmann.remembered import ENERGY
    from diffrelax.sampling.ensemble import Ensemble
    from diffrelax.sampling.ensemble.files import WRITERS

    if output:
        check_output(output, WRITERS, [molecule])
    own = SamplingSettings()
    if settings_file:
        own = read_validated(settings_file, SamplingSettings, "settings file", "chains: 20")
    jumped = Ensemble.read(conformers) if conformers else None
    drawn_at, *weighted_at = _levels(level, reweight, xc, basis, solvent)
    given = read_one(molecule, seed=own.seed, charge=charge)
    for other in weighted_at:
        Surface(given, other.name, **other.settings)  # raises before the work begins
    settings = {
        "command": "sample",
        "molecule": given.smiles,
        "level": drawn_at.model_dump(mode="json"),
        "temperature": temperature,
        "conformers": jumped and hashlib.sha256(jumped.positions.tobytes()).hexdigest(),
        "chains": own.chains,
        "seed": own.seed,
    }
    with open_beside(output, settings, overwrite=overwrite) if output else nullcontext() as store:
        if store and any(True for _ in store.each(ENERGY)):
            print(f"continuing with the energies in {store.path}", file=sys.stderr)
        set_threads(own.threads)
        try:
            found = sample_boltzmann(
                given,
                n,
                temperature=temperature,
                level=drawn_at,
                conformers=jumped,
                n_chains=own.chains,
                seed=own.seed,
                checkpoint=store,
                progress=True,
            )
        except KeyboardInterrupt:
            kept = "the same command goes on" if output else "nothing was kept"
            print(f"interrupted before the first sample: {kept}", file=sys.stderr)
            raise typer.Exit(130) from None
        if output and not overwrite and (before := _longer(output, found)):
            message = f"{output} keeps the {counted(before, 'sample')} that it has"
            print(f"interrupted before new samples were drawn: {message}", file=sys.stderr)
            raise typer.Exit(130)
        if output and store:
            found.write(output)
            keep_written(store, output)
        if weighted_at and not found.provenance.diagnostics["interrupted"]:
            found = _reweight(found, weighted_at[0], output, store, json_lines)
        _show(found, json_lines)
        if output:
            print(f"{counted(len(found), 'sample')} in {output}", file=sys.stderr)
        raise typer.Exit(_status(found))


def _longer(output: Path, found: Ensemble) -> int:
    """Return how many samples an output has, where an interrupted run has not come as far again."""
    from diffrelax.sampling.ensemble import Ensemble

    if not found.provenance.diagnostics["interrupted"] or not output.exists():
        return 0
    before = len(Ensemble.read(output))
    return before if before > len(found) else 0


def _levels(
    level: str, reweight: str | None, xc: str | None, basis: str | None, solvent: str
) -> list[LevelSettings]:
    """Name the levels of theory; functional and basis belong to the one that is DFT."""
    names = [level, reweight] if reweight else [level]
    return [
        level_settings(name, xc, basis, solvent) if name == "dft" or "dft" not in names
        else level_settings(name, None, None, "")
        for name in names
    ]  # fmt: skip


def _reweight(
    found: Ensemble,
    level: LevelSettings,
    output: Path | None,
    store: Store | None,
    json_lines: bool,
) -> Ensemble:
    from diffrelax.results.beside import keep_written
    from diffrelax.sampling.boltzmann import reweight

    try:
        weighted = reweight(found, level, checkpoint=store, progress=True)
    except (KeyboardInterrupt, RuntimeError, ValueError) as error:
        reason = str(error) or "interrupted"
        kept = ""
        if output:
            kept = f"; the samples at {found.level} are in {output}"
            if isinstance(error, KeyboardInterrupt):
                kept += ", rerun the command to resume"
        _show(found, json_lines)
        print(f"diffrelax: not reweighted: {reason}{kept}", file=sys.stderr)
        raise typer.Exit(1 if str(error) else 130) from None
    if output and store:
        weighted.write(output)
        keep_written(store, output)
    return weighted


def _status(found: Ensemble) -> int:
    from diffrelax.sampling.boltzmann.diagnostics import MIN_ESS

    known: dict[str, Any] = found.provenance.diagnostics
    if known["interrupted"]:
        return 130
    trusted = known["converged"] and known.get("reweighted_ess", MIN_ESS) >= MIN_ESS
    return 0 if trusted else 1


def _show(found: Ensemble, json_lines: bool) -> None:
    """Print a table for people, or a JSON object; what there is to beware of, beside it."""
    known: dict[str, Any] = found.provenance.diagnostics
    notes = list(found.provenance.notes)
    if not known["converged"]:
        more = "" if known["interrupted"] else f": draw more samples (-n {4 * len(found)})"
        notes.insert(0, f"not converged: {known['doubts']}{more}")
    if json_lines:
        row = {
            "name": found.molecule.name,
            "smiles": found.molecule.smiles,
            "level": str(found.level),
            "temperature": found.temperature,
            "n_samples": len(found),
            **known,
            "notes": notes,
        }
        print(json.dumps(row, ensure_ascii=False))
    else:
        print(_table(found))
    for note in notes:
        print(note, file=sys.stderr)


def _table(found: Ensemble) -> str:
    from diffrelax.results.tables import aligned_table

    known: dict[str, Any] = found.provenance.diagnostics
    rows = [
        (name, *(f"{known[key][name] or nan:.{digits}f}" for key, digits in COLUMNS.items()))
        for name in known["ess"]
    ]
    title = f"{found.molecule.name}  {found.level}, {found.temperature:g} K, {len(found)} samples"
    shares = [f"{name} {100 * share:.0f}%" for name, share in known["acceptance"].items()]
    cost = f"{known['energy_calls']} energy calls, {known['seconds']:.1f} s"
    table = aligned_table([("", "R-hat", "ESS", "autocorrelation, steps"), *rows])
    lines = [title, table, cost, f"accepted: {', '.join(shares)}"]
    if "reweighted_ess" in known:
        lines.append(f"effective sample size after reweighting: {known['reweighted_ess']:.0f}")
    if known["converged"]:
        lines.append("converged")
    return "\n".join(lines)
