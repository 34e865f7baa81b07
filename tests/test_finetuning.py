import copy
from dataclasses import replace
from math import nan
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from rdkit import Chem
from source_tree import MODELS, OLDER

from diffrelax import load_model
from diffrelax.cli import train as commands
from diffrelax.data.packing import pair
from diffrelax.finetuning import begin_finetuning, load_minima, prepare_base, write_known
from diffrelax.geometry import geometry_errors
from diffrelax.models.cautions import caution
from diffrelax.models.domain import outside_domain, unfamiliar
from diffrelax.molecule import Molecule
from diffrelax.molecule.environments import read_environments
from diffrelax.network.config import NetworkConfig
from diffrelax.relaxation import relax_molecules
from diffrelax.training.config import ModelConfig, build_denoiser
from diffrelax.training.learned import learned_after, learned_from
from diffrelax.training.loop import locked, train
from diffrelax.training.step import start_state

SMILES = ("CCO", "CC=O", "C1CC1", "CN", "CC#N", "COC", "CCN", "CC(=O)O", "C=CC", "CF", "CO", "CC",
          "NC=O", "CCC", "OCCO", "C1CO1")  # fmt: skip
STRETCH = 1.02  # bonds of a level of theory that makes all of them two percent longer


@pytest.fixture(scope="module")
def stretched(model, tmp_path_factory):
    """Minima of a strange level of theory, as a file, and those that are not in it."""
    molecules = [Molecule.from_smiles(smiles) for smiles in SMILES]
    relaxed = [r.molecule.to_atoms() for r in relax_molecules(molecules, model)]
    for atoms in relaxed:
        atoms.positions *= STRETCH
    path = tmp_path_factory.mktemp("minima") / "stretched.extxyz"
    write(path, [ase.Atoms("Xe"), *relaxed[:12]])
    return path, relaxed[12:]


def test_a_fine_tuned_model_reproduces_another_level_of_theory(
    model, stretched, tmp_path, monkeypatch
):
    path, others = stretched
    # no second opinions: no minima of a real level are so far from those of GFN2-xTB
    monkeypatch.setattr("diffrelax.judgement.rise", lambda start, positions: 0.0)
    commands.finetune(OLDER, path, tmp_path / "stretched-1", "two percent longer", 80, threads=1)
    tuned = load_model(tmp_path / "stretched-1" / "model.safetensors")
    assert (tuned.name, tuned.config.level) == ("stretched-1", "two percent longer")
    assert tuned.step == 80

    def bonds(which):
        starts = [Molecule.from_smiles(smiles) for smiles in SMILES[12:]]
        ends = [r.molecule.positions for r in relax_molecules(starts, which)]
        return np.mean(
            [
                geometry_errors(target.numbers, end, target.positions).bonds
                for end, target in zip(ends, others, strict=True)
            ]
        )

    assert bonds(model) > 0.02
    assert bonds(tuned) < 0.5 * bonds(model)


def test_an_interrupted_run_goes_on_from_its_folder_alone(stretched, tmp_path, capsys, monkeypatch):
    path, _ = stretched
    moved = tmp_path / path.name
    moved.write_bytes(path.read_bytes())
    folder = tmp_path / "stretched-2"
    commands.finetune(OLDER, moved, folder, "none", 4, max_minutes=0, threads=1)
    moved.unlink()
    assert ModelConfig.read(folder / "config.yaml").training.base == OLDER
    monkeypatch.setattr("diffrelax.models.release.load_model", None)
    commands.train(folder / "config.yaml", resume=True, threads=1)
    printed = capsys.readouterr()
    assert "step 0 of 4" in printed.out and "step 4 of 4" in printed.out
    assert "has no error bounds" in printed.out
    assert "left out" in printed.err and "the model was not trained on Xe" in printed.err


def test_a_model_in_a_folder_is_found_again_as_the_base(stretched, tmp_path, monkeypatch):
    path, _ = stretched
    own = tmp_path / "mine"
    own.mkdir()
    (own / "model.safetensors").write_bytes(Path(OLDER).read_bytes())
    monkeypatch.chdir(tmp_path)
    config, _ = begin_finetuning(load_model("mine"), "mine", path, Path("t"), level="x", steps=1)
    assert config.training.base == str(own / "model.safetensors")
    monkeypatch.chdir(own)
    commands.train(tmp_path / "t" / "config.yaml", threads=1)
    assert load_model(tmp_path / "t").step == 1


def test_a_release_is_the_base_by_its_name(stretched, tmp_path):
    path, _ = stretched
    model = load_model("relax-qm9")
    config, _ = begin_finetuning(model, "relax-qm9", path, tmp_path / "t", level="x", steps=1)
    assert config.training.base == model.name


def test_what_could_never_be_relaxed_is_not_learned(model, stretched, tmp_path):
    path, _ = stretched
    data = tmp_path / "more.extxyz"
    data.write_text(path.read_text())
    pair = Molecule.from_smiles("O.O").to_atoms()
    write(data, [pair, ase.Atoms("H2", [(0, 0, 0), (0, 0, 0.74)])], append=True)
    reasons = [one.reason for one in load_minima(data, model.config).left_out]
    assert reasons[0] == "the model was not trained on Xe"
    assert [r.split()[:2] for r in reasons[1:]] == [["2", "fragments"], ["H2:", "the"]]


@pytest.mark.parametrize(("force", "reasons"), [(0.09, []), (0.11, ["a force of 0.11 eV/Å acts"])])
def test_forces_in_the_file_tell_what_is_no_minimum(model, stretched, tmp_path, force, reasons):
    path, _ = stretched
    data = tmp_path / "forces.extxyz"
    data.write_text(path.read_text())
    atoms = Molecule.from_smiles("COC=O").to_atoms()
    forces = np.zeros((len(atoms), 3))
    forces[2, 1] = force
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    write(data, atoms, append=True)
    told = [one.reason for one in load_minima(data, model.config).left_out[1:]]
    assert [one.split(" on ")[0] for one in told] == reasons


def test_a_minimum_that_cannot_be_paired_costs_itself_alone(model, stretched, monkeypatch):
    path, _ = stretched
    before = load_minima(path, model.config)

    def fail(mol, index, level):
        if index == 1:
            raise ValueError("Explicit valence for atom # 0 N, 4")
        return pair(mol, index, level)

    monkeypatch.setattr("diffrelax.finetuning.minima.pair", fail)
    after = load_minima(path, model.config)
    n_before, n_after = (len(m.train_set) + len(m.validation_set) for m in (before, after))
    assert n_after == n_before - 1
    assert "Explicit valence" in after.left_out[1].reason


def test_what_says_that_it_is_no_minimum_is_not_learned(model, stretched, tmp_path):
    path, _ = stretched
    data = tmp_path / "told.extxyz"
    data.write_text(path.read_text())
    told = [
        {"verdict": "relaxed", "converged": False, "level": "none"},
        {"verdict": "fell_back"},
        {"verdict": "relaxed"},
        {"verdict": "fell_back", "converged": True, "level": "None"},
        {"verdict": "minimum", "level": "gfn2-xtb"},
    ]
    for info in told:
        atoms = Molecule.from_smiles("COC=O").to_atoms()
        atoms.info |= info
        write(data, atoms, append=True)
    _, minima = begin_finetuning(model, OLDER, data, tmp_path / "t", level="none", steps=1)
    assert [one.reason for one in minima.left_out[1:]] == [
        "its relaxation has not converged",
        "its verdict is fell_back, so it is not a minimum",
        "its verdict is relaxed, so it is not a minimum",
    ]
    assert "1 minima are marked as gfn2-xtb, but are learned as none" in (minima.notes)


def test_what_is_odd_is_told_of_what_is_learned_and_of_what_is_not(several, stretched, tmp_path):
    path, _ = stretched
    data = tmp_path / "ions.xyz"
    ions = [Molecule.from_smiles(s).to_atoms() for s in ("CC(=O)[O-]", "C[NH+](C)CC(=O)[O-]")]
    data.write_text(path.read_text())
    for atoms in ions:
        write(data, ase.Atoms(atoms.numbers, atoms.positions), append=True, format="extxyz")
    minima = load_minima(data, several.config)
    assert any("check its hydrogens and its charge" in one.reason for one in minima.left_out)
    assert any("with separated charges" in note for note in minima.notes)
    charged = load_minima(data, several.config, charge=-1)
    assert -1 in charged.train_set.charge or -1 in charged.validation_set.charge
    config, _ = begin_finetuning(
        several, "base", data, tmp_path / "t", level="new", steps=1, charge=-1
    )
    assert ModelConfig.read(tmp_path / "t" / "config.yaml").training.charge == -1
    assert config.training.charge == -1
    with pytest.raises(ValueError, match=r"the charge 1 is for \.xyz"):
        begin_finetuning(
            several, "base", data.with_suffix(".sdf"), tmp_path / "u", level="x", steps=1, charge=1
        )


def test_uff_stands_in_where_mmff94_has_no_parameters(model, stretched, tmp_path):
    path, _ = stretched
    data = tmp_path / "boron.extxyz"
    data.write_text(path.read_text())
    write(data, Molecule.from_smiles("CB(O)O").to_atoms(), append=True)
    config = model.config.model_copy(
        update={"network": NetworkConfig(elements=(1, 5, 6, 7, 8, 9), charges=(0,), levels=("a",))}
    )
    minima = load_minima(data, config)
    rows = np.concatenate([minima.train_set.start_rmsd, minima.validation_set.start_rmsd])
    assert not np.isnan(rows).any() and not minima.notes
    both = config.training.model_copy(update={"starts": ("mmff94", "uff")})
    minima = load_minima(data, config.model_copy(update={"training": both}))
    rows = np.concatenate([minima.train_set.start_rmsd, minima.validation_set.start_rmsd])
    assert np.isnan(rows).sum() == 1


def test_minima_that_no_start_leads_to_are_counted(model, stretched, tmp_path, monkeypatch):
    path, _ = stretched
    monkeypatch.setattr("diffrelax.data.packing._relaxed", lambda mol, level: None)
    minima = load_minima(path, model.config)
    assert "12 of 12 minima have no start: with mmff94" in minima.notes[0]


def test_conformers_of_one_molecule_stay_on_one_side_of_the_split(model, tmp_path):
    molecules = [Molecule.from_smiles(s, seed=seed).to_atoms() for s in SMILES for seed in (1, 2)]
    write(tmp_path / "two.extxyz", molecules)
    minima = load_minima(tmp_path / "two.extxyz", model.config)
    train, validation = set(minima.train_set.smiles), set(minima.validation_set.smiles)
    assert len(minima.train_set) + len(minima.validation_set) == 2 * len(SMILES)
    assert validation and not train & validation
    assert not minima.left_out


def test_what_is_validated_on_stays_the_same_where_minima_are_added(model, tmp_path):
    def held(smiles):
        write(tmp_path / "m.extxyz", [Molecule.from_smiles(s).to_atoms() for s in smiles])
        return {
            s.decode()
            for s in load_minima(tmp_path / "m.extxyz", model.config).validation_set.smiles
        }

    assert held(SMILES) == {"C=CC", "CCC"}
    assert held([*SMILES, "CC=C=C", "CC1CC1", "COOC"]) == {"C=CC", "CCC", "CC1CC1"}
    one = held([s for s in SMILES if s not in held(SMILES)])
    assert len(one) == 1


def test_an_ion_stays_on_one_side_of_the_split_however_it_is_drawn(model, tmp_path):
    held = []
    for amidinium in ("CCNC(C)=[NH+]C1CC1", "CC[NH+]=C(C)NC1CC1"):
        write(
            tmp_path / "m.extxyz",
            [Molecule.from_smiles(s).to_atoms() for s in (*SMILES, amidinium)],
        )
        config = model.config.model_copy(
            update={"network": NetworkConfig(charges=(0, 1), levels=("a",))}
        )
        held.append(len(load_minima(tmp_path / "m.extxyz", config).validation_set))
    assert held[0] == held[1]


def test_mirror_images_stay_on_one_side_of_the_split(model, tmp_path):
    pairs = [(f"C[C@H](F){tail}", f"C[C@@H](F){tail}") for tail in
             ("O", "N", "C=O", "CC#N", "CC", "OC", "CO", "C=C", "C#C", "NC")]  # fmt: skip
    write(tmp_path / "two.extxyz", [Molecule.from_smiles(s).to_atoms() for p in pairs for s in p])
    minima = load_minima(tmp_path / "two.extxyz", model.config)
    assert len(minima.validation_set) % 2 == 0
    one, other, *_ = (Chem.MolFromSmiles(s.decode()) for s in minima.validation_set.smiles)
    assert Chem.MolToInchi(one) != Chem.MolToInchi(other)
    assert one.HasSubstructMatch(other)


def test_a_model_of_several_levels_gets_the_new_one_added(model, stretched, tmp_path):
    path, _ = stretched
    network = NetworkConfig(levels=("first", "second"), charges=(0,), channels=8, layers=1)
    config = model.config.model_copy(
        update={"network": network, "level": "second", "calibrations": {}}
    )
    torch.manual_seed(0)
    base = replace(model, config=config, denoiser=build_denoiser(config))
    tuned, minima = begin_finetuning(base, "base", path, tmp_path / "t", level="third", steps=1)
    assert tuned.network.levels == ("first", "second", "third")
    assert ModelConfig.read(tmp_path / "t" / "config.yaml") == tuned
    assert minima.train_set.levels == ("third",)
    again, _ = begin_finetuning(base, "base", path, tmp_path / "u", level="first", steps=1)
    assert again.network.levels == ("first", "second")
    spelled, _ = begin_finetuning(base, "base", path, tmp_path / "v", level="FIRST ", steps=1)
    assert (spelled.network.levels, spelled.level) == (("first", "second"), "first")


@pytest.fixture
def shaken(several):
    """A denoiser whose output depends on all of its weights."""
    denoiser = copy.deepcopy(several.denoiser)
    torch.manual_seed(0)
    for weights in denoiser.parameters():
        weights.add_(0.1 * torch.randn_like(weights))
    return denoiser


def test_a_level_that_was_learned_keeps_its_own_row(several, shaken):
    """Though its solvent does not count where another is looked for, nor its other names do."""
    levels = ("B3LYP/6-31G(2df,p)", "r2SCAN-3c", "r2SCAN-3c in water", "AIMNet2")
    network = several.config.network.model_copy(update={"levels": levels})
    config = several.config.model_copy(
        update={
            "network": network,
            "learned": dict.fromkeys(levels, several.config.learned["r2SCAN-3c"]),
        }
    )
    denoiser = copy.deepcopy(shaken)
    denoiser.network.levels = levels
    denoiser.network.level_embedding = torch.nn.Embedding(
        4, shaken.network.level_embedding.embedding_dim
    )
    base = replace(several, config=config, denoiser=denoiser)
    begun, new = prepare_base(base, (*levels, "PBE/def2-SVP"))
    before, after = (one.network.level_embedding.weight for one in (denoiser, begun))
    assert torch.equal(after[:4], before) and new.keys() == {"PBE/def2-SVP"}


@pytest.mark.parametrize("level", ["BP86/def2-SVP", "PBE/def2-TZVP"])
def test_a_level_that_was_not_learned_begins_as_the_nearest(several, shaken, level):
    """Whether the network has a row for it, which no data ever touched, or not."""
    base = replace(several, denoiser=shaken)
    levels = tuple(dict.fromkeys([*several.config.network.levels, level]))
    begun, new = prepare_base(base, levels)
    nearest = several.nearest_level(level).level
    assert nearest in ("B3LYP/6-31G(2df,p)", "r2SCAN-3c")
    assert new[level].level == nearest and not new.keys() & set(several.config.levels)
    network = several.config.network.model_copy(update={"levels": levels})
    config = several.config.model_copy(update={"network": network})
    rows = start_state(config, torch.device("cpu"), "data", begun).model.network.level_embedding
    before = shaken.network.level_embedding.weight
    assert torch.equal(rows.weight[levels.index(level)], before[levels.index(nearest)])
    assert torch.equal(rows.weight[:2], before[:2])
    assert shaken.network.levels == several.config.network.levels


def test_only_the_new_level_is_learned_if_that_is_asked_for(several, shaken, stretched, tmp_path):
    path, _ = stretched
    (bounds,) = load_model("relax-qm9-2").config.calibrations.values()
    bounded = several.config.model_copy(update={"calibrations": {"r2SCAN-3c": bounds}})
    several = replace(several, config=bounded)
    data = tmp_path / "peroxides.extxyz"
    data.write_text(path.read_text())
    peroxides = [Molecule.from_smiles(s).to_atoms() for s in ("COOC", "CCOO", "OO")]
    write(data, peroxides, append=True)
    config, minima = begin_finetuning(
        several, "base", data, tmp_path / "t", level="third", steps=4, only_level=True
    )
    assert ModelConfig.read(tmp_path / "t" / "config.yaml").training.learn == "level"
    assert (8, 8) in minima.bonds and config.bonds == several.config.bonds
    write_known(several, minima.environments, config.training, tmp_path)
    assert read_environments(tmp_path / "environments.txt") == dict(several.environments)
    begun, _ = prepare_base(replace(several, denoiser=shaken), config.network.levels)
    train(config, tmp_path / "t", minima.train_set, minima.validation_set, base=begun)
    tuned = load_model(tmp_path / "t")
    assert tuned.config.calibrations == {"r2SCAN-3c": bounds}
    assert not any(one.stale for one in tuned.config.learned.values())
    before, after = shaken.state_dict(), tuned.denoiser.state_dict()
    row = "network.level_embedding.weight"
    assert all(torch.equal(after[name], before[name]) for name in before if name != row)
    place = config.network.levels.index("third")
    assert torch.equal(after[row][:2], before[row][:2])
    start = begun.network.level_embedding.weight[place]
    assert not torch.allclose(after[row][place], start, atol=1e-5)


def test_all_weights_are_learned_otherwise(several, shaken, stretched, tmp_path):
    path, _ = stretched
    config, minima = begin_finetuning(several, "base", path, tmp_path / "t", level="third", steps=4)
    assert "learn" not in yaml.safe_load((tmp_path / "t" / "config.yaml").read_text())["training"]
    train(config, tmp_path / "t", minima.train_set, minima.validation_set, base=shaken)
    before, tuned = shaken.state_dict(), load_model(tmp_path / "t")
    after = tuned.denoiser.state_dict()
    assert sum(torch.equal(after[name], before[name]) for name in before) < len(before) / 2
    stale = {level for level, one in tuned.config.learned.items() if one.stale}
    assert stale == set(several.config.learned)
    ethanol = Molecule.from_smiles("CCO")
    assert caution(ethanol, tuned, "r2SCAN-3c", nan) == (
        "fine-tuned to other levels since r2SCAN-3c: less accurate than before"
    )
    assert caution(ethanol, tuned, "third", nan) == ""


def test_a_level_that_is_learned_again_is_no_longer_stale(several, geometries):
    new = learned_from(geometries, "r2SCAN-3c")
    gone = learned_after(several.config.learned, {}, all_weights=True)
    again = learned_after(gone, new, all_weights=True)
    assert [one.stale for one in again.values()] == [True, False]
    kept = learned_after(several.config.learned, new, all_weights=False)
    assert [one.stale for one in kept.values()] == [False, False]
    spoiled = learned_after(gone, new, all_weights=False)
    assert [one.stale for one in spoiled.values()] == [True, True]


def test_fine_tuning_again_goes_on_as_before(model, stretched, tmp_path):
    path, _ = stretched
    commands.finetune(OLDER, path, tmp_path / "one", "none", 1, threads=1)
    first = load_model(tmp_path / "one")
    second, _ = begin_finetuning(first, "one", path, tmp_path / "two", level="none", steps=9)
    assert first.config.training.learning_rate == model.config.training.learning_rate / 4
    assert second.training.learning_rate == first.config.training.learning_rate
    assert second.training.batch_size == first.config.training.batch_size > 1


def test_what_a_failed_attempt_would_have_learned_is_not_known(stretched, tmp_path):
    path, _ = stretched
    (tmp_path / path.name).write_text(path.read_text())
    entries = yaml.safe_load((MODELS / "relax-qm9-1" / "config.yaml").read_text())
    entries["network"] |= {"channels": 8, "layers": 1}
    entries["training"] |= {"data": path.name, "steps": 2, "batch_size": 99, "checkpoints": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(entries))
    with pytest.raises(ValueError, match=r"reduce training\.batch_size"):
        commands.train(tmp_path / "config.yaml", threads=1)
    write(tmp_path / path.name, Molecule.from_smiles("COC=O").to_atoms(), append=True)
    entries["training"]["batch_size"] = 4
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(entries))
    commands.train(tmp_path / "config.yaml", threads=1)
    assert load_model(tmp_path).environments["CH -O =O"] == 1


def test_a_run_in_its_own_folder_covers_what_fine_tuning_does(stretched, tmp_path, monkeypatch):
    """Its base is found from there, and the row of a level alone teaches it no molecules."""
    path, _ = stretched
    data = tmp_path / "run" / "larger.extxyz"
    data.parent.mkdir()
    data.write_text(path.read_text())
    write(data, [Molecule.from_smiles(s).to_atoms() for s in ("CCCCCCCCCCC", "COON")], append=True)
    (tmp_path / "run" / "base.safetensors").write_bytes(Path(OLDER).read_bytes())
    config, minima = begin_finetuning(
        load_model(OLDER), OLDER, data, tmp_path / "tuned", level="none", steps=1
    )
    entries = config.model_dump(mode="json") | {"largest": 29, "most_heavy": 9, "bonds": []}
    entries["training"]["base"] = "base.safetensors"
    (data.parent / "config.yaml").write_text(yaml.safe_dump(entries))
    monkeypatch.chdir(tmp_path)
    commands.train(data.parent / "config.yaml", threads=1)
    trained = load_model(data.parent).config
    assert (trained.largest, trained.most_heavy) == (config.largest, config.most_heavy) == (35, 11)
    assert set(trained.bonds) == minima.bonds


def test_the_row_of_a_level_alone_needs_a_base_and_levels(several):
    training = several.config.training.model_dump() | {"learn": "level"}
    with pytest.raises(ValueError, match=r"training\.learn: level needs training\.base"):
        ModelConfig(name="x", level="r2SCAN-3c", network=several.config.network, training=training)


@pytest.mark.parametrize("name", ["sigma_bridge", "sigma_min", "sigma_max"])
def test_a_schedule_keeps_to_the_levels_that_are_learned(several, name):
    noise = several.config.denoiser.model_dump() | {name: 0.07}
    with pytest.raises(ValueError, match=r"relaxation\.(bridge|polish) must"):
        ModelConfig(name="x", level="x", denoiser=noise, relaxation=several.config.relaxation)


def test_fine_tuning_begins_in_one_process(stretched, tmp_path, monkeypatch):
    path, _ = stretched
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ValueError, match=r"torchrun … diffrelax train .*config\.yaml --resume"):
        commands.finetune(OLDER, path, tmp_path / "t", "none", 1, threads=1)
    assert not (tmp_path / "t").exists()


def test_a_model_that_is_told_no_level_has_none_to_learn_alone(model, stretched, tmp_path):
    path, _ = stretched
    with pytest.raises(ValueError, match="relax-qm9-1 has a single level of theory"):
        begin_finetuning(model, OLDER, path, tmp_path / "t", level="x", steps=1, only_level=True)
    assert not (tmp_path / "t").exists()


def test_bonds_that_are_new_to_the_model_are_covered_afterwards(model, stretched, tmp_path):
    path, _ = stretched
    data = tmp_path / "peroxide.extxyz"

    def bonds(*smiles):
        data.write_text(path.read_text())
        write(data, [Molecule.from_smiles(s).to_atoms() for s in smiles], append=True)
        folder = tmp_path / f"p-{len(smiles)}"
        config, minima = begin_finetuning(model, OLDER, data, folder, level="none", steps=1)
        assert ModelConfig.read(folder / "config.yaml") == config
        return config.bonds, minima.validation_set.smiles

    assert (8, 8) not in model.config.bonds
    covered, held = bonds("CC(O)OO")
    assert any(b"OO" in one for one in held) and (8, 8) not in covered  # not learned from
    covered, _ = bonds("COOC", "CCOO", "OO")
    assert (8, 8) in covered


def test_atoms_of_a_kind_that_was_learned_are_known_afterwards(model, stretched, tmp_path):
    """From the beginning of the run on, and in the weights at its end."""
    path, _ = stretched
    data = tmp_path / "allenes.extxyz"
    data.write_text(path.read_text())
    learned = [f"{tail}C=C=C" for tail in ("", "C", "CC", "OC", "NC", "FC", "O=C", "C#C")]
    write(data, [Molecule.from_smiles(s).to_atoms() for s in learned], append=True)
    allene = Molecule.from_smiles("COCC=C=C")
    assert "no training molecule" in unfamiliar(allene, model)
    folder = tmp_path / "allenes-1"
    commands.finetune(OLDER, data, folder, "none", 1, threads=1)
    tuned = load_model(folder / "model.safetensors")
    assert not unfamiliar(allene, tuned)
    kind = "C =CH =CH2"
    assert tuned.environments[kind] >= 5 and kind not in model.environments
    assert tuned.environments["CH3 -CH2"] == model.environments["CH3 -CH2"]
    assert read_environments(folder / "environments.txt") == tuned.environments
    commands.train(folder / "config.yaml", resume=True, threads=1)
    assert load_model(folder / "model.safetensors").environments == tuned.environments


def test_a_model_of_its_own_covers_what_it_has_learned_alone(model, stretched, tmp_path):
    path, _ = stretched
    entries = yaml.safe_load((MODELS / "relax-qm9-1" / "config.yaml").read_text())
    entries |= {"name": "own-1"}
    entries["network"] |= {"channels": 8, "layers": 1}
    entries["training"] |= {"data": path.name, "steps": 2, "batch_size": 4, "checkpoints": 0}
    (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(entries))
    commands.train(tmp_path / "config.yaml", threads=1)
    learned = load_model(tmp_path / "model.safetensors")
    minima = load_minima(path, model.config)
    assert learned.config.bonds == tuple(sorted(minima.bonds)) != model.config.bonds
    assert learned.config.largest == minima.train_set.sizes.max() < model.config.largest
    reason = outside_domain(Molecule.from_smiles("N=O"), learned)
    assert "which the model has not learned" in reason
    assert learned.environments == minima.environments


def test_molecules_as_large_as_those_that_it_learns_are_covered_afterwards(
    model, stretched, tmp_path
):
    path, _ = stretched
    data = tmp_path / "larger.extxyz"

    def sizes(*smiles):
        data.write_text(path.read_text())
        write(data, [Molecule.from_smiles(s).to_atoms() for s in smiles], append=True)
        folder = tmp_path / f"l-{len(smiles)}"
        config, _ = begin_finetuning(model, OLDER, data, folder, level="none", steps=1)
        return config.most_heavy, config.largest

    assert sizes() == (9, 29)
    assert sizes("CCCCC=CCCCCC", "CCCCCCCCCC") == (9, 29)  # both are held back
    assert sizes("c1ccc2ccccc2c1", "CCCCC=CCCCCC", "CCCCCCCCCC") == (10, 29)
    assert sizes("CCCCCCCCCCC", "CC(C)CCCCCCCC", "CCC(C)CCCCCCC", "CF") == (11, 35)


def test_bad_fine_tuning_says_what_to_do(model, stretched, tmp_path):
    path, _ = stretched
    with pytest.raises(ValueError, match="has no name"):
        begin_finetuning(model, OLDER, path, tmp_path / "n-1", level=" ", steps=1)
    few = tmp_path / "few.extxyz"
    write(few, [Molecule.from_smiles("CCO").to_atoms()])
    with pytest.raises(ValueError, match="is a file: give a folder"):
        begin_finetuning(model, OLDER, path, few, level="none", steps=1)
    with pytest.raises(ValueError, match=r"minima of 1 molecules .* at least 10 are needed"):
        begin_finetuning(model, OLDER, few, tmp_path / "a-1", level="none", steps=1)
    folder = tmp_path / "b-1"
    begin_finetuning(model, OLDER, path, folder, level="none", steps=1)
    commands.train(folder / "config.yaml", threads=1)
    with pytest.raises(ValueError, match="earlier run"):
        begin_finetuning(model, OLDER, path, folder, level="none", steps=1)
    (tmp_path / "own-1").mkdir()
    (tmp_path / "own-1" / "config.yaml").write_text("name: own-1\n")
    with pytest.raises(ValueError, match=r"already has a config\.yaml"):
        begin_finetuning(model, OLDER, path, tmp_path / "own-1", level="none", steps=1)

    (tmp_path / "taken-1").mkdir()
    (tmp_path / "taken-1" / path.name).write_text("mine\n")
    with pytest.raises(ValueError, match="is another file than"):
        begin_finetuning(model, OLDER, path, tmp_path / "taken-1", level="none", steps=1)
    assert (tmp_path / "taken-1" / path.name).read_text() == "mine\n"

    for name in ("default", "relax-qm9-2", "relax-qm9"):
        with pytest.raises(ValueError, match=f"{name} is the name of a release"):
            begin_finetuning(model, OLDER, path, tmp_path / name, level="none", steps=1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "environments.txt").write_text("mine\n")
    with pytest.raises(ValueError, match=r"environments.txt would be overwritten"):
        begin_finetuning(model, OLDER, path, tmp_path / "notes", level="none", steps=1)
    with locked(tmp_path / "busy"), pytest.raises(ValueError, match="another process is writing"):
        begin_finetuning(model, OLDER, path, tmp_path / "busy", level="none", steps=1)
    for name in ("a-1", "busy"):
        assert [path.name for path in (tmp_path / name).iterdir()] == [".lock"]  # nothing began

    other = yaml.safe_load((folder / "config.yaml").read_text())
    other["network"]["channels"] = 8
    (tmp_path / "c-1").mkdir()
    (tmp_path / "c-1" / path.name).write_text(path.read_text())
    (tmp_path / "c-1" / "config.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(ValueError, match="a different shape"):
        commands.train(tmp_path / "c-1" / "config.yaml", threads=1)
