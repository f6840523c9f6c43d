"""The engine's features depend on the frames and their times, on nothing else."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inference.engine
from inference.engine import Carry, Engine
from inference.features import FrameFeatures

torch.set_num_threads(1)

FRAMES = 60
Floats = npt.NDArray[np.float64]


def make_clip(seed: int = 0, frames: int = FRAMES) -> npt.NDArray[np.uint8]:
    """A textured picture with an object that moves, stands still, and a cut; uint8 [N, H, W, 3]."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (2, 6, 10, 3)).repeat(8, 1).repeat(8, 2)
    clip = pictures[np.arange(frames) * 2 // frames]
    for at in range(frames // 4):
        clip[at, 10:30, 2 * at : 2 * at + 15] = 250
    clip[frames // 2 :, 0, 0, 0] = np.arange(frames - frames // 2)
    return clip.astype(np.uint8)


def make_times(frames: int = FRAMES) -> npt.NDArray[np.float64]:
    """A variable frame rate of about 12 frames a second, from a time that is not zero."""
    return 733.3 + np.cumsum(np.random.default_rng(4).uniform(20, 140, frames))


def measure(
    engine: Engine, carry: Carry, clip: npt.NDArray[np.uint8], cuts: list[int]
) -> FrameFeatures:
    """Features of a clip that is handed over in pieces."""
    times = make_times(len(clip))
    pieces = np.split(np.arange(len(clip)), cuts)
    parts = [engine.features(carry, clip[at], times[at]).to_arrays() for at in pieces]
    return FrameFeatures.from_arrays(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def assert_equal(left: FrameFeatures, right: FrameFeatures) -> None:
    """The same bits in every array."""
    for name, array in left.to_arrays().items():
        np.testing.assert_array_equal(array, right.to_arrays()[name], err_msg=name)


@settings(max_examples=20)
@given(st.sets(st.integers(1, FRAMES - 1)).map(sorted))
def test_batches_do_not_matter(cuts: list[int]) -> None:
    """However the frames are cut into batches, the features are the same bits."""
    engine, clip = Engine("cpu"), make_clip()
    whole = measure(engine, engine.open(), clip, [])

    pieces = measure(engine, engine.open(), clip, cuts)

    assert whole.motion_area.any()
    assert whole.frozen.any()
    assert_equal(pieces, whole)


def test_less_memory_makes_smaller_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed before the memory ended is forgotten, and the features are the same."""
    whole = measure(Engine("cpu"), Engine("cpu").open(), make_clip(), [])
    finish, pieces = inference.engine._described, list[int]()

    def run_out(carry: Carry, pts_ms: Floats, score: Floats) -> npt.NDArray[np.bool_]:
        described = finish(carry, pts_ms, score)
        pieces.append(len(pts_ms))
        if len(pts_ms) > 1 and sum(pieces) > 8:
            raise MemoryError
        return described

    engine = Engine("cpu")
    monkeypatch.setattr(inference.engine, "_described", run_out)
    scarce = measure(engine, engine.open(), make_clip(), [])

    assert pieces == [4, 4, 4, 2, *[1] * (FRAMES - 8)]
    assert_equal(scarce, whole)


def test_no_memory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even one frame fits, that is an error."""

    def run_out(*_: object) -> None:
        raise MemoryError

    engine = Engine("cpu")
    monkeypatch.setattr(inference.engine, "_described", run_out)

    with pytest.raises(MemoryError):
        measure(engine, engine.open(), make_clip(), [])


@settings(max_examples=20)
@given(st.integers(0, FRAMES - 1))
def test_a_carry_that_was_kept(at: int) -> None:
    """From a carry that was written down, the rest is measured as if nothing had happened."""
    engine, clip, times = Engine("cpu"), make_clip(), make_times()
    whole = measure(engine, engine.open(), clip, [])
    carry = engine.open()
    if at:
        engine.features(carry, clip[:at], times[:at])

    again = Engine("cpu").open(carry.to_arrays())
    rest = engine.features(again, clip[at:], times[at:])

    assert_equal(rest, whole.cut(at, FRAMES))


def test_videos_do_not_disturb_each_other() -> None:
    """Two videos that take turns on one engine get what each gets alone."""
    engine, clips = Engine("cpu"), [make_clip(1), make_clip(2)]
    alone = [measure(engine, engine.open(), clip, []) for clip in clips]
    carries, times = [engine.open(), engine.open()], make_times()
    turns: list[list[dict[str, npt.NDArray[np.generic]]]] = [[], []]

    for at in np.split(np.arange(FRAMES), [7, 30, 31]):
        for video in range(2):
            features = engine.features(carries[video], clips[video][at], times[at])
            turns[video].append(features.to_arrays())

    for video in range(2):
        together = {n: np.concatenate([t[n] for t in turns[video]]) for n in turns[video][0]}
        assert_equal(FrameFeatures.from_arrays(together), alone[video])


def test_buffer_is_reused() -> None:
    """The caller may overwrite the pixels as soon as the call returns."""
    engine, clip, times = Engine("cpu"), make_clip(), make_times()
    whole = measure(engine, engine.open(), clip, [])
    carry, buffer = engine.open(), np.empty_like(clip[:20])
    scores = []

    for start in range(0, FRAMES, 20):
        buffer[:] = clip[start : start + 20]
        features = engine.features(carry, buffer, times[start : start + 20])
        scores.append((features.content_score, features.freeze_difference))
        buffer[:] = 77

    np.testing.assert_array_equal(np.concatenate([c for c, _ in scores]), whole.content_score)
    np.testing.assert_array_equal(np.concatenate([f for _, f in scores]), whole.freeze_difference)


def test_read_only_pixels() -> None:
    """Pixels that may not be written, as a view into another process's memory, are fine."""
    engine, clip = Engine("cpu"), make_clip()
    whole = measure(engine, engine.open(), clip, [])
    clip.setflags(write=False)

    features = engine.features(engine.open(), clip, make_times())

    assert_equal(features, whole)


def test_described_frames() -> None:
    """The first frame of each second has a descriptor, each frame at a cut too, others not."""
    clip = make_clip(frames=50)
    times = np.linspace(20.0, 4920.0, 50)

    engine = Engine("cpu")
    features = engine.features(engine.open(), clip, times)

    assert np.flatnonzero(features.described).tolist() == [0, 10, 20, 25, 30, 40]
    lengths = np.linalg.norm(features.descriptor, axis=1)
    np.testing.assert_allclose(lengths, features.described, atol=1e-6)


def test_noise_compares_with_the_reference() -> None:
    """Two pictures in turn, each near the first: the reference stays, the difference is to it."""
    clip = np.full((40, 10, 10, 3), 100, np.uint8)
    clip[1::2, 0, 0] += 20
    clip[30:] = 120

    engine = Engine("cpu")
    features = engine.features(engine.open(), clip, np.linspace(0.0, 1560.0, 40))

    expected = np.where(np.arange(40) % 2, 20 / 100 / 256, 0.0)
    np.testing.assert_allclose(features.freeze_difference[1:30], expected[1:30])
    assert features.frozen.tolist() == [False] + [True] * 29 + [False] + [True] * 9


@pytest.mark.parametrize("size", [(2, 2), (2, 256), (256, 2), (144, 256), (5, 7)])
@pytest.mark.parametrize("level", [0, 255])
def test_flat_frames(size: tuple[int, int], level: int) -> None:
    """A flat frame of any size has finite features and a unit descriptor."""
    clip = np.full((3, *size, 3), level, np.uint8)

    engine = Engine("cpu")
    features = engine.features(engine.open(), clip, np.array([0.0, 1000.0, 2000.0]))

    assert all(np.isfinite(each).all() for each in features.to_arrays().values())
    np.testing.assert_allclose(np.linalg.norm(features.descriptor, axis=1), 1, atol=1e-6)
    assert features.black_ratio.tolist() == [float(level == 0)] * 3


def test_larger_frames_are_measured_at_the_usual_size() -> None:
    """Models want larger frames; what is built in gives about what it gives without them."""
    engine, clip = Engine("cpu"), make_clip()[:, :36, :64].repeat(4, 1).repeat(4, 2)
    usual = measure(engine, engine.open(), clip, [])
    carry = engine.open()

    larger = measure(engine, carry, clip.repeat(3, 1).repeat(3, 2), [7, 30])

    assert carry.hsv is not None
    assert tuple(carry.hsv.shape) == (1, 3, 144, 256)
    np.testing.assert_array_equal(larger.described, usual.described)
    np.testing.assert_array_equal(larger.frozen, usual.frozen)
    np.testing.assert_allclose(larger.content_score, usual.content_score, atol=1.5)
    assert (larger.descriptor * usual.descriptor).sum(1)[usual.described].min() > 0.98


def test_larger_frames_do_not_depend_on_batches() -> None:
    """They are made smaller one by one."""
    engine, clip = Engine("cpu"), make_clip()[:, :36, :64].repeat(10, 1).repeat(10, 2)
    whole = measure(engine, engine.open(), clip, [])

    pieces = measure(engine, engine.open(), clip, [1, 2, 9, 33])

    assert_equal(pieces, whole)


def test_size_may_not_change() -> None:
    """A frame of another size in the same video is an error, not a wrong number."""
    engine = Engine("cpu")
    carry = engine.open()
    engine.features(carry, np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1))

    with pytest.raises(ValueError, match="size changed"):
        engine.features(carry, np.zeros((1, 8, 10, 3), np.uint8), np.zeros(1))


def test_no_frames() -> None:
    """An empty batch is an error."""
    engine = Engine("cpu")

    with pytest.raises(ValueError, match="no frames"):
        engine.features(engine.open(), np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_asked_and_absent() -> None:
    """CUDA is never replaced by the CPU silently; only `auto` chooses."""
    with pytest.raises(RuntimeError, match="no CUDA"):
        Engine("cuda")

    assert Engine("auto").device.type == "cpu"


def test_features_refuse_unequal_lengths() -> None:
    """Arrays of different lengths are no features of the same frames."""
    engine = Engine("cpu")
    arrays = engine.features(engine.open(), make_clip(), make_times()).to_arrays()
    arrays["frozen"] = arrays["frozen"][1:]

    with pytest.raises(ValueError, match="frozen must be"):
        FrameFeatures.from_arrays(arrays)
