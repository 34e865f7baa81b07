"""What waiting threads cost beside another busy process: 64 molecules through the Python API.

python analysis/threads.py analysis/results/threads.json
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from records import how_made, store

TIMES = 3
BUSY = [sys.executable, "-c", "while True: pass"]
PROGRAM = """
import time
import diffrelax as dr

molecules = dr.read_molecules((["CC(=O)OC", "CCO", "c1ccoc1"] * 22)[:64])
model = dr.load_model("relax-qm9")
dr.relax(molecules[:1], model)
wall, processor = time.perf_counter(), time.process_time()
dr.relax(molecules, model)
print(time.perf_counter() - wall, time.process_time() - processor)
"""
ARMS = {  # what threads do while they wait is decided when torch is loaded
    "all threads, spinning (torch imported before diffrelax)": ("import torch", {}),
    "all threads, sleeping (the default)": ("", {}),
    "one thread (OMP_NUM_THREADS=1)": ("", {"OMP_NUM_THREADS": "1"}),
}


def measure(first: str, settings: dict[str, str]) -> list[float]:
    """Relax in a process of its own; seconds on the wall and of the processor."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    program = [sys.executable, "-c", first + PROGRAM]
    done = subprocess.run(program, env=kept | settings, capture_output=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    output = Path(sys.argv[1])
    busy = subprocess.Popen(BUSY)
    try:
        runs = [{arm: measure(*how) for arm, how in ARMS.items()} for _ in range(TIMES)]
        load = os.getloadavg()
    finally:
        busy.kill()
    record = how_made() | {
        "cores": len(os.sched_getaffinity(0)),
        "load": load,
        "n": 64,
        "times": TIMES,
        "arms": {
            arm: {
                "seconds": round(median(run[arm][0] for run in runs), 2),
                "processor_seconds": round(median(run[arm][1] for run in runs), 2),
            }
            for arm in ARMS
        },
    }
    store(output, record)
