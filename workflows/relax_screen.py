"""Relax a list of molecules: diffusion model, then B3LYP/6-31G* minima, each input accounted for.

python workflows/relax_screen.py workflows/data/screen_20.smi --engine local
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from diffrelax.flows.config import FlowConfig
from diffrelax.flows.reports import summary_table
from diffrelax.flows.run import run_flow
from diffrelax.flows.summary import GOOD

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("molecules", nargs="+", help="SMILES or files")
    parser.add_argument("--engine", choices=("local", "remote"), default="local")
    parser.add_argument("--folder", type=Path, default=Path("screen"), help="for all that is kept")
    parser.add_argument("--project", default="", help="of jobflow-remote, for the remote engine")
    arguments = parser.parse_args()
    config = FlowConfig(
        inputs=arguments.molecules,
        folder=arguments.folder,
        minimise={"level": "dft", "xc": "b3lyp", "basis": "6-31G*"},
        remote={"project": arguments.project},
    )
    summary = run_flow(config, arguments.engine)
    print(summary_table(summary))
    sys.exit(any(row.state not in GOOD for row in summary.rows))
