"""Arguments and options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.dft import DFTSettings
    from diffrelax.entries import Entries
    from diffrelax.sampling.ensemble import LevelSettings

Own = TypeVar("Own", bound="Entries")
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
        help="Geometries: .extxyz .xyz .sdf .pdb .json .jsonl, each also with .gz; results are "
        "appended; rerun to resume",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again and replace the output")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="Release, folder of a model, or .safetensors file; the default is the release that "
        "covers most",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
Seed = Annotated[int, typer.Option(help="Random seed for embedding SMILES")]
Charge = Annotated[
    int | None, typer.Option(help="Charge of geometries in .xyz and .pdb files without one")
]
Workers = Annotated[
    int,
    typer.Option(
        min=1, help=("Number of processes that read and embed; results do not depend on it")
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads")]
NoiseLevel = Annotated[
    float | None,
    typer.Option(
        help=(
            "Standard deviation of the noise on each coordinate of the start, Å; default: as "
            "read by the model"
        )
    ),
]
Xc = Annotated[str, typer.Option(help="Functional, or a full level such as PBE0-D3(BJ)/def2-SVP")]
BasisSet = Annotated[str, typer.Option(help="Basis set")]
Fmax = Annotated[float, typer.Option(help="Largest force at the end, eV/Å")]
Calculator = Annotated[
    Path | None,
    typer.Option(help="YAML profile of a program that replaces PySCF"),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="YAML file of settings that are rarely changed: see the documentation",
    ),
]
Functional = Annotated[str | None, typer.Option("--xc", help="Functional, for --level dft")]
Basis = Annotated[str | None, typer.Option(help="Basis set, for --level dft")]
Solvent = Annotated[
    str, typer.Option(help="Solvent for DFT: a name such as water, or a dielectric constant")
]


def set_threads(threads: int | None) -> None:
    """Limit torch, PySCF and linear algebra to a number of threads, if one is given."""
    if threads is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are loaded later

    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def read_settings(
    context: typer.Context, own: type[Own], without: Collection[str] = ()
) -> tuple[DFTSettings, Own]:
    """Return the settings of DFT and those of the command.

    Options take precedence over the settings file. Errors name the options.

    Parameters
    ----------
    context : typer.Context
        Context of a command with level options and ``settings_file``.
    own : type of Entries
        Settings of the command that only the file can set.
    without : collection of str
        Settings of DFT that the command sets itself.
    """
    from pydantic import ValidationError  # slow to import

    from diffrelax.dft import DFTSettings
    from diffrelax.dft.settings import LEVEL, PYSCF_SETTINGS
    from diffrelax.entries import explain_invalid, read_entries

    given = dict(_given(context))
    path: Path | None = given.pop("settings_file", None)
    entries = read_entries(path, "settings file", "max_steps: 50") if path else {}
    names = (*DFTSettings.model_fields, *own.model_fields)
    if unknown := entries.keys() - set(names) | entries.keys() & set(without):
        known = ", ".join(name for name in names if name not in without)
        raise InputError(f"{path} has {', '.join(sorted(unknown))}: choose among {known}")
    if path and isinstance(profile := entries.get("calculator"), str):
        entries["calculator"] = path.parent / profile
    of_dft = {
        name: value for name, value in (entries | given).items() if name in DFTSettings.model_fields
    }
    for name in (*LEVEL, *PYSCF_SETTINGS) if of_dft.get("calculator") else ():
        if name in of_dft:
            raise InputError(f"{_option(name, context)} is set in the profile: leave it out")
    try:
        rest = {name: value for name, value in entries.items() if name in own.model_fields}
        return DFTSettings.among(of_dft), own(**rest)
    except ValidationError as error:
        described = explain_invalid(error)
        raise InputError(
            SETTING.sub(lambda found: _option(found[1] or found[2], context), described)
        ) from error


def _given(context: typer.Context) -> Iterator[tuple[str, Any]]:
    """Yield the options that are on the command line."""
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield name, value


def _option(name: str, context: typer.Context) -> str:
    """Return the option for a setting, or the name of the setting if it has none."""
    return f"--{name.replace('_', '-')}" if name in context.params else name


def level_settings(name: str, xc: str | None, basis: str | None, solvent: str) -> LevelSettings:
    """Return a level of theory with its settings; raise InputError if they do not apply."""
    from diffrelax.sampling.ensemble import LevelSettings

    settings = {"xc": xc, "basis": basis, "solvent": solvent}
    chosen = {key: value for key, value in settings.items() if value}
    if chosen and name != "dft":
        raise InputError(f"level {name} has no {' and no '.join(chosen)}: use --level dft")
    level = LevelSettings.model_validate({"name": name, "settings": chosen})
    if name == "dft":
        level.dft()  # checks the settings
    return level
