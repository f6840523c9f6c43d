"""`python -m chaos`: run it and print what happened.

Runs that are long enough to be quoted are also written to `bench/results/chaos.json`.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chaos.run import LEASE_SECONDS, Plan, Report, unleash
from poller.local.stack import running

RESULTS = Path(__file__).parents[1] / "bench" / "results"
_SHOWN = 10
_QUOTED_SECONDS = 300


def main() -> int:
    """Exit with 1 when anything was lost, doubled, wrong or left."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to disturb")
    parser.add_argument("--seed", type=int, default=None, help="of the monkey's choices")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--interval", type=float, default=0.45, help="mean seconds between blows")
    parser.add_argument("--only", default="", help="what to do, by a part of its name: frozen")
    chosen = parser.parse_args()
    seed = secrets.randbelow(2**32) if chosen.seed is None else chosen.seed
    console = Console()
    console.print(f"Seed {seed}")
    plan = Plan(chosen.seconds, seed, chosen.workers, chosen.interval, chosen.only)
    directory = Path(tempfile.mkdtemp(prefix="poller-chaos-"))
    with running(directory / "servers") as stack:
        report = asyncio.run(unleash(plan, stack, directory, console.print))
    console.print(_table(report))
    for kind, sentences in report.findings.kinds.items():
        for sentence in sentences[:_SHOWN]:
            console.print(f"{kind}: {sentence}", markup=False, style="red")
    if plan.seconds >= _QUOTED_SECONDS:
        _write(report)
    if report.findings.count:
        console.print(f"The logs are in {directory}")
    else:
        shutil.rmtree(directory)
    console.print(report.findings.verdict, soft_wrap=True, highlight=False)
    return 1 if report.findings.count else 0


def _table(report: Report) -> Table:
    table = Table("what", "count")
    for name, count in sorted(report.disturbances.items()):
        table.add_row(name, str(count))
    table.add_row("all disturbances", str(sum(report.disturbances.values())))
    table.add_row("SIGKILLs among them", str(report.kills), end_section=True)
    table.add_row("workers started", str(report.starts))
    table.add_row("uploads, with replacements", f"{report.uploads}, {report.revisions}")
    table.add_row("announcements", str(report.announcements))
    table.add_row("sent to fail", str(report.poison))
    table.add_row("deliveries settled", str(report.deliveries))
    table.add_row("attempts fenced off", str(report.fenced))
    table.add_row("taken over after a kill", _takeovers(report))
    table.add_row("queue empty after", f"{report.quiet_seconds:.0f} s")
    table.add_row(
        "overwritten, without an end", str(len(report.findings.unended)), end_section=True
    )
    for kind, sentences in report.findings.kinds.items():
        table.add_row(kind, str(len(sentences)) if not sentences else f"[red]{len(sentences)}[/]")
    return table


def _takeovers(report: Report) -> str:
    times = report.takeovers
    if not times:
        return "0"
    median = times[len(times) // 2]
    return f"{len(times)}; median {median:.0f} s, slowest {times[-1]:.0f} s"


def _write(report: Report) -> None:
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": len(os.sched_getaffinity(0))},
        "seconds": report.plan.seconds,
        "seed": report.plan.seed,
        "workers": report.plan.workers,
        "interval_seconds": report.plan.interval_seconds,
        "lease_seconds": LEASE_SECONDS,
        "disturbances": dict(sorted(report.disturbances.items())),
        "disturbances_in_all": sum(report.disturbances.values()),
        "kills": report.kills,
        "uploads": report.uploads,
        "revisions": report.revisions,
        "announcements": report.announcements,
        "sent_to_fail": report.poison,
        "deliveries_settled": report.deliveries,
        "attempts_fenced_off": report.fenced,
        "takeover_seconds": [round(seconds, 1) for seconds in report.takeovers],
        "queue_empty_after_seconds": round(report.quiet_seconds),
        "overwritten_without_an_end": len(report.findings.unended),
        "breaches": {kind: len(found) for kind, found in report.findings.kinds.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "chaos.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
