"""``diffrelax dft``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.choices import DEFAULT_BASIS, CurvatureLevel
from diffrelax.cli.inputs import choose_level, load_checked, read_parts
from diffrelax.cli.options import (
    BasisSet,
    Calculator,
    Charge,
    Fmax,
    Inputs,
    Json,
    ModelName,
    Output,
    Overwrite,
    SettingsFile,
    Solvent,
    Threads,
    Xc,
    read_settings,
    set_threads,
)

if TYPE_CHECKING:
    from diffrelax.benchmark.speedup.arms import Subject
    from diffrelax.benchmark.speedup.run import Outcome
    from diffrelax.clock import Time
    from diffrelax.dft import DFTSettings
    from diffrelax.files.reading import Input
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation
    from diffrelax.store import Store


SETTING_COLUMNS = {"optimizer", "hessian", "density_fit"}
RESULT_COLUMNS = {"criterion", "gradient_calls", "scf_cycles", "fmax", "lowest_frequency"}
GAS_COLUMNS = {"temperature", "pressure", "symmetry_number", "frequencies"}
GAS_ENERGIES = (
    "zero_point_energy", "enthalpy", "gibbs_energy", "gibbs_energy_quasi_harmonic",
)  # fmt: skip


def dft(
    context: typer.Context,
    inputs: Inputs,
    output: Output = None,
    xc: Xc = "b3lyp",
    basis: BasisSet = DEFAULT_BASIS,
    solvent: Solvent = "",
    calculator: Calculator = None,
    fmax: Fmax = 0.03,
    check_minimum: Annotated[
        CurvatureLevel,
        typer.Option(help="Level at which the end is checked to have no imaginary frequency"),
    ] = "none",
    thermo: Annotated[
        CurvatureLevel,
        typer.Option(help="Level of the Hessian for free energies; also checks the minimum"),
    ] = "none",
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Also start at this cheap level; print a table. May be repeated"),
    ] = None,
    model: ModelName = "default",
    charge: Charge = None,
    threads: Threads = None,
    settings_file: SettingsFile = None,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model, then with DFT.

    Finished work is kept: rerun the command to resume.
    """
    from diffrelax.cli.report import Report, carried, report_each, starts_of
    from diffrelax.cli.settings import ModelSettings
    from diffrelax.dft.optimization import CHECKPOINT, check_settings
    from diffrelax.files.writing import check_output
    from diffrelax.levels import check_installed
    from diffrelax.levels.calculators import check_cheap
    from diffrelax.relaxation import relax_molecules
    from diffrelax.results.output import InputResult

    if output:
        check_output(output, inputs=inputs)
    settings, own = read_settings(context, ModelSettings)
    check_settings(settings)
    for start in compare or ():
        check_cheap(start)
        check_installed(start)
    set_threads(threads)
    loaded = load_checked(model, own.device, own.noise_level)
    level = choose_level(loaded, settings.level)
    decisive = {
        "command": "dft",
        "model": loaded.sha256,
        "noise_level": own.noise_level,
        "seed": own.seed,
        "compare": sorted(set(compare or [])),
        **({} if level == loaded.config.level else {"model_level": level}),
        **settings.model_dump(),
    }

    relax_one = partial(relax_molecules, model=loaded, level=level, noise_level=own.noise_level)

    def results(left: Iterator[Input]) -> Iterator[list[InputResult]]:
        any_again = False
        for ((source, molecule, before),) in read_parts(left, 1, seed=own.seed):
            result = _as_before(relax_one([molecule])[0], report.store, decisive)
            try:
                row, end, curves, table = _dft_one(
                    result, before, compare or [], settings, threads, report.store
                )
            except KeyboardInterrupt:
                if output:
                    print(f"{result.name}: finished work is kept", file=sys.stderr)
                raise
            again = end is not None and row["energy_ev"] is None  # no call succeeded
            any_again = any_again or again
            properties = carried(source, row)
            frames = starts_of(result)
            if end and result.molecule:
                frames |= {"relaxed by the model" if frames else "start": result.molecule}
            end = None if again else end
            yield [InputResult(source, row, end, properties, again, result.error, frames, curves)]
            if not any_again:  # finished calls of that molecule are kept for the next run
                report.store.drop(kind=f"{CHECKPOINT}*")
                report.store.drop(kind="unit")
            if compare and end and not json_lines:
                print(table, flush=True)

    report = Report(
        output,
        decisive,
        lambda row: bool(row.get("converged")),
        overwrite=overwrite,
        json_lines=json_lines,
    )
    report_each(inputs, charge, report, results)


def _as_before(result: Relaxation, store: Store, decisive: Mapping[str, Any]) -> Relaxation:
    """Return a result with the geometry that an earlier run continued from, if any.

    The last digits of the network depend on the processor and the number of threads, and a
    checkpoint only fits the same start.
    """
    import numpy as np

    from diffrelax.store import work_key

    if result.verdict != "relaxed":
        return result
    assert result.molecule is not None and result.start is not None
    key = work_key("model", result.start, decisive)
    made = {"positions": result.molecule.positions.tolist()}
    positions = np.array(store.find_or_do(key, lambda: made)["positions"])
    molecule = result.molecule.with_positions(positions, start=result.molecule.start)
    return replace(result, molecule=molecule)


def _dft_one(
    result: Relaxation,
    before: Time,
    compare: list[str],
    settings: DFTSettings,
    threads: int | None,
    store: Store,
) -> tuple[dict[str, Any], Molecule | None, dict[str, tuple[float, ...]], str]:
    """Return the row of a molecule, its geometry, its largest forces by start, and their table."""
    from diffrelax.benchmark.speedup.arms import Subject
    from diffrelax.benchmark.speedup.comparison import comparison_table, excess_energies
    from diffrelax.results.rows import MoleculeRow

    row = MoleculeRow.of_relaxation(result)
    if result.molecule is None:
        return row, None, {}, ""
    subject = Subject(result.name, result.start, before)
    first = "diffusion" if result.verdict == "relaxed" else result.molecule.start
    outcomes = [
        _relax_from(start, subject, result, settings, threads, store)
        for start in dict.fromkeys((first, *compare))
    ]
    energies = excess_energies(outcomes)
    columns = [_columns(*pair, settings) for pair in zip(outcomes, energies, strict=True)]
    row |= columns[0]
    remarks = (outcomes[0].reason, *outcomes[0].notes)
    more = (remark for remark in remarks if remark not in row["reason"])
    row["reason"] = "; ".join(filter(None, (row["reason"], *more)))
    row["arms"] = [
        {"start": outcome.arm.start, **of_one, "remarks": outcome.remarks}
        for outcome, of_one in zip(outcomes, columns, strict=True)
    ]
    dft = outcomes[0].relaxation
    end = dft.output.to_molecule() if dft else result.molecule
    row["positions"] = end.positions.tolist()
    curves = {outcome.arm.start: outcome.largest_forces for outcome in outcomes}
    return row, end, curves, comparison_table(outcomes)


def _columns(outcome: Outcome, excess: float | None, settings: DFTSettings) -> dict[str, Any]:
    """Return the columns of a row about a DFT relaxation."""
    from diffrelax.results.rows import LevelColumns

    columns: dict[str, Any] = {"converged": outcome.converged, "excess_ev": excess}
    if dft := outcome.relaxation:
        columns |= settings.model_dump(include=SETTING_COLUMNS) | dft.model_dump(
            include=RESULT_COLUMNS
        )
        columns |= {"level": settings.described, "energy_ev": dft.energy}
        columns |= {"check_minimum": settings.checked_at}
        if bounds := dft.prediction:
            columns |= {"fmax_bound": bounds.fmax_bound, "rmsd_bound": bounds.rmsd_bound}
            columns |= {"energy_bound_ev": bounds.energy_bound}
        if gas := dft.thermochemistry:
            columns |= gas.model_dump(include=GAS_COLUMNS) | {"thermo": settings.thermo}
            columns |= {f"{energy}_ev": getattr(gas, energy) for energy in GAS_ENERGIES}
            columns |= {"entropy_ev_per_kelvin": gas.entropy}
    return LevelColumns(**columns, seconds=outcome.times["total"].wall).model_dump()


def _relax_from(
    start: str,
    subject: Subject,
    result: Relaxation,
    settings: DFTSettings,
    threads: int | None,
    store: Store,
) -> Outcome:
    """Relax a molecule from one start, and show progress."""
    from diffrelax.benchmark.speedup.arms import SpeedupArm, recipe_of
    from diffrelax.benchmark.speedup.run import run_arm
    from diffrelax.benchmark.speedup.units import Start, Units
    from diffrelax.progress import progress_bar

    title = f"{result.name} from {start}"
    with progress_bar(None, "gradient", title, leave=None) as bar:

        def show(call: int, energy: float, fmax: float) -> None:
            bar.set_postfix(fmax=f"{fmax:.3f} eV/Å", refresh=False)
            bar.update()

        made = {"diffusion": Start(result.molecule, result.time)}
        units = Units(store, threads=threads, callback=show, made=made)
        return run_arm(subject, SpeedupArm(start, recipe_of(settings)), settings, units)
