"""The command line."""

from __future__ import annotations

import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated

import typer

from diffrelax.cli import (
    conformers,
    dft,
    evaluate,
    export,
    generate,
    minima,
    models,
    relax,
    results,
    run,
    sample,
    speedup,
    train,
)
from diffrelax.errors import InputError, UnfinishedError, message_of, without_password
from diffrelax.memory import keep_freed

DEBUG = "--debug"
UNFINISHED, USER_ERROR, INTERNAL_ERROR = 1, 2, 3  # exit status

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes half of the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    relax.relax: (
        'diffrelax relax "CC(=O)OC" CCO -o relaxed.extxyz',
        "diffrelax relax library.csv.gz -o relaxed.sdf.gz",
        "cat molecules.smi | diffrelax relax - -o relaxed.sdf",
    ),
    dft.dft: (
        'diffrelax dft "CC(=O)OC" --compare mmff94 -o methyl_acetate.extxyz',
        "diffrelax dft molecules.sdf --xc pbe --basis def2-svp -o minima.sdf",
        "diffrelax dft molecules.sdf --calculator orca.yaml -o minima.sdf",
    ),
    export.export: (
        "diffrelax export molecules.sdf --to orca --xc B3LYP --basis def2-SVP -o orca/",
        "diffrelax export minima.xyz --no-relax --to nwchem -o nwchem/",
    ),
    speedup.speedup: (
        "diffrelax speedup molecules.smi -o report/ --start mmff94 --start diffusion",
    ),
    conformers.conformers: (
        "diffrelax conformers CCCCO -o conformers.sdf",
        "diffrelax conformers CCCCO --level dft --xc pbe --basis def2-svp -o conformers.h5",
    ),
    sample.sample: ("diffrelax sample CCCCO -n 5000 --temperature 300 -o samples.h5",),
    generate.generate: ("diffrelax generate -n 100 --seed 0 -o molecules.extxyz",),
    minima.minima: (
        "diffrelax minima molecules.smi.gz -o minima.extxyz.gz --level aimnet2",
        "diffrelax minima relaxed.sdf -o minima.extxyz.gz --level gfn2-xtb",
    ),
    run.run: ("diffrelax run flow.yaml", "diffrelax run flow.yaml --engine remote"),
    train.train: ("diffrelax train my-model-1/config.yaml --max-minutes 60",),
    train.finetune: (
        'diffrelax finetune relax-qm9 minima.extxyz -o my-model-pbe-1 --level "PBE/def2-SVP"',
    ),
    evaluate.evaluate: ("diffrelax evaluate relax-qm9 --split test -n 1000 --level gfn2-xtb",),
    models.models: ("diffrelax models",),
}
for command, lines in EXAMPLES.items():
    app.command(epilog="\n\n".join(("Examples:", *lines)))(command)
app.add_typer(results.results, name="results")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import

        print(version("diffrelax"))
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version"),
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Print the traceback of an error, for a bug report")
    ] = False,
) -> None:
    """Relax molecules with a diffusion model, and with DFT from there."""


def main() -> None:
    """Run the command line; exit status 2: invalid input, 3: internal error."""
    keep_freed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, for batch systems
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may not be printable
    try:
        app(prog_name="diffrelax")
    except Exception as error:
        if DEBUG in sys.argv[1:]:
            traceback.print_exc()
        status, text = _explain(error)
        print(f"diffrelax: {text}", file=sys.stderr)
        sys.exit(status)


def _explain(error: Exception) -> tuple[int, str]:
    """Return the exit status and the message of an error."""
    from ase.calculators.calculator import CalculationFailed  # slow to import, as pydantic is
    from pydantic import ValidationError

    from diffrelax.entries import explain_invalid

    if isinstance(error, ValidationError):
        return USER_ERROR, explain_invalid(error)
    if isinstance(error, (InputError, OSError)):
        return USER_ERROR, message_of(error)
    if isinstance(error, (UnfinishedError, CalculationFailed)):
        return UNFINISHED, str(error)
    again = shlex.join(["diffrelax", DEBUG, *map(without_password, sys.argv[1:])])
    return INTERNAL_ERROR, (
        f"internal error, {type(error).__name__}: {error}\nplease report it with the output "
        f"of {again}"
    )
