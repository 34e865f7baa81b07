"""Files that grow: whatever cuts them short, the same command goes on."""

import errno
import gzip
import json
import random

import pytest

from diffrelax.files import FORMATS, WRITERS
from diffrelax.files.reading import Rejected, read_molecules
from diffrelax.molecule import Molecule
from diffrelax.results import output
from diffrelax.results.beside import units_beside
from diffrelax.results.output import InputResult, ResultFile
from diffrelax.store import Store

SETTINGS = {"command": "relax", "seed": 42, "max_error": float("inf")}
NAMES = [f"m{i}" for i in range(7)]
SUFFIXES = [*WRITERS, ".sdf.gz", ".json.gz"]


def result(name):
    bad = name in ("m0", "m3")
    molecule = None if bad else Molecule.from_smiles("C", name=name)
    row = {"name": name, "verdict": "failed" if bad else "relaxed", "reason": "", "x": 0.5}
    return InputResult(f"C {name}", row, molecule, {"tag": name})


def is_good(row):
    return row["verdict"] == "relaxed"


def open_file(path, **options):
    return ResultFile(path, options.pop("settings", SETTINGS), is_good, **options)


def work(path, names=NAMES, at_once=2, **options):
    """Do what is not done; return what was."""
    with open_file(path, **options) as file:
        inputs = iter([f"C {name}" for name in names])
        file.skip_done(inputs)
        before, new = file.n_done, [one.removeprefix("C ") for one in inputs]
        for i in range(0, len(new), at_once):
            file.append([result(name) for name in new[i : i + at_once]])
        assert (file.n_done, file.n_bad) == (len(names), 2)
    return before


@pytest.fixture
def whole(tmp_path):
    """Return what an undisturbed run leaves."""

    def make(suffix):
        path = tmp_path / f"whole{suffix}"
        work(path)
        return path

    return make


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_grew_is_read_as_one_that_was_written_at_once(whole, suffix):
    path = whole(suffix)
    data = path.read_bytes()
    text = (gzip.decompress(data) if suffix.endswith(".gz") else data).decode()
    good = [name for name in NAMES if name not in ("m0", "m3")]
    if ".jsonl" in suffix:
        assert [json.loads(line)["name"] for line in text.splitlines()] == good
    elif ".json" in suffix:
        assert [one["tag"] for one in json.loads(text)] == good
    else:
        assert [one.name for one in read_molecules(path)] == good
    with open_file(path) as file:
        assert [row["name"] for row in file.rows()] == NAMES


def content(path):
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_anywhere_it_is_completed_to_the_same_file(whole, tmp_path, suffix):
    path = whole(suffix)
    data, chance = path.read_bytes(), random.Random(0)
    for kept in (0, 1, len(data) - 1, *(chance.randrange(len(data)) for _ in range(20))):
        path.write_bytes(data[:kept])
        assert work(path) == len(NAMES)
        assert content(path) == content(whole(suffix))
    path.unlink()
    assert work(path) == len(NAMES)
    assert content(path) == content(whole(suffix))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_before_a_part_is_in_the_file_it_goes_on(whole, tmp_path, monkeypatch, suffix):
    """What is kept is not done again; what stands behind it in the file is replaced."""
    path = tmp_path / f"out{suffix}"
    for done in (2, 4, 6):
        with open_file(path) as file, monkeypatch.context() as patch:
            file.skip_done(iter([f"C {name}" for name in NAMES]))
            patch.setattr(ResultFile, "_write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                file.append([result(name) for name in NAMES[done - 2 : done]])
    assert work(path) == 6
    assert content(path) == content(whole(suffix))


@pytest.mark.parametrize("suffix", [".extxyz", ".json", ".sdf.gz"])
def test_a_full_disk_loses_nothing(whole, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"out{suffix}"
    write, room = output.FileIO.write, [3]

    class Disk(output.FileIO):
        def write(self, data):
            room[0] -= 1
            if room[0] == 0:
                write(self, data[: len(data) // 2])
            if room[0] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(output, "FileIO", Disk)
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        work(path)
    monkeypatch.undo()
    assert work(path) >= 4
    assert content(path) == content(whole(suffix))


def test_an_interrupt_leaves_whole_records(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    with open_file(path) as file:
        file.append([result("m0"), result("m1")])
        monkeypatch.setattr(Store, "keep_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.append([result("m2")])
    monkeypatch.undo()
    assert [one["name"] for one in json.loads(path.read_text())] == ["m1"]
    assert work(path) == 2


def interrupted(*_):
    raise KeyboardInterrupt


def test_more_inputs_may_follow_later(whole, tmp_path):
    path = tmp_path / "more.sdf"
    with pytest.raises(AssertionError):
        work(path, NAMES[:1])
    assert not path.exists()
    assert work(path) == 1
    assert path.read_bytes() == whole(".sdf").read_bytes()


@pytest.mark.parametrize("lost", [{"again": True}, {"error": KeyError("odd")}])
def test_what_failed_for_once_is_tried_again(tmp_path, lost):
    path = tmp_path / "out.json"
    inputs = [f"C {name}" for name in NAMES[1:3]]
    failed = result("m1")._replace(molecule=None, **lost)
    with open_file(path) as file:
        file.append([failed, result("m2")])
        assert (file.n_done, file.n_again, file.n_bad, file.n_written) == (1, 1, 0, 1)
    for end in (failed, result("m1")):
        with open_file(path) as file:
            left = iter([*inputs, "C m4"])
            assert file.skip_done(left) == inputs[:1] and [*left] == ["C m4"]
            file.append([end])
    with open_file(path) as file:
        assert file.skip_done(iter(inputs)) == []
        assert (file.n_done, file.n_again, file.n_bad, file.n_written) == (2, 0, 0, 2)
    assert [one["name"] for one in json.loads(path.read_text())] == ["m2", "m1"]


def test_what_was_made_otherwise_is_left_alone(tmp_path):
    path = tmp_path / "out.extxyz"
    path.write_text("mine")
    with pytest.raises(ValueError, match="exists: choose another file, or give"):
        work(path)
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    assert work(path, overwrite=True) == 0
    made = path.read_bytes()
    with pytest.raises(ValueError, match="made with seed 42, not 1: choose another file"):
        work(path, settings={**SETTINGS, "seed": 1})
    with pytest.raises(ValueError, match="number 2 is now a different one"):
        work(path, ["m0", "other"])
    with pytest.raises(ValueError, match="number 7 is now missing"):
        work(path, NAMES[:6])
    assert path.read_bytes() == made
    path.write_bytes(made.replace(b"m5", b"mine"))
    with pytest.raises(ValueError, match="modified after it was written"):
        work(path)
    path.write_bytes(made + made)
    with pytest.raises(ValueError, match="modified after it was written"):
        work(path)


def test_a_file_beside_a_store_that_is_empty_or_none_is_left_alone(tmp_path):
    path = tmp_path / "out.sdf"
    path.write_text("mine")
    units_beside(path).write_text("")
    with pytest.raises(ValueError, match="exists: choose another file"):
        work(path)
    units_beside(path).write_text("no store, but a text")
    with pytest.raises(ValueError, match=r"out\.sdf\.units is damaged, or not a store"):
        work(path)
    assert path.read_text() == "mine"


def test_one_process_writes_at_a_time_be_it_through_a_link(tmp_path):
    path, link = tmp_path / "out.sdf", tmp_path / "link.sdf"
    link.symlink_to(path)
    for other in (path, link):
        with open_file(path) as file, pytest.raises(ValueError, match="another process is writing"):
            file.append([result("m1")])
            work(other)
        assert work(other, overwrite=True) == 0
    assert link.is_symlink() and len(read_molecules(link)) == 5


def test_a_molecule_that_cannot_be_written_costs_only_itself(tmp_path, monkeypatch):
    def text(molecule, info, number):
        if molecule.name == "m2":
            raise KeyError("odd")
        return sdf.text(molecule, info, number)

    sdf = WRITERS[".sdf"]
    monkeypatch.setitem(WRITERS, ".sdf", sdf._replace(text=text))
    path = tmp_path / "out.sdf"
    with open_file(path) as file:
        results = [result(name) for name in NAMES]
        file.append(results)
        assert (file.n_done, file.n_written, file.n_bad) == (7, 4, 3)
    assert results[2].row["reason"] == "cannot be written: KeyError: 'odd'"
    assert [one.name for one in read_molecules(path)] == ["m1", "m4", "m5", "m6"]


def test_inputs_that_are_no_molecules_are_known_again(tmp_path):
    gone = Rejected("a.sdf", "a.sdf", "no such file")
    with open_file(tmp_path / "out.sdf") as file:
        file.append([result("m0")._replace(source=gone)])
    with open_file(tmp_path / "out.sdf") as file:
        assert list(file.skip_done(iter([gone]))) == []
        assert file.n_done == 1


def test_formats_that_are_written_are_read_or_json():
    assert {*WRITERS} - {*FORMATS} == {".json", ".jsonl"}
