"""HTML report of a flow: the result of each input, with geometries in 3D."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffrelax.errors import without_password
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.summary import Summary, SummaryRow
from diffrelax.molecule import Molecule
from diffrelax.results.documents import MinimisationDocument, RelaxationDocument, ResultDocument
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.page import Page, Row, Table, Tone, View
from diffrelax.results.tables import counted

ENDS = {"converged": "minimum", "predicted": "predicted", "not converged": "last geometry"}
TONES: dict[str, Tone] = {"converged": "good", "predicted": "good", "not converged": "doubtful"}
SHOWN = (
    "index", "name", "verdict", "state", "gradient_calls", "seconds", "energy", "fmax", "reason",
    "smiles",
)  # fmt: skip
TEXT = (
    "One row for each input. The verdict is that of the diffusion model; state, energy, largest "
    "force on an atom (fmax) and gradient calls are those of the last stage; seconds are wall time "
    "of all stages."
)


def flow_page(
    config: FlowConfig, summary: Summary, stages: Mapping[int, Mapping[str, ResultDocument]]
) -> Page:
    """Return the HTML report of a flow.

    Parameters
    ----------
    config : FlowConfig
    summary : Summary
    stages : mapping
        See `diffrelax.flows.stores.read_stages`.
    """
    level = config.minimise
    views: list[View] = []
    rows: list[Row] = []
    for row in summary.rows:
        documents = stages.get(row.index, {})
        frames = _frames(documents)
        cells = _cells(row)
        rows.append(Row(cells, len(views) if frames else None, tone=TONES.get(row.state, "bad")))
        if frames:
            lines, curves = _described(row, documents), _curves(documents)
            views.append(View(row.name, row.smiles, lines, frames, curves=curves, fmax=level.fmax))
    made = _made(config, summary, stages)
    model = made["model"] or f"model {config.model}"
    return Page(
        title=f"{config.folder.name}: {len(rows)} molecules",
        subtitle=f"{model}, then {level.described} until no force exceeds {level.fmax:g} eV/Å",
        facts={"inputs": str(len(rows))} | {k: str(n) for k, n in summary.counts.items()},
        sections=[Table("Molecules", TEXT, SummaryRow.header(SHOWN), rows)],
        views=views,
        made=made,
        elsewhere=(
            "The store of the flow has all of them; diffrelax results export writes them to a file."
        ),
    )


def _cells(row: SummaryRow) -> tuple[str, ...]:
    verdict = row.verdict.replace("_", " ")
    shown = row.model_copy(update={"verdict": verdict})
    return shown.cells(SHOWN, unknown="")


def _frames(documents: Mapping[str, ResultDocument]) -> dict[str, Molecule]:
    """Return the geometries of an input by title, in order."""
    relaxed, minimised = documents.get("relax"), documents.get("minimise")
    frames: dict[str, MoleculeDocument | None] = {}
    if isinstance(minimised, MinimisationDocument):
        frames["start"] = minimised.input
    if isinstance(relaxed, RelaxationDocument):
        frames["start"] = relaxed.input
        frames["relaxed by the model"] = relaxed.output if relaxed.verdict == "relaxed" else None
    if isinstance(minimised, MinimisationDocument):
        frames[f"{ENDS[minimised.state]}, {minimised.level_name}"] = minimised.output
    return {label: one.to_molecule() for label, one in frames.items() if one}


def _curves(documents: Mapping[str, ResultDocument]) -> dict[str, Sequence[float]]:
    """Return the largest forces of the last stage, where its trajectory is there."""
    last = documents.get("minimise")
    if not (isinstance(last, MinimisationDocument) and last.trajectory):
        return {}
    return {last.level_name: last.trajectory.fmaxes}


def _described(row: SummaryRow, documents: Mapping[str, ResultDocument]) -> list[str]:
    """Describe the result of an input in each stage."""
    relaxed = documents.get("relax")
    lines = []
    if isinstance(relaxed, RelaxationDocument):
        bound = relaxed.error_bound
        within = "" if bound is None else f", error bound {bound:.2g} Å"
        lines.append(_line(f"model: {relaxed.verdict.replace('_', ' ')}{within}", relaxed.reason))
    n = row.gradient_calls
    calls = "" if n is None else f" after {counted(n, 'gradient call')}"
    return [*lines, _line(f"{row.stage}: {row.state}{calls}", row.reason)]


def _line(what: str, why: str) -> str:
    return f"{what} ({why})" if why else what


def _made(
    config: FlowConfig, summary: Summary, stages: Mapping[int, Mapping[str, ResultDocument]]
) -> dict[str, Any]:
    documents = (found["relax"] for found in stages.values() if "relax" in found)
    model = next((d.provenance for d in documents if d.provenance.model), summary.provenance)
    settings = config.model_dump(mode="json", exclude={"inputs", "store"}, exclude_defaults=True)
    program = Path(sys.argv[0]).name.replace("__main__.py", "diffrelax")
    return {
        "command": shlex.join([program, *sys.argv[1:]]),
        "settings": settings,
        "results": without_password(config.store),
        "model": model.model,
        "model_sha256": model.model_sha256,
    } | summary.provenance.model_dump(mode="json", exclude={"model", "model_sha256"})
