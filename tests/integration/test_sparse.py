"""Leaving packets out changes no frame that is analysed."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from tests.factories_video import (
    X264,
    add_sample_entry,
    add_sound,
    corrupt_packets,
    decode_all,
    make_video,
    read_truth,
    run_ffmpeg,
)

from inference.backends import DamageError, ErrorLog, Selection
from inference.probe import Probe, probe
from inference.sampling import sample_indices
from inference.sparse import plan_packets, read_sparsely

STREAMS: dict[str, dict[str, str]] = {
    "default": {},
    "few-references": {"bf": "3", "b-pyramid": "none", "refs": "1"},
    "pyramid": {"bf": "8", "x264-params": "b-pyramid=normal"},
    "strict-pyramid": {"bf": "8", "x264-params": "b-pyramid=strict"},
    "direct-temporal": {"bf": "3", "x264-params": "direct=temporal"},
    "weighted": {"bf": "3", "x264-params": "weightb=1:weightp=2"},
    "open-gop": {"bf": "3", "x264-params": "open-gop=1"},
    "slices": {"bf": "3", "x264-params": "slices=4"},
    "interlaced": {"bf": "3", "x264-params": "tff=1"},
    "many-references": {"bf": "4", "refs": "16"},
    "baseline": {"profile": "baseline", "bf": "0"},
    "scene-cuts": {"bf": "3", "x264-params": "scenecut=40"},
    # Its keyframes are none, so that decord, which jumps to them, gives pictures half refreshed.
    "refresh": {"x264-params": "intra-refresh=1", "bf": "0"},
    "all-intra": {"g": "1"},
}


def run_probe(path: Path) -> Probe:
    """Probe a file, whose progress does not matter."""
    return probe(path, 3600, lambda: None)


def expect_backend(kind: str, sample_fps: float) -> str:
    """Streams of P-frames have nothing to leave out but the ends of their groups."""
    if kind == "refresh":
        return "sparse" if sample_fps < 1 else "tolerant"
    return "decord" if kind == "baseline" and sample_fps > 2 else "sparse"


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("sample_fps", [0.4, 2.0, 5.0, 12.0])
async def test_same_frames(tmp_path: Path, kind: str, sample_fps: float) -> None:
    """Frames and times are those of decoding everything, however the encoder chose references."""
    options = {**X264, "preset": "veryfast", "g": "40", **STREAMS[kind]}
    path = make_video(tmp_path / "v.mp4", frames=240, width=320, height=180, options=options)

    decoded = await decode_all(path, sample_fps=sample_fps)

    truth = read_truth(path, decoded.opened.width, decoded.opened.height)
    taken = sample_indices(np.array(truth.times_ms), sample_fps)
    assert decoded.finished is not None
    assert decoded.finished.backend == decoded.opened.backend == expect_backend(kind, sample_fps)
    assert decoded.gaps == []
    assert decoded.times_ms == pytest.approx([truth.times_ms[i] for i in taken], abs=1.0)
    assert all(
        np.array_equal(pixels, truth.pixels[i])
        for i, pixels in zip(taken, decoded.pixels, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "sample_fps", "most"),
    [
        ("pyramid", 5.0, 0.6),
        ("few-references", 5.0, 0.6),
        ("all-intra", 5.0, 0.25),
        ("baseline", 0.5, 0.5),
    ],
)
def test_share_decoded(tmp_path: Path, kind: str, sample_fps: float, most: float) -> None:
    """Pictures that nothing refers to, and ends of groups, are not decoded."""
    options = {**X264, "preset": "veryfast", "g": "40", **STREAMS[kind]}
    path = make_video(tmp_path / "v.mp4", frames=240, options=options)

    needed = plan_packets(run_probe(path), Selection(sample_fps, None))

    assert needed is not None
    assert needed.mean() <= most


@pytest.mark.parametrize("sample_fps", [None, 24.0])
def test_every_frame(tmp_path: Path, sample_fps: float | None) -> None:
    """Where every frame is analysed there is nothing to leave out, and decord decodes."""
    path = make_video(tmp_path / "v.mp4")

    assert plan_packets(run_probe(path), Selection(sample_fps, None)) is None


async def test_rotated(tmp_path: Path) -> None:
    """Frames of a rotated video come upright."""
    path = tmp_path / "portrait.mp4"
    source = make_video(tmp_path / "v.mp4", frames=96)
    run_ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", path)

    sparse = await decode_all(path, sample_fps=5)
    whole = await decode_all(path, sample_fps=5, tolerant=True)

    assert sparse.opened.backend == "sparse"
    assert sparse.times_ms == whole.times_ms
    assert all(map(np.array_equal, sparse.pixels, whole.pixels))


@pytest.mark.parametrize("bf", ["0", "2", "3"])
@pytest.mark.parametrize("number", [30, 33, 44, 57])
@pytest.mark.parametrize("sample_fps", [5.0, 12.0])
async def test_damage(tmp_path: Path, bf: str, number: int, sample_fps: float) -> None:
    """Damage is told as the tolerant backend tells it; in pictures left out it changes nothing."""
    options = {**X264, "g": "24", "bf": bf}
    path = make_video(tmp_path / "v.mp4", frames=96, width=640, height=360, options=options)
    intact = await decode_all(path, sample_fps=sample_fps)
    corrupt_packets(path, number, number + 1, keep=40)
    needed = plan_packets(run_probe(path), Selection(sample_fps, None))

    sparse = await decode_all(path, sample_fps=sample_fps)
    whole = await decode_all(path, sample_fps=sample_fps, tolerant=True)

    assert sparse.times_ms == whole.times_ms
    assert sparse.finished is not None
    assert sparse.finished.decoded == 96
    if needed is None or needed[number]:
        assert sparse.gaps == whole.gaps != []
        assert sparse.finished.backend == "tolerant"
    else:
        assert sparse.gaps == []
        assert all(map(np.array_equal, sparse.pixels, intact.pixels))


@pytest.mark.parametrize("sample_fps", [0.5, 5.0])
async def test_parameters_change(tmp_path: Path, sample_fps: float) -> None:
    """Parameters that come beside a packet must reach the decoder: nothing is left out."""
    path = add_sound(make_video(tmp_path / "picture.mp4", frames=96), tmp_path / "v.mp4", 4)
    add_sample_entry(path)

    decoded = await decode_all(path, sample_fps=sample_fps)

    assert run_probe(path).tolerant_because == "its parameters change on the way"
    assert decoded.opened.backend == "tolerant"


async def test_cut_short(tmp_path: Path) -> None:
    """The rest that a cut file promised is a gap, also where the cut hurts no picture."""
    path = make_video(tmp_path / "v.mp4", frames=96, container_options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        sixtieth = list(container.demux(video=0))[59]
    assert sixtieth.pos is not None
    os.truncate(path, sixtieth.pos + sixtieth.size)

    decoded = await decode_all(path, sample_fps=5)

    assert [gap.cause for gap in decoded.gaps] == ["truncated"]
    assert decoded.gaps[0].end_ms == pytest.approx(4000, abs=1)


def test_a_frame_does_not_come(tmp_path: Path) -> None:
    """A sampled frame that the decoder keeps to itself is damage, not silence."""
    path = make_video(tmp_path / "v.mp4")
    facts = run_probe(path)
    selection = Selection(5.0, None)
    needed = plan_packets(facts, selection)
    assert needed is not None
    needed[np.flatnonzero(needed)[-1]] = False

    with pytest.raises(DamageError, match="did not come"):
        list(read_sparsely(path, facts, selection, needed=needed, threads=1, log=ErrorLog()))
