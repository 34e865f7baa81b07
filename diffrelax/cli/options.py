"""What several commands take."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.dft import DFTSettings
    from diffrelax.sampling.ensemble import LevelSettings

SETTING = re.compile(r"`(\w+)`|(?:^|(?<=; ))(\w+)(?=: )")  # in the words of an error

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="SMILES or InChI; - for lines of them on standard input; or files: .smi .txt .csv "
        ".tsv .sdf .mol .mol2 .cdxml .xyz .extxyz .pdb .gjf .com .inp, each also with .gz"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Geometries: .extxyz .xyz .sdf .pdb .json .jsonl, each also with .gz; grows as "
        "results come, and the same command goes on",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Begin anew, and lose what is in the output")
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="Released model, folder of one, or .safetensors file; default is the release that "
        "covers most",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
Seed = Annotated[int, typer.Option(help="Seed of the embedding of SMILES")]
Charge = Annotated[
    int | None, typer.Option(help="Of geometries in .xyz and .pdb files that tell none")
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that read and embed; the results stay the same")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, an object on each line")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads")]
NoiseLevel = Annotated[
    float | None,
    typer.Option(
        help="Å, standard deviation of noise on each coordinate of the start; read if not given"
    ),
]
GridLevel = Annotated[int, typer.Option(min=0, max=9, help="PySCF's integration grid")]
Xc = Annotated[str, typer.Option(help="Functional, or a whole level such as PBE0-D3(BJ)/def2-SVP")]
BasisSet = Annotated[str, typer.Option(help="Basis set")]
Fmax = Annotated[float, typer.Option(help="Largest force at the end, eV/Å")]
DensityFit = Annotated[bool, typer.Option(help="Density fitting")]
MaxSteps = Annotated[int, typer.Option(min=0, help="Of the optimizer")]
Calculator = Annotated[
    Path | None,
    typer.Option(help="YAML profile of a program that calculates in place of PySCF"),
]
Functional = Annotated[str | None, typer.Option("--xc", help="Functional, for --level dft")]
Basis = Annotated[str | None, typer.Option(help="Basis set, for --level dft")]
Solvent = Annotated[
    str, typer.Option(help="Of DFT: a name such as water, or a dielectric constant")
]


def set_threads(threads: int | None) -> None:
    """Hold torch, PySCF and linear algebra to a number of threads, if one is given."""
    if threads is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of libraries that are loaded from now on

    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def read_settings(arguments: Mapping[str, Any]) -> DFTSettings:
    """Take the settings of DFT out of the arguments of a command; errors name its options.

    Its ``context`` says which of them were given.
    """
    from pydantic import ValidationError  # slow to import

    from diffrelax.dft import DFTSettings
    from diffrelax.dft.settings import LEVEL, OF_PYSCF
    from diffrelax.entries import explain_invalid

    for name in (*LEVEL, *OF_PYSCF) if arguments.get("calculator") else ():
        source = arguments["context"].get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise InputError(f"--{option} is set by the profile of the program: leave it out")
    try:
        return DFTSettings.among(arguments)
    except ValidationError as error:
        message = explain_invalid(error)
        named = SETTING.sub(lambda found: f"--{found[1] or found[2]}".replace("_", "-"), message)
        raise InputError(named) from error


def level_settings(name: str, xc: str | None, basis: str | None, solvent: str) -> LevelSettings:
    """Name a level of theory with its settings, or raise ValueError if it has none of those."""
    from diffrelax.sampling.ensemble import LevelSettings

    settings = {"xc": xc, "basis": basis, "solvent": solvent}
    chosen = {key: value for key, value in settings.items() if value}
    if chosen and name != "dft":
        raise InputError(f"level {name} has no {' and no '.join(chosen)}: use --level dft")
    level = LevelSettings.model_validate({"name": name, "settings": chosen})
    if name == "dft":
        level.dft()  # before anything is done
    return level
