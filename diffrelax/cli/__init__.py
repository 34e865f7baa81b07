"""The command line: molecules in, geometries and one line or JSON object for each out."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer

from diffrelax.cli import (
    conformers,
    dft,
    evaluate,
    generate,
    models,
    relax,
    results,
    run,
    sample,
    speedup,
    train,
)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(relax.relax)
app.command()(dft.dft)
app.command()(speedup.speedup)
app.command()(conformers.conformers)
app.command()(sample.sample)
app.command()(generate.generate)
app.command()(run.run)
app.add_typer(results.results, name="results")
app.command()(train.train)
app.command()(train.finetune)
app.command()(evaluate.evaluate)
app.command()(models.models)


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
    # threads that sleep while they wait: on a shared machine, spinning ones cost several-fold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_freed_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, for batch systems
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may be what cannot be printed
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"diffrelax: {_in_words(error)}", file=sys.stderr)
        sys.exit(2)
    except FloatingPointError as error:
        print(f"diffrelax: {error}", file=sys.stderr)
        sys.exit(1)


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: SCF and training ask for the same arrays again and again.

    Fresh pages from the system cost a gradient call a sixth of its time.
    """
    if sys.platform != "linux":
        return
    c = ctypes.CDLL(None)
    if hasattr(c, "mallopt"):
        c.mallopt(M_MMAP_MAX, 0)
        c.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _in_words(error: Exception) -> str:
    from pydantic import ValidationError  # slow to import

    if not isinstance(error, ValidationError):
        return str(error)
    from diffrelax.entries import explain_invalid

    return explain_invalid(error)
