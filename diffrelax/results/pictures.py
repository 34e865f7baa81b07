"""Pictures of a report as SVG, in the colours of its text: structures and convergence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from markupsafe import escape
from rdkit import Chem, rdBase
from rdkit.Chem.Draw import rdMolDraw2D

ACROSS, DOWN = 320, 180  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 22, 34  # its margins
LEAST = 1e-4  # eV/Å, of its axis
COLOURS = {  # of elements, readable on a light and on a dark ground
    7: (0.22, 0.45, 0.86), 8: (0.85, 0.2, 0.2), 9: (0.2, 0.6, 0.25), 15: (0.8, 0.45, 0.1),
    16: (0.68, 0.53, 0.05), 17: (0.2, 0.6, 0.25), 35: (0.65, 0.3, 0.15), 53: (0.55, 0.2, 0.6),
}  # fmt: skip
# what RDKit writes and a page does not need
NEEDLESS = re.compile(
    r" class='[^']*'|fill-rule:evenodd;|stroke-line(?:cap:butt|join:miter);|stroke-opacity:1;?"
    r"|stroke-miterlimit:10;|\s*\n"
)


def drawing(smiles: str) -> str:
    """Draw the structure of a SMILES; empty if it is none."""
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None or not mol.GetNumAtoms():
            return ""
        drawer = rdMolDraw2D.MolDraw2DSVG(-1, -1)  # as large as the structure
        options: Any = drawer.drawOptions()
        options.clearBackground = False
        options.bondLineWidth = 1.4
        options.fixedBondLength = 22
        options.setAtomPalette({-1: (0.0, 0.0, 0.0), **COLOURS})
        rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol)
    drawer.FinishDrawing()
    body = NEEDLESS.sub("", drawer.GetDrawingText().partition("<!-- END OF HEADER -->")[2])
    size = f"viewBox='0 0 {drawer.Width()} {drawer.Height()}' width='{drawer.Width()}'"
    return (
        f"<svg class='structure' {size} role='img' aria-label='{escape(smiles)}'>"
        f"{body.replace('#000000', 'currentColor')}"
    )


def chart(curves: Mapping[str, Sequence[float]], limit: float | None = None) -> str:
    """Draw the largest force against the gradient call, on a logarithmic axis.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        Largest force on an atom at each gradient call, eV/Å, by what each curve is.
    limit : float, optional
        The force below which a relaxation stops, eV/Å.

    Returns
    -------
    str
        Empty if there is nothing to connect.
    """
    known = {name: curve for name, curve in curves.items() if curve}
    shown = {name: [max(force, LEAST) for force in curve] for name, curve in known.items()}
    calls = max(map(len, shown.values()), default=0)
    if calls < 2:
        return ""
    forces = [force for curve in shown.values() for force in curve]
    axes = _Axes(calls, [*forces, limit] if limit else forces)
    parts = [*axes.drawn()]
    if limit:
        parts.append(f'<path class="limit" d="{axes.across(limit)}"/>')
    for number, (name, curve) in enumerate(shown.items()):
        points = [axes.place(call, force) for call, force in enumerate(curve, start=1)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
        above = TOP + 14 * (number + 1)
        label = (
            f'<text x="{ACROSS - RIGHT - 4}" y="{above}" text-anchor="end">{escape(name)}</text>'
        )
        parts.append(f'<g class="curve-{number % 4}"><path d="M{line}"/>{dots}{label}</g>')
    what = f"largest force on an atom at each of {calls} gradient calls"
    view = f'viewBox="0 0 {ACROSS} {DOWN}" role="img" aria-label="{what}"'
    return f'<svg class="chart" {view}>{"".join(parts)}</svg>'


class _Axes:
    """Gradient calls across, and powers of ten of a force upwards."""

    def __init__(self, calls: int, forces: Sequence[float]) -> None:
        self._calls = calls
        self._low = floor(log10(min(forces)))
        self._high = max(ceil(log10(max(forces))), self._low + 1)

    def place(self, call: float, force: float) -> tuple[float, float]:
        right = (call - 1) / (self._calls - 1)
        down = (self._high - log10(force)) / (self._high - self._low)
        return LEFT + right * (ACROSS - LEFT - RIGHT), TOP + down * (DOWN - TOP - BOTTOM)

    def across(self, force: float) -> str:
        return f"M{LEFT} {self.place(1, force)[1]:.1f}H{ACROSS - RIGHT}"

    def drawn(self) -> Iterator[str]:
        yield f'<text x="4" y="{TOP - 10}">largest force, eV/Å</text>'
        for force in (10.0**power for power in range(self._low, self._high + 1)):
            y = self.place(1, force)[1] + 4
            yield f'<path class="grid" d="{self.across(force)}"/>'
            yield f'<text x="{LEFT - 6}" y="{y:.1f}" text-anchor="end">{force:g}</text>'
        for call in sorted({1, (self._calls + 1) // 2, self._calls}):
            x = self.place(call, 1.0)[0]
            yield f'<text x="{x:.1f}" y="{DOWN - BOTTOM + 15}" text-anchor="middle">{call}</text>'
        middle = (LEFT + ACROSS - RIGHT) / 2
        yield f'<text x="{middle}" y="{DOWN - 4}" text-anchor="middle">gradient call</text>'
