"""``diffrelax results``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffrelax.choices import Kind
from diffrelax.cli.options import Json
from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.results.documents import ResultDocument

results = typer.Typer(
    no_args_is_help=True, help=("Show and export the results of flows and commands.")
)

Where = Annotated[
    str,
    typer.Argument(
        help="Folder of a flow, mongodb://host/database, project:NAME, or (for list) an output file"
    ),
]

Only = Annotated[Kind | None, typer.Option("--kind", help="Only results of this kind")]
OfLevel = Annotated[
    str | None, typer.Option("--level", help="Only at this level: gfn2-xtb, pbe/def2-svp, …")
]

Everything = Annotated[
    bool, typer.Option("--all", help="Include results of earlier runs of the flow")
]


@results.command("list")
def show_all(
    where: Where,
    kind: Only = None,
    level: OfLevel = None,
    everything: Everything = False,
    json_lines: Json = False,
) -> None:
    """List results, one per line; also of an output file of relax, dft or minima."""
    from diffrelax.errors import without_password
    from diffrelax.results.beside import each_row, units_beside

    if units_beside(Path(where)).exists():
        from diffrelax.cli.report import show_row

        for known in each_row(Path(where)):
            show_row(known, json_lines)
        raise typer.Exit
    from diffrelax.flows.reports import LISTED
    from diffrelax.results.rows import ResultRow, text_table

    documents, complete = _read(where, kind, level, everything)
    rows = [ResultRow.of(document) for document in documents]
    if json_lines:
        for row in rows:
            print(json.dumps(row.model_dump(), ensure_ascii=False))
    elif rows:
        print(text_table(rows, LISTED))
    if not rows:
        print(f"no {kind or 'result'} in {without_password(where)}", file=sys.stderr)
    raise typer.Exit(0 if complete else 1)


@results.command()
def report(
    where: Annotated[Path, typer.Argument(help="Output of relax, dft or minima")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page", show_default="OUTPUT.report.html"),
    ] = None,
) -> None:
    """Write a page for the browser about an output of relax, dft or minima.

    It is one file and works without a network: structures, results, geometries in 3D, convergence.
    """
    from diffrelax.files import stem_of
    from diffrelax.files.writing import check_output
    from diffrelax.results.output_page import output_page

    page = output or where.with_name(f"{stem_of(where)}.report.html")
    check_output(page, suffixes=[".html"])
    output_page(where).write(page)
    print(f"report: {page}", file=sys.stderr)


@results.command()
def show(
    where: Where,
    wanted: Annotated[str, typer.Argument(help="Name of a molecule, or the start of a key")],
) -> None:
    """Print the documents of one molecule, with their trajectories."""
    from diffrelax.errors import without_password
    from diffrelax.flows.stores import find_result, open_results

    found = find_result(open_results(where), wanted)
    if not found:
        shown = without_password(where)
        raise InputError(
            f"no result in {shown} has the name or key {wanted!r}: see diffrelax results list"
        )
    for document in found:
        print(json.dumps(document, ensure_ascii=False, indent=1, default=str))


@results.command()
def export(
    where: Where,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Output: .csv .parquet .extxyz .sdf .json")
    ],
    kind: Only = None,
    level: OfLevel = None,
    converged: Annotated[
        bool, typer.Option("--converged", help="Only converged minimisations")
    ] = False,
    everything: Everything = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file")
    ] = False,
) -> None:
    """Write the results to a file.

    Tables contain all results, geometry files those with a geometry.
    """
    from diffrelax.errors import without_password
    from diffrelax.flows.reports import check_export
    from diffrelax.flows.reports import export as write
    from diffrelax.results.documents import MinimisationDocument

    check_export(output, overwrite=overwrite)
    documents, complete = _read(where, kind, level, everything)
    wanted: str = kind or "result"
    if converged:
        wanted = "converged minimisation"
        documents = [d for d in documents if isinstance(d, MinimisationDocument) and d.converged]
    if not documents:
        shown = without_password(where)
        raise InputError(f"there is no {wanted} in {shown}: {output} was not written")
    if converged and len(levels := {d.level_name for d in documents}) > 1:
        several = ", ".join(sorted(map(str, levels)))
        print(f"minima of several levels: {several}; --level takes one", file=sys.stderr)
    written = write(output, documents)
    print(f"{written} of {len(documents)} results in {output}", file=sys.stderr)
    raise typer.Exit(0 if complete else 1)


def _read(
    where: str, kind: Kind | None, level: str | None, everything: bool
) -> tuple[list[ResultDocument], bool]:
    """Read results; print what is left out or cannot be read."""
    from diffrelax.flows.stores import last_run, open_results, read_results

    store, jobs = open_results(where), None if everything else last_run(where)
    documents, problems = read_results(store, jobs)
    if jobs is not None and (more := len(read_results(store)[0]) - len(documents)):
        print(f"{more} results of earlier runs are left out: --all has them", file=sys.stderr)
    for problem in problems:
        print(f"diffrelax: {problem}", file=sys.stderr)
    if level is not None:
        levels = sorted({d.level_name for d in documents if d.level_name})
        documents = [d for d in documents if (d.level_name or "").lower() == level.lower()]
        if not documents:
            raise InputError(
                f"no result is at the level {level!r}; there are {', '.join(levels) or 'none'}"
            )
    return [d for d in documents if kind is None or d.kind == kind], not problems
