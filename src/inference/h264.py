"""Reads from the headers of H.264 whether pictures were lost, and which ones others refer to.

FFmpeg drops or invents pictures after such a loss without a word at error level, and decord, which
counts pictures, gives all that follow the wrong time. Source: ITU-T H.264, 7.3.2.1.1, 7.3.3, 7.4.3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_HEADER_BYTES = 48
"""Enough for all that is read of a slice header."""
_SLICE, _IDR_SLICE = 1, 5
_INTRA_TYPES = frozenset({2, 4, 7, 9})
_DISPOSABLE = frozenset({6, 9, 10, 12})
"""Unit types that go with their picture: messages, delimiters, ends, filler."""


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


@dataclass(frozen=True, slots=True)
class Picture:
    """What a packet's headers say of its picture."""

    follows: bool
    """It continues the packet before it, with no picture lost between."""
    is_reference: bool
    """Others may be decoded from it."""
    is_idr: bool
    """Nothing behind it refers to anything before it."""
    is_intra: bool
    """It is decoded from itself alone."""
    is_field: bool
    """It is one half of the lines only; the other one may be in another packet."""
    has_parameters: bool
    """It carries more than a picture: parameter sets, which may hold for all that follows."""


_UNREADABLE = Picture(
    follows=False,
    is_reference=True,
    is_idr=False,
    is_intra=False,
    is_field=False,
    has_parameters=True,
)


@dataclass(slots=True)
class Pictures:
    """Follows the pictures of a stream by their `frame_num`, in decoding order."""

    length_bytes: int
    """Bytes of the length in front of each NAL unit."""
    number_bits: int
    has_planes: bool
    """Colour planes are coded apart, which puts a field into each slice header."""
    has_fields: bool
    """Pictures may be coded as two fields, each with a packet of its own or not."""
    _previous: int | None = None

    @classmethod
    def from_configuration(cls, configuration: bytes) -> Self | None:
        """Read an `avcC` record; None if the stream cannot be followed by it alone."""
        single_set = len(configuration) > 8 and configuration[5] & 31 == 1
        if not single_set or configuration[0] != 1:
            return None
        size = int.from_bytes(configuration[6:8], "big")
        try:
            return cls((configuration[4] & 3) + 1, *_read_set(configuration[8 : 8 + size]))
        except ValueError:
            return None

    def read(self, packet: memoryview) -> Picture:
        """Read the packet that comes next."""
        try:
            units = list(self._units(packet))
            slices = [unit for unit in units if unit[0] & 31 in {_SLICE, _IDR_SLICE}]
            types, numbers, fields = zip(*map(self._read_slice, slices), strict=True)
        except ValueError:
            return _UNREADABLE
        is_idr = slices[0][0] & 31 == _IDR_SLICE
        kinds = {unit[0] & 31 for unit in units}
        return Picture(
            follows=self._follows(numbers[0], is_idr=is_idr, is_counted=slices[0][0] >> 5 & 3 > 0),
            is_reference=any(unit[0] >> 5 & 3 for unit in units),
            is_idr=is_idr,
            is_intra=_INTRA_TYPES.issuperset(types),
            is_field=any(fields),
            has_parameters=not kinds <= {_SLICE, _IDR_SLICE} | _DISPOSABLE,
        )

    def _follows(self, number: int, *, is_idr: bool, is_counted: bool) -> bool:
        before, modulus = self._previous, 1 << self.number_bits
        if is_idr:
            self._previous = 0
            return number == 0
        if is_counted:  # only pictures that others refer to are
            self._previous = number
        return before is None or number in {before, (before + 1) % modulus}

    def _units(self, packet: memoryview) -> Iterator[bytes]:
        """Yield the beginning of each NAL unit."""
        at = 0
        while at + self.length_bytes < len(packet):
            size = int.from_bytes(packet[at : at + self.length_bytes], "big")
            at += self.length_bytes
            if size:
                yield bytes(packet[at : at + min(size, _HEADER_BYTES)])
            at += size

    def _read_slice(self, unit: bytes) -> tuple[int, int, bool]:
        """Read `slice_type`, `frame_num` and `field_pic_flag`."""
        bits = _Bits(unit)
        bits.read_golomb()  # first_mb_in_slice
        slice_type = bits.read_golomb()
        bits.read_golomb()  # pic_parameter_set_id
        if self.has_planes:
            bits.read(2)
        return slice_type, bits.read(self.number_bits), self.has_fields and bool(bits.read(1))


def _read_set(unit: bytes) -> tuple[int, bool, bool]:
    """Read a sequence parameter set: the bits of `frame_num`, separate planes, possible fields.

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
    bits.read_golomb()  # pic_width_in_mbs_minus1
    bits.read_golomb()  # pic_height_in_map_units_minus1
    return number_bits, planes, not bits.read(1)


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
