import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import safetensors.torch
import torch
from source_tree import MODELS, OLDER, ROOT

from diffrelax.models import release as models
from diffrelax.models.release import load_model, releases
from diffrelax.training.state import save_tensors


def test_newest_release_of_a_name_is_found():
    name = list(releases())[-1]
    assert load_model("relax-qm9").name == [n for n in releases() if n.startswith("relax-qm9")][-1]
    assert load_model(name).name == name


def test_packages_carry_no_weights_but_those_of_the_newest_release_of_each_kind():
    """Packages have all weights in ``models/``."""
    sums = [line.split()[1] for line in (MODELS / "SHA256SUMS").read_text().splitlines()]
    released = sorted({name.split("/")[0] for name in sums if name.endswith("/model.safetensors")})
    newest = {name.rpartition("-")[0]: name for name in released}.values()
    tracked = subprocess.run(
        ["git", "ls-files", "models/*/model.safetensors"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not in a clone")
    assert tracked.stdout.split() == [f"models/{name}/model.safetensors" for name in newest]


def test_a_release_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    page = (ROOT / "docs/howto/models.md").read_text(encoding="utf-8")
    lines = re.search(r'entry-points."(.*?)"\]\n(.*)', page).groups()
    about = tmp_path / "my_models-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-models\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[{}]\n{}\n".format(*lines).replace('"', ""))
    place = tmp_path / "my_models"
    for name in ("my-model-1", "relax-qm9-2"):  # the second is diffrelax's own
        (place / name).mkdir(parents=True)
        shutil.copy(OLDER, place / name / "model.safetensors")
    sha256 = hashlib.sha256(Path(OLDER).read_bytes()).hexdigest()
    names = ("my-model-1", "relax-qm9-2")
    sums = "".join(f"{sha256}  {name}/model.safetensors\n" for name in names)
    (place / "SHA256SUMS").write_text(sums)
    (place / "__init__.py").write_text("raise RuntimeError")  # no code is run
    monkeypatch.syspath_prepend(tmp_path)
    default = load_model().name
    assert load_model("my-model").sha256 == sha256
    assert load_model("relax-qm9-2").sha256 != sha256
    assert load_model().name == default
    (place / "SHA256SUMS").write_text(sums.replace(sha256, "0" * 64))
    with pytest.raises(ValueError, match="not the released file"):
        load_model("my-model")


def test_a_loaded_model_knows_its_file_and_needs_no_gradients():
    model = load_model("relax-qm9-2")
    weights = releases()["relax-qm9-2"] / "model.safetensors"
    assert model.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    assert model.config.level == "B3LYP/6-31G(2df,p)"


def test_a_folder_of_a_model_is_one(tmp_path, monkeypatch):
    shutil.copy(OLDER, tmp_path / "model.safetensors")
    assert load_model(tmp_path).name == load_model(str(tmp_path)).name == "relax-qm9-1"
    (tmp_path / "relax-qm9-2").mkdir()
    with pytest.raises(ValueError, match=r"no model file .*relax-qm9-2/model.safetensors"):
        load_model(tmp_path / "relax-qm9-2")
    monkeypatch.chdir(tmp_path)  # a release is meant by its name
    assert load_model("relax-qm9-2").name == "relax-qm9-2"
    for name in ("relax-qm9-2", "default"):
        (tmp_path / name).mkdir(exist_ok=True)
        shutil.copy(OLDER, tmp_path / name / "model.safetensors")
        assert load_model(name).name != "relax-qm9-1"
        assert load_model(Path(name)).name == load_model(f"./{name}").name == "relax-qm9-1"


def test_unknown_names_and_paths_say_what_there_is():
    with pytest.raises(ValueError, match=r"no model 'relax-qm8'; installed: .*relax-qm9-2"):
        load_model("relax-qm8")
    with pytest.raises(ValueError, match="no model file"):
        load_model("none.safetensors")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A source tree with a copy of the release and nothing else."""
    folder = MODELS / "relax-qm9-2"
    copy = tmp_path / "models" / "relax-qm9-2"
    copy.mkdir(parents=True)
    for file in ("SHA256SUMS", "qm9-environments.txt"):
        shutil.copy(folder.parent / file, copy.parent)
    shutil.copy(folder / "model.safetensors", copy)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(models, "__file__", str(tmp_path / "diffrelax" / "models" / "release.py"))
    return copy


def test_a_damaged_release_is_noticed(copied):
    load_model("relax-qm9-2")
    weights = copied / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="not the released file"):
        load_model("relax-qm9-2")
    with pytest.raises(ValueError, match="is damaged: its checksum does not match"):
        load_model(weights)


def test_environments_that_are_not_those_of_the_release_are_noticed(copied):
    listed = copied.parent / "qm9-environments.txt"
    listed.write_text(listed.read_text().replace("1\tCH4", "9\tCH4"))
    with pytest.raises(ValueError, match="not the released file"):
        load_model("relax-qm9-2")
    listed.unlink()
    with pytest.raises(ValueError, match=r"qm9-environments\.txt is missing: reinstall"):
        load_model("relax-qm9-2")


def test_a_copy_of_a_release_is_as_good_and_a_damaged_copy_is_not(tmp_path):
    for file in ("relax-qm9-2/model.safetensors", "relax-qm9-1/checkpoints/step-65536.safetensors"):
        copy = tmp_path / "copy.safetensors"
        shutil.copy(MODELS / file, copy)
        assert load_model(copy).name == file.partition("/")[0]
        data = bytearray(copy.read_bytes())
        data[-1000] ^= 1
        copy.write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            load_model(copy)
        copy.write_bytes(data[:-40_000] + bytes(40_000))
        with pytest.raises(ValueError, match="damaged"):
            load_model(copy)


def test_weights_of_ones_own_carry_a_checksum(model, tmp_path):
    path = tmp_path / "own.safetensors"
    tensors = {name: p.detach() for name, p in model.denoiser.named_parameters()}
    about = {"config": model.config.model_dump(mode="json"), "step": 1}
    save_tensors(tensors, path, about | {"environments": {"CH3 -CH3": 7}})
    assert load_model(path).environments == {"CH3 -CH3": 7}
    whole = path.read_bytes()
    for damaged in (whole[:-40_000] + bytes(40_000), whole.replace(b"CH3 -CH3", b"CH3 -CH2")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="its checksum does not match"):
            load_model(path)
    save_tensors(tensors, path, about)
    assert load_model(path).environments["CH3 -CH2"] > 1000  # those of QM9, which it names


def test_weights_that_no_sum_names_are_no_release(copied):
    """Such as those of a run that is still going on."""
    shutil.copytree(copied, copied.parent / "relax-qm9-0")
    assert list(releases()) == ["relax-qm9-2"]
    assert load_model("relax-qm9").name == "relax-qm9-2"
    (copied.parent / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="no model 'relax-qm9-2'; installed: none"):
        load_model("relax-qm9-2")


def test_releases_are_ordered_by_number(copied):
    names = ["relax-qm9-10", "relax-qm9-9", "relax-qm9-2"]
    for name in names[:2]:
        shutil.copytree(copied, copied.parent / name)
    lines = [f"{'0' * 64}  {name}/model.safetensors\n" for name in names]
    (copied.parent / "SHA256SUMS").write_text("".join(lines))
    assert list(releases()) == ["relax-qm9-2", "relax-qm9-9", "relax-qm9-10"]
    assert models._find("relax-qm9").name == "relax-qm9-10"


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"missing, damaged, or not a diffrelax file"):
        load_model(path)


def test_a_truncated_model_is_refused(tmp_path):
    whole = Path(OLDER).read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_model(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "'config'$"),
        ({"config": {"name": "a", "level": "b", "colour": "red"}}, "colour: Extra .* permitted$"),
        ({"config": {"name": "a", "level": "b"}, "step": "1"}, "Missing key"),
    ],
)
def test_a_model_of_another_version_says_what_is_wrong(tmp_path, metadata, message):
    path = tmp_path / "model.safetensors"
    save_tensors({}, path, metadata)
    with pytest.raises(ValueError, match=f"is not a model of this version: (?s:.*){message}"):
        load_model(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="device 'cuda' cannot be used"):
        load_model("relax-qm9-2", device="cuda")
    with pytest.raises(ValueError, match="device 'tpu9' cannot be used"):
        load_model("relax-qm9-2", device="tpu9")


def release(folder, name, **config):
    """Write weights that are a release, as far as one looks for the widest."""
    entries = {"name": name, "level": "one", "network": {"levels": ["one"]}} | config
    path = folder.parent / name / "model.safetensors"
    save_tensors({}, path, {"config": entries, "step": 1})
    with (folder.parent / "SHA256SUMS").open("a") as file:
        file.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}/model.safetensors\n")


def test_without_a_name_the_release_that_covers_most_is_loaded(copied):
    assert load_model().name == "relax-qm9-2"
    elements = [1, 6, 7, 8, 9, 16]
    release(copied, "relax-wide-1", network={"levels": ["one"], "elements": elements})
    assert models._find("default").name == "relax-wide-1"
    network = {"levels": ["one", "two"], "elements": elements}
    release(copied, "relax-wide-2", network=network)
    release(copied, "relax-wide-10", network=network)
    release(copied, "relax-more-3", network={"levels": ["one", "two"]})
    generation = {"sizes": {3: 1}}
    release(copied, "generate-1", generation=generation, network=network | {"elements": [1, 2]})
    assert models._find("default").name == "relax-wide-10"
    (copied.parent / "relax-wide-10" / "model.safetensors").write_bytes(b"damaged")
    assert models._find("default").name == "relax-wide-2"
    shutil.rmtree(copied.parent)
    with pytest.raises(ValueError, match="no model 'default'; installed: none"):
        load_model()


def test_a_model_is_told_in_a_line():
    told = repr(load_model("relax-qm9-2"))
    assert told.startswith("Model('relax-qm9-2', step 98304, sha256 9ef0e257663d")


@pytest.mark.parametrize("name", ["relax-qm9-2", "relax-reach-3", "generate-qm9-2"])
def test_a_release_still_takes_its_reference_molecules_where_it_did(name):
    model = load_model(name)
    assert len(model.references) >= max(3, len(model.config.levels))
    assert model.check_references() < 1e-4
    with torch.no_grad():
        for weights in model.denoiser.parameters():
            weights *= 1.3
    with pytest.raises(ValueError, match=f"{name} is damaged: results for its reference molecules"):
        model.check_references()


def test_weights_without_a_checksum_are_tried_and_have_no_bounds(tmp_path):
    model = load_model("relax-reach-3")
    tensors = {name: p.detach() for name, p in model.denoiser.named_parameters()}
    config = model.config.model_dump(mode="json") | {"name": "own-1"}
    about = {"config": config, "step": 1, "references": [r.model_dump() for r in model.references]}
    path = tmp_path / "model.safetensors"

    def write(tensors, about):
        safetensors.torch.save_file(tensors, path, {"diffrelax": json.dumps(about)})

    write(tensors, about | {"sha256": ""})
    with pytest.warns(UserWarning, match="has no checksum and may be damaged"):
        loaded = load_model(tmp_path)
    assert not loaded.config.calibrations and model.config.calibrations
    for factor in (0, 1.3):
        damaged = {name: factor * p for name, p in tensors.items()}
        write(damaged, about | {"sha256": ""})
        with pytest.raises(
            ValueError, match="own-1 is damaged: results for its reference molecules"
        ):
            load_model(tmp_path)
        save_tensors(damaged, path, about)  # with a checksum that fits
        with pytest.raises(
            ValueError, match="own-1 is damaged: results for its reference molecules"
        ):
            load_model(tmp_path)
        write(damaged, about | {"sha256": "", "config": config | {"name": "relax-reach-3"}})
        with pytest.raises(ValueError, match="damaged"):
            load_model(tmp_path)
