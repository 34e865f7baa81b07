"""The exit status tells errors on the way, those that the user can mend, and errors inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diffrelax import cli
from diffrelax.dft import DFTSettings


def raising(error: str, module: str) -> Callable[[], None]:
    """Return a function of a module that raises an error."""
    names: dict[str, Any] = {"__name__": module}
    exec(f"def fail():\n    raise {error}", names)
    return names["fail"]


@pytest.mark.parametrize(
    ("fail", "status", "told"),
    [
        (raising("RuntimeError('no minimum')", "diffrelax.sampling"), 1, "diffrelax: no minimum"),
        (raising("RuntimeError('a tensor')", "torch"), 3, "an error inside, RuntimeError"),
        (raising("ValueError('give another')", "diffrelax.dft"), 2, "diffrelax: give another"),
        (raising("ValueError('shapes')", "numpy"), 3, "please report it"),
        (raising("FileNotFoundError('no file')", "os"), 2, "diffrelax: no file"),
        (lambda: DFTSettings(fmax=-1), 2, "diffrelax: fmax: Input should be greater than 0"),
    ],
)
def test_what_went_wrong_is_told_by_the_status(
    fail: Callable[[], None],
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: fail())
    monkeypatch.setattr(cli, "keep_freed", lambda: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == status
    assert told in capsys.readouterr().err
