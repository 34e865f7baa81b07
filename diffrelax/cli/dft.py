"""``diffrelax dft``."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diffrelax.cli.options import (
    Device,
    GridLevel,
    Inputs,
    Json,
    ModelName,
    NoiseLevel,
    Output,
    Overwrite,
    Seed,
    Solvent,
    Threads,
    set_threads,
)
from diffrelax.cli.relax import load_checked, read_parts, relax_or_fail

if TYPE_CHECKING:
    from diffrelax.benchmark.starts import Arm
    from diffrelax.dft import DFTSettings
    from diffrelax.files.reading import Input
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation


class Start(StrEnum):
    """Geometries that a DFT relaxation is compared from."""

    mmff94 = "mmff94"
    gfn2_xtb = "gfn2-xtb"


class Checkpoints:
    """Files beside the output that keep the gradient calls of the molecule that is worked on."""

    def __init__(self, output: Path | None, result: Relaxation, settings: DFTSettings) -> None:
        from diffrelax.cache import work_key

        self._output, self._key = output, ""
        if result.molecule:
            self._key = work_key("dft", result.molecule, settings.model_dump(mode="json"))[:16]

    def of(self, start: str) -> Path | None:
        """Return the file of a relaxation from a start; None without an output."""
        output = self._output
        return output and output.with_name(f"{output.name}.{start}-{self._key}.checkpoint")

    def drop(self) -> None:
        """Delete the files, also those of molecules that an earlier life has worked on."""
        if output := self._output:
            for path in output.parent.glob(f"{glob.escape(output.name)}.*.checkpoint"):
                path.unlink()


def dft(
    inputs: Inputs,
    output: Output = None,
    xc: Annotated[str, typer.Option(help="Exchange-correlation functional")] = "b3lyp",
    basis: Annotated[str, typer.Option(help="Basis set")] = "6-31G(2df,p)",
    solvent: Solvent = "",
    fmax: Annotated[float, typer.Option(help="Largest force at the end, eV/Å")] = 0.03,
    optimizer: Annotated[
        Literal["tric", "bfgs", "geometric", "sella"],
        typer.Option(help="tric and geometric are geomeTRIC's, to fmax and to its own criteria"),
    ] = "tric",
    hessian: Annotated[
        Literal["gfn2-xtb", "aimnet2", "none"],
        typer.Option(help="Hessian that the optimizer starts from"),
    ] = "gfn2-xtb",
    density_fit: Annotated[bool, typer.Option(help="Density fitting")] = True,
    grid_level: GridLevel = 3,
    max_steps: Annotated[int, typer.Option(min=0, help="Of the optimizer")] = 200,
    check_minimum: Annotated[
        Literal["none", "gfn2-xtb", "dft"],
        typer.Option(help="Level at which the end must have no imaginary frequency"),
    ] = "none",
    thermo: Annotated[
        Literal["none", "gfn2-xtb", "dft"],
        typer.Option(help="Level of the Hessian of free energies; checks the minimum, too"),
    ] = "none",
    temperature: Annotated[float, typer.Option(help="Of free energies, K")] = 298.15,
    pressure: Annotated[float, typer.Option(help="Of free energies, Pa")] = 101_325.0,
    compare: Annotated[
        list[Start] | None, typer.Option(help="Also start here; print a table. May be repeated")
    ] = None,
    model: ModelName = "relax-qm9",
    noise_level: NoiseLevel = None,
    device: Device = "cpu",
    seed: Seed = 42,
    threads: Threads = None,
    overwrite: Overwrite = False,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model, then with DFT (PySCF); the same command goes on."""
    from diffrelax.cli.report import Report, carried, report_each
    from diffrelax.dft import DFTSettings
    from diffrelax.dft.optimization import check_settings
    from diffrelax.files.writing import check_output
    from diffrelax.results.journal import Result

    if output:
        check_output(output, inputs=inputs)
    settings = DFTSettings(
        xc=xc,
        basis=basis,
        solvent=solvent,
        fmax=fmax,
        optimizer=optimizer,
        hessian=hessian,
        density_fit=density_fit,
        grid_level=grid_level,
        max_steps=max_steps,
        check_minimum=check_minimum,
        thermo=thermo,
        temperature=temperature,
        pressure=pressure,
    )
    check_settings(settings)
    set_threads(threads)
    loaded = load_checked(model, device, noise_level)
    decisive = {
        "command": "dft",
        "model": loaded.sha256,
        "noise_level": noise_level,
        "seed": seed,
        "compare": sorted(set(compare or [])),
        **settings.model_dump(),
    }

    def results(left: Iterator[Input]) -> Iterator[list[Result]]:
        for ((source, molecule, before),) in read_parts(left, 1, seed=seed):
            (result,) = relax_or_fail([molecule], loaded, noise_level=noise_level)
            checkpoints = Checkpoints(output, result, settings)
            row, end, table = _dft_one(
                result, before, compare or [], settings, threads, checkpoints
            )
            yield [Result(source, row, end, carried(source, row))]
            checkpoints.drop()
            if compare and end and not json_lines:
                print(table, flush=True)

    report = Report(output, decisive, _is_converged, overwrite=overwrite, json_lines=json_lines)
    report_each(inputs, report, results)


def _is_converged(row: Mapping[str, Any]) -> bool:
    return bool(row.get("converged"))


def _dft_one(
    result: Relaxation,
    seconds: float,
    compare: list[Start],
    settings: DFTSettings,
    threads: int | None,
    checkpoints: Checkpoints,
) -> tuple[dict[str, Any], Molecule | None, str]:
    """Return the row of a molecule, its geometry, and the table that compares its starts."""
    from tqdm.auto import tqdm

    from diffrelax.benchmark.starts import comparison_table, excess_energies, relax_from
    from diffrelax.cli.report import dft_columns, relaxation_row

    row = relaxation_row(result)
    if result.molecule is None:
        return row, None, ""
    arms: list[Arm] = []
    first = "diffusion" if result.verdict == "relaxed" else result.molecule.start
    for start in dict.fromkeys((first, *map(str, compare))):
        with tqdm(
            desc=f"{result.name} from {start}", unit="gradient", leave=None, disable=None
        ) as bar:

            def show(call: int, energy: float, fmax: float, bar: tqdm = bar) -> None:
                bar.set_postfix(fmax=f"{fmax:.3f} eV/Å", refresh=False)
                bar.update()

            arm = relax_from(
                start,
                result,
                settings,
                threads=threads,
                checkpoint=checkpoints.of(start),
                callback=show,
            )
        arms.append(replace(arm, seconds_before=arm.seconds_before + seconds))
    excess = excess_energies(arms)
    row |= dft_columns(arms[0], excess[0])
    row["reason"] = "; ".join(filter(None, (row["reason"], arms[0].remarks)))
    row["arms"] = [
        {"start": arm.start, **dft_columns(arm, energy), "remarks": arm.remarks}
        for arm, energy in zip(arms, excess, strict=True)
    ]
    end = arms[0].dft.molecule if arms[0].dft else result.molecule
    row["positions"] = end.positions.tolist()
    return row, end, comparison_table(arms, excess)
