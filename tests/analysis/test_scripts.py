"""The scripts of ``analysis/``, on few molecules and a tiny basis."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import ase
import numpy as np
import pytest
from rdkit import Chem
from source_tree import OLDER, ROOT

from diffrelax.benchmark.speedup.arms import Subject
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.clock import NO_TIME
from diffrelax.data.minima import Minimum
from diffrelax.dft import DFTRelaxation, DFTSettings
from diffrelax.dft.recorder import Call
from diffrelax.diffusion.reading import Calibration, ErrorBound
from diffrelax.diffusion.schedule import RelaxationSchedule, relax_positions
from diffrelax.files.reading import read_molecules
from diffrelax.generation import Generated, Trajectory
from diffrelax.geometry import geometry_errors
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.store import Store
from diffrelax.training.geometries import GeometrySet, collate
from diffrelax.training.state import load_tensors, save_tensors

ANALYSIS = ROOT / "analysis"


SMALL = DFTSettings(xc="pbe", basis="sto-3g")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ANALYSIS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


SCRIPTS = sorted(path.stem for path in ANALYSIS.glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_all_that_a_script_imports_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "free_energies":
        pytest.importorskip("goodvibes")
    for other in SCRIPTS:  # folders of tests have the same names
        monkeypatch.delitem(sys.modules, other, raising=False)
    load(name, monkeypatch)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("dft_speedup", monkeypatch)
    monkeypatch.setitem(module.LEVELS, "small", SMALL)
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


Calculated = list[tuple[str, str]]  # name, recipe
Written = list[tuple[str, dict[str, list[str]]]]  # report, recipes by name


@pytest.fixture
def calculated(monkeypatch: pytest.MonkeyPatch) -> Calculated:
    """What is relaxed, each time in two gradient calls at the geometry where it stands."""
    relaxed: Calculated = []

    def relax(start: Molecule, settings: DFTSettings, **_: object) -> DFTRelaxation:
        recipe = settings.optimizer + ("" if settings.hessian == "none" else "+hessian")
        relaxed.append((start.name, "tightly" if settings.fmax < 0.03 else recipe))
        times = dict.fromkeys(("hessian", "dft", "total"), NO_TIME)
        way = np.stack([start.positions, start.positions])
        forces = np.stack([np.ones_like(start.positions), np.zeros_like(start.positions)])
        return DFTRelaxation(start, True, "", (-1.0, -2.0), way, forces, 2, times, "", (), settings)

    monkeypatch.setattr("diffrelax.benchmark.speedup.units.relax_with", relax)
    return relaxed


@pytest.fixture
def written(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Written:
    """What is written into reports."""
    reports: Written = []
    write_report = script.write_report

    def write(folder: Path, outcomes: list[Outcome], *about: Any) -> None:
        write_report(folder, outcomes, *about)
        recipes: dict[str, list[str]] = {}
        for outcome in outcomes:
            assert outcome.basin == 0
            recipes.setdefault(outcome.name, []).append(outcome.arm.recipe)
        reports.append((folder.name, recipes))

    monkeypatch.setattr(script, "write_report", write)
    monkeypatch.setattr(script, "about_model", lambda model: {})
    return reports


@pytest.fixture
def subjects(script: ModuleType, geometries: GeometrySet) -> dict[str, list[Subject]]:
    """Two molecules in one report, another in the other."""
    a, b, c = (script.subject_of(geometries, i) for i in range(3))
    return {"small": [a, b], "large": [c]}


def test_the_speedup_goes_stage_by_stage(
    script: ModuleType,
    subjects: dict[str, list[Subject]],
    calculated: Calculated,
    written: Written,
    tmp_path: Path,
) -> None:
    stages = [
        script.Stage("small", 1, script.arms("mmff94", "bfgs")),
        script.Stage("large", 1, script.arms("mmff94", "bfgs")),
        script.Stage("small", 2, script.arms("mmff94", "bfgs+hessian")),
    ]
    script.work(tmp_path, stages, subjects)
    a, b, c = "qm9-20", "qm9-40", "qm9-60"
    assert calculated == [
        (a, "bfgs"), (a, "tightly"),
        (c, "bfgs"), (c, "tightly"),
        (a, "bfgs+hessian"), (b, "bfgs+hessian"), (b, "tightly"),
    ]  # fmt: skip
    assert written == [
        ("small", {a: ["bfgs"]}),
        ("large", {c: ["bfgs"]}),
        ("small", {a: ["bfgs", "bfgs+hessian"]}),
        ("small", {a: ["bfgs", "bfgs+hessian"], b: ["bfgs+hessian"]}),
    ]


def test_a_report_of_the_speedup_never_shrinks(
    script: ModuleType,
    subjects: dict[str, list[Subject]],
    calculated: Calculated,
    written: Written,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, *later = [
        script.Stage("small", 1, script.arms("mmff94", "sella")),
        script.Stage("small", 1, script.arms("mmff94", "bfgs")),
        script.Stage("small", 2, script.arms("mmff94", "bfgs+hessian")),
    ]
    a, b = "qm9-20", "qm9-40"

    def interrupt(start: Molecule, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    script.work(tmp_path, later, {"small": subjects["small"][:1]})
    del calculated[:], written[:]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("diffrelax.benchmark.speedup.units.relax_with", interrupt)
        script.work(tmp_path, later, subjects)
    assert written == [("small", {a: ["bfgs", "bfgs+hessian"]})]
    script.work(tmp_path, [first, *later], subjects)
    assert calculated == [(a, "sella"), (b, "bfgs+hessian"), (b, "tightly")]
    of_a = ["bfgs", "bfgs+hessian", "sella"]
    assert written[1:] == [
        ("small", {a: of_a}),
        ("small", {a: of_a}),
        ("small", {a: of_a, b: ["bfgs+hessian"]}),
    ]


def test_an_end_whose_reference_is_missing_stays_in_the_report(
    script: ModuleType,
    subjects: dict[str, list[Subject]],
    calculated: Calculated,
    written: Written,
    tmp_path: Path,
) -> None:
    stages = [script.Stage("large", 1, script.arms("mmff94", "bfgs"))]
    script.work(tmp_path, stages, subjects)
    store = Store.in_folder(tmp_path / "units")
    (reference,) = [key for key, unit in store.each() if unit["settings"].get("fmax") == 0.003]
    store.drop(key=reference)
    ((found,),) = script.find_finished(store.path, stages, subjects)["large"].values()
    assert found.converged and found.basin is None
    assert found.reason == "no reference minimum: not calculated yet"
    del calculated[:]
    script.work(tmp_path, stages, subjects)
    assert calculated == [("qm9-60", "tightly")]


def test_what_the_model_without_a_bridge_makes_is_a_known_start(
    script: ModuleType, subjects: dict[str, list[Subject]], tmp_path: Path
) -> None:
    base = subjects["small"][0]
    units = script.Units(script.Store.in_folder(tmp_path), OLDER)
    first, again = (script.with_baseline(base, units).known for _ in range(2))
    moved = first[script.BASELINE].positions - base.base.positions
    assert 1e-3 < np.abs(moved).max() < 0.5
    assert np.array_equal(first[script.BASELINE].positions, again[script.BASELINE].positions)
    assert set(first) == {*base.known, script.BASELINE} and units.calculated == 1


def test_only_the_named_reports_of_the_speedup_are_made(
    script: ModuleType, geometries: GeometrySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[str] = []
    stages = [
        script.Stage("large", 1, script.arms("mmff94", "a recipe that is not installed")),
        script.Stage("small", 1, script.arms("mmff94", "bfgs")),
    ]
    monkeypatch.setattr(script, "STAGES", stages)
    monkeypatch.setattr(script, "BASELINE_FILE", Path(OLDER))
    monkeypatch.setattr(script, "load_qm9", lambda split: geometries)
    monkeypatch.setattr(
        script, "work", lambda _, stages, __: worked.extend(stage.report for stage in stages)
    )
    script.main(tmp_path, ["small"])
    assert worked == ["small"]
    with pytest.raises(ValueError, match="unknown recipe"):
        script.main(tmp_path, ["small", "large"])
    with pytest.raises(ValueError, match="unknown report 'tiny': choose from small, large"):
        script.main(tmp_path, ["small", "tiny"])
    assert worked == ["small"]


@pytest.mark.slow
def test_a_model_is_compared_before_and_after_it_is_fine_tuned(
    script: ModuleType, geometries: GeometrySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finetuning = load("finetuning", monkeypatch)
    changes = {"LEVEL": SMALL, "HEAVY_ATOMS": range(2, 3), "N_LEARNED": 1, "N_TEST": 1}
    for name, value in changes.items():
        monkeypatch.setattr(finetuning, name, value)
    monkeypatch.setattr(finetuning, "load_qm9", lambda split: geometries)
    released = ANALYSIS.parent / "models" / "relax-qm9-2"

    def learn(minima: Path, folder: Path) -> None:
        (learned,) = read_molecules(minima)
        assert learned.smiles == "C#C"
        shutil.copytree(released, folder)

    monkeypatch.setattr(finetuning, "learn", learn)
    finetuning.main(tmp_path / "results", tmp_path / "relax-pbe-1")
    for name in ("before", "after"):
        page = (tmp_path / "results" / name / "report.md").read_text()
        assert "| diffusion | bfgs+hessian | 1 | 1 |" in page


def test_generation_is_judged_and_followed_once(
    model: Model, geometries: GeometrySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load("generation", monkeypatch)
    levels = np.array([0.4, 0.2, 0.1])
    made = []
    for one in script.real_molecules(geometries, 3):
        numbers = np.tile(one.atoms.numbers, (3, 1))
        away = np.random.default_rng(0).normal(size=(3, len(one.atoms), 3))
        positions = one.atoms.positions + levels[:, None, None] * away
        made.append(replace(one, trajectory=Trajectory(levels, numbers, positions, positions)))
    broken = script.judge(ase.Atoms("C2", [[0, 0, 0], [0.1, 0, 0]]))
    ways = []

    def generate(_: Model, relaxer: Model | None, *__: int, **options: bool) -> list[Generated]:
        ways.append((relaxer is None, options["free_elements"]))
        return [*made, broken]

    monkeypatch.setattr(script, "load_model", lambda name: model)
    monkeypatch.setattr(script, "load_qm9", lambda split: geometries)
    monkeypatch.setattr(script, "generate", generate)
    monkeypatch.setattr(sys, "argv", ["generation.py", "x", str(tmp_path), "-n", "4"])
    script.main()
    monkeypatch.setattr(script, "generate", None)
    script.main()
    quality = json.loads((tmp_path / "quality.json").read_text())
    for found in quality["generated"].values():
        assert found["valid"] == 0.75
        assert found["novel"] == 0.0
    assert ways == [(True, True), (False, False), (True, True)]
    passed = found["posebusters"]
    assert passed["bond_lengths"] == passed["no_radicals"] == 1.0
    assert 0 < passed["all_of_generated"] == pytest.approx(0.75 * passed["all"], abs=1e-3)
    phases = json.loads((tmp_path / "phases.json").read_text())
    assert [phase["settled"] for phase in phases["phases"]] == [0.4, 0.4, 0.4]
    assert phases["failures"] == {}
    floor = json.loads((tmp_path / "floor.json").read_text())
    assert floor["command"] and floor["hardware"]
    assert len(floor["above"]) + len(floor["failures"]) == min(len(geometries), script.N_FLOOR)
    assert 0 < np.median(floor["above"]) < 0.5


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run with two checkpoints."""
    source, folder = ANALYSIS.parent / "models" / "relax-qm9-1", tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(source / "training.csv", folder)
    tensors, about = load_tensors(Path(OLDER))
    for step in (1024, 65536):
        path = folder / "checkpoints" / f"step-{step}.safetensors"
        save_tensors(tensors, path, about | {"step": step})
    return folder


@pytest.mark.slow
def test_learning_is_measured_once(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = load("learning", monkeypatch)
    start = Molecule.from_smiles("C=O", name="formaldehyde")
    near = relax_at_level(start, "gfn2-xtb").positions
    monkeypatch.setattr(learning, "molecules", lambda: [(start, near)])
    monkeypatch.setattr(learning, "SETTINGS", SMALL)
    monkeypatch.setattr(learning, "LEVEL", learning.LEVEL | {"xc": "pbe", "basis": "sto-3g"})
    learning.main(run_folder, tmp_path)
    text = (tmp_path / "relax-qm9-1.json").read_text()
    monkeypatch.setattr(learning, "dft_unit", None)
    monkeypatch.setattr(learning, "forces_at", None)
    learning.main(run_folder, tmp_path)
    assert (tmp_path / "relax-qm9-1.json").read_text() == text
    result = json.loads(text)
    (molecule,) = result["molecules"]
    assert result["steps"] == [1024, 65536]
    assert result["hours"][0] < result["hours"][1]
    assert np.shape(molecule["with_force"]) == np.shape(molecule["with_line"]) == (2, 5, 3, 2)
    assert np.abs(np.array(molecule["with_force"])[..., 0]).max() <= 1
    assert molecule["minimum"] == "reference"
    assert molecule["mmff94"]["excess"] > 0
    assert [cost["excess"] > 0 for cost in molecule["relaxations"]] == [True, True]
    assert all(-1 <= newton["order"] <= 2 for newton in molecule["newton"])


def test_scf_cycles_are_watched(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = load("scf_convergence", monkeypatch)
    monkeypatch.setattr(watching, "LEVEL", watching.LEVEL | {"xc": "pbe", "basis": "sto-3g"})
    found = watching.watch(Molecule.from_smiles("CO"))
    assert found["reason"] == "" and len(found["calls"]) > 1
    for call in found["calls"]:
        assert call["energy_changes_hartree"][-1] < 1e-8
        ends = call["cycles_end_at_seconds"]
        assert sorted(ends) == ends and ends[-1] <= call["processor_seconds"]
    shares = found["share_beyond"]
    assert 0 < shares["1e-07 Hartree"] <= shares["1e-06 Hartree"] < 0.5


def test_schedules_are_compared_by_what_a_relaxation_does(
    model: Model, geometries: GeometrySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load("schedules", monkeypatch)
    batch = collate(geometries, np.array([0, 1]), np.ones(len(geometries), dtype=bool))
    schedule = RelaxationSchedule(bridge=(0.1,), polish=(0.02,))
    monkeypatch.setattr("diffrelax.diffusion.schedule.LARGEST_STEP", 0.1)
    found = script.median_errors(
        model, [batch], schedule.bridge, schedule.polish, script.sample_deterministic
    )
    ends = relax_positions(model.denoiser, batch.numbers, batch.starts, schedule)
    errors = [
        geometry_errors(z[z > 0].numpy(), end[z > 0].numpy(), minimum[z > 0].numpy()).rmsd
        for z, end, minimum in zip(batch.numbers, ends, batch.positions, strict=True)
    ]
    assert found["rmsd"] == pytest.approx(np.median(errors), rel=1e-5)


def test_readings_are_of_the_molecules_of_a_level(
    several: Model, geometries: GeometrySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load("readings", monkeypatch)
    levels = several.config.levels[:2]
    bound = ErrorBound(scale=1.0, exponent=0.5)
    known = Calibration(settled=0.001, near=0.002, unseen=0.1, after_schedule=bound)
    config = several.config.model_copy(update={"calibrations": {levels[1]: known}})
    monkeypatch.setattr(script.dr, "load_model", lambda _: replace(several, config=config))
    monkeypatch.setattr(script, "N", 1)
    of_level = np.array([0, 1, 1, 0, 0, 0], dtype=np.int16)
    replace(geometries, level=of_level, levels=levels).save(tmp_path / "v.npz")
    script.main(tmp_path / "r.json", "several", str(tmp_path / "v.npz"), levels[1])
    page = json.loads((tmp_path / "r.json").read_text())
    assert page["level"] == levels[1] and page["constants"]["near"] == 0.002
    assert page["minima"]["molecules"] == 2
    assert page["ends"]["1.03"]["rmsd"]["n"] == 1


def test_learning_chooses_as_the_speedup_does(
    script: ModuleType, geometries: GeometrySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = load("learning", monkeypatch)
    moved = np.where(np.arange(len(geometries)) == 0, 2.0, 0.02)
    monkeypatch.setattr(learning, "load_qm9", lambda _: replace(geometries, start_rmsd=moved))
    names = [start.name for start, _ in learning.molecules()]
    assert sorted(names) == ["qm9-100", "qm9-120"]
    order = [f"qm9-{geometries.index[i]}" for i in script.by_hash(geometries, range(4, 7))]
    assert names == order


def test_minima_are_compared_with_the_geometries_of_qm9(
    script: ModuleType,
    geometries: GeometrySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agreement = load("qm9_agreement", monkeypatch)
    monkeypatch.setattr(agreement, "B3LYP", SMALL)
    stiff, floppy = (script.subject_of(geometries, i) for i in (3, 4))
    assert (stiff.base.smiles, floppy.base.smiles) == ("C#C", "CC(N)=O")
    assert agreement.is_stiff(stiff) and not agreement.is_stiff(floppy)
    monkeypatch.setattr(agreement, "chosen", lambda *_: [stiff])
    monkeypatch.setattr(agreement, "load_qm9", lambda split: geometries)
    agreement.main(tmp_path)
    (row,) = json.loads((tmp_path / "qm9_agreement.json").read_text())["molecules"]
    assert row["same_conformer"]
    assert 1 < row["rmsd_of_all_atoms_milliangstrom"] < 100  # another level of theory


@pytest.mark.slow
def test_the_sampler_is_measured_beside_its_peers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = load("boltzmann", monkeypatch)
    monkeypatch.setattr(script, "choose", lambda: {"methanol": "CO"})
    for name, few in {
        "N": 20, "CHAINS": 2, "PEER_TUNING": 10, "PEER_DRAWS": 5, "PEER_THIN": 1,
        "REFERENCE_STEPS": 2000,
    }.items():  # fmt: skip
        monkeypatch.setattr(script, name, few)
    monkeypatch.setattr(script, "heavy_torsions", lambda molecule: np.array([[2, 0, 1, 5]]))
    script.main(tmp_path)
    path = tmp_path / "methanol.json"
    record = json.loads(path.read_text())
    assert list(record["cost"]) == ["sample", *script.PEERS]
    ours = record["cost"]["sample"]
    assert ours["spent"]["energy_calls"] == 20 * 4
    share = script.WANTED / ours["lowest_ess"]
    expected = ours["tuning"]["energy_calls"] + share * ours["spent"]["energy_calls"]
    assert ours["for_wanted"]["energy_calls"] == pytest.approx(expected)

    del record["cost"]["cartesian"]
    path.write_text(json.dumps(record))
    monkeypatch.setattr(script, "measure", None)
    script.main(tmp_path)
    again = json.loads(path.read_text())
    assert again["cost"].pop("cartesian") and again == record


def test_optimizers_are_followed_to_every_stopping_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    load("dft_speedup", monkeypatch)
    script = load("optimizers", monkeypatch)
    start = Molecule.from_smiles("CO")
    path = script.follow(start, "geometric")
    counts = script.calls_to(path)
    assert 1 < counts["0.03 eV/Å"] <= counts["0.01 eV/Å"] <= counts["0.003 eV/Å"]
    assert counts["geomeTRIC"] >= counts["its energy and gradient"]
    assert [len(values) for values in path.values()] == [len(path["energies"])] * 5
    assert path["energies"][-1] == min(path["energies"])

    still = {"energies": [0.0, 0.0], "gmax": [0.0, 0.0], "grms": [0.0, 0.0]}
    near = still | {"drms": [np.nan, 1e-4], "dmax": [np.nan, 1e-3]}
    far = still | {"drms": [np.nan, 1e-4], "dmax": [np.nan, 2e-3]}
    assert script.calls_to(near)["geomeTRIC"] == 2
    assert script.calls_to(far)["geomeTRIC"] is None
    assert script.calls_to(far)["its energy and gradient"] == 2


def test_an_error_is_carried_from_one_minimum_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    load("dft_speedup", monkeypatch)
    script = load("optimizers", monkeypatch)
    published = Molecule.from_smiles("CC=O")
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    minimum = published.with_positions(published.positions @ turn.T + 1.0, start="other")
    noise = 0.01 * np.random.default_rng(0).normal(size=published.positions.shape)
    end = published.with_positions((published.positions + noise) @ turn, start="end")
    start = script.displaced(minimum, published, end)
    apart = script.superpose(start.positions, minimum.positions)[1]
    expected = script.superpose(end.positions, published.positions)[1]
    assert apart == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_stopping_rules_are_looked_for_along_one_path(
    script: ModuleType, geometries: GeometrySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("optimizers", monkeypatch)
    rules = load("stopping_rules", monkeypatch)
    subject = script.subject_of(geometries, 3)
    assert subject.base.smiles == "C#C"
    monkeypatch.setattr(rules, "B3LYP", SMALL)
    tight = SMALL.model_copy(update={"optimizer": "geometric", "fmax": 0.003})
    monkeypatch.setattr(rules, "SETTINGS", tight)
    monkeypatch.setattr(rules, "load_qm9", lambda split: geometries)
    monkeypatch.setattr(rules, "chosen", lambda *_: [subject])
    units = rules.Units(rules.Store.in_folder(tmp_path / "units"), script.MODEL)
    for start in rules.STARTS:
        units.relax(units.start(subject, start).molecule, rules.RECIPE.settings(SMALL))
    rules.main(tmp_path)
    first = (tmp_path / "stopping_rules.md").read_text()
    monkeypatch.setattr(rules, "relax_with", None)
    rules.main(tmp_path)
    assert (tmp_path / "stopping_rules.md").read_text() == first

    record = json.loads((tmp_path / "stopping_rules.json").read_text())
    for of_all in (record["paths"], record["stopped"]):
        (relaxed,) = of_all
        assert list(relaxed) == list(rules.STARTS)
    for start in rules.STARTS:
        path, stopped = (record[of][0][start]["path"] for of in ("paths", "stopped"))
        assert rules.calls_to(path)["geomeTRIC"] == len(stopped["energies"])
        assert rules.calls_to(path)["0.003 eV/Å"] is not None
    assert "| gfn2-xtb over diffusion | 1 |" in first


def test_molecules_are_chosen_by_weight_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = load("choose_molecules", monkeypatch)
    assert choose.candidate("CCO") is None  # too small
    assert choose.candidate("c1ccccc1CCCC[Se]C") is None
    assert choose.candidate("c1ccccc1CCCC.Cl") is None
    plain, ion = choose.candidate("c1ccccc1CCCCC"), choose.candidate("c1ccccc1CCCC[NH3+]")
    assert (plain.weight, ion.weight) == (0.4, pytest.approx(1.2))
    source, output = tmp_path / "in.smi", tmp_path / "out.smi"
    smiles = [f"c1ccccc1{'C' * n}{end}" for n in range(4, 16) for end in ("", "Br", "[NH3+]")]
    source.write_text("\n".join([*smiles, smiles[0]]))
    choose.main(source, output, 100)
    every = [line.split() for line in output.read_text().splitlines()]
    assert 20 < len(every) < len(smiles)  # a tenth is sealed
    assert all(remainder not in "01" for *_, remainder in every)
    choose.main(source, output, 10)
    assert [line.split() for line in output.read_text().splitlines()] == every[:10]


def test_labels_are_compared_with_dft_by_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = load("label_quality", monkeypatch)

    def label(smiles: str, remainder: int = 7) -> Minimum:
        molecule = Molecule.from_smiles(smiles)
        return Minimum(0, smiles, smiles, remainder, 0, molecule.numbers, molecule.positions, 42)

    labels = [label("CC"), label("CO", remainder=2), label("CCCC"), label("[H][H]"), label("CCO")]
    assert {one.smiles for one in quality.chosen(labels, 9)} == {"CC", "CCO", "CCCC"}
    monkeypatch.setattr(quality, "LEVEL", DFTSettings(xc="hf", basis="sto-3g", fmax=0.01))
    monkeypatch.setattr(
        quality, "load_labels", lambda release: {quality.LABELS: [label("C"), label("CC")]}
    )
    output = tmp_path / "quality.json"
    quality.main(tmp_path, output, 1)
    (first,) = json.loads(output.read_text())["molecules"]
    assert 0.0 < first["above"] < 1.0 and first["bonds"] > 0 and first["calls"] > 1
    monkeypatch.setattr(quality, "compared", pytest.fail)
    quality.main(tmp_path, output, 1)
    assert "1 of 1" in output.with_suffix(".md").read_text()


def test_small_molecules_are_pieces_of_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load("choose_small", monkeypatch)

    def pieces(smiles: str) -> set[str]:
        return small.tiny_pieces(Chem.MolFromSmiles(smiles))

    assert pieces("c1ccccc1CC[NH2+][C@H](F)C(=O)[O-]") == {
        "C", "CC", "F", "CF", "[NH4+]", "C[NH3+]", "CC[NH3+]", "C[NH2+]C", "CC[NH2+]C",
        "C[NH2+]CF", "[NH3+]CF", "C=O", "CC=O", "O=CCF", "[NH3+]CC=O", "O=C[O-]", "CC(=O)[O-]",
        "[OH-]",
    }  # fmt: skip
    assert "C" not in pieces("c1ccccc1") and "C1CC1" in pieces("CC1CC1")
    source, output = tmp_path / "in.smi", tmp_path / "out.smi"
    source.write_text("\n".join(["CS(=O)CCCl", *(f"CS(=O){'C' * n}" for n in range(2, 24))]))
    small.main(source, output, 2)
    chosen = [line.split()[0] for line in output.read_text().splitlines()]
    sizes = [Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() for smiles in chosen]
    assert {"CS(C)=O", "CC"} & set(chosen) and sizes == sorted(sizes[:-2]) + sizes[-2:]
    assert all(4 < size < 10 for size in sizes[-2:]) and sizes[-3] <= 4


def test_the_first_step_tells_the_forces_that_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("one_call", monkeypatch)
    molecule = Molecule.from_smiles("CC=O")
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("uff", molecule)
    call = Call(molecule, atoms.get_potential_energy(), 0.1 * atoms.get_forces(), NO_TIME)
    after = molecule.with_positions(script.first_step(call, gfn2_hessian(molecule)))
    assert np.abs(after.positions - molecule.positions).max() > 1e-3
    np.testing.assert_allclose(script.forces_of_step(molecule, after), call.forces, atol=1e-3)


def test_nine_in_ten_of_further_values_stay_below_a_conformal_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = load("one_call_tables", monkeypatch)
    assert tables.conformal(list(range(1, 10))) == 9  # as many fall into each of ten gaps
    assert tables.conformal(list(range(1, 20))) == 18
    assert tables.conformal([1.0] * 8) == np.inf


def test_calls_in_the_gas_phase_count_for_a_minimum_in_water(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    water = load("water", monkeypatch)
    end = Molecule.from_smiles("O")

    def outcome(arm: Any, *energies: float) -> Outcome:
        times = {"total": NO_TIME}
        return Outcome("m", "O", arm, "", times, energies, end=end, basin=0, minimum=-1.0)

    gas = outcome(water.DIFFUSION, -0.5, -0.6)
    in_water = [
        outcome(water.MMFF94, -0.9, -0.97, -0.99, -0.995, -0.999, -1.0),
        outcome(water.DIFFUSION, -0.98, -0.99, -1.0),
        outcome(water.FROM_GAS, -0.99, -1.0),
    ]
    lines = water.table([(gas, in_water)]).splitlines()[2:]
    cells = [line[2:-2].split(" | ") for line in lines]
    assert [row[0] for row in cells] == ["mmff94", "diffusion", "gas"]
    assert [row[3:] for row in cells] == [
        ["6", "6", "–", "–"], ["3", "3", "2.00", "1"], ["2", "4", "1.50", "1"],
    ]  # fmt: skip
    assert [float(row[2]) for row in cells] == pytest.approx([2.306, 0.461, 0.231], abs=0.001)


def test_strained_rings_are_made_by_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("strained_rings", monkeypatch)
    rows = list(module.rings())
    assert sum(row["use"] == "test" for row in rows) > 100
    molecules: dict[str, set[str]] = {}
    for row in rows:
        mol = Chem.MolFromSmiles(row["smiles"])
        assert row["size"] in map(len, mol.GetRingInfo().AtomRings())
        molecules.setdefault(Chem.MolToSmiles(mol), set()).add(row["use"])
    assert len(molecules) == len(rows)
