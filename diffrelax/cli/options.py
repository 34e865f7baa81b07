"""What several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    typer.Option(help="Å; take the start for a minimum with so much noise"),
]


def set_threads(threads: int | None) -> None:
    """Hold torch to a number of threads, if one is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
