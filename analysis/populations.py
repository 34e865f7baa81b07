"""Populations of conformers by DFT free energies, in the gas phase and in water, and measured ones.

Run: OMP_NUM_THREADS=1 python analysis/populations.py analysis/results/populations.json WORK
WORK is a folder that keeps relaxations; a run that was interrupted goes on from there. Takes an
hour of one processor core.

1,2-difluoroethane is gauche, against what its dipoles would have: trans is 0.81(13) kcal/mol above
in enthalpy in the gas phase (Durig et al., J. Phys. Chem. 1992, 96, 8224), of which about 11% would
be trans; in water, where no measurement was found, its dipole should make gauche more yet. The
minor form of N-methylformamide is E, the cis amide, whose torsion C–N–C=O is 180°: about 5% in the
gas phase (J. Mol. Struct. 2006, "Conformational behavior of N-methylformamide in the gas, matrix,
and solution states") and 8% in solution (LaPlanche and Rogers, J. Am. Chem. Soc. 1964, 86, 337).
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from records import how_made, store

from diffrelax.atomic import write_text
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import torsion_angles
from diffrelax.results.tables import markdown_table
from diffrelax.sampling.conformers import sample_conformers
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.units import KCAL_PER_MOL

THEORY = {"xc": "b3lyp-d3bj", "basis": "def2-tzvp"}
MEDIA = {"gas phase": {}, "water": {"solvent": "water"}}
MOLECULES = {
    "1,2-difluoroethane": ("FCCF", (0, 1, 2, 3)),
    "N-methylformamide": ("CNC=O", (0, 1, 2, 3)),
}
NAMES = {
    "1,2-difluoroethane": ("cis", "gauche", "trans"),
    "N-methylformamide": ("Z (trans amide)", "gauche", "E (cis amide)"),
}
MEASURED = {
    ("1,2-difluoroethane", "gas phase"): {"trans": "11, from ΔH"},
    ("N-methylformamide", "gas phase"): {"E (cis amide)": "5"},
    ("N-methylformamide", "water"): {"E (cis amide)": "8, in solution"},
}


def main(path: Path, work: Path) -> None:
    """Weigh the molecules that the file does not hold yet, and write the table."""
    model = load_model()
    record = how_made(
        command=shlex.join(["python", *sys.argv[:-1], "WORK"]),
        found=json.loads(path.read_text(encoding="utf-8"))["found"] if path.exists() else [],
    )
    done = {(one["molecule"], one["medium"]) for one in record["found"]}
    for name, (smiles, torsion) in MOLECULES.items():
        for medium, solvent in MEDIA.items():
            if (name, medium) in done:
                continue
            level = LevelSettings(name="dft", settings=THEORY | solvent)
            molecule = Molecule.from_smiles(smiles, name=name)
            found = sample_conformers(
                molecule, model, level=level, thermo="gfn2-xtb", checkpoint=work
            )
            angles = np.degrees(
                [torsion_angles(one.positions, np.array([torsion]))[0] for one in found.molecules]
            )
            gas = found.columns["gibbs_energy_quasi_harmonic_ev"]
            record["found"].append(
                {
                    "molecule": name,
                    "medium": medium,
                    "level": str(level),
                    "torsions": abs(angles).round(1).tolist(),
                    "energies_kcal_mol": _above(found.energies),
                    "gibbs_energies_kcal_mol": _above(gas),
                    "populations": found.weights.round(4).tolist(),
                    "model": model.name,
                    "sha256": model.sha256,
                    "notes": found.provenance.notes,
                }
            )
            store(path, record)
            write_text(path.with_suffix(".md"), table(record["found"]) + "\n")
    print(table(record["found"]))


def table(found: list[dict[str, Any]]) -> str:
    """Lay out populations, and what was measured."""
    rows = []
    for one in found:
        measured = MEASURED.get((one["molecule"], one["medium"]), {})
        numbers = zip(
            one["torsions"],
            one["energies_kcal_mol"],
            one["gibbs_energies_kcal_mol"],
            one["populations"],
            strict=True,
        )
        for torsion, energy, gibbs, population in numbers:
            kind = NAMES[one["molecule"]][(torsion > 30) + (torsion > 120)]
            rows.append(
                [
                    one["molecule"],
                    one["medium"],
                    f"{kind}, {torsion:.0f}°",
                    f"{energy:.2f}",
                    f"{gibbs:.2f}",
                    f"{100 * population:.1f}",
                    measured.get(kind, "–"),
                ]
            )
    header = ("molecule", "medium", "torsion", "energy, kcal/mol", "free energy, kcal/mol", "%")
    return markdown_table((*header, "measured, %"), rows)


def _above(energies: np.ndarray) -> list[float]:
    return ((energies - energies[0]) / KCAL_PER_MOL).round(3).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
