import csv
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffrelax.diffusion.denoiser import DenoiserConfig
from diffrelax.diffusion.joint import GenerationConfig
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.errors import UnfinishedError
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.training import loop
from diffrelax.training.calibration import calibrate
from diffrelax.training.config import ModelConfig, build_denoiser
from diffrelax.training.devices import check_compiler
from diffrelax.training.geometries import GeometrySet, collate
from diffrelax.training.learned import Learned
from diffrelax.training.log import COLUMNS, LOG, begin_log
from diffrelax.training.loop import train
from diffrelax.training.objectives import displace
from diffrelax.training.ranks import Ranks
from diffrelax.training.state import TrainingState, load_tensors, read_metadata, save_tensors
from diffrelax.training.step import start_state, training_step
from diffrelax.training.validation import validate


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def rows(folder):
    with (folder / "training.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resuming_repeats_an_uninterrupted_run_bit_for_bit(
    geometries, config, tmp_path, monkeypatch, optimizer
):
    settings = config.training.model_copy(update={"optimizer": optimizer})
    config = config.model_copy(update={"training": settings})
    train(config, tmp_path / "whole", geometries, geometries)

    def stop_after(steps):
        def step(state, *args):
            if state.step == steps:
                raise KeyboardInterrupt
            return training_step(state, *args)

        return step

    monkeypatch.setattr(loop, "training_step", stop_after(14))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", geometries, geometries)
    monkeypatch.setattr(loop, "training_step", training_step)
    train(config, tmp_path / "parts", geometries, geometries, resume=True)

    whole, _ = load_tensors(tmp_path / "whole" / "resume.safetensors")
    parts, metadata = load_tensors(tmp_path / "parts" / "resume.safetensors")
    assert metadata["step"] == 20
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    without_time = [
        [
            {k: v for k, v in row.items() if not k.endswith("seconds")}
            for row in rows(tmp_path / part)
        ]
        for part in ("whole", "parts")
    ]
    assert without_time[0] == without_time[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_after_a_step_and_loses_none(geometries, config, tmp_path, monkeypatch, number):
    def step(state, *args):
        if state.step == 14:
            signal.raise_signal(number)
        return training_step(state, *args)

    monkeypatch.setattr(loop, "training_step", step)
    before = {n: signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, number)}
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path, geometries, geometries)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert load_tensors(tmp_path / "resume.safetensors")[1]["step"] == 15
    assert not (tmp_path / "model.safetensors").exists()
    assert train(config, tmp_path, geometries, geometries, resume=True).step == 20


SLOW_TRAINING = """
import sys, time
from pathlib import Path
import torch
from diffrelax.training import loop
from diffrelax.training.config import ModelConfig
from diffrelax.training.geometries import GeometrySet

torch.set_num_threads(1)
step = loop.training_step
loop.training_step = lambda *arguments: (time.sleep(0.1), step(*arguments))[1]
folder = Path(sys.argv[1])
geometries = GeometrySet.load(folder.with_suffix(".npz"))
config = ModelConfig.model_validate_json(folder.with_suffix(".json").read_text())
loop.train(config, folder, geometries, geometries)
"""


def test_kill_9_loses_only_the_steps_since_the_last_state(geometries, config, tmp_path):
    folder = tmp_path / "killed"
    geometries.save(folder.with_suffix(".npz"))
    folder.with_suffix(".json").write_text(config.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", SLOW_TRAINING, folder])
    saved = folder / "resume.safetensors"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if saved.exists() and read_metadata(saved)["step"] >= 4:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 4 <= load_tensors(saved)[1]["step"] < 20
    train(config, folder, geometries, geometries, resume=True)
    train(config, tmp_path / "whole", geometries, geometries)
    killed, _ = load_tensors(saved)
    whole, _ = load_tensors(tmp_path / "whole" / "resume.safetensors")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_what_a_run_leaves_behind(geometries, config, tmp_path):
    train(config, tmp_path, geometries, geometries)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-10.safetensors",
        "step-20.safetensors",
        "step-5.safetensors",
    ]
    log = rows(tmp_path)
    assert [int(r["step"]) for r in log] == [5, 10, 15, 20]
    assert float(log[1]["bonds_mA"]) > 0
    assert log[0]["bonds_mA"] == ""
    model = load_model(tmp_path / "model.safetensors")
    learned = Learned(minima=40, elements=(1, 6, 7, 8), charges=(0,), most_heavy=3)
    assert model.config == config.model_copy(update={"learned": {"none": learned}})
    assert (model.config.levels, model.config.elements) == (("none",), (1, 6, 7, 8))
    assert model.step == 20
    kept, _ = load_tensors(tmp_path / "checkpoints" / "step-20.safetensors")
    assert {t.dtype for t in kept.values()} == {torch.float16}
    assert not list(tmp_path.glob("*.part"))


def test_a_release_is_calibrated_on_its_validation_molecules(geometries, config, tmp_path):
    many = replace(
        GeometrySet.join([geometries, geometries]),
        index=np.arange(80),
        smiles=np.array([f"{i}".encode() for i in range(80)]),
    )
    still = config.training.model_copy(update={"learning_rate": 1e-9})
    config = config.model_copy(update={"training": still})
    train(config, tmp_path, geometries, many)
    released = load_model(tmp_path / "model.safetensors")
    expected = calibrate(
        released.denoiser, many, np.ones(80, dtype=bool), released.config.relaxation
    )
    assert expected is not None
    assert released.config.calibrations == {"none": expected}
    result = relax_molecules([Molecule.from_smiles("CCO")], released)[0]
    assert result.error_bound > 0


def test_a_run_is_not_overwritten(geometries, config, tmp_path):
    train(config, tmp_path, geometries, geometries, max_minutes=0)
    with pytest.raises(ValueError, match="earlier run: resume it with"):
        train(config, tmp_path, geometries, geometries)
    (tmp_path / "resume.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is from a run without its resume.safetensors"):
        train(config, tmp_path, geometries, geometries, resume=True)


def test_a_damaged_or_foreign_state_is_refused(geometries, config, tmp_path):
    train(config, tmp_path, geometries, geometries)
    saved = tmp_path / "resume.safetensors"
    other = config.model_copy(
        update={"network": config.network.model_copy(update={"channels": 12})}
    )
    with pytest.raises(ValueError, match=r"another run: it differs in network.channels"):
        train(other, tmp_path, geometries, geometries, resume=True)
    fewer = geometries.select(np.arange(30))
    with pytest.raises(ValueError, match="another run: it differs in data"):
        train(config, tmp_path, fewer, geometries, resume=True)
    saved.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged"):
        train(config, tmp_path, geometries, geometries, resume=True)


def test_training_lowers_the_loss(geometries, config):
    settings = config.training.model_copy(update={"steps": 400, "cooldown": 100, "batch_size": 40})
    state = start_state(config, torch.device("cpu"), "data")
    batch = collate(geometries, np.arange(len(geometries)), np.ones(len(geometries), bool))
    first = sum(training_step(state, batch, settings)["loss"] for _ in range(20))
    for _ in range(150):
        training_step(state, batch, settings)
    last = sum(training_step(state, batch, settings)["loss"] for _ in range(20))
    assert last < 0.8 * first


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_its_state(
    geometries, config, tmp_path, monkeypatch
):
    def poisoned(state, batch, *rest):
        if state.step == 13:
            batch.starts.fill_(float("nan"))
        return training_step(state, batch, *rest)

    monkeypatch.setattr(loop, "training_step", poisoned)
    with pytest.raises(UnfinishedError, match="not finite at step 13"):
        train(config, tmp_path, geometries, geometries)
    tensors, metadata = load_tensors(tmp_path / "resume.safetensors")
    assert metadata["step"] == 12
    assert all(t.isfinite().all() for t in tensors.values())


def test_two_processes_do_not_train_in_one_folder(geometries, config, tmp_path):
    with (
        loop.locked(tmp_path),
        pytest.raises(ValueError, match="another process is writing"),
    ):
        train(config, tmp_path, geometries, geometries)


def test_torn_and_later_rows_of_the_log_are_dropped(tmp_path):
    path = tmp_path / LOG
    header = ",".join(COLUMNS)
    filled = "," * (len(COLUMNS) - 1)
    path.write_text(f"{header}\n5{filled}\n10{filled}\n15{filled}\n1")
    begin_log(tmp_path, 10)
    assert [int(r["step"]) for r in rows(tmp_path)] == [5, 10]


@pytest.mark.parametrize(
    "text",
    [
        "step,smiles\n5,C\n",
        "a,b\n1,2\n",
        f"{','.join(COLUMNS)}\nx{',' * (len(COLUMNS) - 1)}\n",
        f"{','.join(COLUMNS)}\n{'5' * 200_000}{',' * (len(COLUMNS) - 1)}\n",
    ],
)
def test_what_is_no_log_is_left_alone(tmp_path, text):
    path = tmp_path / LOG
    path.write_text(text)
    with pytest.raises(ValueError, match=r"training.csv is damaged, or not a training log: move"):
        begin_log(tmp_path, 10)
    assert path.read_text() == text


def test_a_log_of_a_spreadsheet_is_read(tmp_path):
    row = "5" + "," * (len(COLUMNS) - 1)
    (tmp_path / LOG).write_text(f"\ufeff{','.join(COLUMNS)}\n{row}\n", encoding="utf-8")
    begin_log(tmp_path, 10)
    assert [r["step"] for r in rows(tmp_path)] == ["5"]


def test_a_run_without_a_step_makes_no_model(geometries, config, tmp_path):
    train(config, tmp_path, geometries, geometries, max_minutes=0)
    assert not (tmp_path / "model.safetensors").exists()
    with pytest.raises(ValueError, match=r"has no model yet: .*config.yaml --resume"):
        load_model(tmp_path)


def test_time_is_counted_over_all_lives_of_a_run(geometries, config, tmp_path):
    train(config, tmp_path, geometries, geometries, max_minutes=0)
    state = tmp_path / "resume.safetensors"
    tensors, about = load_tensors(state)
    save_tensors(tensors, state, about | {"seconds": 1000.0, "processor_seconds": 2000.0})
    train(config, tmp_path, geometries, geometries, resume=True)
    _, about = load_tensors(tmp_path / "model.safetensors")
    last = rows(tmp_path)[-1]
    for metadata in (about, {key: float(last[key]) for key in ("seconds", "processor_seconds")}):
        assert 1000 < metadata["seconds"] < 1100
        assert 2000 < metadata["processor_seconds"] < 2100


def test_a_log_from_before_processor_time_was_counted_goes_on(tmp_path):
    path = tmp_path / LOG
    old = [column for column in COLUMNS if column != "processor_seconds"]
    path.write_text(",".join(old) + "\n5" + ",1" * (len(old) - 1) + "\n")
    begin_log(tmp_path, 10)
    (row,) = rows(tmp_path)
    assert (row["step"], row["seconds"], row["processor_seconds"]) == ("5", "1", "")


def test_the_average_follows_the_weights(geometries, config):
    state = start_state(config, torch.device("cpu"), "data")
    batch = collate(geometries, np.arange(len(geometries)), np.ones(len(geometries), bool))
    for _ in range(5):
        training_step(state, batch, config.training)
    gap = [
        (a - b).abs().max()
        for a, b in zip(state.ema.parameters(), state.model.parameters(), strict=True)
    ]
    assert 0 < max(gap) < 0.05


def test_displacements_have_the_size_that_they_claim(geometries, config):
    batch = collate(geometries, np.arange(len(geometries)), np.ones(len(geometries), bool))
    settings = config.training.model_copy(update={"bridge_full": 1.0})
    denoiser = build_denoiser(config)
    seen = {True: [], False: []}
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        positions, sigma, bridge = displace(batch, denoiser, settings, generator)
        moves = ((positions - batch.positions) / sigma[:, None, None])[batch.numbers > 0]
        owner = bridge[:, None].expand_as(batch.numbers)[batch.numbers > 0]
        for kind in seen:
            seen[kind].append(moves[owner == kind].square().mean())
        assert (sigma[bridge] == config.denoiser.sigma_bridge).all()
        assert (sigma >= config.denoiser.sigma_min * 0.999).all()
    sizes = batch.numbers.gt(0).sum(1).float()
    lost_to_centring = float((1 / sizes).mean())
    assert torch.stack(seen[False]).mean() == pytest.approx(1 - lost_to_centring, rel=0.1)
    # starts are shaken by 0.05 Å, half of sigma_bridge
    assert torch.stack(seen[True]).mean() == pytest.approx(0.25, rel=0.15)


def test_learning_rate_rises_stays_and_falls(config):
    settings = config.training
    rates = [settings.learning_rate_at(step) for step in range(20)]
    assert rates[0] == pytest.approx(settings.learning_rate / 3)
    assert rates[3:15] == [settings.learning_rate] * 12
    assert rates[19] == pytest.approx(settings.learning_rate / 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nlevel: b\ncolour: red\n", "colour"),
        ("name: [1\n", "not a model configuration"),
        ("name: a\nlevel: b\ntraining: {steps: -1}\n", r"training.steps: .* greater than 0$"),
        ("", "not a model configuration: write entries"),
        ("!!python/object/apply:os.system ['true']", "not a model configuration"),
    ],
)
def test_a_bad_configuration_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ModelConfig.read(path)
    with pytest.raises(ValueError, match="cannot read"):
        ModelConfig.read(tmp_path / "none.yaml")


def test_a_run_shorter_than_its_cooldown_falls_all_the_way(config):
    training = config.training.model_copy(update={"steps": 8, "warmup": 2, "cooldown": 400})
    rates = [training.learning_rate_at(step) / training.learning_rate for step in range(8)]
    assert max(rates) > 0.8
    assert rates[7] == pytest.approx(1 / 8)


def test_the_seed_decides_the_noise(geometries, config):
    losses = []
    for seed in (1, 2, 1):
        settings = config.training.model_copy(update={"seed": seed})
        state = start_state(config, torch.device("cpu"), "data")
        batch = collate(geometries, np.arange(8), np.ones(len(geometries), dtype=bool))
        losses.append(training_step(state, batch, settings))
    assert losses[0] == losses[2] != losses[1]
    with pytest.raises(ValueError, match="9 processes, and a batch of 8 molecules at step 1"):
        training_step(state, batch, settings, ranks=Ranks(0, 9))


def test_state_is_one_object_per_run(config):
    state = start_state(config, torch.device("cpu"), "data")
    assert isinstance(state, TrainingState)
    assert state.step == 0
    again = start_state(config, torch.device("cpu"), "data")
    assert all(
        torch.equal(a, b)
        for a, b in zip(state.model.parameters(), again.model.parameters(), strict=True)
    )


def test_a_generative_run_learns_the_elements_and_resumes_bit_for_bit(geometries, config, tmp_path):
    config = config.model_copy(
        update={
            "denoiser": DenoiserConfig(sigma_min=0.01, sigma_max=15.0),
            "generation": GenerationConfig(sizes={3: 1, 5: 1}),
            "relaxation": RelaxationSchedule(bridge=(), polish=(0.07, 0.02)),
            "training": config.training.model_copy(update={"steps": 60, "batch_size": 40}),
        }
    )
    train(config, tmp_path / "whole", geometries, geometries)
    losses = [float(row["loss_elements"]) for row in rows(tmp_path / "whole")]
    assert losses[-1] < 0.8 * losses[0]
    train(config, tmp_path / "parts", geometries, geometries, max_minutes=0.002)
    train(config, tmp_path / "parts", geometries, geometries, resume=True)
    whole, _ = load_tensors(tmp_path / "whole" / "resume.safetensors")
    parts, _ = load_tensors(tmp_path / "parts" / "resume.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    released = load_model(tmp_path / "whole" / "model.safetensors").config
    assert released == config.model_copy(update={"learned": released.learned})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_learns_the_same(geometries, config, tmp_path):
    few = config.model_copy(update={"training": config.training.model_copy(update={"steps": 4})})
    train(few, tmp_path / "plain", geometries, geometries)
    train(few, tmp_path / "compiled", geometries, geometries, compiled=True)
    plain, compiled = (
        load_tensors(tmp_path / name / "model.safetensors")[0] for name in ("plain", "compiled")
    )
    assert plain.keys() == compiled.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name], weights, atol=2e-4, rtol=1e-2)


def test_a_compiler_that_fails_is_told_before_training(monkeypatch):
    def fail(function):
        raise RuntimeError("No working C++ compiler found\nin many words")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ValueError, match=r"leave out --compile: No working C\+\+ compiler found$"):
        check_compiler("cpu")


def test_validation_and_log_need_not_keep_the_same_step(geometries, config, tmp_path):
    training = config.training.model_copy(
        update={"steps": 8, "log_every": 3, "validate_every": 4, "checkpoints": 0}
    )
    run = config.model_copy(update={"training": training})
    train(run, tmp_path, geometries, geometries)
    assert [(row["step"], row["rmsd_A"] != "") for row in rows(tmp_path)] == [
        ("3", False),
        ("4", True),
        ("6", False),
        ("8", True),
    ]


def test_errors_are_told_for_each_level_of_theory(geometries, config, tmp_path):
    ions = np.ones(len(geometries), dtype=np.int8)
    joined = GeometrySet.join(
        [replace(geometries, levels=("a",)), replace(geometries, levels=("b",), charge=ions)]
    )
    network = config.network.model_copy(update={"levels": ("b", "a"), "charges": (0, 1)})
    training = config.training.model_copy(update={"steps": 10, "balance": 0.5, "checkpoints": 0})
    run = config.model_copy(update={"network": network, "level": "a", "training": training})
    train(run, tmp_path / "two", joined, joined)
    with (tmp_path / "two" / "validation.csv").open() as file:
        found = [(r["step"], r["level"], r["molecules"]) for r in csv.DictReader(file)]
    assert found == [("10", "b", "10"), ("10", "a", "10")]
    with pytest.raises(ValueError, match="levels of theory a, b, which the network lacks"):
        train(config, tmp_path / "one", joined, joined)
    single, one = replace(geometries, levels=("PBE",)), config.model_copy(update={"level": "pbe"})
    with pytest.raises(ValueError, match="the data have the level PBE, the configuration has"):
        train(one, tmp_path / "one", single, single)


def test_no_molecule_to_validate_on_is_no_error(geometries, config):
    far = replace(geometries, start_rmsd=np.full(len(geometries), 9.0))
    state = start_state(config, torch.device("cpu"), "data")
    assert validate(state.ema, far, config) == []


def test_elements_that_the_network_lacks_are_named(geometries, config, tmp_path):
    network = config.network.model_copy(update={"elements": (1, 6)})
    run = config.model_copy(update={"network": network})
    with pytest.raises(ValueError, match=r"numbers .*8.* which the network lacks"):
        train(run, tmp_path, geometries, geometries)


def test_a_batch_larger_than_the_data_is_refused(geometries, config, tmp_path):
    training = config.training.model_copy(update={"batch_size": 512})
    run = config.model_copy(update={"training": training})
    with pytest.raises(
        ValueError, match=r"batches of 512 molecules .* reduce training\.batch_size"
    ):
        train(run, tmp_path, geometries, geometries)
