from dataclasses import replace

import numpy as np
import pytest
import torch

from diffrelax.diffusion.denoiser import DenoiserConfig
from diffrelax.diffusion.reading import Route, relax_by_reading
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.geometry import superpose
from diffrelax.network.config import NetworkConfig
from diffrelax.training.calibration import (
    FEWEST,
    _chosen,
    _kept,
    calibrate,
    calibrate_levels,
    fit_bound,
)
from diffrelax.training.config import ModelConfig
from diffrelax.training.geometries import GeometrySet, collate

SCHEDULE = RelaxationSchedule(bridge=(0.1,), polish=(0.02, 0.01))
CONFIG = ModelConfig(
    name="any",
    level="none",
    network=NetworkConfig(starts=("mmff94", "aimnet2")),
    relaxation=SCHEDULE,
    relaxations={"aimnet2": RelaxationSchedule(bridge=(0.1,), polish=())},
    denoiser=DenoiserConfig(sigma_bridge=0.1),
)
N, ATOMS = 300, 4
NUMBERS = np.tile([6, 8, 1, 1], N).astype(np.uint8)


def molecules(size, seed, first=0, start="mmff94"):
    """Return random molecules whose starts, of a level, are displaced by a size, Å."""
    rng = np.random.default_rng(seed)
    minima = np.random.default_rng(first).normal(scale=3, size=(N, ATOMS, 3))
    minima -= minima.mean(1, keepdims=True)
    starts = minima + size * rng.normal(size=minima.shape)
    return GeometrySet(
        index=first + np.arange(N),
        offsets=ATOMS * np.arange(N + 1),
        numbers=NUMBERS,
        positions=minima.reshape(-1, 3).astype(np.float32),
        starts=starts.reshape(-1, 3).astype(np.float32),
        start_rmsd=np.full(N, size, dtype=np.float32),
        start_torsion=np.zeros(N, dtype=np.float32),
        smiles=np.array([f"{first + i}".encode() for i in range(N)]),
        start_levels=(start,),
    )


class Blind(torch.nn.Module):
    """Ends at a place of its own near each minimum, as far off as the start was, times a chance.

    What it sees at the last level is noise of 1 mÅ, both at the minimum and at its own end.
    """

    def __init__(self, minima):
        super().__init__()
        self.minima = torch.nn.Parameter(torch.from_numpy(minima.reshape(-1, ATOMS, 3)))
        generator = torch.Generator().manual_seed(0)
        self.way = torch.randn(self.minima.shape, generator=generator)
        self.luck = 0.2 * torch.exp(0.8 * torch.randn(len(self.minima), generator=generator))
        self.noise = torch.Generator().manual_seed(1)
        self.ends = self.minima.detach().clone()

    def forward(self, numbers, positions, sigma, bridge, context=None):
        places = [int((self.minima - p).square().sum((1, 2)).argmin()) for p in positions]
        minima = self.minima.detach()[places]
        if bridge[0]:
            size = (positions - minima).square().mean((1, 2)).sqrt() * self.luck[places]
            off = size[:, None, None] * self.way[places]
            self.ends[places] = minima + off
            return minima + 1.5 * off
        ends = self.ends[places]
        nearer = (positions - minima).square().sum((1, 2)) < (positions - ends).square().sum((1, 2))
        target = torch.where(nearer[:, None, None], minima, ends)
        return target + 0.001 * torch.randn(target.shape, generator=self.noise)


def covered(denoiser, calibration, geometries, positions=None):
    """Return the share of molecules within their bounds, the ends and the routes."""
    batch = collate(geometries, np.arange(N), np.ones(N, dtype=bool))
    starts = batch.starts if positions is None else positions
    routes = [Route(SCHEDULE, calibration.after_schedule)]
    unknown = torch.full((N,), -1)
    relaxed = relax_by_reading(denoiser, batch.numbers, starts, routes, calibration, unknown)
    pairs = zip(relaxed.positions.numpy(), batch.positions.numpy(), strict=True)
    errors = np.array([superpose(end, minimum)[1] for end, minimum in pairs])
    return (errors <= relaxed.error_bound.numpy()).mean(), relaxed


def test_bounds_hold_for_each_level_of_starts_and_for_what_the_model_made_itself():
    train = [molecules(0.1, 1), molecules(0.3, 2, start="uff")]
    both = GeometrySet.join(train)
    denoiser = Blind(both.positions[: N * ATOMS])
    found = calibrate(denoiser, both, np.ones(2 * N, dtype=bool), SCHEDULE)
    others = [molecules(size, seed, first=N) for size, seed in ((0.1, 3), (0.3, 4))]
    denoiser = Blind(others[0].positions)
    for geometries in others:
        share, relaxed = covered(denoiser, found, geometries)
        assert share > 0.85
        assert relaxed.n_evaluations.float().mean() > 5.9
        share, again = covered(denoiser, found, geometries, relaxed.positions)
        assert share > 0.85
        assert float((again.noise_level == SCHEDULE.first).float().mean()) < 0.1
    minima = torch.from_numpy(others[0].positions.reshape(-1, ATOMS, 3))
    share, kept = covered(denoiser, found, others[0], minima)
    assert share == 1.0
    assert float((kept.noise_level == 0).float().mean()) == pytest.approx(0.9, abs=0.06)


def test_few_starts_of_a_level_do_not_hide_among_those_of_another():
    """Most of the better starts would read as near by a quantile over all starts."""
    far, close = molecules(0.3, 1), molecules(0.02, 2, start="uff").select(np.arange(FEWEST))
    both = GeometrySet.join([far, close])
    found = calibrate(Blind(far.positions), both, np.ones(len(both), dtype=bool), SCHEDULE)
    batch = collate(close, np.arange(FEWEST), np.ones(FEWEST, dtype=bool))
    readings = (batch.starts - batch.positions).square().mean((1, 2)).sqrt()
    assert float((readings < found.near).float().mean()) < 0.1


def test_nothing_is_made_of_few_molecules_or_without_a_bridge():
    geometries = molecules(0.1, 1)
    denoiser, usable = Blind(geometries.positions), np.ones(N, dtype=bool)
    plain = RelaxationSchedule(bridge=(), polish=(0.1, 0.02))
    assert calibrate(denoiser, geometries, usable, plain) is None
    assert calibrate(denoiser, geometries, np.arange(N) < FEWEST - 1, SCHEDULE) is None
    both = GeometrySet.join([geometries, replace(geometries, start_levels=("uff",))])
    few = np.arange(2 * N) < N + FEWEST - 1
    assert calibrate(denoiser, both, few, SCHEDULE) is None  # the second level has too few
    conformers = replace(geometries.select(np.zeros(N, dtype=np.int64)), index=np.arange(N))
    assert calibrate(denoiser, conformers, usable, SCHEDULE) is None


def test_a_molecule_counts_once_however_many_conformers_and_mirror_images_it_has():
    geometries = molecules(0.1, 1)
    names = [f"C[C@@H](F)O{i}" for i in range(FEWEST - 1)]
    names += [f"C[C@H](F)O{i % 9}" for i in range(N - len(names))]
    alike = replace(geometries, smiles=np.array([name.encode() for name in names]))
    usable = np.ones(N, dtype=bool)
    assert len(next(_chosen(alike, usable))) == FEWEST - 1
    denoiser = Blind(geometries.positions)
    assert calibrate(denoiser, alike, usable, SCHEDULE) is None
    assert calibrate(denoiser, geometries, usable, SCHEDULE) is not None


@pytest.mark.parametrize("n", [30, 59, 99])
def test_nine_in_ten_further_values_are_kept_also_where_few_are_known(n):
    samples = np.random.default_rng(0).random((4000, n))  # of a value that is x in a share x
    share = np.mean([_kept(sample) for sample in samples])
    assert share == pytest.approx(np.ceil(0.9 * (n + 1)) / (n + 1), abs=0.003)


def test_a_bound_grows_with_what_it_is_told_by():
    """Errors that grow as the number of atoms, of two levels, one twice as far off."""
    rng = np.random.default_rng(0)

    def level(factor: float) -> tuple[np.ndarray, np.ndarray]:
        sizes = rng.integers(5, 60, 1000)
        return sizes, factor * sizes * rng.lognormal(sigma=0.5, size=1000)

    bound = fit_bound([level(0.01), level(0.02)])
    assert bound.exponent == pytest.approx(1, abs=0.1)
    for low, high in ((5, 15), (15, 30), (30, 60)):
        sizes, errors = level(0.02)
        among = (sizes >= low) & (sizes < high)
        kept = errors[among] < bound(torch.from_numpy(sizes[among])).numpy()
        assert kept.mean() == pytest.approx(0.9, abs=0.05)


def test_each_level_of_theory_has_a_bound_of_its_own_and_few_molecules_none():
    """Ends at the second level are three times as far off, and its bounds are."""
    near, far = molecules(0.1, 1), molecules(0.3, 2)
    few = molecules(0.1, 3).select(np.arange(FEWEST - 1))
    sets = [
        replace(one, levels=(name,)) for one, name in ((near, "one"), (far, "two"), (few, "few"))
    ]
    joined = GeometrySet.join(sets)
    joined = replace(joined, index=np.arange(len(joined)))
    denoiser, usable = Blind(near.positions), np.ones(len(joined), dtype=bool)
    found = calibrate_levels(denoiser, joined, usable, CONFIG)
    assert list(found) == ["one", "two"]
    scales = [found[name].unseen.scale for name in ("one", "two")]
    assert scales[1] == pytest.approx(3 * scales[0], rel=0.3)
    assert all(found[name].unseen.exponent == 0.0 for name in found)  # all have as many atoms
    for name, one in (("one", near), ("two", far)):
        assert covered(denoiser, found[name], one)[0] > 0.85
    alone = calibrate_levels(Blind(near.positions), near, usable[:N], CONFIG)
    assert alone == {"none": calibrate(Blind(near.positions), near, usable[:N], SCHEDULE)}


def test_starts_with_a_route_of_their_own_have_a_bound_of_their_own():
    far, near = molecules(0.1, 1), molecules(0.02, 2, start="aimnet2")
    joined = GeometrySet.join([far, near])
    usable = np.ones(len(joined), dtype=bool)
    (found,) = calibrate_levels(Blind(far.positions), joined, usable, CONFIG).values()
    assert found.model_copy(update={"after_starts": {}}) == calibrate(
        Blind(far.positions), far, usable[:N], SCHEDULE
    )
    assert list(found.after_starts) == ["aimnet2"]
    batch = collate(near, np.arange(N), usable[:N])
    start, first = torch.full((N,), 1), Route(SCHEDULE, found.after_schedule)
    routes = [first, Route(CONFIG.schedule("aimnet2"), found.after_starts["aimnet2"])]
    given = Blind(near.positions), batch.numbers, batch.starts, routes, found, start
    relaxed = relax_by_reading(*given)
    pairs = zip(relaxed.positions.numpy(), batch.positions.numpy(), strict=True)
    errors = np.array([superpose(end, minimum)[1] for end, minimum in pairs])
    kept = (errors <= relaxed.error_bound.numpy()).mean()
    assert kept == pytest.approx(0.9, abs=0.01)
    few = GeometrySet.join([far, near.select(np.arange(FEWEST - 1))])
    (found,) = calibrate_levels(Blind(far.positions), few, usable[: len(few)], CONFIG).values()
    assert not found.after_starts
