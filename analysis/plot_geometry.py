"""Draw the geometry errors that ``diffrelax evaluate -o`` stored: one line for each method.

Run: python analysis/plot_geometry.py analysis/results/relax-qm9-2/geometry.json
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

PANELS = {
    "rmsd": ("aligned RMSD, Å", 1.0),
    "bonds": ("bonds, mÅ", 1e3),
    "angles": ("1–3 distances, mÅ", 1e3),
}
STYLES = {
    "mmff94": ("0.55", "--", "MMFF94"),
    "gfn-ff": ("0.7", "-.", "GFN-FF"),
    "gfn2-xtb": ("0.3", ":", "GFN2-xTB"),
    "aimnet2": ("0.0", (0, (4, 1, 1, 1, 1, 1)), "AIMNet2"),
}


def main(path: Path) -> None:
    """Draw the figure beside the stored result."""
    result = json.loads(path.read_text(encoding="utf-8"))
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
    for axis, (quantity, (label, scale)) in zip(axes, PANELS.items(), strict=True):
        for method, errors in result["errors"].items():
            colour, line, name = STYLES.get(method, ("tab:blue", "-", method))
            values = np.array([e for e in errors[quantity] if e is not None]) * scale
            axis.ecdf(values, color=colour, linestyle=line, label=name, linewidth=1.8)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"share of {result['n']} {result['split']} molecules")
    axes[0].legend(loc="upper left", frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=160)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
