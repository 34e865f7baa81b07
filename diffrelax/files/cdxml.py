"""ChemDraw drawings (CDXML): each molecule becomes an SDF record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rdkit import Chem, rdBase

from diffrelax.errors import InputError


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield the molecules of a drawing."""
    with rdBase.BlockLogs():
        try:
            drawn = Chem.MolsFromCDXML("".join(lines))
        except RuntimeError as error:
            raise InputError(f"RDKit cannot read this drawing: {error}") from error
        yield from map(Chem.MolToMolBlock, drawn)
