"""Environments of atoms, which describe what a model was trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ase.data import atomic_numbers, chemical_symbols
from rdkit import Chem

from diffrelax.atomic import write_text
from diffrelax.errors import InputError
from diffrelax.molecule import Molecule

LABEL = re.compile(r"([A-Z][a-z]?)(H\d*)?[+-]*(?:r[34])?")  # as _label writes it
BONDS = {1.0: "-", 1.5: ":", 2.0: "=", 3.0: "#"}
BONDS_IN_WORDS = {"-": "", ":": "aromatic ", "=": "=", "#": "≡"}
RINGS_IN_WORDS = {"r3": " in a three-membered ring", "r4": " in a four-membered ring"}


def environments(molecule: Molecule) -> dict[str, int]:
    """Find the environments of the heavy atoms of a molecule whose bonds are known.

    An environment is an atom with its bonds and its heavy neighbours, described by element,
    hydrogens, charge, and the size of the smallest ring if it is 3 or 4: in cyclobutadiene all
    atoms are ``CHr4 -CHr4 =CHr4``, in ethanol there are ``CH3 -CH2``, ``CH2 -CH3 -OH`` and ``OH
    -CH2``. These are readable circular fingerprints of radius 1.

    Returns
    -------
    dict of str to int
        Index of the first atom of each environment.
    """
    return _environments(molecule.numbers.tolist(), molecule.bonds, molecule.formal_charges)


def count_environments(molecules: Iterable[Molecule | str]) -> Counter[str]:
    """Count how many molecules, or SMILES, have each environment."""
    counts: Counter[str] = Counter()
    for molecule in molecules:
        found = _of_smiles(molecule) if isinstance(molecule, str) else environments(molecule)
        counts.update(found.keys())
    return counts


def bonds_in(known: Iterable[str]) -> set[tuple[int, int]]:
    """Return the pairs of atomic numbers, the smaller first, that are bonded in environments."""
    pairs = set()
    for environment in known:
        atom, *around = environment.split()
        number, hydrogens = _of_label(atom)
        neighbours = [_of_label(one[1:])[0] for one in around] + [1] * hydrogens
        pairs |= {(min(number, other), max(number, other)) for other in neighbours}
    return pairs


def in_words(environment: str) -> str:
    """Describe an environment, such as ``CH, bonded to 2 CH3 and =O``."""
    atom, *around = environment.split()
    neighbours = Counter(BONDS_IN_WORDS[one[0]] + _in_words(one[1:]) for one in around)
    *most, last = [f"{n} {one}" if n > 1 else one for one, n in neighbours.items()] or [""]
    bonded = f"{', '.join(most)} and {last}" if most else last
    return _in_words(atom) + (f", bonded to {bonded}" if bonded else "")


def _in_words(label: str) -> str:
    return re.sub("r[34]$", lambda ring: RINGS_IN_WORDS[ring[0]], label)


def _of_label(label: str) -> tuple[int, bool]:
    """Return the atomic number of a label, and whether it has hydrogens."""
    if not (parts := LABEL.fullmatch(label)):
        raise InputError(f"{label!r} is not the label of an atom in an environment")
    return atomic_numbers[parts[1]], bool(parts[2])


def _of_smiles(smiles: str) -> dict[str, int]:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    return _environments(
        [atom.GetAtomicNum() for atom in mol.GetAtoms()],
        [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondTypeAsDouble()) for b in mol.GetBonds()],
        [atom.GetFormalCharge() for atom in mol.GetAtoms()],
    )


def _environments(
    numbers: Sequence[int], bonds: Iterable[tuple[int, int, float]], charges: Sequence[int]
) -> dict[str, int]:
    hydrogens = [0] * len(numbers)
    neighbours: list[dict[int, float]] = [{} for _ in numbers]
    for i, j, order in bonds:
        for one, other in ((i, j), (j, i)):
            if numbers[other] == 1:
                hydrogens[one] += 1
            else:
                neighbours[one][other] = order
    heavy = [i for i, number in enumerate(numbers) if number > 1]
    labels = {i: _label(numbers[i], hydrogens[i], charges[i] if charges else 0,
                        _smallest_ring(i, neighbours)) for i in heavy}  # fmt: skip
    return {
        " ".join([labels[i], *sorted(BONDS[o] + labels[j] for j, o in neighbours[i].items())]): i
        for i in reversed(heavy)
    }


def _label(number: int, hydrogens: int, charge: int, ring: int) -> str:
    held = "H" + str(hydrogens) * (hydrogens > 1) if hydrogens else ""
    sign = "+-"[charge < 0] * abs(charge)
    return chemical_symbols[number] + held + sign + (f"r{ring}" if ring else "")


def _smallest_ring(atom: int, neighbours: Sequence[Mapping[int, float]]) -> int:
    """Return 3 or 4 if an atom is in a ring of that size, 0 otherwise."""
    around = neighbours[atom].keys()
    if any(around & neighbours[other].keys() for other in around):
        return 3
    opposite = [atom_2 for other in around for atom_2 in neighbours[other] if atom_2 != atom]
    return 4 if len(set(opposite)) < len(opposite) else 0


def write_environments(counts: Mapping[str, int], path: Path) -> None:
    """Write environments atomically, one per line, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_text(path, "".join(f"{n}\t{environment}\n" for environment, n in ordered))


def read_environments(path: Path) -> Counter[str]:
    """Read a file written by :func:`write_environments`.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    counts: Counter[str] = Counter()
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            n, environment = line.split("\t")
            counts[environment] = int(n)
    except ValueError as error:
        raise InputError(f"{path} is not a list of environments: {error}") from error
    return counts
