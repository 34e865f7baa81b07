"""Files of ensembles: .h5, .sdf and .extxyz."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import h5py
import numpy as np
from rdkit import Chem, rdBase

from diffrelax.atomic import replacing
from diffrelax.ensemble.provenance import Level, Provenance
from diffrelax.molecule import Bond, Molecule
from diffrelax.writing import write_molecules

if TYPE_CHECKING:
    from diffrelax.ensemble.record import Ensemble


def _record(ensemble: Ensemble) -> dict[str, Any]:
    """Collect what the frames share, in plain values."""
    return {
        "temperature": ensemble.temperature,
        "level": ensemble.level.model_dump(mode="json"),
        "provenance": ensemble.provenance.model_dump(mode="json"),
        "columns": list(ensemble.columns),
    }


def _from_record(text: str) -> dict[str, Any]:
    record = json.loads(text)
    return {
        "temperature": record["temperature"],
        "level": Level.model_validate(record["level"]),
        "provenance": Provenance.model_validate(record["provenance"]),
        "columns": dict.fromkeys(record["columns"]),
    }


def _write_h5(path: Path, ensemble: Ensemble) -> None:
    molecule = ensemble.molecule
    with replacing(path) as part, h5py.File(part, "w") as file:
        for name, unit in {"positions": "Å", "energies": "eV", "weights": ""}.items():
            file.create_dataset(name, data=getattr(ensemble, name)).attrs["unit"] = unit
        file["starts"] = np.array(ensemble.starts, dtype=h5py.string_dtype())
        for name, column in ensemble.columns.items():
            file[f"columns/{name}"] = column
        file["ensemble"] = json.dumps(_record(ensemble))
        group = file.create_group("molecule")
        group["numbers"] = molecule.numbers
        group["bonds"] = np.array(molecule.bonds).reshape(-1, 3)
        group["formal_charges"] = np.array(molecule.formal_charges, dtype=np.int64)
        for name in ("charge", "multiplicity", "name", "smiles"):
            group.attrs[name] = getattr(molecule, name)


def _write_frames(path: Path, ensemble: Ensemble) -> None:
    shared = {"ensemble": json.dumps(_record(ensemble), ensure_ascii=False)}
    write_molecules(path, ensemble.molecules, [info | shared for info in ensemble.infos])


def _read_h5(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        arguments = _from_record(file["ensemble"].asstr()[()])
        arguments |= {name: file[name][()] for name in ("positions", "energies", "weights")}
        columns = {name: file[f"columns/{name}"][()] for name in arguments["columns"]}
        group = file["molecule"]
        molecule = Molecule(
            group["numbers"][()],
            arguments["positions"][0],
            bonds=tuple(Bond(int(i), int(j), float(order)) for i, j, order in group["bonds"][()]),
            formal_charges=tuple(map(int, group["formal_charges"][()])),
            **{name: group.attrs[name] for name in ("charge", "multiplicity", "name", "smiles")},
        )
        starts = tuple(file["starts"].asstr()[()])
        return arguments | {"molecule": molecule, "starts": starts, "columns": columns}


def _read_sdf(path: Path) -> dict[str, Any]:
    with rdBase.BlockLogs():
        mols = list(Chem.SDMolSupplier(str(path), removeHs=False))
    if not mols or not all(mols):
        raise ValueError("RDKit cannot read all of its records")
    infos = [mol.GetPropsAsDict(autoConvertStrings=False) for mol in mols]
    molecule = Molecule.from_rdkit(mols[0], multiplicity=int(infos[0]["multiplicity"]))
    return _from_frames(molecule, [mol.GetConformer().GetPositions() for mol in mols], infos)


def _read_extxyz(path: Path) -> dict[str, Any]:
    frames = ase.io.read(path, ":", format="extxyz")
    if not frames:
        raise ValueError("it is empty")
    molecule = Molecule.from_atoms(frames[0])
    return _from_frames(molecule, [f.positions for f in frames], [f.info for f in frames])


def _from_frames(
    molecule: Molecule, positions: Sequence[np.ndarray], infos: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    arguments = _from_record(infos[0]["ensemble"])

    def column(name: str) -> np.ndarray:
        return np.array([json.loads(str(info[name])) for info in infos])

    return arguments | {
        "molecule": molecule,
        "positions": np.array(positions),
        "energies": column("energy_ev"),
        "weights": column("weight"),
        "starts": tuple(str(info["start"]) for info in infos),
        "columns": {name: column(name) for name in arguments["columns"]},
    }


WRITERS: dict[str, Callable[[Path, Ensemble], None]] = {
    ".h5": _write_h5, ".sdf": _write_frames, ".extxyz": _write_frames
}  # fmt: skip
READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".h5": _read_h5, ".sdf": _read_sdf, ".extxyz": _read_extxyz
}  # fmt: skip
