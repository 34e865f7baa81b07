"""Time and memory of a relaxation from 10 to 300 atoms, and of 1,000 molecules in one call.

Run: OMP_WAIT_POLICY=PASSIVE python analysis/speed_curve.py MODEL LIST FOLDER [--threads 2] [-n N]

On an idle machine. The curve is of extended chains of alanine, several copies of one in a call; the
many are molecules of 42 to 48 atoms out of LIST (tab-separated: number, SMILES, seed, key,
remainder), test ones, in their order. Beside the model, the program xtb with --opt and AIMNet2
relax one copy, or the first twenty of the many, to 0.02 eV/Å, on one thread. Each row is measured
in a process of its own, whose peak memory is told, and kept at once in FOLDER/speed_curve.json:
the same command goes on with the rows that are missing.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rdkit import Chem, rdBase
from tqdm import tqdm

from diffrelax.atomic import replacing
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.benchmark.sample import FMAX
from diffrelax.clock import Time
from diffrelax.data.minima import split_of
from diffrelax.files.reading import read_molecules
from diffrelax.files.writing import write_molecules
from diffrelax.levels.batch import relax_many
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table

RESIDUES = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30)  # 10 atoms each, and 3
ATOMS = range(42, 49)
COPIES = 1000  # atoms in a call, about
PEERS = ("gfn2-xtb", "aimnet2")
OF_MANY = 20  # molecules that peers relax


def main() -> None:
    """Measure what has not been measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("list", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--residues", type=int, nargs="+", default=RESIDUES)
    options = parser.parse_args()
    path = options.folder / "speed_curve.json"
    record = json.loads(path.read_text()) if path.exists() else {"rows": []}
    done = {(row["method"], row["molecules"]) for row in record["rows"]}
    for method, name, made in tqdm(list(plan(options)), unit="row"):
        if (method, name) not in done:
            row = measure(options.model, method, options.threads, made)
            record["rows"].append({"method": method, "molecules": name, **row})
            about = {
                "command": shlex.join(["python", *sys.argv]),
                "model": load_model(options.model).sha256,
                "threads": options.threads,
                "hardware": describe_hardware("cpu"),
            }
            with replacing(path) as part:
                part.write_text(json.dumps(about | record, indent=1) + "\n")
    print(table(record["rows"]))


def plan(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Molecule]]]:
    """Yield the rows: a method, what its molecules are called, and they."""
    chains = [kept(options.folder / f"alanine-{n}.extxyz", [chain(n)]) for n in options.residues]
    many = options.folder / "many.extxyz"
    molecules = kept(many, smiles_of(options.list), options.n)
    for (molecule,) in chains:
        copies = [molecule] * max(2, COPIES // molecule.n_atoms)
        yield "model", f"{molecule.n_atoms} atoms", copies
    yield "model", f"{len(molecules)} in one call", molecules
    for peer in PEERS:
        yield peer, f"first {OF_MANY}", molecules[:OF_MANY]
        for (molecule,) in chains:
            yield peer, f"{molecule.n_atoms} atoms", [molecule]


def chain(residues: int) -> str:
    """Return the SMILES of a chain of alanine."""
    return "N" + "[C@@H](C)C(=O)N" * (residues - 1) + "[C@@H](C)C(=O)O"


def smiles_of(table: Path) -> Iterator[str]:
    """Yield those of test molecules of the right size."""
    for line in table.read_text().splitlines():
        _, smiles, _, _, remainder = line.split("\t")
        if split_of(int(remainder), smiles) == "test":
            with rdBase.BlockLogs():
                if Chem.AddHs(Chem.MolFromSmiles(smiles)).GetNumAtoms() in ATOMS:
                    yield smiles


def kept(path: Path, smiles: Iterator[str] | list[str], n: int = 1) -> list[Molecule]:
    """Embed the first molecules that can be, once."""
    if not path.exists():
        found: list[Molecule] = []
        for one in smiles:
            if len(found) < n:
                made = read_molecules([one])[0]
                found += [made] if isinstance(made, Molecule) else []
        path.parent.mkdir(parents=True, exist_ok=True)
        write_molecules(path, found)
    return [replace(m, start="mmff94") for m in read_molecules(path) if isinstance(m, Molecule)]


def measure(model: str, method: str, threads: int, molecules: list[Molecule]) -> dict[str, Any]:
    """Measure in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(relaxed, model, method, threads, molecules).result()


def relaxed(name: str, method: str, threads: int, molecules: list[Molecule]) -> dict[str, Any]:
    """Relax molecules, after a first one that does not count; milliseconds are for each."""
    torch.set_num_threads(threads if method == "model" else 1)
    model = load_model(name)
    # the curve goes beyond the sizes that the model is used for
    model = replace(model, config=model.config.model_copy(update={"limit": 10_000}))

    def run(some: list[Molecule]) -> int:
        if method == "model":
            return sum(result.verdict == "relaxed" for result in relax_molecules(some, model))
        return sum(end.converged for end in relax_many(some, method, fmax=FMAX))

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
