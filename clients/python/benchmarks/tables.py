"""What the columnar door costs: Arrow Flight into and out of a server, beside pyarrow on the same Parquet files.

    ANNALS_BIN=target/release/annals python clients/python/benchmarks/tables.py --events 5000000

Appends so many events with DoPut, waits until they are sealed, and reads them back in several ways, in turns, so that
what the machine does otherwise meets all of them. Prints medians. Server and client share the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from server import Server

import annals

BATCH_ROWS = 8_192
PAYLOAD_BYTES = 200
ENTITIES = 200_000
NARROW = ["position", "event_type", "recorded_at"]
WORDS = ["granted", "refused", "parcel", "zoning", "review", "office", "district", "permit", "street", "house"]


def batches(count: int, rng: random.Random) -> list[pa.RecordBatch]:
    """Events about many entities; payloads are JSON with words and numbers, each of about 200 bytes."""
    made = []
    for _ in range(count):
        payloads = []
        for _ in range(BATCH_ROWS):
            text = " ".join(rng.choices(WORDS, k=12))
            payload = json.dumps({"amount": rng.randrange(1_000_000), "note": text, "by": rng.getrandbits(64)})
            payloads.append(payload[:-1] + ', "pad": "' + "x" * max(0, PAYLOAD_BYTES - len(payload) - 11) + '"}')
        made.append(
            pa.record_batch(
                {
                    "entity_id": [f"case-{rng.randrange(ENTITIES)}" for _ in range(BATCH_ROWS)],
                    "event_type": [f"case.{rng.choice(WORDS)}" for _ in range(BATCH_ROWS)],
                    "payload": payloads,
                }
            )
        )
    return made


def put(client: fl.FlightClient, events: int) -> float:
    """Events a second, each answered after it was durable."""
    pool = batches(16, random.Random(1))
    rounds = -(-events // BATCH_ROWS)
    begun = time.perf_counter()
    writer, results = client.do_put(fl.FlightDescriptor.for_path("events"), pool[0].schema)
    answered = 0

    def take() -> None:
        nonlocal answered
        while results.read() is not None:
            answered += 1

    reader = threading.Thread(target=take)
    reader.start()
    for n in range(rounds):
        writer.write_batch(pool[n % len(pool)])
    writer.done_writing()
    reader.join()
    writer.close()
    if answered != rounds:
        raise SystemExit(f"{answered} of {rounds} batches were answered")
    return rounds * BATCH_ROWS / (time.perf_counter() - begun)


def chunks(reader: fl.FlightStreamReader) -> Iterator[pa.RecordBatch]:
    for chunk in reader:
        yield chunk.data


def get(client: fl.FlightClient, **ticket: object) -> float:
    """Events a second."""
    begun = time.perf_counter()
    rows = sum(batch.num_rows for batch in chunks(client.do_get(fl.Ticket(json.dumps(ticket).encode()))))
    return rows / (time.perf_counter() - begun)


def read_files(files: list[Path], columns: list[str] | None) -> float:
    """Events a second, read by pyarrow alone with one thread."""
    begun = time.perf_counter()
    rows = 0
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(columns=columns, use_threads=False):
                rows += batch.num_rows
    return rows / (time.perf_counter() - begun)


def first_batch(client: fl.FlightClient, **ticket: object) -> float:
    """Seconds from the call to rows."""
    begun = time.perf_counter()
    reader = client.do_get(fl.Ticket(json.dumps(ticket).encode()))
    while reader.read_chunk().data.num_rows == 0:
        pass
    took = time.perf_counter() - begun
    reader.cancel()
    return took


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the server is gone")


def memory(url: str, pid: int, clients: int, **ticket: object) -> tuple[int, int]:
    """Resident bytes of the server before, and at most while so many clients read everything."""
    idle = resident_bytes(pid)

    def read() -> None:
        with fl.connect(url.replace("http", "grpc")) as client:
            get(client, **ticket)

    threads = [threading.Thread(target=read) for _ in range(clients)]
    for thread in threads:
        thread.start()
    most = idle
    while any(thread.is_alive() for thread in threads):
        most = max(most, resident_bytes(pid))
        time.sleep(0.02)
    return idle, most


def median(measure: Callable[[], float], times: int) -> float:
    return statistics.median(measure() for _ in range(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="of each reading")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="annals-tables-") as folder:
        data = Path(folder) / "data"
        server = Server(data)
        server.start()
        pid = server.pid
        try:
            with fl.connect(server.url.replace("http", "grpc")) as client, annals.connect(server.url) as store:
                print(f"DoPut, batches of {BATCH_ROWS:,}: {put(client, args.events):,.0f} events/s", flush=True)
                while True:
                    stats = store.stats().tenants[0]
                    if stats.head - stats.sealed < 300_000:
                        break
                    time.sleep(0.2)
                time.sleep(5)
                stats = store.stats().tenants[0]
                files = sorted((data / "tenants" / "default" / "segments").glob("*.parquet"))
                sealed = stats.sealed
                size = sum(file.stat().st_size for file in files)
                print(f"{sealed:,} events sealed in {len(files)} files, {size / sealed:.0f} bytes an event")
                rates: dict[str, list[float]] = {}
                for _ in range(args.rounds):
                    for what, measure in (
                        ("pyarrow on the files, all columns", lambda: read_files(files, None)),
                        ("DoGet, all columns", lambda: get(client, through=sealed)),
                        ("pyarrow on the files, narrow", lambda: read_files(files, NARROW)),
                        ("DoGet, narrow", lambda: get(client, through=sealed, columns=NARROW)),
                    ):
                        rates.setdefault(what, []).append(measure())
                for what, found in rates.items():
                    print(f"{what}: {statistics.median(found):,.0f} events/s  {[f'{one:,.0f}' for one in found]}")
                share = statistics.median(rates["DoGet, all columns"]) / statistics.median(
                    rates["pyarrow on the files, all columns"]
                )
                print(f"DoGet, all columns, of what pyarrow reads itself: {share:.0%}")
                cold = [first_batch(client, after=args.events * n // 20) for n in range(20)]
                print(f"first batch: median {statistics.median(cold) * 1e3:.1f} ms, at most {max(cold) * 1e3:.1f} ms")
                idle, most = memory(server.url, pid, 4)
                print(f"resident: {idle / 1e6:.0f} MB idle, {most / 1e6:.0f} MB while 4 clients read everything")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
