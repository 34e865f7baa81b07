"""How long starting takes, part by part, in processor time; on request beside an earlier version.

OMP_NUM_THREADS=1 python analysis/start_up.py analysis/results/start_up.json --before OLD_SOURCE
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from records import how_made, store

HERE = Path(__file__).parents[1]
PARTS = {
    "relax": {
        "Python": "pass",
        "torch": "import torch",
        "RDKit, ASE, SciPy, pydantic": "import rdkit.Chem, ase.io, scipy.spatial, pydantic",
        "diffrelax, and e3nn as long as it was there": (
            "import diffrelax as dr, diffrelax.relaxation"
        ),
        "the model": "model = dr.load_model('relax-qm9')",
        "ethanol: embedded": "molecules = dr.read_molecules(['CCO'])",
        "ethanol: relaxed": "dr.relax(molecules, model)",
    },
    "cluster job": {
        "Python": "pass",
        "jobflow, maggma, jobflow-remote": "import jobflow, jobflow_remote.jobs.run",
        "RDKit, ASE, SciPy, pydantic": "import rdkit.Chem, ase.io, scipy.spatial, pydantic",
        "diffrelax.flows": "import diffrelax.flows",
        "torch, where the model or AIMNet2 is asked": "import torch",
        "the rest of diffrelax": "import diffrelax as dr, diffrelax.relaxation",
        "the model": "model = dr.load_model('relax-qm9')",
    },
}
WHOLE = {
    "import diffrelax": ["-c", "import diffrelax"],
    "diffrelax --help": ["-m", "diffrelax", "--help"],
    "diffrelax relax CCO": ["-m", "diffrelax", "relax", "CCO"],
}
PROGRAM = """
import json, time
taken, before = {{}}, 0.0
for name, statement in {parts}.items():
    exec(statement)
    now = time.process_time()
    taken[name], before = now - before, now
print(json.dumps(taken))
"""


def measure(source: Path) -> dict[str, dict[str, float]]:
    """Start each command and each part once, in processes of their own; seconds of processor."""
    where = {"cwd": source, "env": os.environ | {"PYTHONPATH": str(source.resolve())}}
    taken = {}
    for name, parts in PARTS.items():
        program = [sys.executable, "-c", PROGRAM.format(parts=parts)]
        done = subprocess.run(program, **where, capture_output=True, check=True)
        taken[name] = json.loads(done.stdout)
    taken["whole"] = {}
    for name, arguments in WHOLE.items():
        process = subprocess.Popen([sys.executable, *arguments], **where, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{name} ended with status {status}")
        taken["whole"][name] = usage.ru_utime + usage.ru_stime
    return taken


def medians(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the median of each part over runs."""
    return {
        group: {part: round(median(run[group][part] for run in runs), 3) for part in parts}
        for group, parts in runs[0].items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="JSON file")
    parser.add_argument("--before", type=Path, help="source tree of an earlier version")
    parser.add_argument("-n", type=int, default=5, help="times")
    arguments = parser.parse_args()
    sources = {"now": HERE} | ({"before": arguments.before} if arguments.before else {})
    runs: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in sources}
    for _ in range(arguments.n):
        for name, source in sources.items():  # in turns, as the load of the machine changes
            runs[name].append(measure(source))
    made = how_made(load=os.getloadavg(), n=arguments.n)
    store(arguments.output, made | {name: medians(each) for name, each in runs.items()})
