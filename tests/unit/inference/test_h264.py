"""Reading the headers of H.264 pictures in real streams."""

from itertools import islice
from pathlib import Path

import av
import pytest
from tests.factories_video import X264, make_video

from inference.h264 import Pictures

STREAMS = {
    "plain": {"bf": "0"},
    "b-frames": {"bf": "3"},
    "pyramid": {"bf": "8", "x264-params": "b-pyramid=normal"},
    "open-gop": {"bf": "3", "x264-params": "open-gop=1"},
    "interlaced": {"x264-params": "tff=1"},
    "scaling-lists": {"x264-params": "cqm=jvt"},
    "lossless": {"qp": "0"},
    "all-intra": {"g": "1"},
    "refresh": {"x264-params": "intra-refresh=1", "bf": "0"},
    "long": {"g": "400", "bf": "0"},
}


def follow(path: Path, without: int | None = None) -> list[int]:
    """Numbers of the packets that do not follow, one packet left out."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = Pictures.from_configuration(stream.codec_context.extradata or b"")
        assert pictures is not None
        return [
            number
            for number, packet in enumerate(container.demux(stream))
            if packet.size and number != without and not pictures.read(memoryview(packet)).follows
        ]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_intact(tmp_path: Path, kind: str, pixel_format: str) -> None:
    """In an intact stream, each packet follows the one before, whatever the encoder did."""
    options = {**X264, "preset": "veryfast", **STREAMS[kind]}
    path = make_video(
        tmp_path / "v.mp4", frames=300, height=96, options=options, pixel_format=pixel_format
    )

    assert follow(path) == []


@pytest.mark.parametrize("kind", ["plain", "interlaced", "scaling-lists", "refresh", "long"])
@pytest.mark.parametrize("number", [1, 12, 24, 31])
def test_loss(tmp_path: Path, kind: str, number: int) -> None:
    """Where a picture that others refer to is lost, the next one does not follow."""
    options = {**X264, **STREAMS[kind], "bf": "0"}
    path = make_video(tmp_path / "v.mp4", height=96, options=options)

    assert follow(path, without=number) == [number + 1]


@pytest.mark.parametrize(
    "configuration",
    [b"", b"\x01", b"\x00\x00\x00\x01gd", bytes(40), b"\x01d\x00\x1e\xff\xe1\x00\x02gd"],
)
def test_no_configuration(configuration: bytes) -> None:
    """A stream whose parameters are elsewhere, or cut, cannot be followed."""
    assert Pictures.from_configuration(configuration) is None


def test_garbage_does_not_follow(tmp_path: Path) -> None:
    """Bytes that are no slice are no continuation, and no error."""
    with av.open(str(make_video(tmp_path / "v.mp4"))) as container:
        context = container.streams.video[0].codec_context
        pictures = Pictures.from_configuration(context.extradata or b"")
    assert pictures is not None

    answers = [pictures.read(memoryview(b"\x00" * n)).follows for n in range(20)]

    assert not any(answers)


def test_parameters_in_band(tmp_path: Path) -> None:
    """A packet that brings parameter sets is told apart from one that is a picture only."""
    options = {**X264, "g": "12", "x264-params": "repeat-headers=1"}
    path = make_video(tmp_path / "v.mp4", frames=36, height=96, options=options)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = Pictures.from_configuration(stream.codec_context.extradata or b"")
        assert pictures is not None
        found = [
            (packet.is_keyframe, pictures.read(memoryview(packet)).has_parameters)
            for packet in container.demux(stream)
            if packet.size
        ]

    assert [has_parameters for _, has_parameters in found] == [is_key for is_key, _ in found]


def make_unit(kind: int, *fields: tuple[int, int] | int) -> bytes:
    """A NAL unit of numbers: Exp-Golomb, or of a width where a pair says so."""
    bits = ""
    for field in fields:
        value, width = field if isinstance(field, tuple) else (field + 1, 0)
        bits += f"{value:0{width}b}" if width else f"{value:b}".zfill(2 * value.bit_length() - 1)
    bits += "1" + "0" * (-len(bits) - 1 & 7)
    return bytes([3 << 5 | kind]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize(("frames_only", "flag"), [(1, 0), (0, 0), (0, 1)])
def test_fields(frames_only: int, flag: int) -> None:
    """A picture that is coded as fields is told from a frame of an interlaced stream."""
    # seq_parameter_set: main profile, POC type 2, one reference, 16 x 16, frame_mbs_only_flag
    parameters = make_unit(7, (77, 8), (0, 16), 0, 0, 2, 1, (0, 1), 0, 0, (frames_only, 1), (0, 5))
    configuration = b"\x01M\x00\x1e\xff\xe1" + len(parameters).to_bytes(2, "big") + parameters
    pictures = Pictures.from_configuration(configuration)
    assert pictures is not None
    # slice_header: first_mb_in_slice, slice_type I, parameter set, frame_num, field_pic_flag
    unit = make_unit(5, 0, 7, 0, (0, 4), (flag, 1), (0, 40))

    picture = pictures.read(memoryview(len(unit).to_bytes(4, "big") + unit))

    assert picture.is_field == bool(flag)
    assert picture.follows
    assert picture.is_intra


def test_intra_in_part(tmp_path: Path) -> None:
    """A picture whose first slice only is intra is not decoded from itself alone."""
    options = {**X264, "g": "2", "x264-params": "slices=2:scenecut=0"}
    with av.open(str(make_video(tmp_path / "v.mp4", height=96, options=options))) as container:
        stream = container.streams.video[0]
        pictures = Pictures.from_configuration(stream.codec_context.extradata or b"")
        assert pictures is not None
        intra, predicted = (bytes(p) for p in islice(container.demux(stream), 2))
    first = 4 + int.from_bytes(intra[:4], "big")
    while intra[4] & 31 != 5:  # messages come before the picture
        intra = intra[first:]
        first = 4 + int.from_bytes(intra[:4], "big")
    mixed = intra[:first] + predicted[4 + int.from_bytes(predicted[:4], "big") :]

    assert pictures.read(memoryview(intra)).is_intra
    assert not pictures.read(memoryview(mixed)).is_intra
