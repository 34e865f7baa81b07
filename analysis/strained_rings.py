"""How far above their minimum strained rings end, and how many ordinary molecules get a caution.

Run: OMP_NUM_THREADS=1 python analysis/strained_rings.py OUTPUT COMMON-validation.npz

Rings of 5 to 12 atoms with an allene, a butatriene, an alkyne, a trans double bond (from 8 atoms),
or an arene bridged in its meta or para positions (from 7 and 8). Those of carbon and those with one
oxygen are for the test; those with an NH or a dimethylated carbon are what limits may be set on.
Each ring is relaxed by the default model at its default level and at GFN2-xTB. Energies are those
of GFN2-xTB, of the end and of its own minimum, above the lowest minimum that is reached from
four embeddings or the ends. An end is silent if the model calls it relaxed and says no
more than that stereochemistry was left open.

Ordinary molecules are validation molecules of QM9 and of a packed set (pack_sets.py). What is there
in OUTPUT is not done again.
"""

import json
import sys
from collections.abc import Iterator
from math import inf, isfinite
from pathlib import Path
from typing import Any

from rdkit import rdBase
from records import how_made, store
from tqdm.auto import tqdm

from diffrelax.benchmark.sample import choose_sample
from diffrelax.data.qm9 import load_qm9
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import identity_change
from diffrelax.relaxation import Relaxation, relax, relax_molecules
from diffrelax.training.geometries import GeometrySet
from diffrelax.units import KCAL_PER_MOL

SIZES = range(5, 13)
PARTS = {  # the ring but for a chain of single bonds, the atoms that it has, and the smallest ring
    "allene": ("C1=C=C{chain}", 3, 5),
    "butatriene": ("C1=C=C=C{chain}", 4, 5),
    "alkyne": ("C1#C{chain}", 2, 5),
    "trans": ("{first}/C=C/{last}", 2, 8),
    "meta": ("c2cc1cc(c2){chain}", 3, 7),
    "para": ("c2cc1ccc2{chain}", 4, 8),
}
MIDDLE, END = 0.5, 1.0  # of the chain
VARIANTS = {  # what stands at a place of the chain; {} closes the ring
    "test": [("C{}", MIDDLE), ("O{}", MIDDLE), ("O{}", END)],
    "calibration": [("N{}", MIDDLE), ("C{}(C)(C)", MIDDLE)],
}
LEVELS = {"default": None, "GFN2-xTB": "GFN2-xTB"}
SEEDS = (42, 0, 1, 2)  # of embeddings; relaxations begin at the first
N_QM9, N_COMMON = 620, 380  # as many as there are of the packed set of CASCADE
CHUNK = 50
TOO_HIGH = 3  # kcal/mol
OF_STRAIN = ("strained: ", "the ends of ")


def main(output: Path, packed: Path) -> None:
    """Measure what is not in the file yet, and write the file after each ring and each chunk."""
    model = load_model()
    record: dict[str, Any] = how_made(model, shared=True) | {"rings": [], "ordinary": {}}
    if output.exists():
        earlier = json.loads(output.read_text())
        record |= {name: earlier[name] for name in ("rings", "ordinary")}
    sets = choose_sample(load_qm9("validation"), N_QM9).starts, common(packed)
    starts = [start for chosen in sets for start in chosen]
    for name, level in LEVELS.items():
        known = record["ordinary"].setdefault(name, {"n": 0, "cautions": []})
        for begin in tqdm(range(known["n"], len(starts), CHUNK)):
            ends = relax_molecules(starts[begin : begin + CHUNK], model, level=level)
            known["n"] += len(ends)
            known["cautions"] += [
                [end.start.smiles, *parts]
                for end in ends
                if end.start and (parts := [part for part in said(end) if of_strain(part)])
            ]
            store(output, record)
    done = {row["smiles"] for row in record["rings"]}
    for ring in tqdm([ring for ring in rings() if ring["smiles"] not in done]):
        record["rings"].append(ring | measure(ring["smiles"], model))
        store(output, record)
    store(output, record | {"summary": summary(record)})


def rings() -> Iterator[dict[str, Any]]:
    """Yield rings by the rule: what they are for, their kind, size and SMILES, each once."""
    seen = set()
    for use, variants in VARIANTS.items():
        for kind, (part, inside, smallest) in PARTS.items():
            for size in SIZES[smallest - SIZES[0] :]:
                for atom, place in variants:
                    chain = (size - inside) * ["C{}"]
                    chain[min(int(place * len(chain)), len(chain) - 1)] = atom
                    smiles = joined(part, chain)
                    if smiles not in seen:
                        seen.add(smiles)
                        yield {"use": use, "kind": kind, "size": size, "smiles": smiles}


def joined(part: str, chain: list[str]) -> str:
    """Return the SMILES of a ring of a part and a chain."""
    inner = [atom.format("") for atom in chain]
    last = chain[-1].format(1)
    first = chain[0].format(1) + "".join(inner[1:-1])
    return part.format(chain="".join(inner[:-1]) + last, first=first, last=last)


def measure(smiles: str, model: Model) -> dict[str, Any]:
    """Relax a ring at both levels, and compare with the lowest minimum of GFN2-xTB."""
    start, *others = (Molecule.from_smiles(smiles, seed=seed) for seed in SEEDS)
    ends = {name: relax(start, model, level=level) for name, level in LEVELS.items()}
    of_ends = {name: minimum(end.molecule, start) for name, end in ends.items()}
    lowest = min([*of_ends.values(), *(minimum(one, start) for one in (start, *others))])

    def above(energy: float) -> float | None:
        up = float(energy - lowest) / KCAL_PER_MOL
        return round(up, 2) if isfinite(up) else None

    return {
        name: {
            "verdict": end.verdict,
            "said": said(end),
            "error_bound": round(end.error_bound, 3) if end.error_bound > 0 else None,
            "above": above(energy(end.molecule)),
            "minimised": above(of_ends[name]),
        }
        for name, end in ends.items()
    }


def energy(molecule: Molecule) -> float:
    """Return GFN2-xTB's energy, eV."""
    calculator = get_calculator("gfn2-xtb", molecule)
    return float(calculator.get_potential_energy(molecule.to_atoms()))


def minimum(molecule: Molecule, same: Molecule) -> float:
    """Return the energy of GFN2-xTB's minimum, eV; infinite where that is another isomer."""
    found = relax_at_level(molecule, "gfn2-xtb")
    is_same = found.converged and not identity_change(same, found.positions)
    return found.energy if is_same else inf


def said(end: Relaxation) -> list[str]:
    """Return what the reason says, but for stereochemistry that was left open."""
    parts = filter(None, end.reason.split("; "))
    return [part for part in parts if not part.startswith("stereochemistry not specified")]


def of_strain(part: str) -> bool:
    """Tell whether a part of a reason speaks of strain."""
    return part.startswith(OF_STRAIN)


def common(packed: Path) -> list[Molecule]:
    """Return ordinary molecules that are larger than those of QM9."""
    geometries = GeometrySet.load(packed)
    return choose_sample(geometries, N_COMMON, level=geometries.levels[0]).starts


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Count rings that are silently more than 3 kcal/mol up, and ordinary molecules with a caution.

    At GFN2-xTB the end counts, at the default level its minimum at GFN2-xTB.
    """
    rows = []
    for use in VARIANTS:
        of_use = [row for row in record["rings"] if row["use"] == use]
        for name, of in (("default", "minimised"), ("GFN2-xTB", "above")):
            found = [row[name] for row in of_use]
            silent = [one for one in found if one["verdict"] == "relaxed" and not one["said"]]
            up = [inf if one[of] is None else one[of] for one in silent]
            rows.append(
                {
                    "use": use,
                    "level": name,
                    "rings": len(found),
                    "fell_back": sum(one["verdict"] == "fell_back" for one in found),
                    "silent": len(silent),
                    "silently_up": sum(one > TOO_HIGH for one in up),
                    "highest_silent": max(up, default=None),
                }
            )
    ordinary = [
        {"level": name, "n": known["n"], "cautions": len(known["cautions"])}
        for name, known in record["ordinary"].items()
    ]
    return {"rings": rows, "ordinary": ordinary}


if __name__ == "__main__":
    rdBase.DisableLog("rdApp.*")
    main(*map(Path, sys.argv[1:3]))
