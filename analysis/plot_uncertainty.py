"""Draw true errors against the bounds that a model states, from what ``diffrelax evaluate`` stored.

Run: python analysis/plot_uncertainty.py analysis/results/relax-qm9-2/geometry.json

The molecules whose start is in the basin of the minimum, for which bounds hold, are sorted by the
bound on their aligned root mean square deviation and cut into ten equal parts: one point for each.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from diffrelax.results.tables import markdown_table

PARTS = 10
HEADER = ("bound, Å", "median error, Å", "90th percentile, Å", "below the bound")
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # Å
QUANTILES = {0.9: ("tab:blue", "o", "nine in ten are below"), 0.5: ("0.5", "s", "median")}


def main(path: Path) -> None:
    """Draw the figure beside the stored result, and print its numbers."""
    result = json.loads(path.read_text(encoding="utf-8"))
    ((method, stated),) = result["error_bounds"].items()
    bounds, errors = np.array(stated, dtype=float), np.array(result["errors"][method]["rmsd"])
    bounded = np.isfinite(bounds)
    inside = bounded & result["in_basin"]
    order = np.argsort(bounds)
    parts = np.array_split(order[inside[order]], PARTS)
    figure, axis = plt.subplots(figsize=(4.4, 3.4), layout="constrained")
    x = [np.median(bounds[part]) for part in parts]
    axis.plot(x, x, color="0.7", linewidth=1, label="the bound")
    for quantile, (colour, marker, label) in QUANTILES.items():
        y = [np.quantile(errors[part], quantile) for part in parts]
        axis.plot(x, y, color=colour, marker=marker, linewidth=1, label=label)
    axis.set(xscale="log", yscale="log", xlabel=f"bound stated by {method}, Å")
    axis.set_ylabel("error: aligned RMSD, Å")
    ticks = [tick for tick in TICKS if x[0] <= tick <= x[-1]]
    axis.set_xticks(ticks, ticks)
    axis.minorticks_off()
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    figure.savefig(path.with_name(f"{path.stem}-uncertainty.png"), dpi=160)
    rows = [
        (
            f"{bounds[part].min():.3f}–{bounds[part].max():.3f}",
            *(f"{np.quantile(errors[part], share):.3f}" for share in (0.5, 0.9)),
            f"{np.mean(errors[part] < bounds[part]):.0%}",
        )
        for part in parts
    ]
    print(markdown_table(HEADER, rows))
    print()
    for which, chosen in (("with a bound", bounded), ("of them in the basin", inside)):
        below = np.mean(errors[chosen] < bounds[chosen])
        print(f"{chosen.sum()} {which}: {below:.1%} below it")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
