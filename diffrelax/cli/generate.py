"""``diffrelax generate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffrelax.cli.options import Device, Overwrite, Threads, set_threads

if TYPE_CHECKING:
    from diffrelax.generation import Generated
    from diffrelax.results.output import InputResult


def generate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Geometries: .extxyz")],
    n: Annotated[
        int, typer.Option("-n", help=("Number of molecules, generated in batches of 100"))
    ] = 100,
    trajectories: Annotated[
        Path | None,
        typer.Option(
            help="Write the generation of each molecule up to its relaxation: .h5, read by "
            "diffrelax.generation.read_trajectories"
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Release, folder of a model, or .safetensors file")
    ] = "generate-qm9",
    relaxer: Annotated[
        str,
        typer.Option(
            help=("Model that relaxes the generated molecules; none: the generating model itself")
        ),
    ] = "relax-qm9",
    free_elements: Annotated[
        bool,
        typer.Option(
            "--free-elements", help="Choose the most probable elements without checking valences"
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the noise")] = 42,
    device: Device = "cpu",
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Generate new molecules.

    One model removes noise until the elements can be chosen such that all valences are satisfied;
    otherwise it returns to more noise. Another model relaxes. Results that are not molecules are
    written too, and marked.
    """
    from diffrelax.files.writing import check_output, would_be_lost
    from diffrelax.generation import count_trajectories, generate_each, write_trajectories
    from diffrelax.models.release import load_model
    from diffrelax.results.output import ResultFile
    from diffrelax.results.tables import counted

    for path, suffix in ((output, ".extxyz"), (trajectories, ".h5")):
        if path:
            check_output(path, (suffix,))
    set_threads(threads)
    loaded, keep = load_model(model, device), trajectories is not None
    second = None if relaxer == "none" else load_model(relaxer, device)
    make = partial(generate_each, loaded, second, n, seed=seed, free_elements=free_elements)
    make()  # before the output is made
    settings = {
        "command": "generate",
        "model": loaded.sha256,
        "relaxer": second and second.sha256,
        "free_elements": free_elements,
        "n": n,
        "seed": seed,
    }
    n_kept = 0
    if trajectories and trajectories.exists() and not overwrite:
        n_kept = count_trajectories(trajectories, settings)
        if not (n_kept and output.exists()):
            raise would_be_lost(trajectories)
    found: dict[int, Generated] = {}
    with ResultFile(output, settings, _is_molecule, overwrite=overwrite) as file:
        skip = done = file.n_done
        if done and keep and n_kept < n:  # the same are made again
            print(
                (f"{output}: {done} molecules were done before; trajectories are generated again"),
                file=sys.stderr,
            )
            skip = 0
        elif done:
            print(f"{output}: {done} done before, resuming", file=sys.stderr)
        try:
            made = make(trajectories=keep, skip=skip, progress=True)
            for place, (i, one) in enumerate(made, start=skip):
                if place >= done:
                    result = _result(i, one)
                    file.append([result])
                    _show(result.row)
                if keep:
                    found[i] = one
        except KeyboardInterrupt:
            message = f"interrupted: {file.n_done} of {n} are done; rerun the command to resume"
            print(message, file=sys.stderr)
        if trajectories and len(found) > n_kept:
            write_trajectories(trajectories, found, settings)
        distinct = len({row["smiles"] for row in file.rows() if _is_molecule(row)})
        valid = file.n_done - file.n_bad
        print(f"{valid} of {file.n_done} are molecules, {distinct} of them distinct stereoisomers")
        print(f"{counted(file.n_written, 'geometry')} in {output}", file=sys.stderr)
        raise typer.Exit(0 if file.n_done == n else 130)


def _result(i: int, one: Generated) -> InputResult:
    from diffrelax.results.output import InputResult

    one.atoms.info["name"] = f"generated-{i}"
    row = {
        "name": f"generated-{i}",
        "smiles": one.atoms.info["smiles"],
        "verdict": "molecule" if one.molecule else "invalid",
        "reason": one.reason,
    }
    return InputResult(f"generated-{i}", row, one.atoms)


def _show(row: Mapping[str, Any]) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode():
        print(f"{row['name']}  {row['smiles'] if _is_molecule(row) else row['reason']}", flush=True)


def _is_molecule(row: Mapping[str, Any]) -> bool:
    return row["verdict"] == "molecule"
