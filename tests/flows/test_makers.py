from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
from jobflow import Flow, Job, JobStore, run_locally
from kept import kinds
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, MontyEncoder
from rdkit import Chem
from source_tree import OLDER

from diffrelax.dft.recorder import Call, Recorder
from diffrelax.files.reading import Rejected
from diffrelax.flows import (
    DFTRelaxMaker,
    DiffusionRelaxMaker,
    EmbedMaker,
    ForceFieldRelaxMaker,
    RelaxFlowMaker,
    StaticMaker,
    levels,
    to_atoms,
)
from diffrelax.flows import batches as flow_batches
from diffrelax.flows.arguments import as_arguments, atomic_numbers, failure, read_argument
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.levels import MoleculeMaker
from diffrelax.flows.summary import summarise, summary_row
from diffrelax.flows.units import HANDED, LostUnitError, PlainDocument, fetch
from diffrelax.models import batches as model_batches
from diffrelax.molecule import Molecule
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.stored import read_document
from diffrelax.store import Store

CHEAP_DFT = {"xc": "lda,vwn", "basis": "sto-3g", "hessian": "none"}


def run(flow: Flow | Job) -> Any:
    """Run as a worker does, from JSON, and return the output of the last job."""
    flow = flow if isinstance(flow, Flow) else Flow([flow])
    flow = MontyDecoder().process_decoded(json.loads(json.dumps(flow, cls=MontyEncoder)))
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(flow, store=store, log=False)
    return store.get_output(flow.jobs[-1].uuid, load=True)


@dataclass
class PymatgenLike:
    """Has what a pymatgen Molecule has."""

    atomic_numbers: tuple[int, ...]
    cart_coords: np.ndarray
    charge: float
    spin_multiplicity: int


def test_anything_that_holds_a_molecule_is_an_argument_as_plain_json(tmp_path: Path) -> None:
    water = ase.build.molecule("H2O")
    path = tmp_path / "two.smi"
    path.write_text("CO wood alcohol\n# a comment\nC1CC\n")
    given = [
        "O",
        water,
        Molecule.from_atoms(water),
        Chem.MolFromSmiles("O"),
        PymatgenLike((8, 1, 1), water.positions, 0.0, 1),
        path,
    ]
    arguments = as_arguments(given)
    assert json.loads(json.dumps(arguments)) == arguments
    assert arguments[-2:] == ["CO wood alcohol", "C1CC"]
    molecules = [read_argument(a) for a in arguments]
    assert [sorted(m.numbers) for m in molecules[:5]] == [[1, 1, 8]] * 5
    assert molecules[5].name == "wood alcohol"
    assert "not a SMILES" in molecules[6].reason
    assert [len(atomic_numbers(a)) for a in arguments] == [3] * 5 + [6, 0]


def test_what_to_atoms_stores_is_an_argument_without_pymatgen() -> None:
    acetate = Molecule.from_smiles("CC(=O)[O-]", name="acetate")
    stored = to_atoms.original(MoleculeDocument.from_molecule(acetate).model_dump(mode="json"))
    (argument,) = as_arguments([stored])
    molecule = read_argument(argument)
    assert (molecule.name, molecule.charge, molecule.smiles) == ("acetate", -1, acetate.smiles)
    np.testing.assert_allclose(molecule.positions, acetate.positions)


def test_files_of_smiles_are_embedded_where_the_jobs_run(tmp_path: Path) -> None:
    packed, table = tmp_path / "some.smi.gz", tmp_path / "some.csv"
    packed.write_bytes(gzip.compress(b"CO wood alcohol\nCCO caf\xe9\n"))
    table.write_bytes(
        b'id,SMILES,x\nm 1,CC,3\n,C,\n|a|,O,\n\xff,N,\n,InChI=1S/CH4/h1H4,\n"two\nlines",CO,\n'
    )
    arguments = as_arguments([packed, table])
    assert [one if isinstance(one, str) else one["name"] for one in arguments] == [
        "CO wood alcohol", "CCO café", "CC m 1", "C C", "|a|", "N ÿ",
        "InChI=1S/CH4/h1H4 InChI=1S/CH4/h1H4", "two\nlines",
    ]  # fmt: skip
    names = [read_argument(one).name for one in arguments]
    methane = "InChI=1S/CH4/h1H4"
    assert names == ["wood alcohol", "café", "m 1", "C", "|a|", "ÿ", methane, "two\nlines"]
    assert len(atomic_numbers(arguments[-2])) == len(atomic_numbers("InChI=1S/CH4/h1H4 x")) == 5


def test_a_line_of_a_file_is_no_reference_to_a_unit(tmp_path: Path) -> None:
    """Nor is the key of one a path out of its folder."""
    inside, maker = tmp_path / "made", ForceFieldRelaxMaker()
    line = HANDED + json.dumps(["../secret", str(inside), "mine"])
    (tmp_path / "in.smi").write_text(line)
    for given in (tmp_path / "in.smi", [line], [line.strip()]):
        (output,) = run(maker.make_batch(given))
        assert "not a SMILES" in output["reason"]
    with pytest.raises(ValueError, match=r"'\.\./secret' is not the key of a unit"):
        fetch(line)
    assert not inside.exists()


def test_a_unit_that_cannot_be_read_costs_its_molecule_alone(tmp_path: Path) -> None:
    maker = ForceFieldRelaxMaker(work=str(tmp_path))
    made = [maker._unit(smiles) for smiles in ("C a", "CC b", "CO c")]
    Store.in_folder(tmp_path).keep(made[1]["key"], made[1] | {"a_new_field": 1})
    handed = [HANDED + json.dumps([one["key"], str(tmp_path), one["name"]]) for one in made]
    with pytest.raises(LostUnitError, match=r"of b is not in .* or of another"):
        maker._unit(handed[1])
    ends = [maker._unit(one, survives=True) for one in handed]
    assert [(end["name"], end["kind"]) for end in ends] == [
        ("a", "minimisation"), ("b", "failure"), ("c", "minimisation"),
    ]  # fmt: skip
    assert "rerun the flow" in ends[1]["reason"]
    names, uuids = ["a", "b", "c"], 3 * ["x"]
    summary = summarise.original(names, uuids, [handed], [ends[0], None, ends[2]], 3)
    assert [row["state"] for row in summary["rows"]] == ["converged", "lost", "converged"]
    assert "rerun the flow" in summary["rows"][1]["reason"]


def test_geometries_without_a_charge_take_that_of_the_flow(tmp_path: Path) -> None:
    path = tmp_path / "in.xyz"
    told = Molecule.from_smiles("CC(=O)[O-]").to_atoms()
    untold = Molecule.from_smiles("[NH4+]").to_atoms()
    untold.info = {}
    ase.io.write(path, [told, untold], format="extxyz")
    flow = FlowConfig(inputs=(str(path),), charge=1, folder=tmp_path, minimise={"level": "mmff94"})
    given = flow.flow().jobs[0].function_args[0]
    assert [read_argument(one).charge for one in given] == [-1, 1]


def test_bad_inputs_are_failures_that_name_what_is_wrong(tmp_path: Path) -> None:
    periodic = ase.build.bulk("Cu")
    odd = PymatgenLike((8, 1), np.array([[0, 0, 0], [0, 0, 1.0]]), 0.0, 1)
    arguments = as_arguments([periodic, odd, tmp_path / "none.smi"])
    assert [a["kind"] for a in arguments] == ["failure"] * 3
    reasons = [a["reason"] for a in arguments]
    assert "periodic" in reasons[0]
    assert "multiplicity 1 does not fit" in reasons[1]
    assert "no such file" in reasons[2]
    assert len({a["key"] for a in arguments}) == 3


@pytest.mark.parametrize("mapping", [{"numbers": [200], "positions": [[0, 0, 0]]}, {"output": 5}])
def test_a_bad_mapping_does_not_cost_the_flow(mapping: dict[str, object]) -> None:
    flow = RelaxFlowMaker().make([mapping, "CCO"])
    assert [job.metadata.get("formulas") for job in flow.jobs if "formulas" in job.metadata] == [
        [""],
        ["C2H6O"],
    ]


def test_drawings_are_embedded_with_the_seed_of_the_maker(tmp_path: Path) -> None:
    path = tmp_path / "drawing.sdf"
    path.write_text(Chem.MolToMolBlock(Chem.MolFromSmiles("CCCO")) + "$$$$\n")
    (job,) = RelaxFlowMaker(relax_maker=DiffusionRelaxMaker(seed=7)).make(path).jobs[:1]
    (given,) = job.function_args[0]
    expected = Molecule.from_rdkit(Chem.MolFromSmiles("CCCO"), seed=7)
    np.testing.assert_allclose(given["positions"], expected.positions, atol=1e-3)


def test_what_a_worker_lacks_is_not_the_fault_of_a_molecule(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for maker in (
        ForceFieldRelaxMaker(level="gfn-ff"),
        StaticMaker(level="gfn2-xtb", settings={"program": "xtb"}),
    ):
        with pytest.raises(ImportError, match="needs the program xtb"):
            maker._unit("CCO")
        assert maker._unit("C1CC")["kind"] == "failure"


def test_embedding_a_batch_keeps_its_order() -> None:
    output = run(EmbedMaker(seed=7).make(["CCO", "nonsense", "C a name"]))
    assert [o["name"] for o in output] == ["CCO", "nonsense", "a name"]
    assert "not a SMILES" in output[1]["reason"] and output[1]["key"]
    expected = Molecule.from_smiles("CCO", seed=7).positions
    np.testing.assert_array_equal(output[0]["positions"], expected)


def test_a_batch_is_relaxed_once_and_found_again(tmp_path: Path, model) -> None:
    maker = DiffusionRelaxMaker(work=str(tmp_path), model=OLDER)
    inputs = ["CCO first", "C1CC", "C[NH3+]", ase.build.molecule("CH3OH")]
    first = run(maker.make(inputs))
    assert [o.get("verdict", o["kind"]) for o in first] == [
        "relaxed",
        "failure",
        "refused",
        "relaxed",
    ]
    document = read_document(first[0])
    assert document.provenance.model_sha256 == model.sha256
    units = list(Store.in_folder(tmp_path).each())
    assert [key for key, _ in units] == [o["key"] for o in first if o["kind"] == "relaxation"]
    again = run(maker.make(["CCO second", *inputs[1:]]))
    assert list(Store.in_folder(tmp_path).each()) == units
    assert again[0]["output"] == first[0]["output"] | {"name": "second"}
    assert again[0]["name"] == "second"
    other = run(DiffusionRelaxMaker(work=str(tmp_path), seed=1).make("CCO"))
    assert other[0]["key"] != first[0]["key"]


def test_one_bad_molecule_does_not_cost_its_batch(tmp_path: Path, monkeypatch) -> None:
    close = {"numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 0]]}
    bad = ["CCO", close, {"atoms": 3}]
    for maker in (ForceFieldRelaxMaker(), DiffusionRelaxMaker()):
        make = maker.make_batch if isinstance(maker, ForceFieldRelaxMaker) else maker.make
        output = run(make(bad))
        assert [o["kind"] == "failure" for o in output] == [False, True, True]
        assert "coincide" in output[1]["reason"] and "is not a molecule" in output[2]["reason"]

    maker = ForceFieldRelaxMaker(work=str(tmp_path))
    first = run(maker.make_batch(["CCO", "CO"]))
    Store.in_folder(tmp_path).drop(key=first[0]["key"])
    assert [o["converged"] for o in run(maker.make_batch(["CCO", "CO"]))] == [True, True]

    def fail(molecule, *_, **__):
        raise KeyError(molecule.name)

    monkeypatch.setattr(levels, "relax_at_level", fail)
    output = run(ForceFieldRelaxMaker().make_batch(["CCO", "CO"]))
    assert [o["reason"] for o in output] == ["KeyError: 'CCO'", "KeyError: 'CO'"]


def test_an_error_inside_costs_one_molecule_of_its_batch(tmp_path: Path, monkeypatch) -> None:
    def broken(molecules, *arguments, **options):
        if any(molecule.name == "bad" for molecule in molecules):
            raise KeyError("odd")
        return whole(molecules, *arguments, **options)

    whole = model_batches.relax_batch
    maker, inputs = DiffusionRelaxMaker(work=str(tmp_path)), ["CO bad", "CC good"]
    with monkeypatch.context() as inside:
        inside.setattr(model_batches, "relax_batch", broken)
        for _ in range(2):  # also where the other is found
            bad, good = run(maker.make(inputs))
            assert (bad["kind"], bad["stage"], good["verdict"]) == ("failure", "relax", "relaxed")
            assert bad["reason"] == "internal error, KeyError: 'odd'"
        (bad,) = run(maker.make("CO bad"))
        assert bad["kind"] == "failure"
        with pytest.raises(ValueError, match="has no outputs"):
            run(maker.make(["CO bad", "CCO bad"]))
    assert [one["verdict"] for one in run(maker.make(inputs))] == ["relaxed", "relaxed"]


def test_what_was_relaxed_before_a_batch_was_stopped_is_kept(tmp_path: Path, monkeypatch) -> None:
    def stopped(molecules, *arguments, **options):
        if any(molecule.name == "last" for molecule in molecules):
            raise KeyboardInterrupt
        return whole(molecules, *arguments, **options)

    whole = model_batches.relax_batch
    monkeypatch.setattr(flow_batches, "PART", 2)
    monkeypatch.setattr(model_batches, "relax_batch", stopped)
    maker = DiffusionRelaxMaker(work=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run(maker.make(["CO", "no", "CC", "C last"]))
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(model_batches, "relax_batch", whole)
    names = [one["name"] for one in run(maker.make(["CO", "no", "CC", "C last", "CN"]))]
    assert names == ["CO", "no", "CC", "last", "CN"]


def test_a_start_of_a_force_field_is_another_unit_than_given_coordinates(tmp_path: Path) -> None:
    embedded = Molecule.from_smiles("N")
    given = embedded.with_positions(embedded.positions, "given")
    maker = DiffusionRelaxMaker(work=str(tmp_path))
    first, second = (
        run(maker.make(MoleculeDocument.from_molecule(m).model_dump(mode="json")))[0]
        for m in (embedded, given)
    )
    assert first["key"] != second["key"]


def test_a_file_of_one_molecule_is_an_argument(tmp_path: Path) -> None:
    one, two = tmp_path / "one.xyz", tmp_path / "two.smi"
    ase.io.write(one, ase.build.molecule("H2O"))
    two.write_text("C\nCC\n")
    assert run(ForceFieldRelaxMaker().make(str(one)))["converged"]
    with pytest.raises(ValueError, match="holds 2 molecules: use make_batch"):
        ForceFieldRelaxMaker().make(two)


def test_stages_follow_each_other() -> None:
    relax = DiffusionRelaxMaker().make(["CO", "no"])
    level = ForceFieldRelaxMaker(level="gfn2-xtb").make(relax.output[0])
    static = StaticMaker(level="gfn2-xtb").make(level.output)
    failed = StaticMaker(level="gfn2-xtb").make(relax.output[1])
    passed_on = StaticMaker(level="gfn2-xtb").make(failed.output)
    output = run(Flow([relax, level, failed, passed_on, static]))
    assert output["kind"] == "static"
    assert np.abs(output["forces"]).max() < 0.03
    assert output["input"]["start"] == "gfn2-xtb"


def test_a_failure_passes_through_later_stages_unchanged() -> None:
    relax = DiffusionRelaxMaker().make(["no"])
    level = ForceFieldRelaxMaker().make(relax.output[0])
    output = run(Flow([relax, level, StaticMaker().make(level.output)]))
    assert (output["kind"], output["stage"], output["name"]) == ("failure", "embed", "no")
    for given, stage in [("no", "embed"), ({"name": "no", "numbers": []}, "read")]:
        direct = run(ForceFieldRelaxMaker().make(given))
        assert direct["stage"] == stage and len(direct["key"]) == 64


def test_a_failure_is_no_success_because_its_molecule_was_relaxed_before(tmp_path: Path) -> None:
    maker = DiffusionRelaxMaker(work=str(tmp_path))
    assert run(maker.make("CO"))[0]["kind"] == "relaxation"
    failed = failure(Rejected("CO", "CO", "the level failed"), stage="minimise")
    assert run(maker.make([failed])) == [failed]


def test_a_unit_of_a_level_that_crashed_or_of_a_newer_version_is_done_again(
    tmp_path: Path, monkeypatch
) -> None:
    maker = ForceFieldRelaxMaker(work=str(tmp_path))
    whole = levels.relax_at_level

    def crash(molecule, *arguments, **settings):
        return replace(whole(molecule, *arguments, **settings), energy=nan, reason="killed")

    monkeypatch.setattr(levels, "relax_at_level", crash)
    assert run(maker.make("CO"))["reason"] == "killed"
    monkeypatch.setattr(levels, "relax_at_level", whole)
    output = run(maker.make("CO"))
    assert output["energy"] is not None
    Store.in_folder(tmp_path).keep(output["key"], output | {"a_new_field": 1})
    assert "a_new_field" not in run(maker.make("CO"))


def test_a_dft_job_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch) -> None:
    from diffrelax.levels.density_functional import DensityFunctional

    calculate = DensityFunctional.calculate
    calls = 0

    def dying(self: DensityFunctional, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        calculate(self, *arguments)

    monkeypatch.setattr(DensityFunctional, "calculate", dying)
    maker = DFTRelaxMaker(work=str(tmp_path), settings=CHEAP_DFT)
    with pytest.raises(ValueError, match="has no outputs"):
        run(maker.make("OO"))
    assert kinds(tmp_path) == {"dft": 1}
    output = run(maker.make("OO"))
    assert output["converged"]
    assert calls == output["gradient_calls"] + 1  # the one that died; none was done twice
    assert kinds(tmp_path) == {"dft": 1, "unit": 1}
    assert len(read_document(output).trajectory.positions) == output["gradient_calls"]
    assert Store.in_folder(tmp_path).find(output["key"])["energy"] == output["energy"]
    assert run(maker.make("OO")) == output and calls == output["gradient_calls"] + 1

    work, key = Store.in_folder(tmp_path), output["key"]
    work.keep(key, output | {"trajectory": output["trajectory"] | {"positions": []}})
    again = run(maker.make("OO"))  # that of a speed-up lacks the way
    assert again["trajectory"]["positions"] == output["trajectory"]["positions"]


def test_more_steps_and_a_check_of_the_minimum_go_on_from_what_is_done(
    tmp_path: Path, monkeypatch
) -> None:
    calculated = 0
    calculate = Recorder._calculate

    def counted(self: Recorder) -> Call:
        nonlocal calculated
        calculated += 1
        return calculate(self)

    monkeypatch.setattr(Recorder, "_calculate", counted)

    def relax(**settings: Any) -> PlainDocument:
        maker = DFTRelaxMaker(work=str(tmp_path), settings=CHEAP_DFT | settings)
        return run(maker.make("OO"))

    short = relax(max_steps=1)
    assert (short["converged"], short["gradient_calls"], calculated) == (False, 2, 2)
    long = relax()
    assert long["converged"]
    assert long["gradient_calls"] == calculated > 2
    assert long["trajectory"]["energies"][:2] == short["trajectory"]["energies"]
    checked = relax(check_minimum="gfn2-xtb")
    assert checked["lowest_frequency"] is not None
    assert checked["trajectory"] == long["trajectory"]
    assert relax(max_steps=250)["converged"]
    done = long["gradient_calls"] + 2  # along the softest motion
    assert calculated == done
    assert (tmp_path / "units.sqlite").stat().st_size < 100_000  # no orbitals

    fewer = relax(max_steps=2)
    assert (fewer["gradient_calls"], calculated) == (3, done)
    assert fewer["scf_cycles"] < long["scf_cycles"]
    assert relax(max_steps=300)["trajectory"] == long["trajectory"]
    assert kinds(tmp_path)["dft"] == 1


def test_a_predicted_minimum_is_verified_at_no_call_twice(tmp_path: Path) -> None:
    level = {"xc": "pbe", "basis": "def2-svp", "fmax": 0.3}
    water = Molecule.from_smiles("O")
    stretched = water.with_positions(1.02 * water.positions)

    def relax(**settings: Any) -> PlainDocument:
        return run(DFTRelaxMaker(work=str(tmp_path), settings=level | settings).make(stretched))

    predicted, verified = relax(one_call=True), relax()
    assert (read_document(predicted).state, predicted["gradient_calls"]) == ("predicted", 1)
    assert predicted["trajectory"]["positions"] == verified["trajectory"]["positions"][:1]
    assert predicted["output"]["positions"] == verified["trajectory"]["positions"][1]
    row = summary_row(0, "O", "", None, predicted)
    assert (row.state, row.fmax) == ("predicted", None)
    assert row.energy == predicted["energy"] != predicted["trajectory"]["energies"][0]


def test_a_molecule_that_a_level_cannot_treat_is_a_failure_with_a_key() -> None:
    output = run(DFTRelaxMaker(settings=CHEAP_DFT | {"basis": "6-31G(2df,p)"}).make("[Kr]"))
    assert (output["kind"], output["stage"], len(output["key"])) == ("failure", "dft", 64)
    assert "does not cover" in output["reason"]


@pytest.mark.parametrize("maker", [DFTRelaxMaker, ForceFieldRelaxMaker, StaticMaker])
def test_jobs_have_names_and_take_powerups(maker: type[MoleculeMaker]) -> None:
    job = maker().make("CO wood alcohol")
    job.append_name(" 1")
    job.update_maker_kwargs({"work": "/shared/work"})
    assert job.name == f"{maker().name} 1"
    assert job.maker.work == "/shared/work"


def test_settings_of_a_maker_are_checked_and_updated() -> None:
    job = DFTRelaxMaker(settings={"xc": "pbe"}).make("CO")
    assert job.maker.settings["basis"] == "6-31G(2df,p)"
    job.update_maker_kwargs({"_set": {"settings->xc": "pbe0"}}, dict_mod=True)
    assert job.maker.settings["xc"] == "pbe0"
    with pytest.raises(ValueError, match="basiss"):
        DFTRelaxMaker(settings={"basiss": "sto-3g"})
    with pytest.raises(ValueError, match="level 'dft' is not a cheap level"):
        ForceFieldRelaxMaker(level="dft")
    with pytest.raises(ValueError, match="unknown level of theory 'am1'"):
        StaticMaker(level="am1")


def test_a_model_of_several_levels_aims_at_the_one_nearest_to_what_follows(
    tmp_path: Path, several, monkeypatch
) -> None:
    monkeypatch.setattr(flow_batches, "load_on_worker", lambda name, device: several)
    reasons, keys = [], []
    for theory in ("", "r2scan-3c", "b3lyp/sto-3g"):
        maker = DiffusionRelaxMaker(level=theory, work=str(tmp_path))
        (document,) = run(maker.make(["CCCl"]))
        reasons.append(document["reason"])
        keys.append(document["key"])
    assert reasons[:2] == ["", ""]
    assert "at B3LYP/6-31G(2df,p) the model has learned Cl only at other levels" in reasons[2]
    assert keys[0] == keys[1] != keys[2]
    settings = {"xc": "pbe", "basis": "def2-svp"}
    flow = RelaxFlowMaker(minimise_maker=DFTRelaxMaker(settings=settings)).make(["CO"])
    assert flow.jobs[0].maker.level == "PBE/def2-SVP"
    chosen = RelaxFlowMaker(relax_maker=DiffusionRelaxMaker(level="r2scan-3c")).make(["CO"])
    assert chosen.jobs[0].maker.level == "r2scan-3c"
