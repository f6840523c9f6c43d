"""Makes the small, upright RGB pictures that are analysed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame


@dataclass(slots=True)
class Scaler:
    """Makes upright working frames with the filter that decord uses: bicubic, to RGB."""

    width: int
    height: int
    quarter_turns: int
    _layout: tuple[object, ...] = ()
    _graph: Graph | None = None

    def scale(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Return uint8 [height, width, 3]; a picture that changes its size is fitted in."""
        layout = (frame.width, frame.height, frame.format.name, frame.color_range, frame.colorspace)
        if layout != self._layout:
            self._configure(frame)
            self._layout = layout
        if self._graph is None:
            raise AssertionError("configured above")
        self._graph.push(frame)
        scaled = self._graph.pull()
        if not isinstance(scaled, VideoFrame):
            raise TypeError("the graph has one video sink")
        return np.rot90(scaled.to_ndarray(), self.quarter_turns)

    def _configure(self, frame: VideoFrame) -> None:
        width, height = self.width, self.height
        if self.quarter_turns % 2:
            width, height = height, width
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        )
        scale = graph.add("scale", f"{width}:{height}:flags=bicubic")
        rgb = graph.add("format", "rgb24")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(rgb)
        rgb.link_to(sink)
        graph.configure()
        self._graph = graph
