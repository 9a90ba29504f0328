"""The examples of the README and of the docstrings run as they stand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest
from server import Server

import annals.aio
import annals.client

README = Path(__file__).resolve().parent.parent / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_readme_has_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_readme_runs(server: Server, monkeypatch: pytest.MonkeyPatch, example: str) -> None:
    monkeypatch.setenv("ANNALS_URL", server.url)
    # What does without the client knows nothing of the environment.
    example = example.replace("127.0.0.1:4747", f"127.0.0.1:{server.port}")
    exec(compile(example, "<README>", "exec"), {"__name__": "__main__"})  # noqa: S102


@pytest.mark.parametrize("module", [annals.client, annals.aio], ids=lambda module: module.__name__)
def test_the_examples_of_a_module_run(server: Server, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    monkeypatch.setenv("ANNALS_URL", server.url)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
