"""Summary of a flow, with one row for each input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from jobflow import JobConfig, OnMissing, job
from pydantic import Field

from diffrelax.flows.arguments import Plain
from diffrelax.flows.units import LostUnitError, fetch
from diffrelax.results.documents import FailureDocument, MinimisationDocument, RelaxationDocument
from diffrelax.results.molecules import Document
from diffrelax.results.provenance import Provenance
from diffrelax.results.rows import Columns, column, perhaps
from diffrelax.results.stored import read_document
from diffrelax.units import HARTREE

State = Literal["converged", "predicted", "not converged", "failed", "lost"]
GOOD = ("converged", "predicted")


class SummaryRow(Columns):
    """Result of one input."""

    index: int = column("of the input, from 0", "input")
    name: str = column("of the molecule")
    smiles: str = column("of the molecule", "SMILES", default="")
    state: State = column(
        "converged; stopped at a predicted minimum; not converged; failed in some stage; "
        "its job never finished"
    )
    stage: str = column("the last stage of this input")
    reason: str = column("what went wrong, or a caution", default="")
    verdict: str = column("of the diffusion model, if it was reached", default="")
    energy: float | None = perhaps("eV", "energy / Hartree", ".6f", HARTREE)
    fmax: float | None = perhaps("largest force on an atom, eV/Å", "fmax / eV/Å", ".4f")
    gradient_calls: int | None = perhaps("at the level of the last stage", "calls")
    seconds: float = column("wall time of all stages", form=".1f", default=0.0)
    key: str = column("of the last unit of work", default="")


class Summary(Document):
    """Results of all inputs of a flow."""

    kind: Literal["summary"] = "summary"
    rows: tuple[SummaryRow, ...] = Field(description="one for each input, in order")
    counts: dict[str, int] = Field(description="number of inputs by state")
    provenance: Provenance

    def with_reasons(self, reasons: Mapping[int, str]) -> Summary:
        """Return a copy with other reasons for lost inputs, by index."""
        rows = tuple(
            row.model_copy(update={"reason": reasons.get(row.index, row.reason)})
            if row.state == "lost"
            else row
            for row in self.rows
        )
        return self.model_copy(update={"rows": rows})


@job(config=JobConfig(on_missing_references=OnMissing.NONE))
def summarise(
    names: Sequence[str],
    uuids: Sequence[str],
    relaxed: Sequence[Sequence[Plain] | None],
    minimised: Sequence[dict[str, Any] | None],
    batch_size: int,
) -> dict[str, Any]:
    """Summarise a flow; missing references are jobs without a result.

    Parameters
    ----------
    names : sequence of str
        Names of the inputs.
    uuids : sequence of str
        Uuids of their last jobs.
    relaxed : sequence of sequences of dict or str, or None
        Documents of the first stage, or references to them, by batch; None for a job without a
        result.
    minimised : sequence of dict or None
        Documents of the second stage.
    batch_size : int
        Batch size of the first stage.

    Returns
    -------
    dict
        A `Summary`, as plain JSON.
    """
    rows = []
    for i, (name, uuid, end) in enumerate(zip(names, uuids, minimised, strict=True)):
        batch = relaxed[i // batch_size]
        start, lost = None, ""
        if batch is not None:
            try:
                start = fetch(batch[i % batch_size])
            except LostUnitError as error:
                lost = str(error)
        rows.append(summary_row(i, name, uuid, cast(dict[str, Any], start), end, lost))
    summary = Summary(
        rows=tuple(rows),
        counts=dict(Counter(row.state for row in rows)),
        provenance=Provenance.here(),
    )
    return summary.model_dump(mode="json")


def summary_row(
    index: int,
    name: str,
    uuid: str,
    relaxed: dict[str, Any] | None,
    minimised: dict[str, Any] | None,
    lost: str = "",
) -> SummaryRow:
    """Return the row of one input; see `summarise`."""
    start = read_document(relaxed) if relaxed else None
    entries: dict[str, Any] = {
        "index": index,
        "name": name or (start.name if start else ""),
        "state": "lost",
        "stage": "minimise" if start else "relax",
        "reason": lost or f"its job did not finish: `jf job info {uuid}` tells why",
    }
    if isinstance(start, RelaxationDocument):
        entries |= {"verdict": start.verdict, "seconds": start.seconds["total"], "key": start.key}
        entries |= {"smiles": start.output.smiles} if start.output else {}
    if minimised is None:
        return SummaryRow(**entries)
    end = read_document(minimised)
    reasons = dict.fromkeys((_told_by_model(start), end.reason))
    entries |= {"name": end.name, "reason": "; ".join(filter(None, reasons)), "key": end.key}
    if isinstance(end, FailureDocument):
        return SummaryRow(**entries | {"state": "failed", "stage": end.stage})
    assert isinstance(end, MinimisationDocument)
    entries |= {
        "state": end.state,
        "stage": end.level,
        "smiles": end.output.smiles,
        "energy": end.energy,
        "fmax": end.fmax,
        "gradient_calls": end.gradient_calls,
        "seconds": entries.get("seconds", 0.0) + end.seconds["total"],
    }
    return SummaryRow(**entries)


def _told_by_model(start: Document | None) -> str:
    if not isinstance(start, RelaxationDocument):
        return ""
    verdict = "" if start.verdict == "relaxed" else f"{start.verdict.replace('_', ' ')}: "
    return verdict + start.reason if start.reason else ""
