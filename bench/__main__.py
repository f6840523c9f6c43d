"""`python -m bench`: measure, print a table, write JSON to `bench/results/`."""

import argparse
import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import checkpoints, claims, flow, heartbeat, memory, search, store, takeover
from bench.measure import Measurement
from bench.stack import stack

RESULTS = Path(__file__).parent / "results"
BENCHES: dict[str, Callable[[Path], list[Measurement]]] = {
    "claims": lambda _: asyncio.run(claims.measure()),
    "flow": lambda directory: asyncio.run(flow.measure(directory)),
    "memory": lambda directory: asyncio.run(memory.measure(directory)),
    "heartbeat": lambda _: asyncio.run(heartbeat.measure()),
    "checkpoints": lambda directory: asyncio.run(checkpoints.measure(directory)),
    "store": lambda _: asyncio.run(store.measure()),
    "search": lambda _: asyncio.run(search.measure()),
    "takeover": lambda directory: asyncio.run(takeover.measure(directory)),
}


def main() -> None:
    """Run all benches, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="default: all of them")
    names = parser.parse_args().names or list(BENCHES)
    console = Console()
    found: list[Measurement] = []
    with stack() as environment, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        os.environ.update(environment)
        for name in names:
            console.print(f"Measuring {name} …")
            found += BENCHES[name](Path(directory))
    console.print(_table(found))
    _write(found, names)


def _table(found: list[Measurement]) -> Table:
    table = Table("what", "ours", "peer", "ratio", "target", "")
    for one in found:
        table.add_row(
            one.what,
            f"{one.ours:.2f} {one.unit}",
            f"{one.peer:.2f} {one.unit}",
            f"{one.ratio:.2f}",
            one.target_text,
            "reached" if one.is_reached else "[bold]missed[/bold]",
        )
    return table


def _write(found: list[Measurement], names: list[str]) -> None:
    RESULTS.mkdir(exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "measurements": [one.to_json() for one in found],
    }
    path = RESULTS / f"{'-'.join(names)}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
