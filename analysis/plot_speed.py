"""Draw how the time of one evaluation grows with the number of atoms, and its floor.

Run: python analysis/plot_speed.py analysis/results/relax-qm9-2/speed.json
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

STYLES = (("0", "o-"), ("0.45", "s-"))


def main(path: Path) -> None:
    """Draw the figure beside the stored result."""
    result = json.loads(path.read_text(encoding="utf-8"))
    figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
    batches = sorted({row["batch"] for row in result["scaling"]})
    for batch, (shade, line) in zip(batches, STYLES, strict=True):
        rows = [row for row in result["scaling"] if row["batch"] == batch]
        atoms = [row["n_atoms"] for row in rows]
        name = "1 molecule" if batch == 1 else f"{batch} molecules in one call"
        axis.plot(atoms, [row["milliseconds"] for row in rows], line, color=shade, label=name)
    floor = [row["floor_milliseconds"] for row in rows]
    axis.plot(atoms, floor, "--", color="0.6", label="matrix products at the peak rate")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(atoms, atoms)
    axis.minorticks_off()
    axis.set_xlabel("atoms")
    axis.set_ylabel("one evaluation, ms per molecule")
    axis.set_title(f"{result['model']}, {result['hardware']}", fontsize="small")
    axis.legend(frameon=False)
    figure.savefig(path.with_suffix(".png"), dpi=160)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
