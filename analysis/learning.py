"""What a model knows at each checkpoint of its training: its steps against DFT forces and Hessians.

Run: python analysis/learning.py denoise-qm9-1 analysis/results/denoise-qm9-1/learning.json

Every DFT calculation is kept in a folder beside the result, so the script goes on where it was
stopped. Molecules are taken one after the other, and the result is written after each of them.
"""

import json
import shlex
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase
import numpy as np
from tqdm import tqdm

from diffrelax.atomic import replacing
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.benchmark.starts import Arm, excess_energies
from diffrelax.dft import DFTSettings
from diffrelax.dft.relaxation import relax_with
from diffrelax.documents import MinimisationDocument, Provenance, read_document
from diffrelax.learning import newton_agreement, relaxation_chain, step_agreement
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.models import Model, load_model, releases
from diffrelax.molecule import Molecule
from diffrelax.qm9 import load_qm9
from diffrelax.training.errors import superpose
from diffrelax.work import WorkFolder, work_key

LEVELS = np.geomspace(0.07, 0.004, 60)  # Å; the fine chain
PLACES = (0, 7, 15, 22, 29)
SPANS = (1, 10, 30)
N_MOLECULES = 20
N_HESSIANS = 3
SETTINGS = DFTSettings()


def main(name: str, path: Path) -> None:
    """Write the result, molecule by molecule."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = WorkFolder(path.with_suffix(".units"))
    checkpoints = [load_model(file) for file in checkpoint_files(name)]
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "model": name,
        "steps": [model.step for model in checkpoints],
        "levels": LEVELS.tolist(),
        "settings": SETTINGS.model_dump(),
        "hardware": describe_hardware("cpu"),
        "molecules": [],
    }
    for i, (start, minimum) in enumerate(tqdm(molecules(), unit="mol")):
        result["molecules"].append(
            {
                "name": start.name,
                "smiles": start.smiles,
                "chains": [along_chain(model, start, minimum, work) for model in checkpoints],
                "newton": newton(checkpoints, start, work) if i < N_HESSIANS else None,
                "relaxations": relaxations(checkpoints, start, work),
            }
        )
        with replacing(path) as part:
            part.write_text(json.dumps(result) + "\n")


def checkpoint_files(name: str) -> list[Path]:
    """Return the weights along a run, the earliest first."""
    files = (releases()[name] / "checkpoints").glob("step-*.safetensors")
    return sorted(files, key=lambda file: int(file.stem.removeprefix("step-")))


def molecules() -> list[tuple[Molecule, np.ndarray]]:
    """Choose test molecules of 4 to 6 heavy atoms by the sha256 of their index.

    Each stands at its MMFF94 geometry, in the basin of the DFT minimum beside it.
    """
    geometries = load_qm9("test")
    usable = geometries.same_basin(0.7, 60.0)
    heavy = [int((geometries.numbers[geometries.atoms(i)] > 1).sum()) for i in range(len(usable))]
    eligible = [i for i in range(len(usable)) if usable[i] and 4 <= heavy[i] <= 6]
    eligible.sort(key=lambda i: sha256(str(int(geometries.index[i])).encode()).hexdigest())
    chosen = []
    for i in eligible[:N_MOLECULES]:
        rows = geometries.atoms(i)
        info = {"name": f"qm9-{geometries.index[i]}", "smiles": geometries.smiles[i].decode()}
        atoms = ase.Atoms(geometries.numbers[rows], geometries.starts[rows], info=info)
        chosen.append((Molecule.from_atoms(atoms), geometries.positions[rows].astype(float)))
    return chosen


def along_chain(
    model: Model, start: Molecule, minimum: np.ndarray, work: WorkFolder
) -> list[dict[str, Any]]:
    """Compare displacements along the relaxation chain of a checkpoint with DFT forces."""
    chain = relaxation_chain(model, start, LEVELS.tolist())
    rows = []
    for place in PLACES:
        forces = dft_forces(start.with_positions(chain[place]), work)
        rows += [
            {"place": place, "span": span}
            | asdict(step_agreement(chain, place, span, forces, minimum))
            for span in SPANS
        ]
    return rows


def newton(checkpoints: list[Model], start: Molecule, work: WorkFolder) -> list[dict[str, float]]:
    """Compare the whole step of each checkpoint from the start with a DFT Newton step."""
    forces, hessian = dft_forces(start, work), dft_hessian(start, work)
    found = []
    for model in checkpoints:
        _, end = relaxation_chain(model, start, LEVELS[:1].tolist())
        step = superpose(end, start.positions)[0] - start.positions
        found.append(asdict(newton_agreement(step, start.positions, forces, hessian)))
    return found


def relaxations(
    checkpoints: list[Model], start: Molecule, work: WorkFolder
) -> list[dict[str, float | int | None]]:
    """Relax the end of each checkpoint's chain with DFT: excess energy in eV, and cost."""
    arms = []
    for model in checkpoints:
        end = start.with_positions(relaxation_chain(model, start, LEVELS.tolist())[-1])
        arms.append(Arm(f"step {model.step}", 0.0, dft_relaxation(end, work)))
    return [
        {
            "excess_ev": excess,
            "gradient_calls": arm.dft.gradient_calls if arm.dft else None,
            "fmax": arm.dft.initial_fmax if arm.dft else None,
        }
        for arm, excess in zip(arms, excess_energies(arms), strict=True)
    ]


def dft_relaxation(molecule: Molecule, work: WorkFolder) -> Any:
    """Relax with DFT, or take the stored result."""
    key = work_key("dft", molecule, SETTINGS.model_dump())
    if record := work.find(key):
        return read_document(record).to_dft()
    dft = relax_with(molecule, SETTINGS, checkpoint=work.checkpoint(key))
    document = MinimisationDocument.from_dft(molecule, dft, Provenance.here(), key=key)
    work.keep(key, document.model_dump(mode="json"))
    return dft


def dft_forces(molecule: Molecule, work: WorkFolder) -> np.ndarray:
    """Return DFT forces, calculated or stored, eV/Å."""
    return _stored("forces", molecule, work)


def dft_hessian(molecule: Molecule, work: WorkFolder) -> np.ndarray:
    """Return the DFT Hessian, calculated or stored, eV/Å²."""
    return _stored("hessian", molecule, work)


def _stored(quantity: str, molecule: Molecule, work: WorkFolder) -> np.ndarray:
    level = SETTINGS.model_dump(include={"xc", "basis", "density_fit", "grid_level"})
    key = work_key(quantity, molecule, level)
    if (record := work.find(key)) is None:
        calculator = DensityFunctional(mean_field(molecule, **level))
        atoms = molecule.to_atoms()
        values = calculator.get_forces(atoms) if quantity == "forces" else calculator.hessian(atoms)
        record = {quantity: values.tolist()}
        work.keep(key, record)
    return np.array(record[quantity])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
