"""What comes of small molecules that QM9 has none or few of, at B3LYP/6-31G(2df,p).

Run: OMP_NUM_THREADS=1 python analysis/outside.py OUTPUT MODEL [OTHER]

The 60 molecules were written down by functional group before any of them was relaxed; those of the
last group are the ones that had shown what the model does not know. All are closed-shell and
neutral, of C, H, N, O and F, and have at most six heavy atoms; none is sealed.

Of each, four geometries: the force field's that the model starts from, what the network makes of it
whether it is trusted or not, GFN2-xTB's, and the reference minimum, relaxed to 0.003 eV/Å from the
lowest of the three. What was calculated is kept in the file, and the same command goes on; verdicts
and reasons are those of the code that writes them. All but the model's own geometries are taken
from OTHER, the file of another model, where it is given.
"""

import json
import sys
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.units import Hartree
from dft_speedup import B3LYP, SEED, about, about_model
from records import store
from tqdm.auto import tqdm

import diffrelax as dr
from diffrelax.atomic import write_text
from diffrelax.benchmark.speedup.run import reference_settings
from diffrelax.dft.optimization import relax_with
from diffrelax.diffusion.schedule import relax_positions
from diffrelax.levels import relax_at_level
from diffrelax.levels.density_functional import mean_field
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

AIM = "B3LYP/6-31G(2df,p)"
HEADER = ("group", "molecule", "model − MMFF94, kcal/mol", "model above the minimum", "MMFF94",
          "GFN2-xTB", "verdict", "reason")  # fmt: skip
GROUPS = {
    "nitroso": ("CCN=O", "C=CN=O", "NN=O", "CN(C)N=O", "O=CN=O"),
    "nitrite, nitrate, nitro": ("CON=O", "CO[N+](=O)[O-]", "O[N+](=O)[O-]", "C[N+](=O)[O-]"),
    "N-oxide, nitrone, azoxy": ("C[N+](C)(C)[O-]", "C=[N+](C)[O-]", "CC#[N+][O-]",
                                "CN=[N+](C)[O-]"),
    "azo, triazene": ("N=N", "CN=N", "C=NN=C", "NN=N"),
    "hydrazine, hydrazone": ("NN", "CNNC", "C=NN", "NNC=O"),
    "hydroxylamine, oxime": ("CNO", "CON", "CN(C)O", "C=NO", "ONC=O", "ON1CC1"),
    "fluoroalkene, nitrile": ("CC(F)=C", "FC=CF", "C=C(F)F", "FC#N", "FC=N"),
    "acyl fluoride": ("CC(=O)F",),
    "acid": ("CC(=O)O", "NC(=O)O", "OC(=O)O", "OC=O"),
    "azide, diazo, isocyanide": ("CN=[N+]=[N-]", "C=[N+]=[N-]", "C[N+]#[C-]"),
    "enol, ynol, enamine": ("C=CO", "C#CO", "C#CN", "C=CN"),
    "peroxide": ("COO", "COOC"),
    "small unsaturated ring": ("C1=CC1", "CC1=CN1", "C1=CO1", "C1=CC=N1", "CC1=CC=C1", "O=C1C=C1",
                               "C=C1C=C1", "FC1=CC1", "C1=C2CC12", "C1=CN=N1"),
    "one carbon, several heteroatoms": ("OCO", "FCO", "NC(N)N"),
    "cumulene": ("C=C=C=C",),
    "known before": ("C1=CC=C1", "CN=O", "ON=O", "NO", "C=CF", "ON(O)NC=N", "CC1=NC=C1",
                     "C1C23CC12C3", "C1C2=NC12", "NN(O)O", "O=CC1=CO1"),
}  # fmt: skip


def main(output: Path, name: str, other: Path | None = None) -> None:
    """Calculate what the file lacks, energies first; write file and table after each step."""
    model = dr.load_model(name)
    aim = model.nearest_level(AIM).level
    rows = read_rows(output)
    elsewhere = read_rows(other) if other else {}
    page = about(reference_settings(B3LYP), "") | about_model(model)
    group_of = {smiles: group for group, of in GROUPS.items() for smiles in of}
    for smiles in tqdm(group_of, desc="energies"):
        if smiles not in rows:
            known = elsewhere.get(smiles) or evaluate_starts(smiles)
            rows[smiles] = known | evaluate_model(known, model, aim)
            write(output, page, rows.values())
    starts = [read_geometries(rows[smiles])["force field"] for smiles in group_of]
    for result in dr.relax(starts, model, seed=SEED, level=aim):
        told = {"verdict": result.verdict, "reason": result.reason}
        rows[result.name] |= {"group": group_of[result.name], **told}
    ordered = [rows[smiles] for smiles in group_of]
    write(output, page, ordered)
    for row in tqdm(ordered, desc="minima"):
        if "reference" not in row:
            row |= find_minimum(row)
            write(output, page, ordered)
    for row in ordered:
        row["heavy_atom_rmsd"] = from_minimum(row)
    write(output, page, ordered)


def read_rows(file: Path) -> dict[str, dict[str, Any]]:
    """Return what a file has of each molecule, by its SMILES."""
    known = json.loads(file.read_text(encoding="utf-8"))["molecules"] if file.exists() else []
    return {row["smiles"]: row for row in known}


def evaluate_starts(smiles: str) -> dict[str, Any]:
    """Return geometries by the force field and GFN2-xTB, Å, and their energies, eV."""
    start = dr.Molecule.from_smiles(smiles, seed=SEED)
    gfn2 = relax_at_level(start, "gfn2-xtb")
    geometries = {"force field": start, "gfn2-xtb": start.with_positions(gfn2.positions)}
    return {
        "smiles": smiles,
        "force_field": start.start,
        "gfn2_xtb": gfn2.reason or "converged",
        "energies": {name: energy_of(geometry) for name, geometry in geometries.items()},
        "positions": {name: rounded(geometry) for name, geometry in geometries.items()},
    }


def evaluate_model(known: dict[str, Any], model: dr.Model, aim: str) -> dict[str, Any]:
    """Return energies and positions with the model's, of whose verdict nothing is known yet."""
    end = ungated(read_geometries(known)["force field"], model, aim)
    return {
        "verdict": "",
        "reason": "",
        "energies": known["energies"] | {"model": energy_of(end)},
        "positions": known["positions"] | {"model": rounded(end)},
    }


def read_geometries(row: dict[str, Any]) -> dict[str, dr.Molecule]:
    """Return the geometries of a row."""
    molecule = dr.Molecule.from_smiles(row["smiles"], seed=SEED)
    starts = {"force field": row["force_field"]}
    return {
        name: molecule.with_positions(np.array(positions), start=starts.get(name, "given"))
        for name, positions in row["positions"].items()
    }


def energy_of(geometry: dr.Molecule) -> float | None:
    """Return the energy of a geometry, eV; None where the SCF does not converge."""
    method = mean_field(geometry, **B3LYP.mean_field)
    energy = method.kernel() * Hartree
    return energy if method.converged else None


def rounded(geometry: dr.Molecule) -> list[list[float]]:
    """Return positions as they are stored, Å."""
    return geometry.positions.round(6).tolist()


def find_minimum(row: dict[str, Any]) -> dict[str, Any]:
    """Return the reference minimum that the lowest geometry of a molecule falls into."""
    geometries, energies = read_geometries(row), row["energies"]
    lowest = min(geometries, key=lambda name: energies[name] or inf)
    end = relax_with(geometries[lowest], reference_settings(B3LYP))
    return {
        "from": lowest,
        "reference": end.reason or "converged",
        "fmax": end.fmax if end.fmaxes else None,
        "energies": energies | {"minimum": end.energy if end.energies else None},
        "positions": row["positions"] | {"minimum": rounded(end.molecule)},
    }


def from_minimum(row: dict[str, Any]) -> dict[str, float]:
    """Return the distance of each geometry from the minimum, heavy atoms alone, Å."""
    geometries = read_geometries(row)
    minimum = geometries.pop("minimum")
    return {name: heavy_atom_rmsd(geometry, minimum) for name, geometry in geometries.items()}


def ungated(start: dr.Molecule, model: dr.Model, aim: str) -> dr.Molecule:
    """Return where the whole schedule of the model leads, whatever its gate says."""
    middle = start.positions.mean(axis=0)
    positions = torch.tensor(start.positions - middle, dtype=torch.float32)[None]
    end = relax_positions(
        model.denoiser,
        torch.tensor(start.numbers)[None],
        positions,
        model.config.relaxation,
        context=model.context([start.charge], aim),
    )
    return start.with_positions(end[0].double().numpy() + middle, start="diffusion")


def write(output: Path, page: dict[str, Any], rows: Iterable[dict[str, Any]]) -> None:
    """Write the file, and the table beside it."""
    rows = list(rows)
    store(output, page | {"molecules": rows}, indent=None)
    table = markdown_table(HEADER, [cells(row) for row in rows if "group" in row])
    write_text(output.with_suffix(".md"), table)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Format a row of the table."""
    energies = row["energies"]

    def difference(one: str, other: str) -> str:
        if energies[one] is None or energies.get(other) is None:
            return "–"
        return f"{(energies[one] - energies[other]) / KCAL_PER_MOL:.2f}"

    return (
        row["group"],
        f"`{row['smiles']}`",
        difference("model", "force field"),
        *(difference(name, "minimum") for name in ("model", "force field", "gfn2-xtb")),
        row["verdict"],
        row["reason"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:]))
