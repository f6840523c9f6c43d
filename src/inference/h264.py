"""Notices that an H.264 stream has lost pictures, by the numbers that its slices carry.

FFmpeg drops or invents pictures after such a loss without a word at error level, and decord, which
counts pictures, gives all that follow the wrong time. Source: ITU-T H.264, 7.3.2.1.1, 7.3.3, 7.4.3.
"""

from dataclasses import dataclass
from typing import Self

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_HEADER_BYTES = 48
"""Enough for all that is read of a slice header."""
_SLICE, _IDR_SLICE = 1, 5


class _Bits:
    """Reads bits from a NAL unit behind its first byte, emulation prevention removed."""

    def __init__(self, unit: bytes) -> None:
        payload = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
        self._value = int.from_bytes(payload, "big")
        self._left = len(payload) * 8

    def read(self, count: int) -> int:
        """Read a fixed-length number; raises ValueError at the end of the data."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit is too short")
        return (self._value >> self._left) & ((1 << count) - 1)

    def read_golomb(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def read_signed_golomb(self) -> int:
        """Read a signed Exp-Golomb number."""
        number = self.read_golomb()
        return (number + 1) // 2 if number % 2 else -(number // 2)


@dataclass(slots=True)
class FrameNumbers:
    """Follows `frame_num` through the packets of a stream, in decoding order."""

    length_bytes: int
    """Bytes of the length in front of each NAL unit."""
    number_bits: int
    has_planes: bool
    """Colour planes are coded apart, which puts a field into each slice header."""
    _previous: int | None = None

    @classmethod
    def from_configuration(cls, configuration: bytes) -> Self | None:
        """Read an `avcC` record; None if the stream cannot be followed by it alone."""
        single_set = len(configuration) > 8 and configuration[5] & 31 == 1
        if not single_set or configuration[0] != 1:
            return None
        size = int.from_bytes(configuration[6:8], "big")
        try:
            bits, planes = _read_set(configuration[8 : 8 + size])
        except ValueError:
            return None
        return cls((configuration[4] & 3) + 1, bits, planes)

    def follows(self, packet: memoryview) -> bool:
        """Tell whether a packet continues the one before it, with no picture lost between."""
        try:
            unit = self._first_slice(packet)
            number = self._read_number(unit)
        except ValueError:
            return False
        before, modulus = self._previous, 1 << self.number_bits
        if unit[0] & 31 == _IDR_SLICE:
            self._previous = 0
            return number == 0
        if unit[0] >> 5 & 3:  # only pictures that others refer to are counted
            self._previous = number
        return before is None or number in {before, (before + 1) % modulus}

    def _first_slice(self, packet: memoryview) -> bytes:
        at = 0
        while at + self.length_bytes < len(packet):
            size = int.from_bytes(packet[at : at + self.length_bytes], "big")
            at += self.length_bytes
            if packet[at] & 31 in {_SLICE, _IDR_SLICE}:
                return bytes(packet[at : at + min(size, _HEADER_BYTES)])
            at += size
        raise ValueError("a packet without a slice")

    def _read_number(self, unit: bytes) -> int:
        bits = _Bits(unit)
        for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
            bits.read_golomb()
        if self.has_planes:
            bits.read(2)
        return bits.read(self.number_bits)


def _read_set(unit: bytes) -> tuple[int, bool]:
    """Read a sequence parameter set: the bits of `frame_num`, and whether planes are apart.

    Raises:
        ValueError: it is cut, or allows gaps in `frame_num`, which then tell nothing.
    """
    bits = _Bits(unit)
    profile, _ = bits.read(8), bits.read(16)
    bits.read_golomb()  # seq_parameter_set_id
    planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.read_golomb()
        planes = chroma == 3 and bool(bits.read(1))
        bits.read_golomb()  # bit_depth_luma
        bits.read_golomb()  # bit_depth_chroma
        bits.read(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.read(1):
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    number_bits = bits.read_golomb() + 4
    _skip_order_count(bits)
    bits.read_golomb()  # max_num_ref_frames
    if bits.read(1):
        raise ValueError("gaps in frame_num are allowed")
    return number_bits, planes


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    for index in range(count):
        if not bits.read(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.read_signed_golomb()) % 256
            last = following or last


def _skip_order_count(bits: _Bits) -> None:
    kind = bits.read_golomb()
    if kind == 0:
        bits.read_golomb()
    elif kind == 1:
        bits.read(1)
        bits.read_signed_golomb()
        bits.read_signed_golomb()
        for _ in range(bits.read_golomb()):
            bits.read_signed_golomb()
