"""The command line: molecules in, geometries and one line or JSON object for each out."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from dataclasses import replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from diffrelax.benchmark.starts import Arm
    from diffrelax.dft import DFTSettings
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Inputs = Annotated[list[str], typer.Argument(help="SMILES, or files: .smi .sdf .mol .xyz .extxyz")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Geometries: .extxyz, .sdf or .json")
]
ModelName = Annotated[str, typer.Option("--model", help="Released model, or a .safetensors file")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
Seed = Annotated[int, typer.Option(help="Seed of the embedding of SMILES")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for each molecule")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads")]
NoiseLevel = Annotated[
    float | None,
    typer.Option(help="Å; take the start for a minimum with noise, not a force-field geometry"),
]


class Start(StrEnum):
    """Geometries that a DFT relaxation is compared from."""

    mmff94 = "mmff94"
    gfn2_xtb = "gfn2-xtb"


class Peer(StrEnum):
    """Levels of theory that a model's geometries are compared with."""

    uff = "uff"
    gfn2_xtb = "gfn2-xtb"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version("diffrelax"))
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version"),
    ] = False,
) -> None:
    """Relax molecules with a diffusion model, and with DFT from there."""


def main() -> None:
    """Run the command line; errors a person can act on end it with status 2."""
    # threads that sleep while they wait: on a shared machine, spinning ones cost five-fold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"diffrelax: {error}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:
        print(f"diffrelax: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def relax(
    inputs: Inputs,
    output: Output = None,
    model: ModelName = "relax-qm9",
    noise_level: NoiseLevel = None,
    device: Device = "cpu",
    seed: Seed = 42,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Relax molecules with the diffusion model."""
    from diffrelax.report import relaxation_row, report

    results, _ = _relax(inputs, output, seed, model, device, noise_level, threads)
    rows = [relaxation_row(result) for result in results]
    report(rows, output, [r.molecule for r in results], json_lines)
    raise typer.Exit(0 if all(r.verdict == "relaxed" for r in results) else 1)


@app.command()
def dft(
    inputs: Inputs,
    output: Output = None,
    xc: Annotated[str, typer.Option(help="Exchange-correlation functional")] = "b3lyp",
    basis: Annotated[str, typer.Option(help="Basis set")] = "6-31G(2df,p)",
    fmax: Annotated[float, typer.Option(help="Largest force at the end, eV/Å")] = 0.03,
    optimizer: Annotated[Literal["bfgs", "geometric"], typer.Option()] = "bfgs",
    hessian: Annotated[
        Literal["gfn2-xtb", "none"], typer.Option(help="Hessian that the optimizer starts from")
    ] = "gfn2-xtb",
    density_fit: Annotated[bool, typer.Option(help="Density fitting")] = True,
    max_steps: Annotated[int, typer.Option(min=0)] = 200,
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
    from diffrelax.levels.density_functional import check_functional
    from diffrelax.report import announce, write_rows

    check_functional(xc)
    settings = DFTSettings(
        xc=xc,
        basis=basis,
        fmax=fmax,
        optimizer=optimizer,
        hessian=hessian,
        density_fit=density_fit,
        max_steps=max_steps,
    )
    results, seconds = _relax(inputs, output, seed, model, device, noise_level, threads)
    rows: list[dict[str, Any]] = []
    ends: list[Molecule | None] = []
    try:
        for result in results:
            row, end = _dft_one(result, seconds, compare or [], settings, threads, json_lines)
            rows.append(row)
            ends.append(end)
            if output and any(ends):
                write_rows(output, rows, ends)
    except KeyboardInterrupt:
        print(f"interrupted: {len(rows)} of {len(results)} molecules are done", file=sys.stderr)
        raise typer.Exit(130) from None
    announce(output, rows, ends)
    raise typer.Exit(0 if all(row["converged"] for row in rows) else 1)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="config.yaml in the folder of the model")],
    max_minutes: Annotated[float, typer.Option(min=0, help="Stop and save after this time")] = 1e9,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run there")] = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train a model; writes beside its config.yaml."""
    from diffrelax.qm9 import load_qm9
    from diffrelax.training.config import ModelConfig
    from diffrelax.training.loop import check_device, check_folder
    from diffrelax.training.loop import train as run

    settings = ModelConfig.read(config)
    check_folder(config.parent, resume)
    check_device(device)
    _set_threads(threads)
    state = run(
        settings,
        config.parent,
        load_qm9("train"),
        load_qm9("validation"),
        device=device,
        max_minutes=max_minutes,
        resume=resume,
    )
    print(f"step {state.step} of {settings.training.steps} after {state.seconds / 3600:.2f} h")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Released model, or a .safetensors file")],
    split: Annotated[Literal["test", "validation"], typer.Option()] = "test",
    n: Annotated[int, typer.Option("-n", help="Number of molecules")] = 1000,
    levels: Annotated[
        list[Peer] | None, typer.Option("--level", help="Peer to compare with. May be repeated")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="Where to store the result: .json")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Compare a model's geometries with QM9's DFT geometries."""
    from diffrelax.atomic import replacing
    from diffrelax.benchmark.geometry import (
        choose_sample,
        evaluate_geometry,
        geometry_record,
        geometry_table,
    )
    from diffrelax.benchmark.hardware import describe_hardware
    from diffrelax.models import load_model
    from diffrelax.qm9 import load_qm9

    if output and not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} does not exist: create it first")
    _set_threads(threads)
    loaded = load_model(model, device)
    sample = choose_sample(load_qm9(split), n)
    rows = evaluate_geometry(
        loaded, sample, levels=tuple(map(str, levels or [Peer.gfn2_xtb])), progress=True
    )
    print(geometry_table(rows))
    if output:
        record = geometry_record(
            rows,
            sample,
            command=shlex.join(["diffrelax", *sys.argv[1:]]),
            split=split,
            model=loaded.name,
            sha256=loaded.sha256,
            step=loaded.step,
            hardware=describe_hardware(device),
        )
        with replacing(output) as part:
            part.write_text(json.dumps(record, indent=1) + "\n")


@app.command()
def models() -> None:
    """List the released models."""
    from diffrelax.models import load_model, releases

    for name, folder in releases().items():
        try:
            model = load_model(name)
        except ValueError as error:
            print(f"{name}  {error}")
            continue
        n_parameters = sum(p.numel() for p in model.denoiser.parameters())
        print(f"{name}  {model.config.level}  {n_parameters / 1e6:.2f} M parameters, "
              f"{model.step} steps, sha256 {model.sha256[:12]}…  {folder}")  # fmt: skip


def _relax(
    inputs: list[str],
    output: Path | None,
    seed: int,
    model: str,
    device: str,
    noise_level: float | None,
    threads: int | None,
) -> tuple[list[Relaxation], float]:
    """Return the results, and the seconds that reading took for each molecule."""
    from diffrelax.files import read_molecules
    from diffrelax.models import load_model
    from diffrelax.relaxation import choose_schedule, relax_molecules
    from diffrelax.writing import check_output

    if output:
        check_output(output)
    _set_threads(threads)
    loaded = load_model(model, device)
    choose_schedule(loaded, noise_level)
    begun = time.perf_counter()
    molecules = read_molecules(inputs, seed=seed)
    seconds = (time.perf_counter() - begun) / max(1, len(molecules))
    results = relax_molecules(molecules, loaded, noise_level=noise_level, progress=True)
    return results, seconds


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _dft_one(
    result: Relaxation,
    seconds: float,
    compare: list[Start],
    settings: DFTSettings,
    threads: int | None,
    json_lines: bool,
) -> tuple[dict[str, Any], Molecule | None]:
    from tqdm.auto import tqdm

    from diffrelax.benchmark.starts import comparison_table, excess_energies, relax_from
    from diffrelax.report import dft_columns, relaxation_row, show_row

    row = relaxation_row(result)
    if result.molecule is None:
        show_row(row, json_lines)
        return row, None
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
    show_row(row, json_lines)
    if compare and not json_lines:
        print(comparison_table(arms, excess), flush=True)
    return row, end
