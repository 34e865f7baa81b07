"""XYZ: frames of plain or extended XYZ, as ASE writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from typing import Any

import ase
import ase.io
from ase.data import chemical_symbols
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions, one_line
from diffrelax.molecule.annotations import charge_of, text_of
from diffrelax.molecule.record import Molecule

MOLECULE_WORDS = "total|net|spin|formal|molecular|molecule|mol|system|overall"
KEY = rf"(?<![\w-])(?:({MOLECULE_WORDS})[_ -])?(charge|multiplicity|mult)"
STATE = re.compile(  # charge: -1, multiplicity 2
    rf"{KEY}(?:\s*[:=]\s*|\s+)([+\-−]?\d+)(?:\.0*)?(?=[\s,;|)\]}}]|$)[,;|]?", re.IGNORECASE
)
MENTIONED = re.compile(rf"{KEY}\s*[:=]", re.IGNORECASE)
JSON_KEY = re.compile(r'"(\w+)"(?=\s*:)')
TWO_INTEGERS = re.compile(r"\s*([+-]?\d+)[\s,]+(\d+)\s*")
QUOTED = re.compile(r"""("[^"]*"|(?<==)'[^']*')""")
NAME_ALONE = re.compile(r"\s*[^\W\d][^\s=]*\s*")
FRAME_KEYS = {"Properties", "Lattice", "pbc"}  # not properties of the molecule


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield frames; each begins with a line that is only an integer."""
    frame: list[str] = []
    for line in lines:
        is_comment = len(frame) == 1 and frame[0].strip().isdecimal()
        if frame and line.strip().isdecimal() and not is_comment:
            yield "".join(frame)
            frame = []
        if frame or line.strip():
            frame.append(line)
    if frame:
        yield "".join(frame)


def title(record: str) -> str:
    """Return the name in the comment, or a comment of a single word."""
    comment = _comment(record)
    if NAME_ALONE.fullmatch(comment) and not STATE.search(comment):
        return comment.strip()
    comment = _without_state(comment)
    name = {key.lower(): value for key, value in _read(comment).items()}.get("name", "")
    written = _as_written(comment, "name")
    return text_of(name) if isinstance(name, str) or not written else written


def properties(record: str) -> dict[str, Any]:
    """Return the entries of the comment; single words are ignored."""
    comment = _comment(record)
    read = _read(comment)
    known = (key for key in read if f"{key}=" in comment or f'"{key}"=' in comment)
    return {key: read[key] for key in known if key not in FRAME_KEYS}


def parse(record: str, options: ReadOptions) -> Molecule:
    """Read a frame and perceive its bonds."""
    first, *rest = record.rstrip().split("\n")
    if not first.strip().isdecimal():
        raise InputError(f"a frame starts with the number of its atoms, not with {first!r}")
    if int(first) == 0:
        raise InputError("there are no atoms")
    if len(rest) != int(first) + 1:
        raise InputError(
            f"{first.strip()} atoms expected, but {max(len(rest) - 1, 0)} lines follow"
        )
    written = JSON_KEY.sub(r"\1", rest[0])
    comment, state = _without_state(written), _state(written)
    _check_columns(comment, rest[1])
    atoms_lines = rest[1:] if "Properties" in _read(comment) else map(_with_symbol, rest[1:])
    frame = "\n".join((first, comment, *atoms_lines))
    try:
        atoms = ase.io.read(StringIO(frame), format="extxyz")
    except KeyError as error:
        raise InputError(f"unknown element {error}: give symbols, such as C") from error
    except Exception as error:
        raise InputError(f"ASE cannot read this frame: {error}") from error
    known = {key.lower(): value for key, value in atoms.info.items()}
    for _, key in MENTIONED.findall(QUOTED.sub("", comment)):
        known.setdefault(key.lower(), True)
    for key in ("charge", "multiplicity", "mult"):
        if known.get(key) is True and key not in state:
            raise InputError(f"the {key} in the comment {rest[0]!r} is unclear: write {key}=…")
    if "[" in (smiles := _as_written(comment, "smiles")) and 'smiles="' not in comment.lower():
        atoms.info["smiles"] = smiles  # ASE drops brackets outside quotes
    multiplicity = state.get("multiplicity", state.get("mult"))
    is_known = "charge" in state or charge_of(atoms) is not None
    charge = state.get("charge") if is_known else options.charge
    return Molecule.from_atoms(atoms, name=options.name, charge=charge, multiplicity=multiplicity)


def text(molecule: Molecule | ase.Atoms, info: Mapping[str, Any], number: int) -> str:
    """Return a frame with name, SMILES, charge, multiplicity and infos in its comment.

    Texts are escaped so that ASE reads them unchanged; empty ones are left out.
    """
    atoms = molecule.to_atoms() if isinstance(molecule, Molecule) else molecule.copy()
    own = atoms.info  # its keys are also read in upper case
    known = dict(own)
    for key, value in info.items():
        plain = _plain_key(key)
        while key not in own and (plain in known or plain.lower() in own):
            plain = f"input_{plain}"
        known[plain] = value
    atoms.info = {
        key: _escaped(value) if isinstance(value, str) else value
        for key, value in known.items()
        if key and key not in FRAME_KEYS
        and not (value is None or (isinstance(value, str) and not value))
    }  # fmt: skip
    file = StringIO()
    ase.io.write(file, atoms, format="extxyz")
    return file.getvalue()


def _comment(record: str) -> str:
    _, _, rest = record.partition("\n")
    return rest.partition("\n")[0]


def _state(comment: str) -> dict[str, int]:
    """Return charge and multiplicity in a comment; ASE reads none after an apostrophe."""
    if two := TWO_INTEGERS.fullmatch(comment):
        return dict(zip(("charge", "multiplicity"), map(int, two.groups()), strict=True))
    found = sorted(STATE.findall(QUOTED.sub("", comment)), key=lambda one: not one[0])
    return {key.lower(): int(value.replace("−", "-")) for _, key, value in found}


def _without_state(comment: str) -> str:
    parts = QUOTED.split(comment)
    return "".join([part if i % 2 else STATE.sub(" ", part) for i, part in enumerate(parts)])


def _read(comment: str) -> dict[str, Any]:
    try:
        return key_val_str_to_dict(comment)
    except Exception:  # ASE's parser raises many types of errors; `parse` reports them
        return {}


def _as_written(comment: str, key: str) -> str:
    """Return the text of a key, not the number or list that ASE reads."""
    found = re.search(rf'(?:^|\s){key}=(?:"([^"]*)"|(\S+))', comment, re.IGNORECASE)
    return (found[1] or found[2] or "") if found else ""


def _check_columns(comment: str, atom: str) -> None:
    """Refuse more columns than there are, since ASE would allocate memory for them."""
    announced = str(_read(comment).get("Properties", ""))
    columns = sum(int(n) for n in announced.split(":")[2::3] if n.isdecimal())
    if columns > len(atom.split()):
        raise InputError(
            f"Properties={announced} has {columns} columns, the first atom {len(atom.split())}: "
            "correct one of them"
        )


def _with_symbol(atom: str) -> str:
    """Replace atomic numbers by symbols."""
    number, *rest = atom.split(maxsplit=1)
    known = number.isdecimal() and 0 < int(number) < len(chemical_symbols)
    return " ".join([chemical_symbols[int(number)], *rest]) if known else atom


def _plain_key(key: str) -> str:
    return re.sub(r"[^\w .:+/()-]", "", one_line(str(key))).strip()


def _escaped(text: str) -> str:
    """Escape a text so that ASE reads the same text, not a number, a boolean or a list."""
    text = text.encode("utf-8", errors="backslashreplace").decode()  # lone surrogates
    plain = text.replace("\\", "\\\\")
    read = _read(key_val_dict_to_str({"text": plain})).get("text")
    if isinstance(read, str) and read == text and text.isprintable():
        return plain
    return "_JSON " + json.dumps(text).replace("\\", "\\\\")
