"""Draw the ten molecules that a seed gives, whatever they are.

Run: python analysis/plot_generated.py generate-qm9-2 analysis/results/generate-qm9-2/ten.png
"""

import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes

from diffrelax.generation import Generated, generate
from diffrelax.models.release import load_model

SEED = 0
RELAXER = "relax-qm9-2"


def main(name: str, path: Path) -> None:
    """Generate and draw."""
    figure, axes = plt.subplots(2, 5, figsize=(11, 5), layout="constrained")
    made = generate(load_model(name), load_model(RELAXER), axes.size, seed=SEED)
    for one, axis in zip(made, axes.flat, strict=True):
        draw(one, axis)
        axis.set_title(textwrap.fill(one.atoms.info["smiles"] or one.reason, 26), fontsize=8)
    figure.savefig(path, dpi=110)


def draw(one: Generated, axis: Axes) -> None:
    """Draw atoms and bonds, seen along the axis in which the molecule is thinnest."""
    positions = one.atoms.positions - one.atoms.positions.mean(axis=0)
    x, y, depth = (positions @ np.linalg.svd(positions)[2].T).T
    for a, b, _ in one.molecule.bonds if one.molecule else ():
        ends = [a, b]
        axis.plot(x[ends], y[ends], color="0.6", linewidth=3, zorder=depth[ends].mean())
    for i, number in enumerate(one.atoms.numbers):
        size = 400 * covalent_radii[number] ** 2
        axis.scatter(
            x[i],
            y[i],
            size,
            color=jmol_colors[number],
            edgecolors="0.2",
            linewidths=0.7,
            zorder=depth[i],
        )
    axis.set_aspect("equal")
    axis.margins(0.15)
    axis.set_axis_off()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
