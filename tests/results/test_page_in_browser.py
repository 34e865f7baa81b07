"""The pages of all kinds of reports, as a browser shows them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.benchmark.speedup.report import write_report
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.clock import Time
from diffrelax.dft import DFTSettings
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.run import run_flow
from diffrelax.molecule import Molecule
from diffrelax.results.output import InputResult, ResultFile
from diffrelax.results.output_page import output_page
from diffrelax.results.rows import MoleculeRow
from diffrelax.sampling.conformers.page import conformers_page
from diffrelax.sampling.ensemble import Ensemble, EnsembleProvenance, LevelSettings

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 2'>"
KINDS = ("flow", "speedup", "conformers", "output")

pytestmark = [
    pytest.mark.browser,
    # where CI lacks it, the tests fail
    pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made: dict[str, Callable[[Path], Path]] = {
        "flow": flow, "speedup": speedup, "conformers": conformers, "output": output
    }  # fmt: skip
    return {kind: make(folder) for kind, make in made.items()}


def flow(folder: Path) -> Path:
    inputs = (
        f"CC(=O)Nc1ccccc1 {EVIL}",
        "C1CC unclosed",
        "CCCO propanol",
        "[NH3+]CC([NH3+])C[NH3+] ion",
    )
    run_flow(FlowConfig(inputs=inputs, folder=folder / "flow", minimise={"level": "mmff94"}))
    return folder / "flow" / "report.html"


def speedup(folder: Path) -> Path:
    (folder / "speedup").mkdir()
    rng = np.random.default_rng(0)
    outcomes = []
    for name, calls in (("CCO", 5), ("CCF", 12), (EVIL, 9)):
        end = Molecule.from_smiles("CCO", name=name)
        for start, fewer in (("mmff94", 1), ("diffusion", 3)):
            energies = tuple(0.1 / (n + fewer) for n in range(calls // fewer))
            begin = end.with_positions(end.positions + 0.1 * rng.normal(size=(9, 3)))
            times = {"total": Time(60.0 * calls, 50.0 * calls)}
            arm = SpeedupArm(start, "tric+hessian")
            outcomes.append(
                Outcome(
                    name, end.smiles, arm, "", times, energies,
                    scf_cycles=8 * calls, begin=begin, end=end, basin=0, minimum=0.0,
                )
            )  # fmt: skip
    arm, times = SpeedupArm("mmff94", "tric+hessian"), {"total": Time(0.0, 0.0)}
    failed = Outcome("C1CC", "", arm, f"not a molecule: {EVIL}", times)
    about = {"command": "diffrelax speedup", "level": DFTSettings().model_dump(), "hardware": "x"}
    write_report(folder / "speedup", [*outcomes, failed], about, 12.0)
    return folder / "speedup" / "report.html"


def conformers(folder: Path) -> Path:
    molecule = Molecule.from_smiles("CCCO", name=EVIL)
    shaken = np.random.default_rng(0).normal(scale=0.2, size=(20, molecule.n_atoms, 3))
    found = Ensemble(
        molecule,
        molecule.positions + shaken,
        energies=np.arange(20) / 50,
        weights=np.arange(20, 0, -1) / 210,
        temperature=298.15,
        level=LevelSettings(name="mmff94"),
        starts=tuple(f"etkdg {i}" for i in range(20)),
        provenance=EnsembleProvenance(method="conformers", seed=42, notes=(EVIL,)),
        columns={name: np.arange(20) for name in ("symmetry_number", "mirror_images", "n_starts")},
    )
    path = folder / "conformers.report.html"
    conformers_page(found, "diffrelax conformers", "All are in conformers.sdf.").write(path)
    return path


def output(folder: Path) -> Path:
    """Make the page of an output of dft."""
    molecule = Molecule.from_smiles("CC(=O)OC", name=EVIL)
    shaken = np.random.default_rng(0).normal(scale=0.1, size=(molecule.n_atoms, 3))
    row = MoleculeRow.of(
        EVIL, molecule, "relaxed", "", gradient_calls=2, converged=True, energy_ev=-7289.2389,
        excess_ev=0.01, fmax=0.02, level="PBE/def2-SVP",
    )  # fmt: skip
    failed = MoleculeRow.of("C1CC", None, "failed", f"not a molecule: {EVIL}")
    frames = {"start": molecule.with_positions(molecule.positions + shaken)}
    curves = {"diffusion": (0.1, 0.02), EVIL: (1.0, 0.2, 0.01)}
    path = folder / "dft.extxyz"
    with ResultFile(path, {"command": "dft", "fmax": 0.03}, bool) as file:
        file.append(
            [
                InputResult("CC(=O)OC", row, molecule, frames=frames, curves=curves),
                InputResult("C1CC", failed, None),
            ]
        )
    output_page(path).write(folder / "dft.report.html")
    return folder / "dft.report.html"


@dataclass
class Sight:
    """A page in a browser, and what it said and asked for."""

    page: object
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def column(self, table: int, column: int) -> list[str]:
        rows = f"Array.from(document.querySelectorAll('table')[{table}].tBodies[0].rows)"
        return self.page.evaluate(f"{rows}.map((row) => row.cells[{column}].textContent)")

    def canvas(self) -> np.ndarray:
        """Return the pixels of the view in 3D."""
        from PIL import Image

        self.page.wait_for_timeout(300)
        picture = Image.open(BytesIO(self.page.locator("#canvas canvas").first.screenshot()))
        return np.asarray(picture.convert("RGB")).astype(int)[9:-9, 9:-9]  # its corners are round

    def choose(self, row: int) -> None:
        self.page.locator("tr[data-view]").nth(row).click()


@pytest.fixture(scope="module")
def look() -> Iterator[Callable[..., Sight]]:
    """Open pages, each as in a browser of its own that has run a script before."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=WEBGL)

        def open_page(path: Path, script: str = "", width: int = 1400, **look: str) -> Sight:
            size = {"width": width, "height": 1000}
            sight = Sight(browser.new_context(viewport=size, **look).new_page())
            sight.page.on("console", lambda told: sight.errors.append(told.text))
            sight.page.on("pageerror", lambda error: sight.errors.append(str(error)))
            sight.page.on("dialog", lambda dialog: sight.errors.append(dialog.message))
            sight.page.on("request", lambda request: sight.requests.append(request.url))
            sight.page.add_init_script(script)
            sight.page.goto(path.as_uri())
            return sight

        yield open_page
        browser.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_in_peace_and_shows_a_molecule(look, pages, kind: str) -> None:
    sight = look(pages[kind])
    assert sight.page.locator("tr.shown").count() == 1
    pixels = sight.canvas().reshape(-1, 3)
    coloured = np.ptp(pixels, axis=1) > 40
    assert 0.5 < (pixels.min(axis=1) > 250).mean() < 0.99  # a molecule on a white ground
    assert coloured.mean() > 0.002
    assert sight.requests == [pages[kind].as_uri()]
    assert sight.errors == []
    assert sight.page.evaluate("window.evil") is None


@pytest.mark.parametrize(
    ("kind", "title", "column", "ascending"),
    [
        ("flow", "Molecules", 0, ["0", "1", "2", "3"]),
        ("flow", "Molecules", 1, [EVIL, "ion", "propanol", "unclosed"]),
        ("speedup", "Molecules", 2, ["1", "3", "4", "5", "9", "12", "–"]),
        ("conformers", "Conformers", 0, [str(i) for i in range(1, 21)]),
    ],
)
def test_a_click_on_a_header_sorts_the_rows(
    look, pages, kind: str, title: str, column: int, ascending: list[str]
) -> None:
    sight = look(pages[kind])
    titles = sight.page.locator("section:has(table) h2").all_text_contents()
    table = titles.index(title)
    head = sight.page.locator("table").nth(table).locator("th").nth(column)
    original = sight.column(table, column)
    head.locator("button").click()
    assert sight.column(table, column) == ascending
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    known = [cell for cell in ascending if cell != "–"]
    assert sight.column(table, column) == known[::-1] + ["–"] * (len(ascending) - len(known))
    head.locator("button").click()
    assert sight.column(table, column) == original
    assert sorted(original) == sorted(ascending)


def test_what_is_shown_of_a_molecule_is_chosen(look, pages) -> None:
    sight = look(pages["flow"])
    buttons = sight.page.locator("#frames button")
    labels = [text.split(" (")[0] for text in buttons.all_text_contents()]
    assert labels == ["start", "relaxed by the model", "minimum, mmff94", "all"]
    assert sight.page.locator("#shown").text_content() == EVIL
    assert "model: relaxed" in sight.page.locator("#status").text_content()
    overlaid = sight.canvas()
    buttons.nth(0).click()
    alone = sight.canvas()
    assert (np.abs(alone - overlaid).max(axis=2) > 30).mean() > 0.01
    buttons.nth(2).click()
    assert np.ptp(sight.canvas()) == 0  # nothing is shown

    sight.choose(2)
    assert sight.page.locator("#shown").text_content() == "ion"
    assert "refused" in sight.page.locator("#status").text_content()
    sight.page.keyboard.press("ArrowUp")
    assert sight.page.locator("#shown").text_content() == "propanol"
    assert sight.errors == []


def test_conformers_are_shown_one_by_one_and_overlaid(look, pages) -> None:
    sight = look(pages["conformers"])
    first = sight.canvas()
    sight.choose(3)
    pressed = sight.page.locator("#frames button[aria-pressed=true]")
    assert [text.split(" ")[0] for text in pressed.all_text_contents()] == ["4"]
    fourth = sight.canvas()
    assert (np.abs(fourth - first).max(axis=2) > 30).mean() > 0.01
    sight.page.locator("#frames button").last.click()
    assert pressed.count() == 20
    assert (np.abs(sight.canvas() - fourth).max(axis=2) > 30).mean() > 0.01


def test_rows_are_found_by_their_text(look, pages) -> None:
    sight = look(pages["conformers"])
    sight.page.locator("input").first.fill("ETKDG 19")
    assert sight.column(0, 6) == ["etkdg 19"]
    assert "1 of 1 rows" in sight.page.locator(".tools").first.text_content()


def test_a_table_of_many_rows_shows_some_until_all_are_asked_for(look, tmp_path: Path) -> None:
    from diffrelax.results.page import Page, Row, Table

    rows = [Row((str(i), f"name {i % 7}")) for i in range(3000)]
    table = Table("Molecules", "", ("number", "name"), rows)
    Page("Many", "", {}, [table], [], {}, elsewhere="").write(tmp_path / "report.html")
    sight = look(tmp_path / "report.html")
    assert len(sight.column(0, 0)) == 200
    sight.page.locator("th button").first.click(click_count=2)
    assert sight.column(0, 0)[:2] == ["2999", "2998"]
    sight.page.get_by_text("show all").click()
    assert len(sight.column(0, 0)) == 3000
    assert sight.errors == []


def test_without_webgl_the_rest_of_the_page_works(look, pages) -> None:
    kinds = ("HTMLCanvasElement", "OffscreenCanvas")
    sight = look(pages["flow"], "".join(f"{k}.prototype.getContext = () => null;" for k in kinds))
    assert "needs a browser with JavaScript and WebGL" in sight.page.locator("#canvas").inner_text()
    sight.choose(1)
    assert sight.page.locator("#shown").text_content() == "propanol"
    sight.page.locator("th button").nth(1).click()
    assert sight.column(0, 1)[1:] == ["ion", "propanol", "unclosed"]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_fit_a_window_of_usual_width(look, pages, kind: str) -> None:
    sight = look(pages[kind])
    widths = (
        "[...document.querySelectorAll('.table')].map((one) => one.scrollWidth - one.clientWidth)"
    )
    assert max(sight.page.evaluate(widths)) <= 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_no_wider_than_a_phone(look, pages, kind: str) -> None:
    sight = look(pages[kind], width=390)
    assert sight.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_as_bright_as_the_user_likes_it(look, pages, scheme: str) -> None:
    sight = look(pages["output"], color_scheme=scheme)
    ground, text = (
        sum(map(int, re.findall(r"\d+", sight.page.evaluate(f"getComputedStyle({where}"))[:3]))
        for where in ("document.body).backgroundColor", "document.body).color")
    )
    assert (ground > 600 > 150 > text) if scheme == "light" else (text > 600 > 150 > ground)
    canvas = sight.canvas().reshape(-1, 3).sum(axis=1)
    assert np.median(canvas) == pytest.approx(ground, abs=6)


def test_structures_and_convergence_are_drawn(look, pages) -> None:
    sight = look(pages["output"])
    assert sight.page.locator("td .structure").count() == 0  # one molecule: in the header
    assert sight.page.locator("header .structure path").count() > 3
    curves = sight.page.locator("#chart g")
    assert curves.locator("text").all_text_contents() == ["diffusion", EVIL]
    assert [curves.nth(i).locator("circle").count() for i in (0, 1)] == [2, 3]
    assert look(pages["flow"]).page.locator("td .structure").count() == 3


@pytest.mark.parametrize(
    ("program", "first", "lines"),
    [("XYZ", "11", 13), ("ORCA", "* xyz 0 1", 13), ("Gaussian", f"{EVIL}, minimum", 15)],
)
def test_coordinates_are_written_for_programs(
    look, pages, program: str, first: str, lines: int
) -> None:
    sight = look(pages["output"])
    sight.page.locator("#coordinates summary").click()
    sight.page.locator("#coordinates select").select_option(program)
    text = sight.page.locator("#coordinates pre").text_content()
    assert text.splitlines()[0] == first
    assert len(text.split("\n")) == lines
    atoms = [line.split() for line in text.splitlines() if re.match(r"[CHO] +-?\d+\.\d{4} ", line)]
    assert len(atoms) == 11
