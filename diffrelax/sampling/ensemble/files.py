"""Files of ensembles: .h5, .sdf and .extxyz."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import h5py
import numpy as np
from rdkit import Chem, rdBase

from diffrelax.atomic import replacing
from diffrelax.errors import InputError
from diffrelax.files.writing import write_molecules
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.sampling.ensemble.provenance import EnsembleProvenance, LevelSettings

if TYPE_CHECKING:
    from diffrelax.sampling.ensemble.record import Ensemble


def _record(ensemble: Ensemble) -> str:
    """Write what the frames share as JSON."""
    molecule = MoleculeDocument.from_molecule(ensemble.molecule)
    record = {
        "molecule": molecule.model_dump(mode="json", exclude={"positions", "start"}),
        "temperature": ensemble.temperature,
        "level": ensemble.level.model_dump(mode="json"),
        "provenance": ensemble.provenance.model_dump(mode="json"),
        "columns": list(ensemble.columns),
    }
    return json.dumps(record, ensure_ascii=False)


def _from_record(text: str, positions: np.ndarray) -> dict[str, Any]:
    """Read what the frames share; no molecule is perceived from frames, which may be hot."""
    record = json.loads(text)
    molecule = MoleculeDocument(positions=positions[0].tolist(), **record["molecule"])
    return {
        "molecule": molecule.to_molecule(),
        "positions": positions,
        "temperature": record["temperature"],
        "level": LevelSettings.model_validate(record["level"]),
        "provenance": EnsembleProvenance.model_validate(record["provenance"]),
        "columns": dict.fromkeys(record["columns"]),
    }


def _write_h5(path: Path, ensemble: Ensemble) -> None:
    written = BytesIO()  # HDF5 itself does not survive a full disk
    with h5py.File(written, "w") as file:
        for name, unit in {"positions": "Å", "energies": "eV", "weights": ""}.items():
            file.create_dataset(name, data=getattr(ensemble, name)).attrs["unit"] = unit
        file["numbers"] = ensemble.molecule.numbers
        file["starts"] = np.array(ensemble.starts, dtype=h5py.string_dtype())
        for name, column in ensemble.columns.items():
            file[f"columns/{name}"] = column
        file["ensemble"] = _record(ensemble)
    with replacing(path) as part:
        part.write_bytes(written.getvalue())


def _write_frames(path: Path, ensemble: Ensemble) -> None:
    first, *others = ensemble.infos
    infos = [first | {"ensemble": _record(ensemble)}, *others]
    write_molecules(path, ensemble.molecules, infos)


def _read_h5(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        arguments = _from_record(file["ensemble"].asstr()[()], file["positions"][()])
        return arguments | {
            "energies": file["energies"][()],
            "weights": file["weights"][()],
            "starts": tuple(file["starts"].asstr()[()]),
            "columns": {name: file[f"columns/{name}"][()] for name in arguments["columns"]},
        }


def _read_sdf(path: Path) -> dict[str, Any]:
    with rdBase.BlockLogs():
        mols = list(Chem.SDMolSupplier(str(path), removeHs=False))
    if not mols or not all(mols):
        raise InputError("RDKit cannot read all of its records")
    positions = np.array([mol.GetConformer().GetPositions() for mol in mols])
    return _from_frames(positions, [mol.GetPropsAsDict(autoConvertStrings=False) for mol in mols])


def _read_extxyz(path: Path) -> dict[str, Any]:
    frames = ase.io.read(path, ":", format="extxyz")
    if not frames:
        raise InputError("it is empty")
    return _from_frames(np.array([f.positions for f in frames]), [f.info for f in frames])


def _from_frames(positions: np.ndarray, infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    arguments = _from_record(infos[0]["ensemble"], positions)

    def column(name: str) -> np.ndarray:
        return np.array([json.loads(str(info[name])) for info in infos])

    return arguments | {
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
