from __future__ import annotations

import platform
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from source_tree import OLDER

from diffrelax.benchmark.hardware import describe_dft_hardware, name_processor
from diffrelax.benchmark.sample import peer_settings
from diffrelax.benchmark.speedup.arms import (
    SpeedupArm,
    Subject,
    check_arms,
    distinct,
    subjects_of,
)
from diffrelax.benchmark.speedup.report import write_report
from diffrelax.benchmark.speedup.run import (
    Outcome,
    assign_basins,
    compare_arms,
    reference_settings,
    run_arm,
)
from diffrelax.benchmark.speedup.units import Units, dft_unit
from diffrelax.clock import Time
from diffrelax.dft import DFTSettings
from diffrelax.dft.recorder import Recorder
from diffrelax.files.reading import Rejected, read_molecules
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.results.documents import FailureDocument, MinimisationDocument
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.provenance import Provenance
from diffrelax.store import Store, work_key

LEVEL = DFTSettings(xc="pbe", basis="sto-3g", grid_level=2)
HESSIAN = SpeedupArm("mmff94", "bfgs+hessian")
PLAIN = SpeedupArm("mmff94", "bfgs")


@pytest.fixture(scope="module")
def butanes() -> tuple[Molecule, Molecule]:
    """Two conformers of butane."""
    spans = {}
    for seed in range(50):
        butane = Molecule.from_smiles("CCCC", seed=seed)
        spans[np.linalg.norm(butane.positions[0] - butane.positions[3]) > 3.6] = butane
        if len(spans) == 2:
            break
    return spans[True], spans[False]


def ended(molecule: Molecule, energy: float, start: str = "mmff94") -> Outcome:
    return Outcome("butane", "CCCC", SpeedupArm(start, "bfgs"), "", energies=(energy + 0.5, energy),
                   end=molecule)  # fmt: skip


def relaxed(molecule: Molecule, energy: float, reason: str = "") -> MinimisationDocument:
    plain = MoleculeDocument.from_molecule(molecule)
    return MinimisationDocument(
        name="butane",
        reason=reason,
        provenance=Provenance.here(),
        level="dft",
        settings={},
        criterion="",
        input=plain,
        output=plain,
        energy=energy,
        fmax=0.001,
        forces=None,
        converged=not reason,
        gradient_calls=1,
        seconds={},
    )


def test_ends_near_a_reference_share_it_and_others_are_relaxed_tightly(
    butanes: tuple[Molecule, Molecule],
) -> None:
    trans, gauche = butanes
    tight: list[Molecule] = []

    def relax(molecule: Molecule) -> MinimisationDocument:
        tight.append(molecule)
        return relaxed(molecule, -10.001 if molecule is trans else -9.961)

    outcomes = assign_basins(
        [
            ended(trans, -10.0),
            ended(gauche, -9.96),
            replace(ended(trans, -10.0), end=None, reason="not converged in 1 steps"),
            ended(trans, -9.999),
        ],
        relax,
    )
    assert [o.basin for o in outcomes] == [0, 1, None, 0]
    assert tight == [trans, gauche]
    assert outcomes[0].excess == pytest.approx(0.501)
    assert outcomes[3].excess == pytest.approx(0.502)
    assert outcomes[2].excess is None


def test_a_floppy_end_goes_where_its_tight_relaxation_goes(
    butanes: tuple[Molecule, Molecule],
) -> None:
    trans, _ = butanes
    high = trans.with_positions(trans.positions + 0.0)
    calls = []

    def relax(molecule: Molecule) -> MinimisationDocument:
        calls.append(molecule)
        return relaxed(trans, -10.001)

    outcomes = assign_basins([ended(trans, -10.0), ended(high, -9.98)], relax)
    assert calls == [trans, high]  # 0.5 kcal/mol above it may be another minimum
    assert [o.basin for o in outcomes] == [0, 0]


def test_a_predicted_end_is_known_by_its_predicted_energy(
    butanes: tuple[Molecule, Molecule],
) -> None:
    trans, _ = butanes
    predicted = replace(ended(trans, nan), energies=(-9.5,), predicted_energy=-10.0)
    (outcome,) = assign_basins([predicted], lambda m: relaxed(m, -10.001))
    assert (outcome.calls, outcome.basin, outcome.notes) == (1, 0, ())
    assert outcome.excess == pytest.approx(0.501)


def test_reference_minima_are_verified() -> None:
    level = DFTSettings(one_call=True, fmax=0.001)
    assert (reference_settings(level).one_call, reference_settings(level).fmax) == (False, 0.001)


def test_an_end_that_slides_into_its_reference_is_noted(
    butanes: tuple[Molecule, Molecule],
) -> None:
    trans, gauche = butanes
    near, far = assign_basins(
        [ended(trans, -10.0), ended(gauche, -9.99)], lambda m: relaxed(trans, -10.001)
    )
    assert near.basin == far.basin == 0
    assert near.notes == ()
    assert far.notes == ("stopped on the way to its reference minimum",)


def test_an_end_far_above_its_reference_minimum_is_in_none(
    butanes: tuple[Molecule, Molecule],
) -> None:
    """As on a saddle point: whether another arm found the minimum has no part in it."""
    trans, gauche = butanes
    saddle = ended(gauche, -9.90)
    alone, beside = (
        assign_basins([*others, saddle], lambda m: relaxed(trans, -10.0))[-1]
        for others in ((), (ended(trans, -10.0),))
    )
    assert alone.basin is beside.basin is None
    assert alone.reason == beside.reason == "stopped 2.3 kcal/mol above its reference minimum"


def test_an_end_without_a_reference_minimum_says_why(butanes: tuple[Molecule, Molecule]) -> None:
    (outcome,) = assign_basins(
        [ended(butanes[0], -10.0)], lambda m: relaxed(m, -10.0, "not converged in 100 steps")
    )
    assert outcome.basin is None
    assert outcome.reason == "no reference minimum: not converged in 100 steps"
    failure = FailureDocument(name="", reason="no basis", stage="dft", provenance=Provenance.here())
    (outcome,) = assign_basins([ended(butanes[0], -10.0)], lambda m: failure)
    assert outcome.reason == "no reference minimum: no basis"


def test_an_end_without_a_tight_relaxation_may_be_the_minimum_of_a_later_one(
    butanes: tuple[Molecule, Molecule],
) -> None:
    trans, gauche = butanes
    found = [relaxed(trans, -10.0, "not converged in 50 steps"), relaxed(trans, -10.001)]
    ends = [ended(trans, -10.0), ended(trans.with_positions(trans.positions + 0.0), -9.999)]
    first, second = assign_basins(ends, lambda m: found.pop(0))
    assert (first.basin, second.basin, first.reason) == (0, 0, "")
    assert first.minimum == second.minimum == -10.001
    found = [relaxed(gauche, -9.96, "not converged in 50 steps"), relaxed(trans, -10.001)]
    first, second = assign_basins([ended(gauche, -9.96), ends[1]], lambda m: found.pop(0))
    assert (first.basin, second.basin) == (None, 0)
    assert first.reason == "no reference minimum: not converged in 50 steps"


def test_the_basin_of_an_end_does_not_depend_on_the_order_of_the_arms(
    butanes: tuple[Molecule, Molecule],
) -> None:
    trans, gauche = butanes
    sliding = ended(gauche, -9.96)
    staying = ended(gauche.with_positions(gauche.positions + 0.0), -9.96)
    tight = {id(sliding.end): relaxed(trans, -10.001), id(staying.end): relaxed(gauche, -9.961)}
    for ends in ([sliding, staying], [staying, sliding]):
        outcomes = assign_basins(ends, lambda end: tight[id(end)])
        assert outcomes[0].basin == outcomes[1].basin
        assert outcomes[0].minimum == outcomes[1].minimum == -9.961
        assert outcomes[0].notes == outcomes[1].notes == ()


def test_arms_count_their_cost_and_are_found_done(tmp_path) -> None:
    subjects = [replace(s, time=Time(0.25, 0.2)) for s in subjects_of(read_molecules("O"))]
    arms = [PLAIN, HESSIAN, SpeedupArm("gfn2-xtb", "bfgs+hessian")]
    units = Units(Store.in_folder(tmp_path), threads=1)
    (outcomes,) = compare_arms(subjects, arms, LEVEL, units)
    assert all(o.converged and o.basin == 0 and o.reason == "" for o in outcomes)
    plain, hessian, tight_binding = outcomes
    assert plain.calls > hessian.calls > 1
    assert plain.scf_cycles > plain.calls
    assert plain.excess == pytest.approx(hessian.excess, abs=1e-4)
    assert plain.times["hessian"] == Time()
    assert hessian.times["hessian"].processor > 0
    assert plain.times["start"] == Time()
    assert tight_binding.times["start"].processor > 0
    for outcome in outcomes:
        parts = sum((outcome.times[k] for k in ("embedding", "start", "hessian", "dft")), Time())
        assert outcome.times["embedding"] == Time(0.25, 0.2)
        assert parts.wall < outcome.times["total"].wall < parts.wall + 2
        assert parts.processor < outcome.times["total"].processor < parts.processor + 2
    assert units.calculated == 5  # a start, three relaxations and a reference

    again = Units(Store.in_folder(tmp_path), threads=1)
    (found,) = compare_arms(subjects, arms, LEVEL, again)
    assert again.calculated == 0
    assert [o.energies for o in found] == [o.energies for o in outcomes]
    assert [o.times for o in found] == [o.times for o in outcomes]


def test_what_breaks_down_costs_only_itself_and_is_tried_again(tmp_path, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a defect")

    subjects = subjects_of(read_molecules("O"))
    with monkeypatch.context() as patch:
        patch.setattr("diffrelax.benchmark.speedup.units.relax_with", broken)
        units = Units(Store.in_folder(tmp_path))
        ((outcome,),) = compare_arms(subjects, [HESSIAN], LEVEL, units)
    assert outcome.reason == "AssertionError: a defect"
    assert units.calculated == 0
    ((outcome,),) = compare_arms(subjects, [HESSIAN], LEVEL, units)
    assert outcome.converged


def test_what_cannot_be_done_is_tried_again(tmp_path) -> None:
    units = Units(Store.in_folder(tmp_path))
    water = Molecule.from_smiles("O")
    for count in (1, 2):
        document = units.relax(water, LEVEL.model_copy(update={"basis": "nosuch"}))
        assert isinstance(document, FailureDocument) and "nosuch" in document.reason
        assert units.calculated == count
    assert not list(units.work.each())


@pytest.mark.slow
def test_the_machine_of_each_relaxation_is_known(tmp_path) -> None:
    subjects = subjects_of(read_molecules("O"))
    outcomes = [
        outcome
        for threads, arm in ((1, PLAIN), (2, HESSIAN))
        for (outcome,) in compare_arms(
            subjects, [arm], LEVEL, Units(Store.in_folder(tmp_path), threads=threads)
        )
    ]
    assert [o.hardware for o in outcomes] == [describe_dft_hardware(n) for n in (1, 2)]
    outcomes[1] = replace(outcomes[1], notes=("no gfn2-xtb Hessian",))
    write_report(tmp_path, outcomes, {"level": LEVEL.model_dump(), "hardware": ""}, 12.0)
    report = (tmp_path / "report.md").read_text()
    remarks = report.split("## Other than the recipe says")[1].split("##")[0]
    assert f"| no gfn2-xtb Hessian | 1 | O ({HESSIAN}) |" in remarks
    assert f"On {describe_dft_hardware(1)} and {describe_dft_hardware(2)}." in report


def test_a_relaxation_that_went_on_from_a_checkpoint_may_have_two_machines(tmp_path) -> None:
    water, store = Molecule.from_smiles("O"), Store.in_folder(tmp_path)
    units = [dft_unit(water, LEVEL, threads=1, store=store) for _ in range(2)]
    machines = [unit.provenance.hardware for unit in units]
    assert machines == [describe_dft_hardware(1), ""]


def test_more_steps_go_on_from_what_is_done_and_keys_stay(tmp_path, monkeypatch) -> None:
    units, molecule = Units(Store.in_folder(tmp_path), threads=1), Molecule.from_smiles("OO")
    few = LEVEL.model_copy(update={"max_steps": 1})
    short = units.relax(molecule, few)
    assert short.key == work_key("dft", molecule, few.model_dump())
    calls = []
    calculate = Recorder._calculate
    monkeypatch.setattr(Recorder, "_calculate", lambda self: calls.append(1) or calculate(self))
    long = units.relax(molecule, LEVEL)
    assert long.key == work_key("dft", molecule, LEVEL.model_dump())
    assert long.converged and long.gradient_calls == 2 + len(calls)
    assert long.trajectory.energies[:2] == short.trajectory.energies


def test_coordinates_are_relaxed_to_the_base_and_kept_as_given(monkeypatch) -> None:
    water = Molecule.from_smiles("O")
    stretched = water.with_positions(1.05 * water.positions, start="given")
    minimum = water.with_positions(water.positions, start="dft")
    now, embedding = Time(), Time(20.0, 10.0)
    monkeypatch.setattr(Time, "now", lambda: now)

    def read():
        nonlocal now
        yield stretched
        now += embedding
        yield water
        yield Rejected("x", "x", "not a SMILES")
        yield minimum

    given, smiles, bad, known = subjects_of(read())
    assert given.base is not None and given.base.start == "mmff94"
    assert np.abs(given.base.positions - stretched.positions).max() > 0.01
    assert given.known == {"given": stretched}
    assert (given.time, smiles.time, known.time) == (Time(), embedding, Time())
    assert known.known == {"given": minimum} and known.base.start == "mmff94"
    assert smiles.base is water and not smiles.known
    assert (bad.base, bad.reason) == (None, "not a molecule: not a SMILES")
    assert given.name == "O" and smiles.name == "O (2)"


def test_a_molecule_that_is_given_twice_counts_once() -> None:
    water = Molecule.from_smiles("O")
    longer = water.with_positions(1.02 * water.positions, start="input")
    given = [water, longer, replace(water, name="again"), Molecule.from_smiles("CO")]
    told = [(subject.reason, subject.repeated) for subject in subjects_of(given)]
    assert told == [("", False), ("", False), ("the same molecule as O", True), ("", False)]
    ethanols = [Molecule.from_smiles(smiles) for smiles in ("CCO", "OCC")]
    assert [subject.repeated for subject in subjects_of(ethanols)] == [False, True]


def test_what_is_no_molecule_is_the_same_as_none() -> None:
    """Though it is called as a molecule is written."""
    bad, ethanol = Rejected("CCO", "CCO", "no bonds"), Molecule.from_smiles("CCO", name="ethanol")
    for given in ((bad, ethanol), (ethanol, bad)):
        told = {subject.name: subject.reason for subject in subjects_of(given)}
        assert told == {"CCO": "not a molecule: no bonds", "ethanol": ""}


def test_starts_that_cannot_be_made_say_why(tmp_path) -> None:
    units = Units(Store.in_folder(tmp_path), model=OLDER)
    (acid,) = subjects_of(read_molecules("Cl"))
    assert "not trained on Cl" in units.start(acid, "diffusion").reason
    assert units.start(acid, "given").reason == "there is no start given"
    bare = Subject("x", None, reason="not a molecule: not a SMILES")
    assert units.start(bare, "mmff94").reason == "not a molecule: not a SMILES"
    boron = Subject("boron", Molecule.from_smiles("B"))
    assert "no parameters" in units.start(boron, "mmff94").reason


def test_a_level_whose_program_failed_is_tried_again(tmp_path, monkeypatch) -> None:
    def crashed(molecule, *_, **__):
        return replace(done, energy=np.nan, reason="gfn2-xtb failed: killed by SIGSEGV")

    (water,) = subjects_of(read_molecules("O"))
    done = relax_at_level(water.base, "gfn2-xtb")
    units = Units(Store.in_folder(tmp_path))
    with monkeypatch.context() as broken:
        broken.setattr("diffrelax.benchmark.speedup.units.relax_at_level", crashed)
        assert units.start(water, "gfn2-xtb").reason == "gfn2-xtb failed: killed by SIGSEGV"
    assert units.start(water, "gfn2-xtb").molecule.start == "gfn2-xtb"


def test_what_the_machine_lacks_is_not_the_fault_of_a_molecule(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (water,) = subjects_of(read_molecules("O"))
    with pytest.raises(ImportError, match="needs the program xtb"):
        Units(Store.in_folder(tmp_path)).start(water, "gfn-ff")


def test_a_unit_of_another_version_is_done_again(tmp_path) -> None:
    (water,) = subjects_of(read_molecules("O"))
    units = Units(Store.in_folder(tmp_path))
    assert units.start(water, "uff").molecule
    ((key, unit),) = units.work.each()
    units.work.keep(key, unit | {"a_new_field": 1})
    assert units.start(water, "uff").molecule
    assert units.calculated == 2 and units.work.find(key).keys() == unit.keys()


def test_names_are_numbered_until_they_are_distinct() -> None:
    assert distinct(["a", "a", "a (2)", "b", "a"]) == ["a", "a (2)", "a (2) (2)", "b", "a (3)"]


def test_a_start_that_cannot_be_made_has_its_cost(tmp_path) -> None:
    (acid,) = subjects_of(read_molecules("Cl"))
    arm = SpeedupArm("diffusion", "bfgs")
    outcome = run_arm(acid, arm, LEVEL, Units(Store.in_folder(tmp_path), model=OLDER))
    assert not outcome.converged
    assert outcome.times["total"].wall >= acid.time.wall > 0


def test_coordinates_that_do_not_relax_are_their_own_base(monkeypatch) -> None:
    water = Molecule.from_smiles("O")
    given = water.with_positions(1.3 * water.positions, start="given")
    monkeypatch.setattr("diffrelax.benchmark.speedup.arms.BASE_STEPS", 1)
    (subject,) = subjects_of([given])
    assert subject.base is given


def test_a_processor_without_a_model_name_has_a_name(tmp_path, monkeypatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    monkeypatch.setattr("diffrelax.benchmark.hardware.CPUINFO", cpuinfo)
    assert name_processor() == (platform.processor() or platform.machine())


def test_arms_are_checked_before_the_work() -> None:
    check_arms([PLAIN, SpeedupArm("qm9", "bfgs")], known=["qm9"])
    with pytest.raises(ValueError, match="unknown start 'qm9': choose one of mmff94"):
        check_arms([SpeedupArm("qm9", "bfgs")])
    with pytest.raises(ValueError, match="unknown recipe 'newton': choose one of tric"):
        check_arms([SpeedupArm("mmff94", "newton")])


def test_missing_levels_are_named_before_the_work(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(ValueError, match="needs the program xtb"):
        check_arms([SpeedupArm("gfn-ff", "bfgs")])
    assert peer_settings("gfn2-xtb") == {"program": "tblite"}
    monkeypatch.setattr("diffrelax.levels.aimnet2.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="weights of aimnet2 are missing"):
        check_arms([SpeedupArm("mmff94", "bfgs+aimnet2-hessian")])


def test_recipes_set_the_optimizer_and_its_hessian() -> None:
    plain = {"optimizer": "bfgs", "hessian": "none"}
    assert PLAIN.settings(LEVEL) == LEVEL.model_copy(update=plain)
    geometric = SpeedupArm("mmff94", "geometric+hessian").settings(LEVEL)
    assert (geometric.optimizer, geometric.hessian) == ("geometric", "gfn2-xtb")
    assert reference_settings(geometric).fmax == 0.003
    predicted = LEVEL.model_copy(update={"one_call": True})
    for recipe, predicts in {"bfgs": False, "tric+hessian": True, "sella+hessian": False,
                             "geometric+hessian": False, "bfgs+hessian": True}.items():  # fmt: skip
        settings = SpeedupArm("mmff94", recipe).settings(predicted)
        assert settings.one_call == predicts and DFTSettings.model_validate(settings.model_dump())
    assert reference_settings(LEVEL).optimizer == LEVEL.optimizer
