"""Decides which packets of a video must be decoded to get some of its pictures, and no others."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class References:
    """What refers to what, for the N packets of a stream in decoding order."""

    pts: npt.NDArray[np.int64]
    """int64 [N]: presentation times, each its own."""
    is_reference: npt.NDArray[np.bool_]
    """bool [N]: other pictures may be decoded from this one."""
    is_idr: npt.NDArray[np.bool_]
    """bool [N]: nothing from here on refers to anything before."""
    has_parameters: npt.NDArray[np.bool_]
    """bool [N]: the packet carries what later ones may need, whatever refers to its picture."""

    def __post_init__(self) -> None:
        if len({getattr(self, field.name).shape for field in fields(self)}) != 1:
            raise ValueError("one value of each kind for each packet")

    def needed(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return bool [N]: the packets without which the pictures shown at `wanted` differ.

        Left out are pictures that nothing refers to, and, behind the last wanted picture of a
        group, all up to the next IDR picture.
        """
        is_wanted = np.isin(self.pts, wanted)
        group = np.cumsum(self.is_idr)
        last = np.full(int(group[-1]) + 1 if len(group) else 0, -1)
        np.maximum.at(last, group[is_wanted], np.flatnonzero(is_wanted))
        leads_to_wanted = np.arange(len(group)) < last[group]
        return is_wanted | self.has_parameters | self.is_reference & leads_to_wanted
