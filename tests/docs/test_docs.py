"""The pages of the documentation: their code runs, says what they show, and the site builds."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml
from source_tree import ROOT

from diffrelax.cli import app
from diffrelax.cli.settings import ModelSettings
from diffrelax.dft import DFTSettings
from diffrelax.files import FORMATS
from diffrelax.files.writing import WRITERS
from diffrelax.flows.config import FlowConfig
from diffrelax.flows.reports import TABLES
from diffrelax.levels.profiles import Profile

DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if page.relative_to(DOCS).parts[0] not in ("generated", "_build")
)
FENCE = re.compile(
    r"(?P<marks>(?:^ *% [^\n]*\n)*)"
    r"^(?P<indent> *)```(?:\{code-block\} )?(?P<language>python|bash|text|yaml)\n"
    r"(?: *:caption: (?P<caption>[^\n]*)\n\n)?"
    r"(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)

PROGRESS = re.compile(r"^.* elapsed.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    A line before it may say ``% slow``, ``% not run`` (but checked), or ``% status 1``, with which
    its command ends. A block with a caption is a file; a block of text shows what the one before
    prints: numbers with a point nearly, ``...`` is anything.
    """

    language: str
    text: str
    marks: tuple[str, ...]
    file: str | None
    shown: str | None = None


def read_blocks(page: Path) -> list[Block]:
    blocks: list[Block] = []
    text_of_page, end = page.read_text(encoding="utf-8"), 0
    for found in FENCE.finditer(text_of_page):
        follows = blocks and not text_of_page[end : found.start()].strip()
        end = found.end()
        text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        marks = tuple(re.findall(r"% (.*)", found["marks"]))
        block = Block(found["language"], text, marks, found["caption"])
        if block.language == "text" and not block.file and follows:
            before = blocks.pop()
            block = Block(before.language, before.text, before.marks, before.file, shown=text)
        blocks.append(block)
    return blocks


def blocks_of(*languages: str) -> list:
    return [
        pytest.param(block, id=f"{page.relative_to(DOCS)}-{i}")
        for page in PAGES
        for i, block in enumerate(read_blocks(page))
        if block.language in languages
    ]


def assert_shown(shown: str, printed: str) -> None:
    """Compare what a page shows with what was printed."""
    number = r"-?\d+\.\d+"
    parts = re.split(rf"({number}|\.\.\.|\s+)", shown.strip())
    pattern = "".join(
        rf"({number})" if re.fullmatch(number, part)
        else ".*?" if part == "..."
        else r"\s+" if part.isspace()
        else re.escape(part)
        for part in parts
    )  # fmt: skip
    found = re.fullmatch(pattern, printed.strip(), re.DOTALL)
    assert found, f"the page shows\n{shown}\nand this was printed:\n{printed}"
    wanted = [float(part) for part in parts if re.fullmatch(number, part)]
    assert [float(value) for value in found.groups()] == pytest.approx(wanted, rel=0.05, abs=0.002)


def commands(block: Block) -> list[str]:
    return [line for line in block.text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("page", "all_of_it"),
    [
        pytest.param(page, slow, id=f"{page.relative_to(DOCS)}{'-slow' * slow}",
                     marks=[pytest.mark.slow] * slow)
        for page in PAGES
        for slow in (False, True)
        if not slow or any("slow" in block.marks for block in read_blocks(page))
    ],
)  # fmt: skip
def test_page_runs(page, all_of_it, run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in read_blocks(page):
        if "not run" in block.marks or ("slow" in block.marks and not all_of_it):
            continue
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(block.text, names)
            printed = capsys.readouterr().out
            if block.shown:
                assert_shown(block.shown, printed)
        elif block.language == "bash":
            printed = ""
            for command in commands(block):
                program, *arguments = shlex.split(command)
                assert program == "diffrelax", command
                status, out, err = run(*arguments)
                assert status == int("status 1" in block.marks), err
                printed += out + re.sub(PROGRESS, "", err)
            if block.shown:
                assert_shown(block.shown, printed)


def parse(command: typer.core.TyperGroup, arguments: list[str], name: str) -> None:
    """Parse a command line without running it; raises if it is wrong."""
    context = command.make_context(name, arguments)
    if hasattr(command, "commands"):
        name, *rest = [*context._protected_args, *context.args]
        parse(command.commands[name], rest, name)


@pytest.mark.parametrize("block", blocks_of("bash"))
def test_each_command_is_one(block):
    jf = pytest.importorskip("jobflow_remote.cli.jf")
    programs = {"diffrelax": typer.main.get_command(app), "jf": typer.main.get_command(jf.app)}
    for line in commands(block):
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        program, *arguments = takewhile(lambda word: word not in (">", "&", "&&"), words)
        if program in programs:
            parse(programs[program], arguments, program)
        for argument in arguments:
            if argument.startswith(("workflows/", "models/", "analysis/")):
                assert (DOCS.parent / argument).is_file()


@pytest.mark.parametrize("block", blocks_of("yaml"))
def test_each_flow_is_a_flow_and_each_profile_one(block):
    record = yaml.safe_load(block.text)
    if "program" in record:
        assert Profile.model_validate(record).words
        return
    names = DFTSettings.model_fields.keys() | ModelSettings.model_fields.keys()
    if record.keys() <= names:
        DFTSettings.among(record)
        return
    config = FlowConfig.model_validate({"folder": "flow"} | record)
    assert config.maker().batch_size == config.batch_size


@pytest.mark.parametrize("block", blocks_of("python"))
def test_what_is_imported_from_diffrelax_is_there(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("diffrelax"):
            module = importlib.import_module(node.module)
            assert {alias.name for alias in node.names} <= set(vars(module))


def first_cells(heading: str) -> list[str]:
    """Return the code in the first cells of the table below a heading of the page of files."""
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    table = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        code
        for cell in re.findall(r"^\| (.*?) \|", table, re.M)
        for code in re.findall("`(.*?)`", cell)
    ]


def test_columns_and_formats_are_those_of_the_code():
    assert sorted(first_cells("Files that are read")) == sorted(FORMATS)
    assert set(first_cells("Files that are written")) == {*WRITERS, *TABLES, ".h5"}


def test_the_pipeline_names_packages_that_exist():
    page = (DOCS / "concepts" / "pipeline.md").read_text(encoding="utf-8")
    named = ", ".join(re.findall(r"^  │ .*  (.*)$", page, re.M)).split(", ")
    assert len(named) > 8
    assert [name for name in named if not find_spec(f"diffrelax.{name}")] == []


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", DOCS, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    return SimpleNamespace(folder=folder, done=done)


def test_the_site_builds_without_a_warning(site):
    assert site.done.returncode == 0, site.done.stderr


def test_the_site_needs_no_network(site):
    pages = list(site.folder.rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]*)")
    assert {url for page in pages for url in loaded.findall(page.read_text("utf-8"))} == set()
    styles = "".join(style.read_text("utf-8") for style in site.folder.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles) == []
