from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule

from diffrelax.diffusion.denoiser import DenoiserConfig
from diffrelax.diffusion.joint import GenerationConfig
from diffrelax.generation import (
    generate,
    generate_each,
    judge,
    read_trajectories,
    write_trajectories,
)
from diffrelax.models.release import Model
from diffrelax.network.config import NetworkConfig
from diffrelax.training.config import ModelConfig, build_denoiser


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(
        name="tiny-1",
        level="none",
        network=NetworkConfig(channels=8, radial=6, layers=2, cutoff=10.0),
        denoiser=DenoiserConfig(sigma_min=0.01, sigma_max=15.0),
        generation=GenerationConfig(sizes={3: 1, 5: 3}, n_levels=6),
    )
    torch.manual_seed(0)
    return Model(config, build_denoiser(config).eval().requires_grad_(False), "0" * 64, 0)


def test_a_seed_makes_the_same_geometries_again(model):
    one, again, other = (generate(model, None, 7, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.atoms.positions, b.atoms.positions)
               for a, b in zip(one, again, strict=True))  # fmt: skip
    assert {len(made.atoms) for made in one + other} == {3, 5}
    assert not np.array_equal(one[0].atoms.positions, other[0].atoms.positions)


@pytest.mark.parametrize("skip", [0, 1, 2, 5, 7])
def test_molecules_that_are_skipped_leave_the_others_as_they_are(model, monkeypatch, skip):
    monkeypatch.setattr("diffrelax.generation.phases.MOLECULES_IN_BATCH", 2)
    whole = list(generate_each(model, None, 7, seed=0))
    rest = list(generate_each(model, None, 7, seed=0, skip=skip))
    assert [i for i, _ in rest] == [i for i, _ in whole[skip:]]
    for (_, one), (_, other) in zip(rest, whole[skip:], strict=True):
        assert np.array_equal(one.atoms.positions, other.atoms.positions)


def test_what_comes_first_is_not_always_the_smallest(model, monkeypatch):
    monkeypatch.setattr("diffrelax.generation.phases.MOLECULES_IN_BATCH", 2)
    first = [len(next(generate_each(model, None, 9, seed=s))[1].atoms) for s in range(8)]
    assert set(first) == {3, 5}


def test_sizes_are_drawn_as_in_the_data(model):
    sizes = [len(made.atoms) for made in generate(model, None, 400, seed=3)]
    assert sizes.count(5) / 400 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 400) ** 0.5)


def test_a_trajectory_ends_where_the_molecule_is(model, tmp_path):
    made = generate(model, None, 3, seed=0, trajectories=True)
    for one in made:
        path = one.trajectory
        assert path.positions.shape == path.estimates.shape == (6, len(one.atoms), 3)
        assert path.levels[[0, -1]] == pytest.approx([15.0, 0.01])
        assert np.array_equal(path.numbers[-1], one.atoms.numbers)
        assert path.estimates[-1] == pytest.approx(one.atoms.positions, abs=1e-5)
    write_trajectories(tmp_path / "t.h5", dict(enumerate(made)), {})
    read = read_trajectories(tmp_path / "t.h5")
    assert sorted(read) == [0, 1, 2]
    assert np.array_equal(read[2].positions, made[2].trajectory.positions)
    (tmp_path / "t.h5").write_bytes((tmp_path / "t.h5").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"t\.h5 is missing, damaged"):
        read_trajectories(tmp_path / "t.h5")


@pytest.mark.parametrize(
    ("atoms", "reason"),
    [
        (molecule("CH3CH2OH"), ""),
        (molecule("CH3"), "an odd number of electrons"),
        (ase.Atoms("H4", [[0, 0, 0], [0.8, 0, 0], [0, 0.8, 0], [0.8, 0.8, 0]]), "no bond orders"),
        (ase.Atoms("C3", [[0, 0, 0], [1.4, 0, 0], [2.8, 0, 0]]), "hydrogens are missing"),
        (ase.Atoms("C2", [[0, 0, 0], [0.01, 0, 0]]), "C1 and C2"),
    ],
)
def test_only_whole_valid_molecules_are_molecules(atoms, reason):
    made = judge(atoms)
    assert made.reason.find(reason) >= 0
    assert (made.molecule is not None) == (reason == "")
    assert bool(made.atoms.info["smiles"]) == (reason == "")


def test_two_waters_are_not_one_molecule():
    far = molecule("H2O")
    far.positions += 4.0
    made = judge(molecule("H2O") + far)
    assert made.molecule is None
    assert "2 fragments" in made.reason


def test_what_cannot_be_generated_is_refused(model):
    with pytest.raises(ValueError, match="n = 0: give 1"):
        generate(model, None, 0)
    with pytest.raises(ValueError, match="-1"):
        generate(model, None, 2, seed=-1)
    only_relaxes = replace(model, config=model.config.model_copy(update={"generation": None}))
    with pytest.raises(ValueError, match="tiny-1 relaxes but does not generate"):
        generate(only_relaxes, None, 2)
    with pytest.raises(ValueError, match="other-1 has not learned none, the level of tiny-1"):
        generate(model, replace(only_relaxes, config=_named(only_relaxes, "other-1", "B3LYP")), 2)

    known = replace(model, config=_named(model, "more-1", "none", elements=(1, 16)))
    with pytest.raises(ValueError, match=r"valences for the atomic numbers \[16\], which more-1"):
        generate(known, None, 2)


def test_elements_settle_above_the_lowest_level(model):
    entries = model.config.model_dump()
    entries["generation"]["settle_at"] = 0.005
    with pytest.raises(ValueError, match="settle_at must be above sigma_min"):
        ModelConfig.model_validate(entries)


def _named(model, name, level, **network):
    network = model.config.network.model_copy(update=network)
    return model.config.model_copy(update={"name": name, "level": level, "network": network})


def test_another_model_relaxes_what_has_been_found(model):
    relaxer = replace(model, config=model.config.model_copy(update={"name": "relaxer-1"}))
    free = {"free_elements": True, "trajectories": True}
    alone, relaxed = (generate(model, second, 3, seed=0, **free) for second in (None, relaxer))
    for one, other in zip(alone, relaxed, strict=True):
        levels = other.trajectory.levels
        assert levels.min() > model.config.generation.settle_at > one.trajectory.levels.min()
        assert np.array_equal(levels, one.trajectory.levels[: len(levels)])
        assert np.array_equal(other.trajectory.positions, one.trajectory.positions[: len(levels)])
        assert not np.allclose(one.atoms.positions, other.atoms.positions)


def test_the_other_model_relaxes_by_its_own_schedule(model, monkeypatch):
    relaxer = replace(model, config=model.config.model_copy(update={"name": "relaxer-1"}))

    def relax(denoiser, numbers, positions, schedule, *, context):
        assert denoiser is relaxer.denoiser and schedule is relaxer.config.relaxation
        return torch.arange(positions.numel()).reshape(positions.shape).to(positions)

    monkeypatch.setattr("diffrelax.generation.phases.relax_positions", relax)
    for one in generate(model, relaxer, 2, seed=0, free_elements=True):
        assert one.atoms.positions[1].tolist() == (one.atoms.positions[0] + 3).tolist()


def test_elements_of_what_settles_satisfy_valences(model, monkeypatch):
    water = np.array([8, 1, 1])
    monkeypatch.setattr("diffrelax.generation.phases.settle_elements", lambda *_: water)
    made = generate(replace(model, config=_of_three(model)), None, 2, seed=0)
    assert [one.atoms.numbers.tolist() for one in made] == [[8, 1, 1]] * 2


def _of_three(model):
    settings = model.config.generation.model_copy(update={"sizes": {3: 1}})
    return model.config.model_copy(update={"generation": settings})
