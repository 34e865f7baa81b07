"""``diffrelax dft``."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
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
    Seed,
    Threads,
)
from diffrelax.cli.relax import relax_inputs, tell_interrupted

if TYPE_CHECKING:
    from diffrelax.benchmark.starts import Arm
    from diffrelax.dft import DFTSettings
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation


class Start(StrEnum):
    """Geometries that a DFT relaxation is compared from."""

    mmff94 = "mmff94"
    gfn2_xtb = "gfn2-xtb"


def dft(
    inputs: Inputs,
    output: Output = None,
    xc: Annotated[str, typer.Option(help="Exchange-correlation functional")] = "b3lyp",
    basis: Annotated[str, typer.Option(help="Basis set")] = "6-31G(2df,p)",
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
    compare: Annotated[
        list[Start] | None, typer.Option(help="Also start here; print a table. May be repeated")
    ] = None,
    model: ModelName = "relax-qm9",
    noise_level: NoiseLevel = None,
    device: Device = "cpu",
    seed: Seed = 42,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model, then with DFT (PySCF)."""
    from diffrelax.dft import DFTSettings
    from diffrelax.dft.relaxation import check_settings
    from diffrelax.report import announce, report

    settings = DFTSettings(
        xc=xc,
        basis=basis,
        fmax=fmax,
        optimizer=optimizer,
        hessian=hessian,
        density_fit=density_fit,
        grid_level=grid_level,
        max_steps=max_steps,
        check_minimum=check_minimum,
    )
    check_settings(settings)
    rows: list[dict[str, Any]] = []
    ends: list[Molecule | None] = []
    try:
        relaxed = list(relax_inputs(inputs, output, seed, model, device, noise_level, threads))
        for result, before in relaxed:
            row, end, table = _dft_one(result, before, compare or [], settings, threads)
            rows.append(row)
            ends.append(end)
            report(rows, output, ends, json_lines, first=len(rows) - 1)
            if compare and end and not json_lines:
                print(table, flush=True)
    except KeyboardInterrupt:
        tell_interrupted(len(rows), inputs)
        raise typer.Exit(130) from None
    announce(output, rows, ends)
    raise typer.Exit(0 if all(row["converged"] for row in rows) else 1)


def _dft_one(
    result: Relaxation,
    seconds: float,
    compare: list[Start],
    settings: DFTSettings,
    threads: int | None,
) -> tuple[dict[str, Any], Molecule | None, str]:
    """Return the row of a molecule, its geometry, and the table that compares its starts."""
    from tqdm.auto import tqdm

    from diffrelax.benchmark.starts import comparison_table, excess_energies, relax_from
    from diffrelax.report import dft_columns, relaxation_row

    row = relaxation_row(result)
    if result.molecule is None:
        return row, None, ""
    arms: list[Arm] = []
    first = "diffusion" if result.verdict == "relaxed" else result.molecule.start
    for start in dict.fromkeys((first, *map(str, compare))):
        with tqdm(desc=f"{result.name} from {start}", unit="gradient", disable=None) as bar:

            def show(call: int, energy: float, fmax: float, bar: tqdm = bar) -> None:
                bar.set_postfix(fmax=f"{fmax:.3f} eV/Å", refresh=False)
                bar.update()

            arm = relax_from(start, result, settings, threads=threads, callback=show)
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
