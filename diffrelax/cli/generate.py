"""``diffrelax generate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from diffrelax.cli.options import Device, Threads, set_threads


def generate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Geometries: .extxyz")],
    n: Annotated[int, typer.Option("-n", help="Number of molecules")] = 100,
    trajectories: Annotated[
        Path | None,
        typer.Option(
            help="How each came to be, level by level: .h5, which "
            "diffrelax.generation.read_trajectories reads"
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Released model, folder of one, or .safetensors file")
    ] = "generate-qm9",
    seed: Annotated[int, typer.Option(help="Of the noise")] = 42,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Generate molecules out of noise; what is not a molecule is written too, and marked."""
    from diffrelax.generation import Generated, generate_each, write_trajectories
    from diffrelax.models import load_model
    from diffrelax.writing import check_output, write_frames

    for path, suffix in ((output, ".extxyz"), (trajectories, ".h5")):
        if path:
            check_output(path, (suffix,))
    set_threads(threads)
    found: dict[int, Generated] = {}
    keep = trajectories is not None
    try:
        for i, one in generate_each(
            load_model(model, device), n, seed=seed, trajectories=keep, progress=True
        ):
            found[i] = one
    except KeyboardInterrupt:
        print(f"interrupted: {len(found)} of {n} are done", file=sys.stderr)
    if not found:
        raise typer.Exit(130)
    made = [found[i] for i in sorted(found)]
    for i, one in enumerate(made):
        one.atoms.info = {
            "name": f"generated-{i}",
            "verdict": "molecule" if one.molecule else "invalid",
            **one.atoms.info,
        }
    write_frames(output, [one.atoms for one in made])
    if trajectories:
        write_trajectories(trajectories, made)
    molecules = {one.molecule.smiles for one in made if one.molecule}
    valid = sum(one.molecule is not None for one in made)
    print(f"{valid} of {len(made)} are molecules, {len(molecules)} of them distinct")
    print(f"{len(made)} geometries in {output}", file=sys.stderr)
    raise typer.Exit(0 if len(made) == n else 130)
