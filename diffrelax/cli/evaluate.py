"""``diffrelax evaluate``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from diffrelax.cli.options import Device, Threads, set_threads


def evaluate(
    model: Annotated[str, typer.Argument(help="Release, folder of a model, or .safetensors file")],
    split: Annotated[Literal["test", "validation"], typer.Option(help="Part of QM9")] = "test",
    data: Annotated[
        Path | None, typer.Option(help="Packed set of minima (.npz) instead of QM9")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Level of theory of the minima, for a set with several")
    ] = None,
    model_levels: Annotated[
        list[str] | None,
        typer.Option(
            "--model-level",
            help="Level of theory of the model; default: that of the minima. May be repeated",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of molecules")] = 1000,
    start: Annotated[
        Literal["mmff94", "uff", "gfn2-xtb", "embedded", "minimum"],
        typer.Option(
            help="Start: the DFT geometry relaxed at a level, the minimum itself, or an embedding"
        ),
    ] = "mmff94",
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", help="Cheap level of theory to compare with. May be repeated"),
    ] = None,
    noise_levels: Annotated[
        list[float] | None,
        typer.Option(
            "--noise-level",
            help=(
                "Denoise from this noise level, Å, instead of the model's schedule. May be repeated"
            ),
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output: .json")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output")] = False,
) -> None:
    """Compare the geometries of a model with those of DFT.

    The DFT geometries are those of QM9 or of a packed set.
    """
    from diffrelax.atomic import write_text
    from diffrelax.benchmark.geometry import (
        bounds_table,
        evaluate_geometry,
        geometry_record,
        geometry_table,
    )
    from diffrelax.benchmark.hardware import describe_hardware
    from diffrelax.benchmark.sample import choose_sample, start_from
    from diffrelax.data.qm9 import load_qm9
    from diffrelax.files.values import plain_values
    from diffrelax.files.writing import check_output, would_be_lost
    from diffrelax.levels import LEVELS, check_installed
    from diffrelax.levels.calculators import check_cheap
    from diffrelax.models.release import load_model
    from diffrelax.training.geometries import GeometrySet

    if output:
        check_output(output, (".json",))
        if output.exists() and not overwrite:
            raise would_be_lost(output)
    peers = peers or ["gfn2-xtb"]
    for name in peers:
        check_cheap(name)
    for name in {*peers, *LEVELS.keys() & {start}}:
        check_installed(name)
    set_threads(threads)
    loaded = load_model(model, device)
    if data:
        chosen = choose_sample(GeometrySet.load(data), n, source=data.stem, level=level)
    else:
        chosen = choose_sample(load_qm9(split), n)
    sample = start_from(chosen, start)
    if lost := n - len(sample.indices):
        print(f"{lost} of {n} molecules have no start {start}", file=sys.stderr)
    rows = evaluate_geometry(
        loaded,
        sample,
        levels=tuple(peers),
        noise_levels=noise_levels or [None],
        model_levels=model_levels or (),
        progress=True,
    )
    print(geometry_table(rows, sample.start))
    if bounds := bounds_table(rows, sample):
        print(f"\n{bounds}")
    if output:
        record = geometry_record(
            rows,
            sample,
            command=shlex.join(["diffrelax", *sys.argv[1:]]),
            split=data.name if data else split,
            model=loaded.name,
            sha256=loaded.sha256,
            step=loaded.step,
            hardware=describe_hardware(device),
        )
        write_text(output, json.dumps(plain_values(record), allow_nan=False, indent=1) + "\n")
