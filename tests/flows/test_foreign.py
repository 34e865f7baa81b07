"""Our jobs in flows with those of quacc and atomate2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from source_tree import ROOT

from diffrelax.flows import DiffusionRelaxMaker, StaticMaker, to_atoms

pytestmark = pytest.mark.foreign

ENGINE, FOLDERS = "QUACC_WORKFLOW_ENGINE", ("QUACC_RESULTS_DIR", "QUACC_SCRATCH_DIR")


@pytest.fixture
def recipes(monkeypatch, tmp_path: Path):
    """Return quacc's recipes for GFN2-xTB, as jobs of jobflow."""
    for name, value in {ENGINE: "jobflow", **dict.fromkeys(FOLDERS, str(tmp_path))}.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("quacc")
    from quacc.recipes.tblite import core

    return core


def test_a_relaxed_molecule_goes_to_a_job_of_quacc_and_comes_back(recipes, tmp_path: Path) -> None:
    relax = DiffusionRelaxMaker().make(["C1CC", "CCO ethanol"])
    start = to_atoms(relax.output[1])
    minimum = recipes.relax_job(start.output, opt_params={"fmax": 0.01})
    static = StaticMaker(level="gfn2-xtb").make(minimum.output["atoms"])
    nothing = to_atoms(relax.output[0])
    stuck = recipes.relax_job(nothing.output)
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    jobs = [relax, start, minimum, static, nothing, stuck]
    responses = run_locally(Flow(jobs), store=store, log=False, root_dir=tmp_path)
    result = responses[minimum.uuid][1].output
    assert result["converged"] and result["parameters_opt"]["fmax"] == 0.01
    ours = responses[static.uuid][1].output
    assert ours["energy"] == pytest.approx(result["results"]["energy"], abs=1e-5)
    assert np.linalg.norm(ours["forces"], axis=1).max() < 0.0101
    assert stuck.uuid not in responses


@pytest.mark.parametrize("package", ["quacc", "atomate2"])
def test_recipes_take_the_optimizer_as_its_page_says(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    page = (ROOT / "docs/howto/optimizers.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall("```python\n(.*?)```", page, re.S) if package in text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", block],
        env=os.environ | dict.fromkeys(FOLDERS, str(tmp_path)) | {ENGINE: "none"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == "True"
