"""The scripts of ``analysis/``, on few molecules and a tiny basis."""

from __future__ import annotations

import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from diffrelax.benchmark.speedup_units import Units
from diffrelax.dft import DFTSettings
from diffrelax.training.geometries import GeometrySet
from diffrelax.work import WorkFolder

ANALYSIS = Path(__file__).parents[1] / "analysis"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dft_speedup", ANALYSIS / "dft_speedup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dft_speedup", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(module.LEVELS, "small", DFTSettings(xc="pbe", basis="sto-3g"))
    return module


def test_molecules_of_the_speedup_are_chosen_by_their_hash(
    script: ModuleType, geometries: GeometrySet
) -> None:
    subjects = list(script.chosen(geometries, range(3, 5), 3))
    names = [subject.name for subject in subjects]
    eligible = [str(geometries.index[i]) for i in (0, 1, 2, 4)]
    eligible.sort(key=lambda index: sha256(index.encode()).hexdigest())
    assert names == [f"qm9-{index}" for index in eligible[:3]]
    for subject in subjects:
        assert subject.known["qm9"].smiles == subject.known["embedded"].smiles
        assert subject.base.start == "mmff94"


def test_the_speedup_goes_stage_by_stage(
    script: ModuleType, geometries: GeometrySet, tmp_path: Path
) -> None:
    (subject,) = script.chosen(geometries, range(2, 3), 1)
    stages = [
        script.Stage("small", 1, script.arms("mmff94", "bfgs+hessian")),
        script.Stage("small", 1, script.arms("qm9 embedded", "bfgs+hessian")),
    ]
    units = Units(WorkFolder(tmp_path / "units"), threads=1)
    script.run(tmp_path / "small", stages[:1], [subject], units)
    first = units.calculated
    script.run(tmp_path / "small", stages, [subject], units)
    assert (first, units.calculated) == (2, 4)
    page = (tmp_path / "small" / "report.md").read_text()
    for start in ("mmff94", "qm9", "embedded"):
        assert f"| {start} | bfgs+hessian | 1 | 1 |" in page
