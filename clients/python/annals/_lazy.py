"""Tables as Polars LazyFrames: a query fetches the columns and the rows that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
from polars.io.plugins import register_io_source

from annals._pushdown import narrowed
from annals._tickets import Selection
from annals.scan import Batches, rows_of

if TYPE_CHECKING:
    import pyarrow as pa


def frame(begin: Callable[[Selection], Batches], selection: Selection, schema: pa.Schema) -> pl.LazyFrame:
    """The rows of a selection that is pinned to a cut; `schema` is that of its table."""
    none = pl.DataFrame(schema.empty_table())

    def rows(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        # Also where there are no rows, Polars gets their columns from here.
        yield none if with_columns is None else none.select(with_columns)
        wanted = plan(selection, with_columns, predicate, n_rows)
        if wanted is None:
            return
        for batch in rows_of(begin(wanted)):
            fetched = pl.DataFrame(batch)
            yield fetched if predicate is None else fetched.filter(predicate)

    # Pure, as the cut is the same every time: a query with the same scan twice makes it once.
    return register_io_source(rows, schema=none.schema, is_pure=True)


def plan(
    selection: Selection, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None
) -> Selection | None:
    """What to ask the server for; None if there is nothing to ask for."""
    if with_columns:
        selection = replace(selection, columns=tuple(with_columns))
    if n_rows is not None:
        # Polars means the first rows of the table, of which it then wants those that the predicate lets through: the
        # server would give as many that the predicate lets through.
        return replace(selection, limit=n_rows) if n_rows > 0 else None
    return selection if predicate is None else narrowed(selection, predicate)
