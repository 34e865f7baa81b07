import json
from dataclasses import asdict, replace

import pytest
import scaling
import speed
import torch

from diffrelax.benchmark.sample import choose_sample
from diffrelax.models import batches


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(scaling, "SIZES", (4, 8))
    monkeypatch.setattr(scaling, "BATCHES", (1, 3))
    monkeypatch.setattr(batches, "PAIRS_IN_BATCH", 128)
    monkeypatch.setattr(scaling, "MATRIX", 64)
    monkeypatch.setattr(scaling, "REPEATS", 1)


def test_the_floor_is_that_of_the_matrix_products(model, quick):
    rows = list(scaling.scaling(model, rate=1e9))
    assert [(row.n_atoms, row.batch) for row in rows] == [(4, 1), (4, 3), (8, 1), (8, 3)]
    floors = [row.floor_milliseconds for row in rows]
    assert floors[0] == pytest.approx(floors[1])
    assert 2 < floors[2] / floors[0] < 4
    assert all(row.milliseconds > 0 for row in rows)


def test_a_product_counts_two_operations_for_each_term(monkeypatch):
    monkeypatch.setattr(scaling, "median_seconds", lambda work: 0.5)
    assert scaling.matrix_product_rate(torch.device("cpu")) == 4 * scaling.MATRIX**3


def test_all_speeds_are_reported_and_stored(model, geometries, quick):
    training = model.config.training.model_copy(update={"batch_size": 4})
    model = replace(model, config=model.config.model_copy(update={"training": training}))
    found = speed.measure(model, geometries, choose_sample(geometries, 3), ["true"])
    text = speed.report(found, model)
    assert text.startswith("3 molecules in one call: ")
    assert "  8 atoms,   3 in one call: " in text
    record = json.loads(json.dumps(asdict(found)))
    assert set(record["network_milliseconds"]) == {"float32", "bfloat16"}
    assert record["training_rate"] > 0


def test_a_model_of_several_levels_is_measured_at_that_of_the_set(several, geometries, quick):
    training = several.config.training.model_copy(update={"batch_size": 4})
    model = replace(several, config=several.config.model_copy(update={"training": training}))
    labelled = replace(geometries, levels=("r2SCAN-3c",))
    sample = choose_sample(labelled, 3)
    assert speed.measure(model, labelled, sample, ["true"]).training_rate > 0
    with pytest.raises(ValueError, match="levels of theory unheard-of, which the network lacks"):
        speed.measure(model, replace(geometries, levels=("unheard-of",)), sample, ["true"])
