"""Generated clips that hold what the detectors are about; uint8 [N, H, W, 3] RGB, from a seed."""

import functools
import math

import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH = 48, 80

Clip = npt.NDArray[np.uint8]


def texture(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> Clip:
    """One picture of coloured blobs and blocks; uint8 [H, W, 3]."""
    cells = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    blocks = cells.repeat(8, 0).repeat(8, 1)[:height, :width]
    row, column = np.mgrid[:height, :width]
    waves = sum(
        rng.uniform(10, 40)
        * np.sin(row * rng.uniform(0, 0.4) + column * rng.uniform(0, 0.4) + rng.uniform(0, 6))
        for _ in range(3)
    )
    return _pixels(blocks * rng.uniform(0.2, 0.9) + np.asarray(waves)[..., None])


def still(rng: np.random.Generator, frames: int) -> Clip:
    """The same picture again and again."""
    return texture(rng)[None].repeat(frames, 0)


def noisy(rng: np.random.Generator, frames: int, sigma: float) -> Clip:
    """A still picture seen by a camera with noise."""
    picture = still(rng, frames)
    return _pixels(picture + rng.normal(0, sigma, picture.shape))


def pan(rng: np.random.Generator, frames: int) -> Clip:
    """A camera that moves over a wider picture."""
    wide = texture(rng, HEIGHT, WIDTH + 2 * frames)
    return np.stack([wide[:, 2 * at : 2 * at + WIDTH] for at in range(frames)])


def drift(rng: np.random.Generator, frames: int, levels_per_frame: float) -> Clip:
    """A picture that grows brighter so slowly that no frame differs from the one before."""
    picture = still(rng, frames).astype(np.float64) * 0.5
    return _pixels(picture + levels_per_frame * np.arange(frames)[:, None, None, None])


def fade(rng: np.random.Generator, frames: int) -> Clip:
    """One picture dissolves into another."""
    share = np.linspace(0, 1, frames)[:, None, None, None]
    return _pixels(texture(rng) * (1 - share) + texture(rng) * share)


def fade_out(rng: np.random.Generator, frames: int) -> Clip:
    """A picture goes down to black."""
    share = np.linspace(1, 0, frames)[:, None, None, None]
    return _pixels(texture(rng) * share)


def flash(rng: np.random.Generator, frames: int) -> Clip:
    """A noisy picture with a white frame in the middle."""
    clip = noisy(rng, frames, 3).copy()
    clip[frames // 2] = 250
    return clip


def flicker(rng: np.random.Generator, frames: int) -> Clip:
    """A new picture every few frames: cuts that are too near to each other."""
    return np.concatenate([still(rng, 4) for _ in range(math.ceil(frames / 4))])[:frames]


def black(rng: np.random.Generator, frames: int, lit: float = 0.0, level: int = 12) -> Clip:
    """A dark picture of which the share `lit` is white."""
    clip = rng.integers(0, level, (frames, HEIGHT, WIDTH, 3)).astype(np.uint8)
    clip[:, : round(HEIGHT * lit)] = 255
    return clip


@functools.cache
def mixed(seed: int) -> Clip:
    """A clip of about 20 s at 25 fps made of all kinds in random order and lengths."""
    rng = np.random.default_rng(seed)
    kinds = [
        lambda n: still(rng, n),
        lambda n: noisy(rng, n, 0.3),
        lambda n: noisy(rng, n, 5),
        lambda n: pan(rng, n),
        lambda n: drift(rng, n, 0.01),
        lambda n: fade(rng, n),
        lambda n: fade_out(rng, n),
        lambda n: flash(rng, n),
        lambda n: flicker(rng, n),
        lambda n: black(rng, n),
        lambda n: black(rng, n, lit=0.015),
        lambda n: black(rng, n, lit=0.03),
        lambda n: black(rng, n, level=60),
    ]
    order = rng.permutation(len(kinds))
    return np.concatenate([kinds[at](int(rng.integers(5, 75))) for at in order])


def _pixels(values: npt.NDArray[np.float64]) -> Clip:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
