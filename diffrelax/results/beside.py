"""The store beside an output, ``<output>.units``: what was finished, and with which settings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffrelax.errors import InputError
from diffrelax.files import FORMATS, suffix_of
from diffrelax.files.reading import Record, read_record
from diffrelax.files.values import plain_values
from diffrelax.files.writing import would_be_lost
from diffrelax.molecule import Molecule
from diffrelax.store import Store

SETTINGS, RESULT = "settings", "result"  # kinds of units
WRITTEN = "written"  # key of the checksum of an output that is written as a whole


class Finished(NamedTuple):
    """What an output has of an input.

    It is that of `diffrelax.results.output.InputResult`, with the positions of its frames, Å.
    """

    row: dict[str, Any]
    molecule: Molecule | None
    frames: Mapping[str, np.ndarray]
    curves: Mapping[str, Sequence[float]]


def units_beside(output: Path) -> Path:
    """Return the path of the store of an output; links are resolved."""
    place = Path(os.path.realpath(output))
    return place.with_name(f"{place.name}.units")


def open_beside(output: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> Store:
    """Open the store of an output exclusively.

    Parameters
    ----------
    output : path
    settings : mapping
        Everything that determines the output, as plain values, with the name of the ``command``.
    overwrite : bool
        Start again and replace an existing output.

    Raises
    ------
    ValueError
        If the output was made by other software or with other settings, was changed, or is in use
        by another process.
    OSError
        If the store cannot be read or written.
    """
    path, wanted = units_beside(output), plain_values(dict(settings))
    if output.exists() and not path.exists() and not overwrite:
        raise would_be_lost(output)
    store = Store(path, alone=True)
    try:
        known = store.find(SETTINGS)
        if overwrite:
            known = None
        elif known is None and output.exists():
            raise would_be_lost(output)
        elif known and known != wanted and (output.exists() or store.count() > 1):
            raise InputError(
                f"{output} was made with {differing(known, wanted)}: choose another file, "
                "or give --overwrite"
            )
        elif output.exists() and store.find(WRITTEN) not in (None, _sha256_of(output)):
            raise changed(output)
        if known != wanted:
            Path(os.path.realpath(output)).unlink(missing_ok=True)
            store.drop()
            store.keep(SETTINGS, wanted, SETTINGS)
    except BaseException:
        store.close()
        raise
    return store


def keep_written(store: Store, output: Path) -> None:
    """Store the checksum of a complete output, so that `open_beside` detects later changes."""
    store.keep(WRITTEN, _sha256_of(output), SETTINGS)


def each_row(output: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an output, in order of completion."""
    for _, unit in Store(units_beside(output)).each(RESULT):
        yield unit["row"]


def read_output(output: Path) -> tuple[dict[str, Any], list[Finished]]:
    """Read the settings of an output, and what it has of each input.

    Raises
    ------
    ValueError
        If there is no store beside it, or the format of its geometries cannot be read.
    """
    if not units_beside(output).exists():
        raise InputError(f"there is no {units_beside(output)}: give an output of a command")
    if (suffix := suffix_of(output)) not in FORMATS:
        raise InputError(f"geometries in {suffix} are not read: write to .extxyz or .sdf")
    store = Store(units_beside(output))
    return store.find(SETTINGS) or {}, [
        Finished(
            unit["row"],
            _geometry(unit, suffix),
            {name: np.array(frame) for name, frame in unit.get("frames", {}).items()},
            unit.get("curves", {}),
        )
        for _, unit in store.each(RESULT)
    ]


def differing(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describe which settings differ, by option name without dashes."""
    return "; ".join(
        f"{key.replace('_', '-')} {_shown(known.get(key))}, not {_shown(wanted.get(key))}"
        for key in {**known, **wanted}
        if known.get(key) != wanted.get(key)
    )


def changed(path: Path) -> InputError:
    """Return the error that a file is not as it was written."""
    return InputError(
        f"{path} was modified after it was written: choose another file, or give --overwrite"
    )


def _geometry(unit: Mapping[str, Any], suffix: str) -> Molecule | None:
    if unit["text"] is None:
        return None
    read = read_record(Record(unit["text"], suffix, unit["row"]["name"], source=""))
    return read if isinstance(read, Molecule) else None


def _sha256_of(path: Path) -> dict[str, str]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _shown(value: Any) -> Any:
    return "left open" if value is None else value
