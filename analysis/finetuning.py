"""Fine-tune a release on minima of another level of theory, and see what it saves there.

Run: OMP_NUM_THREADS=1 python analysis/finetuning.py analysis/results/finetuning relax-pbe-1
Needs the package qm9pack and the program xtb.

Minima of training molecules are made with PySCF, `diffrelax finetune` learns them (the second
argument is the folder of the model), and test molecules are relaxed from MMFF94 and from the model,
before and after: two reports. The folder `units` keeps each relaxation, and what was interrupted
goes on from there.
"""

import subprocess
import sys
from pathlib import Path

from dft_speedup import MODEL, WATTS, about, about_model, arms, chosen
from pack_units import unpacked
from tqdm import tqdm

from diffrelax.benchmark.speedup.report import write_report
from diffrelax.benchmark.speedup.run import Outcome, compare_arms
from diffrelax.benchmark.speedup.units import Units
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft import DFTSettings
from diffrelax.files.writing import write_molecules
from diffrelax.models.release import load_model
from diffrelax.results.documents import FailureDocument

LEVEL = DFTSettings(xc="pbe", basis="def2-svp", optimizer="bfgs")
NAME = "PBE/def2-SVP"
HEAVY_ATOMS = range(5, 8)
N_LEARNED = 64
LEARNED_FMAX = 0.01  # eV/Å
N_TEST = 7
ARMS = arms("mmff94 diffusion", "bfgs+hessian")


def main(folder: Path, tuned: Path) -> None:
    """Make minima, learn them, and compare."""
    units = unpacked(folder)
    minima, weights = folder / "minima.extxyz", tuned / "model.safetensors"
    if not minima.exists():
        make_minima(minima, Units(units))
    if not weights.exists():
        learn(minima, tuned)
    for name, model in {"before": MODEL, "after": str(weights)}.items():
        compare(folder / name, model, Units(units, model))


def make_minima(path: Path, units: Units) -> None:
    """Relax training molecules from their published geometries."""
    settings = LEVEL.model_copy(update={"fmax": LEARNED_FMAX})
    subjects = list(chosen(load_qm9("train"), HEAVY_ATOMS, N_LEARNED))
    found = []
    for subject in tqdm(subjects, unit="mol", disable=None):
        document = units.relax(subject.known["qm9"], settings)
        if isinstance(document, FailureDocument) or not document.converged:
            print(f"left out {subject.name}: {document.reason}", file=sys.stderr)
        else:
            found.append(document.output.to_molecule())
    write_molecules(path, found)


def learn(minima: Path, folder: Path) -> None:
    """Do what a user would do; an interrupted run goes on."""
    diffrelax = str(Path(sys.executable).with_name("diffrelax"))
    if (folder / "config.yaml").exists():
        command = ["train", str(folder / "config.yaml"), "--resume"]
    else:
        command = ["finetune", MODEL, str(minima), "-o", str(folder), "--level", NAME]
    subprocess.run([diffrelax, *command], check=True)


def compare(folder: Path, model: str, units: Units) -> None:
    """Relax test molecules from MMFF94 and from a model."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    made = about(LEVEL, "test") | about_model(load_model(model))
    subjects = list(chosen(load_qm9("test"), HEAVY_ATOMS, N_TEST))
    for subject in subjects:
        (found,) = compare_arms([subject], ARMS, LEVEL, units, progress=True)
        outcomes += found
        if units.calculated or subject is subjects[-1]:
            write_report(folder, outcomes, made, WATTS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
