"""Logs of a run: mean losses in each interval, and errors on validation molecules."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from diffrelax.atomic import replacing
from diffrelax.errors import InputError
from diffrelax.geometry import GeometryErrors
from diffrelax.training.objectives import Losses
from diffrelax.training.state import TrainingState

LOG = "training.csv"
VALIDATION_LOG = "validation.csv"
LEVEL_EDGES = (0.012, 0.036, 0.1)  # Å; bins for the mean loss of Gaussian noise
LOSSES = ("loss_to_12mA", "loss_to_36mA", "loss_to_100mA", "loss_above_100mA", "loss_bridge")
ELEMENTS = "loss_elements"
ERRORS = ("rmsd_A", "bonds_mA", "angles_mA")
COLUMNS = (
    "step", "seconds", "processor_seconds", "epoch", "learning_rate", "loss", *LOSSES, *ERRORS,
    ELEMENTS,
)  # fmt: skip
VALIDATION_COLUMNS = ("step", "level", "start", "molecules", *ERRORS)


class Errors(NamedTuple):
    """Median errors of relaxed validation molecules at one level of theory.

    Attributes
    ----------
    level, start : str
        Levels of theory of the minima and of the starts.
    molecules : int
    rmsd_A : float, Å
    bonds_mA, angles_mA : float, mÅ
    """

    level: str
    start: str
    molecules: int
    rmsd_A: float  # noqa: N815  as in the log
    bonds_mA: float  # noqa: N815
    angles_mA: float  # noqa: N815

    @classmethod
    def of(cls, level: str, start: str, errors: Sequence[GeometryErrors]) -> Errors:
        """Return the medians of errors."""
        return cls(
            level,
            start,
            len(errors),
            float(np.nanmedian([e.rmsd for e in errors])),
            1e3 * float(np.nanmedian([e.bonds for e in errors])),
            1e3 * float(np.nanmedian([e.angles for e in errors])),
        )


def begin_log(folder: Path, step: int) -> None:
    """Keep the rows up to a step, drop later and incomplete ones; write the headers of new logs.

    ``training.csv`` has a row for each interval, ``validation.csv`` one for each validation, level
    of theory and level of starts.
    """
    for name, columns in ((LOG, COLUMNS), (VALIDATION_LOG, VALIDATION_COLUMNS)):
        kept, path = [], folder / name
        if path.exists():
            kept = _rows_to(step, path, columns)
        with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)


def _rows_to(step: int, path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        if all(row.keys() <= set(columns) for row in rows):
            return [row for row in rows if int(row["step"]) <= step]
    except (ValueError, KeyError, csv.Error):
        pass
    raise InputError(f"{path} is damaged, or not a training log: move it elsewhere")


def write_row(
    folder: Path, state: TrainingState, epoch: float, rate: float, errors: Sequence[Errors]
) -> None:
    """Append rows to the logs and begin the next interval.

    The errors in ``training.csv`` are averaged over the rows of ``validation.csv``.
    """
    sums, state.sums = state.sums, {}
    row: dict[str, Any] = {
        "step": state.step,
        **state.seconds(),
        "epoch": round(epoch, 3),
        "learning_rate": f"{rate:.3e}",
    }
    for name in ("loss", *LOSSES, ELEMENTS):
        if count := sums.get(f"n_{name}"):
            row[name] = f"{sums[name] / count:.5f}"
    if errors:
        row |= {name: f"{np.mean([getattr(e, name) for e in errors]):.4f}" for name in ERRORS}
    with (folder / LOG).open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, COLUMNS).writerow(row)
    with (folder / VALIDATION_LOG).open("a", newline="", encoding="utf-8") as file:
        for one in errors:
            values = {name: f"{getattr(one, name):.4f}" for name in ERRORS}
            csv.DictWriter(file, VALIDATION_COLUMNS).writerow(
                {"step": state.step} | one._asdict() | values
            )


def sums_of_losses(losses: Losses) -> dict[str, float]:
    """Return sums of losses and counts of molecules, by kind and size of displacement."""
    edges = torch.tensor(LEVEL_EDGES, device=losses.sigma.device)
    levels = torch.bucketize(losses.sigma.contiguous(), edges)
    bins = torch.where(losses.bridge, len(LEVEL_EDGES) + 1, levels)
    empty = torch.zeros(len(LOSSES), device=losses.sigma.device)
    sums = empty.index_add(0, bins, losses.total.detach()).tolist()
    counts = torch.bincount(bins, minlength=len(LOSSES)).tolist()
    result = {"loss": sum(sums), "n_loss": float(sum(counts))}
    for name, total, count in zip(LOSSES, sums, counts, strict=True):
        result |= {name: total, f"n_{name}": float(count)}
    if losses.elements is not None:
        result |= {
            ELEMENTS: float(losses.elements.detach().sum()),
            f"n_{ELEMENTS}": result["n_loss"],
        }
    return result
