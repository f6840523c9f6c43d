"""The count at the end: what was lost, doubled, wrong, or left lying about."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from chaos.traffic import Upload

Digest = tuple[Any, ...]
"""What an analysis found: its facts, and checksums of its rows."""

_ANALYSES = """
SELECT v.object_key, v.external_id, a.id, a.revision, a.state, a.attempts, a.lease_token,
       a.error_code, a.error_message, a.events_count, a.embeddings_count,
       ARRAY(SELECT DISTINCT lease_token FROM events WHERE analysis_id = a.id UNION
             SELECT DISTINCT lease_token FROM embeddings WHERE analysis_id = a.id) AS tokens,
       a.done_token, a.lease_expires_at <= clock_timestamp() AS is_expired,
       (a.duration_seconds, a.width, a.height, a.fps, a.codec, a.frames_analyzed)::text AS facts,
       e.count AS event_rows, e.digest AS events, m.count AS embedding_rows,
       m.digest AS embeddings
FROM analyses a
JOIN videos v ON v.id = a.video_id
CROSS JOIN LATERAL (
    SELECT count(*), md5(string_agg(
        (to_jsonb(e) - 'analysis_id' - 'lease_token')::text, ';' ORDER BY seq)) AS digest
    FROM events e WHERE analysis_id = a.id
) e
CROSS JOIN LATERAL (
    SELECT count(*), md5(string_agg(
        (to_jsonb(m) - 'analysis_id' - 'lease_token')::text, ';' ORDER BY seq)) AS digest
    FROM embeddings m WHERE analysis_id = a.id
) m
ORDER BY a.id
"""


_DIGESTED = ("facts", "events_count", "embeddings_count", "events", "embeddings")
_OUTAGE = re.compile(
    r"Resetting connection with an active transaction"
    r"|Future exception was never retrieved\nfuture: <Future finished exception=Connection"
    r"|Task exception was never retrieved\nfuture: <Task finished .* coro=<PoolConnectionHolder"
)
"""How asyncpg logs sessions that end in the middle of a COPY, or do not answer when they are given
back; its caller is told as well."""


@dataclass(slots=True)
class Findings:
    """Breaches of the promise, by kind; each is a sentence."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    """No breach: overwritten revisions whose message was deleted, as delivered twice, while they
    were worked on, and whose worker was killed then. `poller reconcile` announces them again."""

    @property
    def kinds(self) -> dict[str, list[str]]:
        """All of them, with the words of the table."""
        return {
            "lost": self.lost,
            "doubled": self.doubled,
            "wrong": self.wrong,
            "dead letters amiss": self.dead_letters,
            "still in flight": self.stuck,
            "left behind": self.left,
            "errors nobody expects": self.bugs,
        }

    @property
    def count(self) -> int:
        """Of all kinds together."""
        return sum(map(len, self.kinds.values()))

    @property
    def verdict(self) -> str:
        """The end of a run in a line: whether every kind is at 0, or which are not."""
        broken = {kind: found for kind, found in self.kinds.items() if found}
        shown = ", ".join(f"{len(found)} {kind}" for kind, found in (broken or self.kinds).items())
        return f"{'NOT held' if broken else 'All held'}: {shown}."


async def read_analyses(
    database: "asyncpg.Pool[asyncpg.Record]",
) -> list[Mapping[str, Any]]:
    """Every analysis with checksums of its rows."""
    return [dict(row) for row in await database.fetch(_ANALYSES)]


def digest(row: Mapping[str, Any]) -> Digest:
    """What must be the same for the same bytes."""
    return tuple(row[name] for name in _DIGESTED)


def audit_videos(
    rows: Iterable[Mapping[str, Any]],
    uploads: Iterable[Upload],
    references: Mapping[str, Digest],
    findings: Findings,
) -> None:
    """Compare what is stored with what was uploaded; `references` are digests by revision."""
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_key.setdefault(row["object_key"], []).append(row)
    for upload in uploads:
        _audit_upload(upload, by_key.get(upload.key, []), references, findings)


def _audit_upload(
    upload: Upload,
    rows: list[Mapping[str, Any]],
    references: Mapping[str, Digest],
    findings: Findings,
) -> None:
    newest = [row for row in rows if row["revision"] == upload.newest.revision]
    if not any(row["state"] == "done" for row in newest):
        states = [f"{row['state']} ({row['error_code']})" for row in newest]
        findings.lost.append(f"{upload.key}: {', '.join(states) or 'no analysis'}")
    if len(newest) > 1:
        findings.doubled.append(f"{upload.key}: {len(newest)} analyses of one revision")
    if any(row["external_id"] != str(upload.number) for row in rows):
        findings.wrong.append(f"{upload.key}: it has the id of another video")
    for row in rows:
        where = f"{upload.key}, revision {row['revision'][:8]}, analysis {row['id']}"
        if row["state"] not in ("done", "failed", "superseded"):
            is_current = row in newest or not row["is_expired"]
            (findings.stuck if is_current else findings.unended).append(f"{where}: {row['state']}")
        elif row["state"] == "failed":
            findings.lost.append(f"{where}: failed, {row['error_code']} {row['error_message']}")
        if row["tokens"] not in ([], [row["done_token"]]):
            findings.doubled.append(f"{where}: rows under the tokens {row['tokens']}")
        counted = (row["events_count"] or 0, row["embeddings_count"] or 0)
        if counted != (row["event_rows"], row["embedding_rows"]):
            findings.doubled.append(f"{where}: {counted} rows are counted, others are there")
        if row["state"] == "done":
            expected = references[row["revision"]]
            findings.wrong += [
                f"{where}: its {name} differ from those of an undisturbed run"
                for name, ours, theirs in zip(_DIGESTED, digest(row), expected, strict=True)
                if ours != theirs
            ]


def audit_dead_letters(
    letters: Iterable[Mapping[str, Any]], poison: Mapping[str, str], findings: Findings
) -> None:
    """Compare the DLQ with what was sent to fail: each there, nothing else, each with its reason.

    One letter may be there twice: a worker that dies between the DLQ and the delete sends it again.
    """
    found: dict[str, set[str | None]] = {}
    for letter in letters:
        found.setdefault(_poison_of(letter["Body"], poison), set()).add(_reason(letter))
    for name, reason in poison.items():
        if name not in found:
            findings.dead_letters.append(f"{name} ({reason}) is not in the DLQ")
    for name, reasons in found.items():
        if reasons != {poison.get(name)}:
            expected = poison.get(name, "no place there")
            findings.dead_letters.append(f"{name}: {reasons} where it has {expected}")


def audit_logs(lines: Iterable[Mapping[str, Any]], findings: Findings) -> None:
    """Find what workers log when something happens that nobody foresaw."""
    for line in lines:
        if _OUTAGE.match(line["event"]):
            continue
        if line.get("level") in ("error", "critical") or line["event"].startswith("Traceback"):
            text = str(line.get("exception", "")).strip().splitlines()[-1:]
            findings.bugs.append(f"{line['log']}: {line['event'][:200]} {' '.join(text)[:300]}")


def _poison_of(body: str, poison: Mapping[str, str]) -> str:
    if body in poison:
        return body
    try:
        found = json.loads(body)
        record = found["Records"][0] if "Records" in found else found
        key: str = record["s3"].get("key") or record["s3"]["object"]["key"]
    except (ValueError, KeyError, TypeError):
        return body
    return key


def _reason(letter: Mapping[str, Any]) -> str | None:
    reason: str | None = letter.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
    return reason
