"""What the processes say to each other."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inference.frames import Gap, VideoInfo
from inference.wire import (
    Alive,
    Changed,
    Filled,
    Finished,
    Message,
    Opened,
    OutOfMemory,
    Rejected,
    WireError,
    clean_text,
    pack,
    parse_line,
    read_arrays,
    unpack_header,
    write_line,
)

INFO = VideoInfo("matroska,webm", "vp9", 640, 360, 29.97, 12.5, 375)


@pytest.mark.parametrize(
    "message",
    [
        Opened(INFO, 256, 144, "decord"),
        Filled(2, (0.0, 33.333333333333336, 66.66666666666667)),
        Alive(4),
        Changed(1, 40.0, 27.5),
        Finished(375, 1.25, 12500.0, "tolerant", 1.5),
        Rejected("too_long", "5 h"),
        OutOfMemory("malloc"),
        Gap(1.5, 2.5, "damaged"),
    ],
)
def test_round_trip(message: Message) -> None:
    """Each message arrives as it was sent; times lose nothing."""
    line = write_line(message)

    assert parse_line(line) == message
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        b'{"kind":"exec"}\n',
        b'{"kind":"alive"}\n',
        b'{"kind":"alive","decoded":"1"}\n',
        b'{"kind":"alive","decoded":true}\n',
        b'{"kind":"alive","decoded":1.5}\n',
        b'{"kind":"alive","decoded":1,"more":1}\n',
        b'{"kind":"filled","slab":0,"pts_ms":[]}\n',
        b'{"kind":"filled","slab":0,"pts_ms":[2,1]}\n',
        b'{"kind":"filled","slab":0,"pts_ms":[1,1]}\n',
        b'{"kind":"filled","slab":0,"pts_ms":[NaN]}\n',
        b'{"kind":"filled","slab":0,"pts_ms":[1,"2"]}\n',
        b'{"kind":"filled","slab":0,"pts_ms":7}\n',
        b'{"kind":"filled","slab":[],"pts_ms":[1]}\n',
        b'{"kind":"gap","start_ms":2,"end_ms":1,"cause":"damaged"}\n',
        b'{"kind":"gap","start_ms":1,"end_ms":2,"cause":"magic"}\n',
        b'{"kind":"gap","start_ms":1,"end_ms":Infinity,"cause":"damaged"}\n',
        b'{"kind":"gap","start_ms":1,"end_ms":1' + b"0" * 400 + b',"cause":"damaged"}\n',
        b'{"kind":"rejected","reason":"because","detail":""}\n',
        b'{"kind":"rejected","reason":"too_long","detail":7}\n',
        b'{"kind":"rejected","reason":"too_long","detail":"' + b"x" * 501 + b'"}\n',
        b'{"kind":"opened","info":{},"width":2,"height":2,"backend":"tolerant"}\n',
        b'{"kind":"opened","info":7,"width":2,"height":2,"backend":"tolerant"}\n',
        b'{"kind":"finished","decoded":1,"seconds":1,"end_ms":1,"backend":"x","cpu_seconds":-1}\n',
        b"[" * 100_000,
    ],
)
def test_nonsense_is_refused(line: bytes) -> None:
    """A decoder that a hostile file took over can send anything; only messages pass."""
    with pytest.raises(WireError):
        parse_line(line)


def test_impossible_frame_size() -> None:
    """Frames without area are refused."""
    line = write_line(Opened(INFO, 0, 144, "decord"))

    with pytest.raises(WireError, match="frame size"):
        parse_line(line)


@given(st.binary(max_size=200))
def test_any_bytes(line: bytes) -> None:
    """Whatever comes, it is a message or a WireError."""
    try:
        message: Message | None = parse_line(line)
    except WireError:
        message = None

    assert message is None or parse_line(write_line(message)) == message


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.sampled_from([np.float32, np.float64, np.bool_, np.uint8, np.int64]).flatmap(
            lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0, max_side=4))
        ),
        max_size=4,
    )
)
def test_arrays_round_trip(sent: dict[str, np.ndarray]) -> None:
    """Arrays of every dtype and shape that travel arrive bit for bit."""
    message = b"".join(pack({"id": 5}, sent))
    length = int.from_bytes(message[:4], "big")

    header, size = unpack_header(message[4 : 4 + length])
    received = read_arrays(header, message[4 + length :])

    assert header["id"] == 5
    assert size == len(message) - 4 - length
    assert list(received) == list(sent)
    for name, array in sent.items():
        assert received[name].dtype == array.dtype
        assert received[name].shape == array.shape
        assert received[name].tobytes() == array.tobytes()


def test_objects_do_not_travel() -> None:
    """An array of Python objects is refused instead of pickled."""
    with pytest.raises(WireError, match="does not travel"):
        pack({}, {"x": np.array([object()])})


@pytest.mark.parametrize(
    "described",
    [7, [7], [["x", "object", [1]]], [["x", "float32", [-1]]], [["x", "float32", ["1"]]]],
)
def test_impossible_arrays(described: object) -> None:
    """A header that describes no arrays is refused before any byte is read for it."""
    with pytest.raises(WireError):
        unpack_header(json.dumps({"arrays": described}).encode())


def test_foreign_text_becomes_one_line() -> None:
    """Control characters and line breaks in a decoder's text cannot forge a log line."""
    text = clean_text("a\n\x1b[31m b\x00\u2028c" + "x" * 1000)

    assert text.startswith("a [31m b c")
    assert len(text) == 500
