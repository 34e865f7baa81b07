"""The exit status separates unfinished work, what the user can mend, and errors inside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ase.calculators.calculator import CalculationFailed

from diffrelax import cli
from diffrelax.dft import DFTSettings
from diffrelax.errors import InputError, UnfinishedError


def fail(error: Exception) -> Callable[[], None]:
    """Return a function that raises an error."""

    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (fail(UnfinishedError("no minimum")), 1, "diffrelax: no minimum"),
        (fail(CalculationFailed("no SCF")), 1, "diffrelax: no SCF"),
        (fail(RuntimeError("a tensor")), 3, "internal error, RuntimeError"),
        (fail(InputError("give another")), 2, "diffrelax: give another"),
        (fail(ValueError("shapes")), 3, "please report it"),
        (fail(FileNotFoundError("no file")), 2, "diffrelax: no file"),
        (lambda: DFTSettings(fmax=-1), 2, "diffrelax: fmax: Input should be greater than 0"),
    ],
)
def test_the_exit_status_says_whose_error_it_is(
    command: Callable[[], None],
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: command())
    monkeypatch.setattr(cli, "keep_freed", lambda: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == status
    assert text in capsys.readouterr().err
