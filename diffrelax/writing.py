"""Files of relaxed molecules: .extxyz, .sdf and .json, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict
from rdkit import Chem, rdBase

from diffrelax.atomic import replacing
from diffrelax.molecule import Molecule

Info = Mapping[str, Any]


def check_output(
    path: str | os.PathLike[str],
    suffixes: Collection[str] | None = None,
    inputs: Iterable[str] = (),
) -> None:
    """Find out whether molecules can be written to a path, before the work is done.

    Parameters
    ----------
    path : path
    suffixes : collection of str, optional
        That are known. Default: those of `write_molecules`.
    inputs : iterable of str
        SMILES and paths that the molecules come from.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the path is a folder or one of the inputs.
    OSError
        If its folder does not exist or cannot be written to.
    """
    path = Path(path)
    known = WRITERS if suffixes is None else suffixes
    if path.suffix.lower() not in known:
        raise ValueError(f"{path} has an unknown suffix: write to {', '.join(known)}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a file name")
    if path.exists() and any(os.path.exists(given) and path.samefile(given) for given in inputs):
        raise ValueError(f"{path} is an input, and would be lost: write to another file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"the folder {path.parent} cannot be written to: {error.strerror}") from error


def write_molecules(
    path: str | os.PathLike[str],
    molecules: Sequence[Molecule],
    infos: Sequence[Info | None] | None = None,
) -> None:
    """Write molecules to a file, all or nothing: an existing file is replaced at the end.

    - ``.extxyz``, ``.xyz``: one frame each, name, smiles, charge, multiplicity and infos in the
      comment line.
    - ``.sdf``: one record each, the same as properties; positions rounded to 0.0001 Å.
    - ``.json``: a list of objects with the keys name, smiles, formula, charge, multiplicity, start,
      symbols, positions (Å) and those of the infos.

    Parameters
    ----------
    path : path
    molecules : sequence of Molecule
    infos : sequence of dict or None, optional
        What else to write about each molecule. Values that are None are written in JSON only;
        NaN and infinities are null there.

    Raises
    ------
    ValueError
        If the suffix is unknown, or there are not as many infos as molecules.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    check_output(path)
    pairs = [
        (molecule, info or {})
        for molecule, info in zip(
            molecules, [None] * len(molecules) if infos is None else infos, strict=True
        )
    ]
    text = WRITERS[path.suffix.lower()](pairs)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_frames(path: Path, frames: Sequence[ase.Atoms]) -> None:
    """Write atoms, molecules or not, to an .extxyz file, all or nothing.

    Texts in ``info`` are written so that ASE reads the same texts again; empty ones are left out.
    """
    with replacing(path) as part:
        part.write_text(_extxyz(frames), encoding="utf-8")


def _described(molecule: Molecule, info: Info) -> dict[str, Any]:
    keys = ("name", "smiles", "charge", "multiplicity")
    return {**{key: getattr(molecule, key) for key in keys}, **info}


def _to_extxyz(pairs: Sequence[tuple[Molecule, Info]]) -> str:
    frames = []
    for molecule, info in pairs:
        atoms = molecule.to_atoms()
        atoms.info = _described(molecule, info)
        frames.append(atoms)
    return _extxyz(frames)


def _extxyz(frames: Sequence[ase.Atoms]) -> str:
    escaped = []
    for frame in frames:
        atoms = frame.copy()
        atoms.info = {
            key: _extxyz_value(value) if isinstance(value, str) else value
            for key, value in frame.info.items()
            if value is not None and not (isinstance(value, str) and not value)
        }
        escaped.append(atoms)
    file = StringIO()
    ase.io.write(file, escaped, format="extxyz")
    return file.getvalue()


def _extxyz_value(text: str) -> str:
    """Escape a text so that ASE reads the same text again, not a number, a truth or a list."""
    plain = text.replace("\\", "\\\\")
    read = key_val_str_to_dict(key_val_dict_to_str({"text": plain})).get("text")
    if isinstance(read, str) and read == text and not re.search(r"[\r\n]", text):
        return plain
    return "_JSON " + json.dumps(text).replace("\\", "\\\\")


def _to_sdf(pairs: Sequence[tuple[Molecule, Info]]) -> str:
    file = StringIO()
    with rdBase.BlockLogs(), Chem.SDWriter(file) as writer:
        for molecule, info in pairs:
            mol = molecule.to_rdkit()
            mol.SetProp("_Name", _sdf_line(molecule.name))
            for key, value in _described(molecule, info).items():
                if (plain := plain_values(value)) is not None and plain != "":
                    text = plain if isinstance(plain, str) else json.dumps(plain)
                    mol.SetProp(key, _sdf_line(text))
            writer.write(mol)
    return file.getvalue()


def _sdf_line(text: str) -> str:
    line = " ".join(text.split())
    return f" {line}" if line.startswith("$$$$") else line  # $$$$ ends a record


def _to_json(pairs: Sequence[tuple[Molecule, Info]]) -> str:
    objects = [
        {
            **_described(molecule, {}),
            "formula": molecule.formula,
            "start": molecule.start,
            "symbols": molecule.symbols,
            "positions": molecule.positions,
            **info,
        }
        for molecule, info in pairs
    ]
    text = json.dumps(plain_values(objects), allow_nan=False, ensure_ascii=False, indent=1)
    return text + "\n"


def plain_values(value: Any) -> Any:
    """Turn arrays into lists and numbers that JSON lacks, such as NaN, into None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


WRITERS = {".extxyz": _to_extxyz, ".xyz": _to_extxyz, ".sdf": _to_sdf, ".json": _to_json}
