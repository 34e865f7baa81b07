"""Time and memory of a relaxation from 10 to 300 atoms, and of 1,000 molecules in one call.

Run: OMP_WAIT_POLICY=PASSIVE python analysis/speed_curve.py MODEL FOLDER --list SMILES.smi.gz [-n N]

On an idle machine. The curve is of chains of alanine, several copies of one in a call; the many are
test molecules of the list with 42 to 48 atoms, in the order of the sha256 of their constitution, of
which GFN2-xTB (by tblite, and by the program xtb with its own minimiser) and AIMNet2 relax the
first twenty to 0.02 eV/Å, on one thread. Each row is measured in a process of its own, whose peak
memory is told, and kept at once in FOLDER/speed_curve.json: the same command goes on with the rows
that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from candidates import candidates
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from records import how_made, store
from tqdm import tqdm

from diffrelax.benchmark.sample import FMAX
from diffrelax.clock import Time
from diffrelax.files.reading import read_molecules
from diffrelax.files.writing import write_molecules
from diffrelax.levels.batch import relax_many
from diffrelax.levels.minimisation import relax_at_level
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table

RESIDUES = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30)  # 10 atoms each, and 3
ATOMS = range(42, 49)
COPIES = 1000  # atoms in a call, about
PROGRAM = "xtb --opt"
PEERS = ("gfn2-xtb", PROGRAM, "aimnet2")
BY_BLAS = ("gfn2-xtb", PROGRAM)  # of PyPI and Debian, with the reference BLAS
OF_MANY = 20  # molecules that peers relax


def main() -> None:
    """Measure what has not been measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--blas", help="that GFN2-xTB has, if it is not the reference BLAS")
    parser.add_argument("--residues", type=int, nargs="+", default=RESIDUES)
    options = parser.parse_args()
    path = options.folder / "speed_curve.json"
    about = how_made(load_model(options.model), threads=options.threads)
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {(row["method"], row["molecules"], row.get("blas")) for row in rows}
    for method, name, made in tqdm(list(plan(options)), unit="row"):
        other = {"blas": options.blas} if options.blas and method in BY_BLAS else {}
        if (method, name, other.get("blas")) not in done:
            row = measure(options.model, method, options.threads, made)
            rows.append({"method": method, "molecules": name, **other, **row})
            store(path, about | {"rows": rows})
    print(table(rows))


def plan(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Molecule]]]:
    """Yield the rows: a method, what its molecules are called, and they."""
    for n in options.residues:
        (molecule,) = kept(options.folder / f"alanine-{n}.extxyz", partial(chain, n))
        copies = [molecule] * max(2, COPIES // molecule.n_atoms)
        yield "model", f"{molecule.n_atoms} atoms", copies
    many = options.folder / "many.extxyz"
    molecules = kept(many, lambda: embedded(smiles_of(options.list), options.n))
    yield "model", f"{len(molecules)} in one call", molecules
    for peer in PEERS:
        yield peer, f"first {OF_MANY}", molecules[:OF_MANY]


def chain(residues: int) -> list[Molecule]:
    """Return a chain of alanine, relaxed with MMFF94, also where `read_molecules` embeds none."""
    smiles = "N" + "[C@@H](C)C(=O)N" * (residues - 1) + "[C@@H](C)C(=O)O"
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=42, useRandomCoords=True)
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=10_000)
    return [Molecule.from_rdkit(mol)]


def smiles_of(table: Path) -> Iterator[str]:
    """Yield those of test molecules of the right size."""
    for one in candidates(table, "test", "speed"):
        with rdBase.BlockLogs():
            n_atoms = Chem.AddHs(Chem.MolFromSmiles(one.smiles)).GetNumAtoms()
        if n_atoms in ATOMS:
            yield one.smiles


def embedded(smiles: Iterator[str], n: int) -> list[Molecule]:
    """Embed the first molecules that can be."""
    made = (read_molecules([one])[0] for one in smiles)
    return list(islice((one for one in made if isinstance(one, Molecule)), n))


def kept(path: Path, make: Callable[[], list[Molecule]]) -> list[Molecule]:
    """Make molecules once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_molecules(path, make())
    return [replace(m, start="mmff94") for m in read_molecules(path) if isinstance(m, Molecule)]


def measure(model: str, method: str, threads: int, molecules: list[Molecule]) -> dict[str, Any]:
    """Measure in a new process, whose libraries are told their number of threads."""
    threads = threads if method == "model" else 1
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(relaxed, model, method, threads, molecules).result()


def relaxed(name: str, method: str, threads: int, molecules: list[Molecule]) -> dict[str, Any]:
    """Relax molecules, after a first one that does not count; milliseconds are for each."""
    torch.set_num_threads(threads)
    run = by_model(name) if method == "model" else partial(by_level, method)
    run(molecules[:1])
    begun = Time.now()
    ended_well = run(molecules)
    time = (Time.now() - begun) / (len(molecules) / 1e3)
    peaks = (resource.getrusage(who).ru_maxrss
             for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip
    return {
        "n": len(molecules),
        "ended_well": ended_well,
        "mean_atoms": sum(molecule.n_atoms for molecule in molecules) / len(molecules),
        "milliseconds": time.wall,
        "processor_milliseconds": time.processor,
        "peak_mib": max(peaks) // 1024,
    }


def by_model(name: str) -> Callable[[list[Molecule]], int]:
    """Return what relaxes molecules of any size with a model, and counts those that it relaxed."""
    model = load_model(name)
    model = replace(model, config=model.config.model_copy(update={"limit": 10_000}))

    def run(molecules: list[Molecule]) -> int:
        return sum(result.verdict == "relaxed" for result in relax_molecules(molecules, model))

    return run


def by_level(level: str, molecules: list[Molecule]) -> int:
    """Relax molecules at a cheap level, and count those that converge."""
    if level == PROGRAM:
        ends = [relax_at_level(one, "gfn2-xtb", fmax=FMAX, program="xtb") for one in molecules]
    else:
        ends = relax_many(molecules, level, fmax=FMAX)
    return sum(end.converged for end in ends)


def table(rows: list[dict[str, Any]]) -> str:
    """Format rows as markdown."""
    header = ("method", "molecules", "atoms", "relaxed", "ms each", "ms of processors",
              "µs an atom", "peak MiB")  # fmt: skip
    lines = [
        (row["method"], row["molecules"], f"{row['mean_atoms']:.0f}",
         f"{row['ended_well']} of {row['n']}", f"{row['milliseconds']:.1f}",
         f"{row['processor_milliseconds']:.1f}",
         f"{1e3 * row['milliseconds'] / row['mean_atoms']:.0f}", str(row["peak_mib"]))
        for row in rows
    ]  # fmt: skip
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
