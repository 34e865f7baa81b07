"""The README's code runs, and its commands are those of the command line."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = {
    language: re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for language in ("python", "bash")
}
COMMANDS = [
    command.strip() for line in "".join(BLOCKS["bash"]).splitlines() for command in line.split("&&")
]
FOLDERS = ["CONTRIBUTING.md", "analysis/README.md", "models/README.md", "workflows/README.md"]
CARDS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("models/*/card.md"))


def test_python_of_the_readme(capsys):
    names: dict = {}
    for block in BLOCKS["python"]:
        exec(block, names)
    output = capsys.readouterr().out
    assert "relaxed" in output
    assert "['relaxed', 'relaxed', 'refused']" in output
    assert names["dft"].converged


@pytest.mark.slow
def test_python_of_the_readme_passes_a_type_checker(tmp_path):
    code = tmp_path / "readme.py"
    code.write_text("\n".join(BLOCKS["python"]))
    checker = [sys.executable, "-m", "mypy", "--strict", str(code)]
    done = subprocess.run(checker, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_relax_command_of_the_readme(tmp_path):
    command = next(c for c in COMMANDS if c.startswith("diffrelax relax"))
    program = Path(sys.executable).with_name("diffrelax")
    arguments = shlex.split(command)[1:]
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "relaxed.extxyz").exists()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("diffrelax")])
def test_commands_of_the_readme_exist_with_their_options(command):
    from typer.main import get_command

    from diffrelax.cli import app

    name, *arguments = shlex.split(command)[1:]
    get_command(app).commands[name].make_context(name, arguments)


def test_first_command_is_the_main_job():
    assert COMMANDS[:2] == [
        "python -m pip install .",
        'diffrelax relax "CC(=O)OC" CCO --level r2scan-3c -o relaxed.extxyz',
    ]


def test_it_is_short():
    assert len(README.split()) <= 700


@pytest.mark.parametrize("page", ["README.md", *FOLDERS, *CARDS])
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert [t for t in targets if not (ROOT / page).parent.joinpath(t).exists()] == []


@pytest.mark.parametrize("page", ["README.md", *CARDS])
def test_nothing_is_left_to_fill_in(page):
    text = (ROOT / page).read_text()
    assert re.findall("@@|^[A-Z_]{6,}$", text, re.MULTILINE) == []
