"""The front door: molecules from anything that holds them: .smi, .sdf, .mol and .xyz files too."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeGuard

import ase
import ase.io
from ase.io.extxyz import key_val_str_to_dict
from rdkit import Chem, rdBase

from diffrelax.embedding import check_seed
from diffrelax.molecule import Molecule, text_of
from diffrelax.processes import ordered_map

WORKER_SECONDS = 120.0  # where embedding has its own limit, this is for what has none

# charge: -1, multiplicity 2
LOOSE_STATE = re.compile(
    r"\b(charge|multiplicity)(?:\s*[:=]\s*|\s+)([+-]?\d+(?:\.0*)?)[,;]?(?=\s|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Rejected:
    """An input that is not a molecule.

    Parameters
    ----------
    name : str
    source : str
        The text that was given, or the file and the number of the record in it: ``path#3``.
    reason : str
        What is wrong and what to do.
    """

    name: str
    source: str
    reason: str


Input: TypeAlias = str | os.PathLike[str] | Molecule | Rejected | ase.Atoms | Chem.Mol


def read_molecules(
    inputs: Input | Iterable[Input],
    *,
    seed: int = 42,
    workers: int = 1,
    max_atoms: int | None = None,
) -> list[Molecule | Rejected]:
    """Read molecules from anything that holds them; the front door for every input.

    Parameters
    ----------
    inputs : str, path, Molecule, ase.Atoms, rdkit.Chem.Mol, or an iterable of these
        A string with the suffix of a known file format is a path, every other string a SMILES,
        optionally followed by a name. A file gives all molecules in it. What was `Rejected` before
        stays so.
    seed : int
        Of the embedding of SMILES.
    workers : int
        Number of processes that read SMILES and files; what they give does not depend on it. A
        molecule at which a process dies, or stays for two minutes, is one `Rejected`. With more
        than one, a script must work under ``if __name__ == "__main__"``.
    max_atoms : int, optional
        Embed no larger molecules, hydrogens counted.

    Returns
    -------
    list of Molecule or Rejected
        In the order of the inputs. A bad molecule is one `Rejected` and leaves the others alone.

    Raises
    ------
    ValueError
        If the seed is not an integer from 0 to 2**31 - 9, or there is no worker.
    """
    return list(each_molecule(inputs, seed=seed, workers=workers, max_atoms=max_atoms))


def each_molecule(
    inputs: Input | Iterable[Input],
    *,
    seed: int = 42,
    workers: int = 1,
    max_atoms: int | None = None,
) -> Iterator[Molecule | Rejected]:
    """Read molecules one by one, see `read_molecules`."""
    check_seed(seed)
    read = partial(_read, seed=seed, max_atoms=max_atoms)
    one = (str, os.PathLike, Molecule, Rejected, ase.Atoms, Chem.Mol)
    if isinstance(inputs, one) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    return ordered_map(read, _each_text(inputs, read), workers, _lost, WORKER_SECONDS)


def _each_text(
    inputs: Iterable[Input], read: Callable[[Input], Molecule | Rejected]
) -> Iterator[str | Record | Molecule | Rejected]:
    """Yield the texts of molecules; what is no text is read here, for RDKit pickles no names."""
    for given in inputs:
        if is_path(given):
            yield from _each_record(Path(given))
        else:
            yield given if isinstance(given, str) else read(given)


def _read(given: object, *, seed: int, max_atoms: int | None) -> Molecule | Rejected:
    if isinstance(given, Record):
        return read_record(given, seed=seed, max_atoms=max_atoms)
    if isinstance(given, str):
        return read_smiles(given, seed=seed, max_atoms=max_atoms)
    return read_object(given, seed=seed, max_atoms=max_atoms)


def _lost(given: str | Record | Molecule | Rejected, reason: str) -> Molecule | Rejected:
    if isinstance(given, str):
        return Rejected(smiles_title(given), given, f"{reason}: check it")
    if isinstance(given, Record):
        return Rejected(given.default, given.source, f"{reason}: check it")
    return given


def is_path(given: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether an input names a file of molecules: strings do by the suffix of a known format."""
    if isinstance(given, str):
        return Path(given).suffix.lower() in FORMATS
    return isinstance(given, os.PathLike)


def count_molecules(inputs: Iterable[str]) -> int:
    """Count what `each_molecule` yields of SMILES and paths, without reading it."""
    return sum(_count_records(Path(given)) if is_path(given) else 1 for given in inputs)


def _count_records(path: Path) -> int:
    try:
        return len(cut_file(path))
    except (OSError, ValueError):
        return 1  # the one `Rejected` that says so


def read_one(given: Input, *, seed: int = 42) -> Molecule:
    """Read an input that must be one molecule, see `read_molecules`.

    Raises
    ------
    ValueError
        If it is not.
    """
    found = read_molecules(given, seed=seed)
    if len(found) != 1:
        raise ValueError(f"{given} holds {len(found)} molecules: give one")
    if isinstance(found[0], Rejected):
        raise ValueError(f"{found[0].name}: {found[0].reason}")
    return found[0]


class Format(NamedTuple):
    """How a file becomes molecules: cut into records, find their titles, parse each of them."""

    records: Callable[[str], Iterator[str]]
    title: Callable[[str], str]
    parse: Callable[[str, str, int, int | None], Molecule]


class Record(NamedTuple):
    """A molecule as it stands in a file.

    Attributes
    ----------
    text : str
    suffix : str
        Of its file, which names the format.
    source : str
        The file and the number of the record in it: ``path#3``.
    default : str
        Its name if it has none.
    """

    text: str
    suffix: str
    source: str
    default: str


def read_file(path: str | os.PathLike[str], *, seed: int = 42) -> list[Molecule | Rejected]:
    """Read all molecules of a file, in order.

    - ``.smi``, ``.txt``: a SMILES and optionally a name on each line; lines that start with ``#``
      and blank lines are skipped; unnamed molecules are named by their SMILES.
    - ``.sdf``, ``.mol``: V2000 or V3000. Records in 2D or without hydrogens are embedded like a
      SMILES. The properties ``charge`` and ``multiplicity`` are honoured.
    - ``.xyz``, ``.extxyz``: many frames. The keys ``charge``, ``multiplicity`` (or
      ``spin_multiplicity``), ``name`` and ``smiles`` of the comment line are honoured, the first
      two also as in ``charge: -1, multiplicity 2``; a comment of two integers alone is charge and
      multiplicity. A frame that announces a wrong number of atoms is rejected up to the next line
      that is only an integer.

    Unnamed records are named ``<file stem>-<i>``, counted from 1, or ``<file stem>`` if alone.

    Parameters
    ----------
    path : path
    seed : int
        Of the embedding of molecules without coordinates.

    Returns
    -------
    list of Molecule or Rejected
        One `Rejected` for each bad record, or a single one if the file cannot be read.
    """
    return read_molecules(Path(path), seed=seed)


def _each_record(path: Path) -> Iterator[Record | Rejected]:
    try:
        records = cut_file(path)
    except (OSError, ValueError) as error:
        yield Rejected(name=path.name, source=str(path), reason=str(error))
        return
    for i, text in enumerate(records, start=1):
        default = path.stem if len(records) == 1 else f"{path.stem}-{i}"
        yield Record(text, path.suffix.lower(), f"{path}#{i}", default)


def read_record(
    record: Record, *, seed: int = 42, max_atoms: int | None = None
) -> Molecule | Rejected:
    """Read a record of a file, and say what is wrong if it is no molecule."""
    form = FORMATS[record.suffix]
    name = record.default
    try:
        name = form.title(record.text) or name
        return form.parse(record.text, name, seed, max_atoms)
    except Exception as error:  # whatever a record does to its parser, the others are read
        return Rejected(name=name, source=record.source, reason=_reason(error))


def read_smiles(text: str, *, seed: int = 42, max_atoms: int | None = None) -> Molecule | Rejected:
    """Read a SMILES, optionally followed by a name, and say what is wrong if it is none."""
    name = smiles_title(text)
    if "\n" in text.strip():
        reason = "it has several lines: give a list of SMILES, or the path of a .smi file"
        return Rejected(name=text.split(maxsplit=1)[0], source=text, reason=reason)
    try:
        return _parse_smiles(text, name, seed, max_atoms)
    except Exception as error:
        reason = _reason(error)
    if os.path.exists(text) or re.search(r"^[~.]*/|\.[a-z]\w{1,6}$", text):
        with rdBase.BlockLogs():
            is_smiles = Chem.MolFromSmiles(text) is not None
        try:
            if not is_smiles:
                cut_file(Path(text))
        except (OSError, ValueError) as error:
            reason = f"{reason}; {error}"
    return Rejected(name=name, source=text, reason=reason)


def read_object(
    given: object, *, seed: int = 42, max_atoms: int | None = None
) -> Molecule | Rejected:
    """Read a Molecule, ase.Atoms or RDKit Mol, and say what is wrong with anything else."""
    source = repr(given)
    try:
        if isinstance(given, (Molecule, Rejected)):
            return given
        if isinstance(given, ase.Atoms):
            return Molecule.from_atoms(given)
        if isinstance(given, Chem.Mol):
            source = f"RDKit Mol {Chem.MolToSmiles(given)}"
            return Molecule.from_rdkit(given, seed=seed, max_atoms=max_atoms)
        raise ValueError(
            f"{source} is not a molecule: give a SMILES, a path, a Molecule, ase.Atoms or an "
            "RDKit Mol"
        )
    except Exception as error:
        return Rejected(name=source, source=source, reason=_reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def cut_file(path: Path) -> list[str]:
    """Return the records of a file as they stand there, such as SMILES with their names.

    Raises
    ------
    ValueError, OSError
        If it cannot be read, or is empty.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the files in it")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}; check the path")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} has an unknown suffix: use {', '.join(FORMATS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8: convert it") from None
    records = list(FORMATS[path.suffix.lower()].records(text + "\n"))
    if not records:
        raise ValueError(f"{path} is empty: there is no molecule in it")
    return records


def _smiles_records(text: str) -> Iterator[str]:
    return (line for line in map(str.strip, text.split("\n")) if line and line[0] != "#")


def cut_smiles(record: str) -> tuple[str, str]:
    """Part a SMILES, with the extension of ChemAxon that may follow, from the name behind it."""
    found = re.fullmatch(r"(\S*(?:\s+\|[^|]*\|)?)(.*)", record.strip(), flags=re.DOTALL)
    assert found
    return found[1], found[2].strip()


def smiles_title(record: str) -> str:
    """Return the name behind a SMILES, or the SMILES itself if there is none."""
    smiles, name = cut_smiles(record)
    return name or smiles


def _parse_smiles(record: str, name: str, seed: int, max_atoms: int | None) -> Molecule:
    return Molecule.from_smiles(cut_smiles(record)[0], name=name, seed=seed, max_atoms=max_atoms)


def _sdf_records(text: str) -> Iterator[str]:
    *ended, last = re.split(r"^\$\$\$\$.*\n", text, flags=re.MULTILINE)
    yield from ended
    if last.strip():
        yield last


def _first_line(record: str) -> str:
    return record.partition("\n")[0].strip()


def _parse_sdf(record: str, name: str, seed: int, max_atoms: int | None) -> Molecule:
    with rdBase.BlockLogs():
        supplier = Chem.SDMolSupplier()
        supplier.SetData(record, removeHs=False)
        mol = supplier[0] if len(supplier) else None
        if mol is None:
            raw = Chem.MolFromMolBlock(record, sanitize=False, removeHs=False)
            problems = Chem.DetectChemistryProblems(raw) if raw is not None else ()
            reason = "; ".join(p.Message() for p in problems) or "it is truncated or damaged"
            raise ValueError(f"RDKit cannot read this record: {reason}")
    properties = mol.GetPropsAsDict()
    return Molecule.from_rdkit(
        mol,
        name=name,
        seed=seed,
        charge=properties.get("charge"),
        multiplicity=properties.get("multiplicity"),
        max_atoms=max_atoms,
    )


def _xyz_records(text: str) -> Iterator[str]:
    """Cut before each line that is only an integer, unless it is the comment of a frame."""
    frame: list[str] = []
    for line in text.split("\n"):
        is_comment = len(frame) == 1 and frame[0].strip().isdecimal()
        if frame and line.strip().isdecimal() and not is_comment:
            yield "\n".join(frame)
            frame = []
        if frame or line.strip():
            frame.append(line)
    if frame:
        yield "\n".join(frame)


def _xyz_title(record: str) -> str:
    try:
        comment = record.split("\n")[1]
        name = key_val_str_to_dict(comment).get("name", "")
    except Exception:  # ASE's parser fails in many ways; `_parse_xyz` says how
        return ""
    written = _as_written(comment, "name")
    return text_of(name) if isinstance(name, str) or not written else written


def _as_written(comment: str, key: str) -> str:
    """Return the value of a key without what ASE makes of it, such as a number or a list."""
    found = re.search(rf'(?:^|\s){key}=(?:"([^"]*)"|(\S+))', comment)
    return (found[1] or found[2]) if found else ""


def _parse_xyz(record: str, name: str, seed: int, max_atoms: int | None) -> Molecule:
    first, *rest = record.rstrip().split("\n")
    if not first.strip().isdecimal():
        raise ValueError(f"a frame starts with the number of its atoms, not with {first!r}")
    if int(first) == 0:
        raise ValueError("there are no atoms")
    if len(rest) != int(first) + 1:
        raise ValueError(f"{first.strip()} atoms announced, {max(len(rest) - 1, 0)} lines follow")
    comment = rest[0]
    strict = LOOSE_STATE.sub(r"\1=\2", comment)
    try:
        atoms = ase.io.read(StringIO("\n".join((first, strict, *rest[1:]))), format="extxyz")
    except KeyError as error:
        raise ValueError(f"unknown element {error}: correct it") from error
    except Exception as error:
        raise ValueError(f"ASE cannot read this frame: {error}") from error
    for key, value in atoms.info.items():
        if key.lower() in ("charge", "multiplicity") and value is True:
            raise ValueError(f"the comment {comment!r} does not say which {key}: write {key}=…")
    if "[" in (smiles := _as_written(comment, "smiles")) and 'smiles="' not in comment:
        atoms.info["smiles"] = smiles  # ASE drops brackets that stand outside quotes
    if two := re.fullmatch(r"\s*([+-]?\d+)\s+(\d+)\s*", comment):
        charge, multiplicity = map(int, two.groups())
        return Molecule.from_atoms(atoms, name=name, charge=charge, multiplicity=multiplicity)
    return Molecule.from_atoms(atoms, name=name)


_SMILES = Format(_smiles_records, smiles_title, _parse_smiles)
_SDF = Format(_sdf_records, _first_line, _parse_sdf)
_XYZ = Format(_xyz_records, _xyz_title, _parse_xyz)
FORMATS = {
    ".smi": _SMILES, ".txt": _SMILES, ".sdf": _SDF, ".mol": _SDF, ".xyz": _XYZ, ".extxyz": _XYZ
}  # fmt: skip
