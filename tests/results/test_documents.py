from __future__ import annotations

import json
import re
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from diffrelax.choices import Kind
from diffrelax.clock import Time
from diffrelax.dft import DFTRelaxation, DFTSettings
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax
from diffrelax.results import provenance
from diffrelax.results.documents import (
    FailureDocument,
    MinimisationDocument,
    RelaxationDocument,
    ResultDocument,
    TrajectoryDocument,
)
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.provenance import Provenance
from diffrelax.results.stored import read_document


@pytest.fixture(scope="module")
def methanol() -> Molecule:
    return Molecule.from_smiles("CO", name="wood alcohol")


def through_json(document):
    return read_document(json.loads(json.dumps(document.model_dump(mode="json"))))


@pytest.mark.parametrize("smiles", ["CO", "c1ccoc1", "[NH4+]", "[O][O]", "C[N+](=O)[O-]"])
def test_a_molecule_comes_back_to_the_last_bit(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles, name="x")
    text = MoleculeDocument.from_molecule(molecule).model_dump_json()
    again = MoleculeDocument.model_validate_json(text).to_molecule()
    for field in fields(Molecule):
        assert np.array_equal(getattr(again, field.name), getattr(molecule, field.name)), field.name
    assert again.bonds == molecule.bonds
    assert type(again.bonds[0]) is type(molecule.bonds[0])


def test_a_relaxation_comes_back_and_names_its_model(model) -> None:
    results = relax(["CO", "C[NH3+]", "no"], model)
    provenance = Provenance.here(model=model, seed=42)
    assert (provenance.model, provenance.model_sha256) == (model.name, model.sha256)
    for result in results:
        document = RelaxationDocument.from_relaxation(result, provenance, key="ab")
        assert through_json(document) == document
        told = (document.name, document.verdict, document.reason)
        assert told == (result.name, result.verdict, result.reason)
        known = None if np.isnan(result.noise_level) else result.noise_level
        assert document.noise_level == known
        if result.molecule:
            assert document.output.to_molecule().positions.tolist() == (
                result.molecule.positions.tolist()
            )


def dft_relaxation(molecule: Molecule) -> DFTRelaxation:
    return DFTRelaxation(
        molecule=molecule,
        converged=True,
        reason="",
        energies=(-3148.1, -3148.2),
        trajectory=np.stack([molecule.positions, molecule.positions * 1.01]),
        all_forces=np.linspace(-0.3, 0.01, 6 * molecule.n_atoms).reshape(2, -1, 3),
        lowest_frequency=98.7,
        scf_cycles=17,
        times={"hessian": Time(0.2, 0.1), "dft": Time(5.0, 4.5), "total": Time(5.3, 4.7)},
        criterion="largest force on an atom < 0.03 eV/Å",
        notes=("a note",),
        settings=DFTSettings(xc="pbe"),
    )


def test_a_dft_relaxation_comes_back(methanol: Molecule) -> None:
    relaxation = dft_relaxation(methanol.with_positions(methanol.positions * 1.01))
    document = MinimisationDocument.from_dft(methanol, relaxation, Provenance.here(), key="ab")
    assert through_json(document) == document
    for name in (
        "converged", "reason", "notes", "scf_cycles", "times", "criterion", "lowest_frequency",
        "energy", "fmax", "gradient_calls",
    ):  # fmt: skip
        assert getattr(document, name) == getattr(relaxation, name), name
    assert DFTSettings(**document.settings) == relaxation.settings
    assert np.array_equal(document.forces, relaxation.forces)
    assert np.array_equal(document.output.to_molecule().positions, relaxation.molecule.positions)
    assert np.array_equal(document.input.to_molecule().positions, methanol.positions)
    for name in ("energies", "fmaxes", "rms_forces"):
        assert getattr(document.trajectory, name) == getattr(relaxation, name), name
    assert np.array_equal(document.trajectory.positions, relaxation.trajectory)
    assert np.array_equal(document.trajectory.forces, relaxation.all_forces)


def test_a_level_is_told_where_its_packages_are_not_installed(
    methanol: Molecule, monkeypatch
) -> None:
    composite = replace(dft_relaxation(methanol), settings=DFTSettings(xc="r2scan-3c"))
    document = MinimisationDocument.from_dft(methanol, composite, Provenance.here())
    monkeypatch.setattr("diffrelax.extras.find_spec", lambda package: None)
    assert through_json(document).level_name == "r2SCAN-3c"


def test_the_program_is_part_of_the_level(methanol: Molecule) -> None:
    """B3LYP of ORCA and of PySCF are not one functional, and their energies differ."""
    orca = DFTSettings(calculator={"program": "orca", "method": "B3LYP", "basis": "def2-SVP"})
    own = DFTSettings(xc="B3LYP", basis="def2-SVP")
    made = [replace(dft_relaxation(methanol), settings=settings) for settings in (orca, own)]
    documents = [MinimisationDocument.from_dft(methanol, one, Provenance.here()) for one in made]
    told = [through_json(document).level_name for document in documents]
    assert told == ["B3LYP/def2-SVP by orca", "B3LYP/def2-SVP"]


def test_a_dft_relaxation_without_any_call_has_no_energy(methanol: Molecule) -> None:
    failed = replace(
        dft_relaxation(methanol),
        converged=False,
        reason="the SCF did not converge",
        energies=(),
        trajectory=np.empty((0, methanol.n_atoms, 3)),
        all_forces=np.empty((0, methanol.n_atoms, 3)),
    )
    document = through_json(MinimisationDocument.from_dft(methanol, failed, Provenance.here()))
    assert (document.energy, document.forces, document.gradient_calls) == (None, None, 0)


def test_a_relaxation_at_a_cheap_level_says_which(methanol: Molecule) -> None:
    relaxed = relax_at_level(methanol, "gfn2-xtb", fmax=0.05)
    document = MinimisationDocument.from_level(
        methanol, relaxed, Provenance.here(), level="gfn2-xtb", fmax=0.05, max_steps=500
    )
    assert through_json(document) == document
    assert document.output.start == document.level == "gfn2-xtb"
    assert document.gradient_calls == relaxed.n_calls


def test_a_document_of_a_newer_schema_asks_for_a_newer_version() -> None:
    failure = FailureDocument(name="x", stage="embed", reason="bad", provenance=Provenance.here())
    record = failure.model_dump(mode="json")
    with pytest.raises(
        ValueError, match=r"schema version 7 .* newer version.*install the newer one"
    ):
        read_document(record | {"schema_version": 7, "new_field": 1})
    assert read_document(record | {"@module": "diffrelax.results.documents"}) == failure


@pytest.mark.parametrize("record", [{"energy": 1.0}, {"schema_version": 0, "name": "x"}])
def test_a_document_from_before_the_first_schema_is_to_be_made_again(record) -> None:
    with pytest.raises(ValueError, match="calculate it again"):
        read_document(record)


def test_a_damaged_document_is_named() -> None:
    with pytest.raises(ValueError, match="damaged"):
        read_document({"schema_version": 1, "kind": "minimisation", "name": "x"})


def test_every_quantity_states_its_unit() -> None:
    units = {
        MinimisationDocument: {
            "energy": "eV",
            "fmax": "eV/Å",
            "forces": "eV/Å",
            "seconds": "s",
            "processor_seconds": "s",
            "lowest_frequency": "cm⁻¹",
        },
        TrajectoryDocument: {
            "energies": "eV",
            "fmaxes": "eV/Å",
            "rms_forces": "eV/Å",
            "positions": "Å",
            "forces": "eV/Å",
        },
    }
    for document, of_document in units.items():
        for name, unit in of_document.items():
            assert unit in re.split("[,; ]+", document.model_fields[name].description)


def test_changes_since_the_commit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "diffrelax"
    source = package / "results" / "provenance.py"
    source.parent.mkdir(parents=True)
    source.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(source))
    monkeypatch.setattr(provenance, "_source", provenance._source.__wrapped__)
    here = Provenance.here()
    assert (here.git_commit, here.uncommitted) == ("", None)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    here = Provenance.here()
    assert (len(here.git_commit), here.uncommitted) == (40, False)
    (tmp_path / "notes").write_text("outside the package")
    assert not Provenance.here().uncommitted
    source.write_text("changed")
    assert Provenance.here().uncommitted


def test_the_kinds_of_results_are_those_of_their_documents():
    kinds = [one.model_fields["kind"].default for one in get_args(ResultDocument)]
    assert sorted(kinds) == sorted(get_args(Kind))
