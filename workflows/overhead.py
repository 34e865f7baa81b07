"""Measure what a job costs beside its work, and how much work to give to one.

python workflows/overhead.py single_node -n 500 -o overhead.json

The runner of the project must run on this machine; best, nothing else is in the queue.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffrelax.atomic import replacing
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.flows.overhead import measure
from diffrelax.flows.stores import read_project

MOST_OVERHEAD = 0.05  # of the work


def report(measured: Mapping[str, Any]) -> str:
    """Say in words what was measured, and what follows from it."""
    worker = measured["worker"]
    return (
        f"{measured['n']} jobs, one every {measured['seconds_between_jobs']:.1f} s\n"
        f"each started up for {worker['seconds']:.1f} s ({worker['processor_seconds']:.1f} s of a "
        f"processor), and took {measured['runner_processor_seconds']:.2f} s of the runner's\n"
        f"so that starting up is less than {MOST_OVERHEAD:.0%} of it, give a job "
        f"{worker['seconds'] / MOST_OVERHEAD:.0f} s of work or more"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", help="of jobflow-remote")
    parser.add_argument("--worker", default="", help="default: the first of the project")
    parser.add_argument("-n", type=int, default=500, help="jobs")
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    project = read_project(arguments.project)
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": describe_hardware("cpu"),
        "runner": project.runner.model_dump(mode="json"),
    }
    measured = measure(project, arguments.worker, arguments.n)
    print(report(measured))
    if arguments.output:
        about["load"] = os.getloadavg()
        with replacing(arguments.output) as part:
            part.write_text(json.dumps(about | measured, indent=1) + "\n", encoding="utf-8")
