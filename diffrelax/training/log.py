"""``training.csv``: a row for each interval, means over the steps since the last one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from diffrelax.atomic import replacing
from diffrelax.training.objectives import Losses
from diffrelax.training.state import TrainingState

LEVEL_EDGES = (0.012, 0.036, 0.1)  # Å; between them the loss of Gaussian noise is averaged
LOSSES = ("loss_to_12mA", "loss_to_36mA", "loss_to_100mA", "loss_above_100mA", "loss_bridge")
ELEMENTS = "loss_elements"
ERRORS = ("rmsd_A", "bonds_mA", "angles_mA")
COLUMNS = (
    "step", "seconds", "processor_seconds", "epoch", "learning_rate", "loss", *LOSSES, *ERRORS,
    ELEMENTS,
)  # fmt: skip


def begin_log(path: Path, step: int) -> None:
    """Keep the rows up to a step, drop later and torn ones; write the header of a new log."""
    kept = []
    if path.exists():
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            kept = [row for row in rows if None not in row.values() and int(row["step"]) <= step]
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)


def write_row(
    path: Path, state: TrainingState, epoch: float, rate: float, errors: dict[str, float]
) -> dict[str, Any]:
    """Append a row, begin the next interval, and return the row."""
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
    row |= {name: f"{value:.4f}" for name, value in errors.items()}
    with path.open("a", newline="") as file:
        csv.DictWriter(file, COLUMNS).writerow(row)
    return row


def sums_of_losses(losses: Losses) -> dict[str, float]:
    """Return sums of losses and counts of molecules, by kind and size of displacement."""
    edges = torch.tensor(LEVEL_EDGES, device=losses.sigma.device)
    levels = torch.bucketize(losses.sigma, edges)
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
