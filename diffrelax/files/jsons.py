"""JSON: one object per molecule, in a list or one per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from diffrelax.files.values import identity, plain_values
from diffrelax.molecule import Molecule


def text(molecule: Molecule, info: Mapping[str, Any], number: int) -> str:
    """Return an object with one entry per line."""
    return json.dumps(_record(molecule, info), allow_nan=False, ensure_ascii=False, indent=1)


def line(molecule: Molecule, info: Mapping[str, Any], number: int) -> str:
    """Return an object on one line."""
    return json.dumps(_record(molecule, info), allow_nan=False, ensure_ascii=False) + "\n"


def _record(molecule: Molecule, info: Mapping[str, Any]) -> Any:
    more = {key: getattr(molecule, key) for key in ("formula", "start", "symbols", "positions")}
    isotopes = {"isotopes": molecule.isotopes} if molecule.isotopes else {}
    record = {"name": molecule.name, **identity(molecule), **more, **isotopes, **info}
    return plain_values(record)
