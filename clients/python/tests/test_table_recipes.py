"""The recipes of the main README for tables: each counts the events of each type, those not sealed included."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from server import Server
from test_parquet import permits, sealed_through

import annals

README = Path(__file__).resolve().parents[3] / "README.md"
TITLES = ["The history as tables, to the last event", "SQL, at any position"]
SECTIONS = [
    re.search(rf"^## {title}$(.*?)^## ", README.read_text("utf-8"), re.MULTILINE | re.DOTALL) for title in TITLES
]
RECIPES = [
    recipe
    for section in SECTIONS
    for recipe in re.findall(r"^```python\n(.*?)^```$", section[1] if section else "", re.MULTILINE | re.DOTALL)
]
NAMES = [
    *["pyarrow.flight", "Polars", "DuckDB", "pandas"],
    *["SQL", "ADBC", "Polars with ADBC", "pandas with ADBC", "DuckDB with ADBC"],
]
SEAL_EVENTS = 1_000


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Counter[str]]]:
    """A server, and how many events of each type it has: most of them sealed, some not."""
    server = Server(tmp_path_factory.mktemp("tables") / "data", f"limits.seal_events={SEAL_EVENTS}")
    server.start()
    events = list(permits())
    with annals.connect(server.url) as client:
        for first in range(0, len(events), 250):
            client.append(events[first : first + 250])
        sealed = sealed_through(client, len(events) // SEAL_EVENTS * SEAL_EVENTS).sealed
    assert 0 < sealed < len(events)
    yield server, Counter(event.event_type for event in events)
    server.kill()


def test_there_is_a_recipe_for_each_reader() -> None:
    assert len(RECIPES) == len(NAMES)


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_counts_the_events_of_each_type(history: tuple[Server, Counter[str]], recipe: str) -> None:
    server, wanted = history
    assert "127.0.0.1:4747" in recipe
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(recipe.replace("127.0.0.1:4747", f"127.0.0.1:{server.port}"), "<README>", "exec"), names)  # noqa: S102
    types = names["types"]
    match types:
        case pa.Table():
            counts = list(zip(*(types.column(n).to_pylist() for n in (0, 1)), strict=True))
            if types.schema.field(1).name == "event_type":
                counts = [(event_type, count) for count, event_type in counts]
        case pl.DataFrame():
            counts = types.rows()
        case pd.Series():
            counts = list(types.items())
        case _:
            counts = types.fetchall()
    assert dict(counts) == wanted
    assert [count for _, count in counts] == sorted(wanted.values(), reverse=True)
