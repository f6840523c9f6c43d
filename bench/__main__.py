"""`python -m bench`: measure, print a table, and write JSON to `bench/results/` for each part."""

import argparse
import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    auto,
    batches,
    checkpoints,
    claims,
    decoder,
    descriptor,
    feed,
    flow,
    heartbeat,
    isolation,
    keyframes,
    memory,
    search,
    shots,
    store,
    takeover,
)
from bench.measure import Measurement
from bench.stack import stack

RESULTS = Path(__file__).parent / "results"
WITH_STACK: dict[str, Callable[[Path], list[Measurement]]] = {
    "claims": lambda _: asyncio.run(claims.measure()),
    "flow": lambda directory: asyncio.run(flow.measure(directory)),
    "memory": lambda directory: asyncio.run(memory.measure(directory)),
    "heartbeat": lambda _: asyncio.run(heartbeat.measure()),
    "checkpoints": lambda directory: asyncio.run(checkpoints.measure(directory)),
    "store": lambda _: asyncio.run(store.measure()),
    "search": lambda _: asyncio.run(search.measure()),
    "takeover": lambda directory: asyncio.run(takeover.measure(directory)),
}
WITHOUT: dict[str, Callable[[Path], list[Measurement]]] = {
    "isolation": lambda directory: asyncio.run(isolation.measure(directory)),
    "feed": lambda directory: asyncio.run(feed.measure(directory)),
    "batches": lambda directory: asyncio.run(batches.measure(directory)),
    "shots": lambda directory: asyncio.run(shots.measure(directory)),
    "keyframes": lambda directory: asyncio.run(keyframes.measure(directory)),
    "auto": lambda directory: asyncio.run(auto.measure(directory)),
    "decoder": lambda directory: asyncio.run(decoder.measure(directory)),
    "descriptor": lambda _: descriptor.measure(),
}
"""They need no servers."""
BENCHES = WITH_STACK | WITHOUT


def main() -> None:
    """Run all benches, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="default: all of them")
    names = parser.parse_args().names or list(BENCHES)
    console = Console()
    found: list[Measurement] = []
    with ExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        if not WITHOUT.keys() >= set(names):
            os.environ.update(opened.enter_context(stack()))
        for name in names:
            console.print(f"Measuring {name} …")
            measured = BENCHES[name](directory)
            write(name, measured)
            found += measured
    console.print(table(found))


def table(found: list[Measurement]) -> Table:
    """What was measured, for a person."""
    drawn = Table("what", "ours", "peer", "ratio", "target", "")
    for one in found:
        drawn.add_row(
            one.what,
            f"{one.ours:.2f} {one.unit}",
            f"{one.peer:.2f} {one.unit}",
            f"{one.ratio:.2f}",
            one.target_text,
            _verdict(one),
        )
    return drawn


def _verdict(one: Measurement) -> str:
    if one.target is None:
        return ""
    return "reached" if one.is_reached else "[bold]missed[/bold]"


def write(name: str, found: list[Measurement], **machine: object) -> None:
    """Keep what a part measured; `machine` says more about where."""
    RESULTS.mkdir(exist_ok=True)
    here = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**here, **machine},
        "measurements": [one.to_json() for one in found],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
