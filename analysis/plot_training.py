"""Draw how a model learned: loss, errors on validation molecules, and learning rate, by epoch.

Run: python analysis/plot_training.py models/relax-qm9-2/training.csv [...] OUT.png

Several logs are drawn over one another, each in its own colour.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ERRORS = {
    "rmsd_A": ("-", "o", "aligned RMSD", 1e3),
    "angles_mA": ("--", "^", "1–3 distances", 1.0),
    "bonds_mA": (":", "s", "bonds", 1.0),
}


def main(logs: list[Path], out: Path) -> None:
    """Draw the figure."""
    figure, axes = plt.subplots(
        3, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 3, 1), layout="constrained"
    )
    loss, error, rate = axes
    for i, path in enumerate(logs):
        colour = f"C{i}"
        log = np.genfromtxt(path, delimiter=",", names=True)
        loss.plot(log["epoch"], log["loss"], color=colour, linewidth=1, label=path.parent.name)
        for column, (line, marker, name, scale) in ERRORS.items():
            known = log[np.isfinite(log[column])]
            error.plot(
                known["epoch"],
                scale * known[column],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=3,
                linewidth=1,
                label=name if i == 0 else None,
            )
        rate.plot(log["epoch"], 1e3 * log["learning_rate"], color=colour, linewidth=1)
    for axis in (loss, error):
        axis.legend(
            frameon=False, fontsize="small", ncols=3, loc="lower left", bbox_to_anchor=(0, 1)
        )
    for axis in axes:
        axis.grid(alpha=0.3)
    loss.set_ylabel("loss")
    error.set(ylabel="error on validation, mÅ", yscale="log")
    rate.set(xlabel="epoch", ylabel="rate, 10⁻³", ylim=(0, None))
    figure.savefig(out, dpi=160)


if __name__ == "__main__":
    main([*map(Path, sys.argv[1:-1])], Path(sys.argv[-1]))
