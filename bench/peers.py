"""What the service is measured against: a bare loop, and the flow that it replaces.

Run as a process: `python -m bench.peers loop FPS FILE…`, or `replaced FPS KEY…` with keys of
objects in `POLLER_RAW_BUCKET`; prints the seconds it took.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import asyncpg
import boto3
import cv2
import numpy as np
import torch

from inference.backends import ErrorLog, Sampled, Selection
from inference.child import open_log
from inference.decoder_main import open_frames
from inference.engine import Engine
from inference.events import Results
from inference.probe import probe
from inference.sampling import sample_indices
from inference.timeline import Timeline

WIDTH, HEIGHT, FPS = 256, 144, 25.0
"""What the service makes of the bench's videos; the flow replaced need not find it out."""
_BATCH = 32


def loop(files: Sequence[Path], sample_fps: float) -> list[Results]:
    """Decode and analyse in this process, as fast as the same code goes without a service."""
    engine = Engine("cpu")
    return [_loop_one(engine, path, sample_fps) for path in files]


def _loop_one(engine: Engine, path: Path, sample_fps: float) -> Results:
    facts = probe(path, 3600, lambda: None)
    selection = Selection(sample_fps, None)
    _, items = open_frames(path, facts, selection, tolerant=False, threads=1, log=ErrorLog())
    carry = engine.open()
    timeline = Timeline(source_fps=facts.info.fps, sample_fps=sample_fps)
    frames = (item for item in items if isinstance(item, Sampled))
    while batch := list(islice(frames, _BATCH)):
        pts_ms = np.array([frame.pts_ms for frame in batch])
        pixels = np.stack([frame.pixels for frame in batch])
        timeline.push(pts_ms, engine.features(carry, pixels, pts_ms))
    return timeline.finish(facts.end_ms)


def replaced(keys: Sequence[str], sample_fps: float) -> list[Results]:
    """Download, decode every frame with OpenCV, analyse one at a time, insert row by row."""
    engine = Engine("cpu")
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for key in keys:
            local = Path(directory) / "video.mp4"
            boto3.client("s3").download_file(os.environ["POLLER_RAW_BUCKET"], key, str(local))
            found = _replaced_one(engine, local, sample_fps)
            asyncio.run(_insert_rows(found))
            results.append(found)
    return results


def _replaced_one(engine: Engine, path: Path, sample_fps: float) -> Results:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    pts_ms = np.arange(count) * 1000 / FPS
    chosen = set(sample_indices(pts_ms, sample_fps).tolist())
    carry = engine.open()
    timeline = Timeline(source_fps=FPS, sample_fps=sample_fps)
    index = 0
    while True:
        more, picture = capture.read()
        if not more:
            break
        if index in chosen:
            rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            frame = cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            at = pts_ms[index : index + 1]
            timeline.push(at, engine.features(carry, np.asarray(frame, np.uint8)[None], at))
        index += 1
    capture.release()
    return timeline.finish(count * 1000 / FPS)


async def _insert_rows(results: Results) -> None:
    connection = await asyncpg.connect(os.environ["POLLER_DATABASE_URL"])
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS replaced_events (LIKE events INCLUDING ALL);"
        "CREATE TABLE IF NOT EXISTS replaced_embeddings (LIKE embeddings INCLUDING ALL);"
        "TRUNCATE replaced_events, replaced_embeddings"
    )
    for seq, event in enumerate(results.events):
        await connection.execute(
            "INSERT INTO replaced_events (analysis_id, lease_token, seq, event_type, start_ms,"
            " end_ms) VALUES (1, 1, $1, $2, $3, $4)",
            seq,
            event.event_type,
            event.start_ms,
            event.end_ms,
        )
    for seq, embedding in enumerate(results.embeddings):
        await connection.execute(
            "INSERT INTO replaced_embeddings (analysis_id, lease_token, seq, kind, start_ms,"
            " end_ms, model, embedding) VALUES (1, 1, $1, $2, $3, $4, $5, $6::text::halfvec)",
            seq,
            embedding.kind,
            embedding.start_ms,
            embedding.end_ms,
            embedding.model,
            str(embedding.vector.tolist()),
        )
    await connection.close()


async def run_split(
    kind: str, files: Sequence[Path | str], sample_fps: float, processes: int
) -> float:
    """Run a peer in so many processes, the files or keys shared out; seconds of the slowest.

    The time to start Python is left out, as it is for the service.
    """
    with ExitStack() as stack:
        started = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.peers", kind, str(sample_fps)),
                *(str(path) for path in files[number::processes]),
                stdout=asyncio.subprocess.PIPE,
                stderr=stack.enter_context(open_log()),
            )
            for number in range(processes)
        ]
        outputs = [(await process.communicate())[0] for process in started]
    return max(float(output.split()[-1]) for output in outputs)


def main() -> None:
    """Run one peer and print how long it took."""
    kind, sample_fps, *names = sys.argv[1:]
    torch.set_num_threads(1)
    started = time.monotonic()
    if kind == "loop":
        loop([Path(name) for name in names], float(sample_fps))
    else:
        replaced(names, float(sample_fps))
    print(time.monotonic() - started)


if __name__ == "__main__":
    main()
