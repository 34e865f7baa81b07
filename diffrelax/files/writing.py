"""Atomic writing of files of molecules."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from diffrelax.atomic import replacing
from diffrelax.errors import InputError
from diffrelax.files import WRITERS, Info, suffix_of
from diffrelax.molecule import Molecule


def check_output(
    path: str | os.PathLike[str],
    suffixes: Collection[str] | None = None,
    inputs: Iterable[str] = (),
) -> None:
    """Check that molecules can be written to a path, before any calculation.

    Parameters
    ----------
    path : path
    suffixes : collection of str, optional
        Allowed suffixes. Default: those of `write_molecules`.
    inputs : iterable of str
        Inputs of the command: SMILES and paths.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the path is a folder or one of the inputs.
    OSError
        If its folder does not exist or cannot be written to.
    """
    path = Path(path)
    known = WRITERS if suffixes is None else suffixes
    if (suffix_of(path) if suffixes is None else path.suffix.lower()) not in known:
        raise InputError(f"{path} has an unknown suffix: write to {', '.join(known)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a file name")
    check_no_input(path, inputs)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it first")
    make_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder if it does not exist, and check that it is writable.

    Raises
    ------
    OSError
        If it is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"the folder {folder} is not writable: {error.strerror}") from error


def check_no_input(path: Path, inputs: Iterable[str]) -> None:
    """Raise ValueError if a path is one of the inputs of a command."""
    if path.exists() and any(os.path.exists(given) and path.samefile(given) for given in inputs):
        raise InputError(f"{path} is an input: choose another output")


def would_be_lost(path: Path) -> ValueError:
    """Return the error for a file that would be overwritten."""
    return InputError(f"{path} exists: choose another file, or give --overwrite")


def write_molecules(
    path: str | os.PathLike[str],
    molecules: Sequence[Molecule],
    infos: Sequence[Info | None] | None = None,
) -> None:
    """Write molecules to a file atomically: an existing file is replaced at the end.

    - ``.extxyz``, ``.xyz``: one frame each, with name, smiles, charge, multiplicity and infos in
      the comment line.
    - ``.sdf``: one record each, with the same as properties; positions are rounded to 0.0001 Å.
    - ``.pdb``: one model each, with the infos in remarks; positions are rounded to 0.001 Å.
    - ``.json``: a list of objects with the keys name, smiles, formula, charge, multiplicity, start,
      symbols, positions (Å) and those of the infos; ``.jsonl``: one on each line.

    With ``.gz`` after the suffix, the file is compressed.

    Parameters
    ----------
    path : path
    molecules : sequence of Molecule
    infos : sequence of dict or None, optional
        Additional properties of each molecule. None is written in JSON only; NaN and infinities are
        null there.

    Raises
    ------
    ValueError
        If the suffix is unknown, or there are not as many infos as molecules.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    check_output(path)
    writer = WRITERS[suffix_of(path)]
    known: Sequence[Info | None] = [None] * len(molecules) if infos is None else infos
    pairs = enumerate(zip(molecules, known, strict=True), start=1)
    records = [writer.text(molecule, info or {}, i) for i, (molecule, info) in pairs]
    text = writer.begin + writer.between.join(records) + writer.end
    with replacing(path) as part:
        part.write_bytes(as_bytes(path, text))


def as_bytes(path: Path, text: str) -> bytes:
    """Return a text as the bytes of a file, compressed if the suffix is ``.gz``."""
    data = encoded(text)
    return gzip.compress(data, mtime=0) if path.suffix.lower() == ".gz" else data


def encoded(text: str) -> bytes:
    """Encode a text in UTF-8; characters that cannot be encoded are escaped."""
    return text.encode("utf-8", errors="backslashreplace")
