"""Draw what a start saves of a DFT relaxation: one line for each molecule, the optimizer the same.

Medians are over all molecules whose relaxation from that start reaches a known minimum, as in the
report's tables; a line has a gap where one does not.

Run: python analysis/plot_gain.py analysis/results/dft_speedup/qm9
"""

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from diffrelax.units import KCAL_PER_MOL

STARTS = {"mmff94": "MMFF94", "gfn2-xtb": "GFN2-xTB", "diffusion": "the model"}
RECIPE = "tric+hessian"
QUANTITIES = {"calls": "gradient calls to the minimum", "excess": "start above it, kcal/mol"}
NONE = dict.fromkeys(QUANTITIES, np.nan)
FLOOR = 1e-3  # kcal/mol; what integration grids leave open


def main(folder: Path) -> None:
    """Draw the figure beside the table of molecules of a report."""
    molecules: dict[str, dict[str, dict[str, float]]] = {}
    with (folder / "molecules.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["recipe"] == RECIPE and row["start"] in STARTS and row["excess_ev"]:
                excess = max(float(row["excess_ev"]) / KCAL_PER_MOL, FLOOR)
                values = {"calls": float(row["calls"]), "excess": excess}
                molecules.setdefault(row["name"], {})[row["start"]] = values
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3), layout="constrained")
    jitter = np.random.default_rng(0).uniform(-0.09, 0.09, len(molecules))
    for axis, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
        values = np.array(
            [
                [of_one.get(start, NONE)[quantity] for start in STARTS]
                for of_one in molecules.values()
            ]
        )
        places = np.arange(len(STARTS))
        for row, shift in zip(values, jitter, strict=True):
            axis.plot(places + shift, row, color="0.75", marker="o", markersize=3, linewidth=0.6)
        medians = np.nanmedian(values, axis=0)
        axis.hlines(medians, places - 0.25, places + 0.25, color="tab:blue", linewidth=3, zorder=3)
        for place, value in zip(places, medians, strict=True):
            axis.annotate(
                f"{value:.2g}" if quantity == "calls" else f"{value:#.2g}",
                (place + 0.28, value),
                color="tab:blue",
                weight="bold",
                va="center",
            )
        axis.set_xticks(places, list(STARTS.values()))
        axis.set_xlim(-0.4, len(STARTS) - 0.4)
        axis.set_title(label, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=0)
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].set_yscale("log")
    figure.savefig(folder / "gain.png", dpi=160)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
