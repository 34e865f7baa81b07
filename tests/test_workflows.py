"""The page of the workflows: what it tells a newcomer to write and to type is right."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
import typer
import yaml

from diffrelax.cli import app
from diffrelax.flows.config import FlowConfig

WORKFLOWS = Path(__file__).parents[1] / "workflows"
PAGE = (WORKFLOWS / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def parse(command: typer.core.TyperGroup, arguments: list[str], name: str) -> None:
    """Parse a command line without running it; raises if it is wrong."""
    context = command.make_context(name, arguments)
    if hasattr(command, "commands"):
        name, *rest = [*context._protected_args, *context.args]
        parse(command.commands[name], rest, name)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_each_flow_on_the_page_is_a_flow(block: str) -> None:
    config = FlowConfig.model_validate({"folder": "flow"} | yaml.safe_load(block))
    assert config.maker().batch_size == config.batch_size


@pytest.mark.parametrize("block", blocks("python"))
def test_what_the_page_imports_from_diffrelax_is_there(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("diffrelax"):
            module = importlib.import_module(node.module)
            assert {alias.name for alias in node.names} <= set(vars(module))


def test_each_command_on_the_page_is_one() -> None:
    jf = pytest.importorskip("jobflow_remote.cli.jf")
    programs = {"diffrelax": typer.main.get_command(app), "jf": typer.main.get_command(jf.app)}
    seen = set()
    for line in "".join(blocks("bash")).splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        program, *arguments = takewhile(lambda word: word not in (">", "&"), words)
        if program in programs:
            parse(programs[program], arguments, program)
            seen.add(program)
        for argument in arguments:
            if argument.startswith("workflows/"):
                assert (WORKFLOWS.parent / argument).is_file()
    assert seen == set(programs)


def test_each_link_on_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert len(links) > 4
    for link in links:
        assert link.startswith("https://") or (WORKFLOWS / link).exists()
