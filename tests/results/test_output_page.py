"""The page of an output: `diffrelax results report`."""

from __future__ import annotations

from pathlib import Path

import pytest
from read_page import ReadPage

from diffrelax.molecule import Molecule
from diffrelax.results.output import InputResult, ResultFile
from diffrelax.results.rows import MoleculeRow
from diffrelax.units import HARTREE, KCAL_PER_MOL


def test_each_input_of_relax_has_its_row(run, tmp_path: Path) -> None:
    output, page = tmp_path / "relaxed.sdf", tmp_path / "relaxed.report.html"
    inputs = ("CC(=O)OC methyl acetate", "C1CC unclosed", "C[Se]C", "[NH3+]CC(=O)[O-] glycine")
    run("relax", *inputs, "--fast", "-o", output)
    status, _, err = run("results", "report", output)
    assert (status, err) == (0, f"report: {page}\n")
    read = ReadPage(page)
    assert read.header == ["name", "result", "error bound, Å", "caution or reason"]
    names, states, bounds, reasons = zip(*read.rows[1:], strict=True)
    assert names == ("methyl acetate", "unclosed", "C[Se]C", "glycine")
    assert states == ("relaxed", "failed", "refused", "relaxed")
    assert float(bounds[0]) < 0.2 and bounds[1:3] == ("", "")
    assert reasons[2] == "the model was not trained on Se" and "zwitterion" in reasons[3]
    tones = [attributes["class"] for attributes in read.attributes[1:]]
    assert tones == ["good", "bad", "bad", "doubtful"]
    assert read.tags["svg"] == 3
    selenide, _, acetate = read.views
    assert [frame["label"] for frame in acetate["frames"]] == ["start", "relaxed by the model"]
    assert 0.001 < acetate["frames"][0]["apart"] < 0.5
    assert [frame["label"] for frame in selenide["frames"]] == ["as it is"]


@pytest.mark.parametrize(
    ("ending", "state", "tone", "label"),
    [
        ({"converged": True}, "converged", "good", "minimum"),
        ({"converged": True, "rmsd_bound": 0.01}, "predicted", "good", "predicted"),
        ({"converged": False, "reason": "SCF failed"}, "not converged", "doubtful",
         "not converged"),
    ],
)  # fmt: skip
def test_the_end_of_dft_is_shown_with_its_convergence(
    run, tmp_path: Path, ending: dict, state: str, tone: str, label: str
) -> None:
    molecule, output = Molecule.from_smiles("CCO"), tmp_path / "dft.extxyz"
    known = {"reason": "", "gradient_calls": 3, "energy_ev": -HARTREE, "excess_ev": KCAL_PER_MOL}
    row = MoleculeRow.of("CCO", molecule, "relaxed", **known | ending)
    frames, curves = {"start": molecule}, {"diffusion": (0.2, 0.08, 0.02)}
    with ResultFile(output, {"command": "dft", "fmax": 0.03}, bool) as file:
        file.append([InputResult("CCO", row, molecule, frames=frames, curves=curves)])
    run("results", "report", output, "-o", tmp_path / "page.html")
    read = ReadPage(tmp_path / "page.html")
    assert read.rows[1][:5] == ["CCO", state, "3", "-1.000000", "1.00"]
    assert read.attributes[1]["class"] == tone
    (view,) = read.views
    assert [frame["label"] for frame in view["frames"]] == ["start", label]
    assert view["lines"][1] == f"{state} after 3 gradient calls"
    assert view["chart"].count("<circle") == 3 and 'class="limit"' in view["chart"]


def test_minima_have_a_page_too(run, tmp_path: Path) -> None:
    output = tmp_path / "minima.extxyz.gz"
    run("minima", "CCO", "--level", "mmff94", "-o", output)
    run("results", "report", output)
    read = ReadPage(tmp_path / "minima.report.html")
    assert read.rows[1][:2] == ["CCO", "minimum"]
    assert [frame["label"] for frame in read.views[0]["frames"]] == ["start", "minimum"]


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("a.extxyz", False, "a.extxyz.units: give an output of a command"),
        ("a.json", True, "geometries in .json are not read: write to .extxyz or .sdf"),
        ("a.sdf", True, "has no results of relax, dft or minima"),
    ],
)
def test_what_has_no_page_says_so(run, tmp_path: Path, name: str, made: bool, message: str) -> None:
    if made:
        ResultFile(tmp_path / name, {"command": "relax"}, bool).close()
    status, _, err = run("results", "report", tmp_path / name)
    assert status == 2 and message in err
    assert not (tmp_path / "a.report.html").exists()
