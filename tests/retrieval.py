"""Pictures, sixteen ways to change them, and how well a description finds them again."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch

from inference.analyzers.descriptor import describe

Picture = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float64]
HEIGHT, WIDTH, SCENES = 108, 192, 50


def make_picture(rng: np.random.Generator) -> Picture:
    """Shapes of random kind, place, size and colour on a soft background, often with stripes."""
    coarse = rng.uniform(0, 255, (*rng.integers(2, 7, 2), 3))
    soft = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    colour = rng.uniform(0, 0.8)
    soft = soft.mean(2, keepdims=True) * (1 - colour) + soft * colour
    picture = np.clip(soft, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(3, 12)):
        add_shape(rng, picture)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    wave = np.sin(row * rng.uniform(0.1, 1) + column * rng.uniform(-1, 1))[..., None]
    return to_pixels(picture + rng.integers(0, 2) * rng.uniform(5, 30) * wave)


def add_shape(rng: np.random.Generator, picture: Picture) -> None:
    """Draw one shape."""
    paint = [int(value) for value in rng.integers(0, 256, 3)]
    x, y, to_x, to_y = (int(v) for v in rng.integers(0, (WIDTH, HEIGHT, WIDTH, HEIGHT)))
    size = int(rng.integers(4, 40))
    match rng.integers(0, 4):
        case 0:
            cv2.circle(picture, (x, y), size, paint, -1)
        case 1:
            cv2.rectangle(picture, (x, y), (x + 2 * size, y + size), paint, -1)
        case 2:
            cv2.line(picture, (x, y), (to_x, to_y), paint, 1 + size // 6)
        case _:
            cv2.ellipse(picture, (x, y), (size, 1 + size // 3), to_x, 0, 360, paint, -1)


def to_pixels(values: npt.NDArray[np.floating]) -> Picture:
    """Rounded and clipped to a byte."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def crop(picture: Picture, keep: float) -> Picture:
    """The middle of a picture, enlarged to its size again."""
    height, width = round(HEIGHT * keep), round(WIDTH * keep)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 3
    part = picture[top : top + height, left : left + width]
    return np.asarray(cv2.resize(part, (WIDTH, HEIGHT)), np.uint8)


def recode(picture: Picture) -> Picture:
    """Through a strongly lossy codec and back."""
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 12])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def resize(picture: Picture, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """At another size."""
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def letterbox(picture: Picture) -> Picture:
    """With black bars above and below, as of a wider film."""
    bar = HEIGHT // 10
    changed = np.zeros_like(picture)
    changed[bar : HEIGHT - bar] = resize(picture, WIDTH, HEIGHT - 2 * bar)
    return changed


def add_noise(picture: Picture) -> Picture:
    """As a camera sees it in the evening."""
    return to_pixels(picture + np.random.default_rng(3).normal(0, 20, picture.shape))


def caption(picture: Picture) -> Picture:
    """With words at the bottom."""
    changed = picture.copy()
    place = (WIDTH // 10, HEIGHT * 9 // 10)
    cv2.putText(changed, "words below", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    return changed


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "crop": lambda picture: crop(picture, 0.8),
    "closer crop": lambda picture: crop(picture, 0.7),
    "flip": lambda picture: picture[:, ::-1].copy(),
    "flip and crop": lambda picture: crop(picture[:, ::-1].copy(), 0.85),
    "blur": lambda picture: np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), np.uint8),
    "noise": add_noise,
    "recode": recode,
    "darker gamma": lambda picture: to_pixels(255 * (picture / 255) ** 2.0),
    "brighter gamma": lambda picture: to_pixels(255 * (picture / 255) ** 0.5),
    "contrast": lambda picture: to_pixels(picture * 0.6 + 30.0),
    "no colour": lambda picture: to_pixels(picture.mean(2, keepdims=True).repeat(3, 2)),
    "other colours": lambda picture: to_pixels(picture * np.array([0.8, 1.0, 1.2])),
    "letterbox": letterbox,
    "quarter size": lambda picture: resize(resize(picture, WIDTH // 4, HEIGHT // 4)),
    "stretched": lambda picture: resize(resize(picture, WIDTH, HEIGHT * 3 // 4)),
    "caption": caption,
}


def thumbnail(picture: Picture) -> Vectors:
    """The peer: 16 x 16 colour pixels, centred, as a unit vector."""
    small = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    small = np.asarray(small - small.mean())
    return np.asarray(small / np.linalg.norm(small))


def ours(picture: Picture) -> Vectors:
    """The descriptor of a picture."""
    planes = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32))
    return np.asarray(describe(planes).numpy(), np.float64)


def auc(
    describe_one: Callable[[Picture], Vectors], pictures: list[Picture], names: list[str]
) -> float:
    """Area under ROC: how often a picture and its changed copy are nearer than another pair."""
    originals = np.stack([describe_one(picture) for picture in pictures])
    own, other = [], []
    for name in names:
        changed = np.stack([describe_one(CHANGES[name](picture)) for picture in pictures])
        likeness = changed @ originals.T
        own.append(np.diag(likeness))
        other.append(likeness[~np.eye(len(pictures), dtype=bool)])
    below = np.searchsorted(np.sort(np.concatenate(other)), np.concatenate(own))
    return float(below.mean() / sum(map(len, other)))


def make_pictures(count: int = SCENES) -> list[Picture]:
    """The same pictures each time."""
    rng = np.random.default_rng(17)
    return [make_picture(rng) for _ in range(count)]
