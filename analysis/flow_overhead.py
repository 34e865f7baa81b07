"""What a flow costs by the number of its molecules, for work that takes next to no time.

OMP_NUM_THREADS=1 python analysis/flow_overhead.py analysis/results/flow_overhead.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from records import how_made, store

from diffrelax import Molecule
from diffrelax.files.writing import write_molecules
from diffrelax.flows.stores import open_results, read_results

SMILES = {"water": "O", "methane": "C", "ammonia": "N"}
SHAKEN = 0.02  # Å, so that each is a unit of work of its own
FLOW = "inputs: [molecules.sdf]\nminimise: {level: mmff94}\n"


def write_flow(folder: Path, n: int) -> None:
    """Write a flow of n trivial molecules, all with geometries of their own."""
    rng = np.random.default_rng(0)
    kinds = {name: Molecule.from_smiles(smiles) for name, smiles in SMILES.items()}
    molecules = []
    for i in range(n):
        name = list(kinds)[i % len(kinds)]
        shaken = kinds[name].positions + rng.normal(0, SHAKEN, kinds[name].positions.shape)
        molecules.append(replace(kinds[name], name=f"{name} {i}", positions=shaken))
    write_molecules(folder / "molecules.sdf", molecules, [{}] * n)
    (folder / "flow.yaml").write_text(FLOW, encoding="utf-8")


def run_flow(folder: Path, n: int) -> dict[str, float]:
    """Run the flow in a folder in a process of its own, and tell what that took."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "diffrelax", "run", "flow.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    end = process.stdout.read().splitlines()[-1]
    _, status, usage = os.wait4(process.pid, 0)
    if status or end != f"{n} inputs: {n} converged":
        raise RuntimeError(f"the flow of {n} molecules ended with status {status}: {end}")
    return {
        "seconds": round(time.monotonic() - begun, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": usage.ru_maxrss // 1024,
    }


def work_seconds(flow: Path) -> float:
    """Return the processor time of the relaxations themselves, by the model and by MMFF94."""
    results, _ = read_results(open_results(str(flow)))
    return sum(result.processor_seconds["total"] for result in results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="JSON file")
    parser.add_argument("-n", type=int, nargs="+", default=[1, 100, 1000, 10_000])
    arguments = parser.parse_args()
    flows: list[dict[str, Any]] = []
    told = f"{', '.join(SMILES)}, each atom displaced by {SHAKEN} Å; MMFF94"
    record = how_made(molecules=told, flows=flows)
    for n in arguments.n:
        with TemporaryDirectory() as folder:
            write_flow(Path(folder), n)
            first, again = (run_flow(Path(folder), n) for _ in range(2))
            work = round(work_seconds(Path(folder) / "flow"), 2)
        flows.append({"n": n, "work_processor_seconds": work, "first": first, "again": again})
        flows[-1]["load"] = os.getloadavg()
        store(arguments.output, record)
