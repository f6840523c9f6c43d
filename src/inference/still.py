"""Describes a picture from a file, so that it can be compared with what is stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
import torch

from inference.analyzers.descriptor import describe
from inference.frames import LONG_SIDE, working_size
from inference.scaling import Scaler


def read_picture(path: Path, side: int = LONG_SIDE) -> torch.Tensor:
    """Read the first picture of an image or video file as frames come to the device.

    uint8 [3, H, W] RGB, within `side` pixels as analysed frames are, by the same filter. The file
    is decoded in this process: for a person's own files, not for uploads.

    Raises:
        ValueError: there is no picture in the file that FFmpeg can read.
        OSError: the file cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
    except OSError:
        raise
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        raise ValueError(f"{path} holds no picture") from error
    turns = round(frame.rotation / 90) % 4
    pixels = Scaler(*working_size(frame.width, frame.height, turns, side), turns).scale(frame)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def describe_picture(path: Path) -> npt.NDArray[np.float32]:
    """Describe the first picture of a file: `dct-hog-v1`, float32 [256], length 1.

    Raises as `read_picture` does.
    """
    picture = read_picture(path)
    with one_thread():
        vector: npt.NDArray[np.float32] = describe(picture.to(torch.float32)).numpy()
    return vector


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in this thread alone.

    One picture is too little to share out, and on busy cores threads wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
