"""What SQL costs: a server's answers beside DuckDB's on the same Parquet files, with as many threads.

    ANNALS_BIN=target/release/annals python clients/python/benchmarks/sql.py --events 5000000

Appends so many events, waits until they are sealed, and asks both in turns, so that what the machine does otherwise
meets both. Prints medians. Server and client share the machine; the server also reads what is not sealed yet.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import duckdb
import pyarrow as pa
import pyarrow.flight as fl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from server import Server

import annals

BATCH_ROWS = 8_192
ENTITIES = 200_000
TYPES = [f"case.{what}" for what in ("opened", "granted", "refused", "moved", "closed", "paid", "noted", "merged")]
OFFICES = ["north", "south", "east", "west", "centre", "harbour", "hills", "valley"]
COUNT = "SELECT event_type, count(*) AS events FROM {events} GROUP BY event_type"
SUM = (
    "SELECT payload ->> 'office' AS office, sum(CAST(payload ->> 'amount' AS BIGINT)) AS amount "
    "FROM {events} GROUP BY 1"
)


def batches(count: int, rng: random.Random) -> list[pa.RecordBatch]:
    """Events about many entities; payloads are JSON of about 200 bytes."""

    def payload() -> str:
        value = {"office": rng.choice(OFFICES), "amount": rng.randrange(1_000_000), "by": f"{rng.getrandbits(64):016x}"}
        text = json.dumps(value)
        return text[:-1] + ', "note": "' + " ".join(rng.choices(TYPES, k=10))[: 180 - len(text)] + '"}'

    return [
        pa.record_batch(
            {
                "entity_id": [f"case-{rng.randrange(ENTITIES)}" for _ in range(BATCH_ROWS)],
                "event_type": [rng.choice(TYPES) for _ in range(BATCH_ROWS)],
                "payload": [payload() for _ in range(BATCH_ROWS)],
            }
        )
        for _ in range(count)
    ]


def fill(url: str, events: int) -> None:
    pool = batches(16, random.Random(1))
    with annals.connect(url) as store:
        for n in range(-(-events // BATCH_ROWS)):
            for _ in store.ingest(pool[n % len(pool)]):
                pass
        while True:
            stats = store.stats().tenants[0]
            if stats.head - stats.sealed < 300_000:
                break
            time.sleep(0.2)
        time.sleep(5)
        stats = store.stats().tenants[0]
        print(f"{stats.head:,} events, {stats.sealed:,} of them sealed", flush=True)


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return (time.perf_counter() - begun) * 1e3


def told(what: str, found: list[float]) -> float:
    median = statistics.median(found)
    print(f"{what}: {median:,.1f} ms  {[f'{one:,.1f}' for one in found]}", flush=True)
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=7, help="of each statement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="annals-sql-") as folder:
        data = Path(folder) / "data"
        server = Server(data)
        server.start()
        try:
            fill(server.url, args.events)
            files = str(data / "tenants" / "default" / "segments" / "*.parquet")
            duck = duckdb.connect(config={"threads": os.cpu_count() or 1})
            duck.execute(f"CREATE VIEW files AS SELECT * FROM read_parquet('{files}')")  # noqa: S608
            url = server.url.replace("http", "grpc")
            with fl.connect(url) as client, annals.connect(server.url) as store, flight_sql.connect(url) as adbc:

                def sql(statement: str) -> pa.Table:
                    return client.do_get(fl.Ticket(json.dumps({"sql": statement}).encode())).read_all()

                for what, statement in (("count by type", COUNT), ("sum of a payload field by another", SUM)):
                    ours: list[float] = []
                    theirs: list[float] = []
                    for _ in range(args.rounds):
                        ours.append(timed(lambda s=statement: sql(s.format(events="events"))))  # type: ignore[misc]
                        theirs.append(timed(lambda s=statement: duck.execute(s.format(events="files")).fetchall()))  # type: ignore[misc]
                    ratio = told(what, ours) / told(f"{what}, DuckDB {duckdb.__version__}", theirs)
                    print(f"{what}: {ratio:.2f} x DuckDB")
                rng = random.Random(2)
                entity = "SELECT * FROM events WHERE entity_id = 'case-{}' ORDER BY position"
                told(
                    "one entity's events",
                    [timed(lambda: sql(entity.format(rng.randrange(ENTITIES)))) for _ in range(5 * args.rounds)],
                )
                last = "SELECT * FROM events ORDER BY position DESC LIMIT 1000"
                told("last 1,000 positions", [timed(lambda: sql(last)) for _ in range(3 * args.rounds)])
                first, second = TYPES[0], TYPES[4]
                told(
                    "correlation of two types",
                    [
                        timed(lambda: store.correlation(first, second, within=timedelta(hours=1)))
                        for _ in range(args.rounds)
                    ],
                )
                told(
                    "metadata: catalogs, schemas and tables",
                    [timed(lambda: adbc.adbc_get_objects(depth="tables").read_all()) for _ in range(3 * args.rounds)],
                )
                told(
                    "metadata: schema of a table",
                    [timed(lambda: adbc.adbc_get_table_schema("events")) for _ in range(3 * args.rounds)],
                )
        finally:
            server.stop()


if __name__ == "__main__":
    main()
