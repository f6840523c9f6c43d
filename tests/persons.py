"""A video of two coloured rectangles, and a bundle whose models take them for persons."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.bundle import Bundle
from inference.samples import write_video
from tests.factories_bundle import AGE, DETECTOR, EMBEDDER, GENDER, write_bundle, write_embedder
from tests.known_models import write_colour_classifier, write_rectangle_detector

RED, BLUE = (255, 0, 0), (0, 0, 255)
HEIGHT, WIDTH = 144, 256
WORDS = 'labels = { Woman = "female", Man = "male" }'


ACTION = """
[attributes.action]
model = "action"
kind = "label"
intervals = true
"""


def make_people(root: Path) -> Bundle:
    """Red is a man of 40, blue a woman of 70; whoever is red sits, and who is blue waves."""
    root.mkdir()
    write_rectangle_detector(root / "detector")
    write_colour_classifier(root / "gender", ("Woman", "Man"), red=(0, 6), blue=(6, 0))
    write_colour_classifier(root / "age", ("years",), red=(40,), blue=(70,))
    write_colour_classifier(root / "action", ("waves", "sits"), red=(0, 6), blue=(6, 0))
    write_embedder(root / "embedder", "clip")
    return write_bundle(root, DETECTOR, GENDER + WORDS, AGE, ACTION, EMBEDDER)


def paint(*boxes: tuple[tuple[int, int, int], tuple[int, int, int, int]]) -> npt.NDArray[np.uint8]:
    """Rectangles on grey: colour, then left, top, right, bottom in eighths; uint8 [H, W, 3]."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for colour, (left, top, right, bottom) in boxes:
        rows = slice(top * HEIGHT // 8, bottom * HEIGHT // 8)
        picture[rows, left * WIDTH // 8 : right * WIDTH // 8] = colour
    return picture


def write_walk(path: Path) -> None:
    """Five seconds at 10 fps: red from 1 s to 4 s, missed at 2 s; blue from 2.5 s to the end."""
    frames = []
    for at in range(50):
        boxes = []
        if 10 <= at < 40 and at != 20:
            boxes.append((RED, (1, 2, 3, 6)))
        if at >= 25:
            boxes.append((BLUE, (5, 1, 7, 6)))
        frames.append((at, paint(*boxes)))
    write_video(path, frames, time_base=Fraction(1, 10), fps=Fraction(10), options={"crf": "4"})


def write_change(path: Path) -> None:
    """Five seconds at 10 fps: somebody who is red until 2.8 s, and blue from then on."""
    frames = [(at, paint((RED if at < 28 else BLUE, (1, 2, 3, 6)))) for at in range(50)]
    write_video(path, frames, time_base=Fraction(1, 10), fps=Fraction(10), options={"crf": "4"})


def write_passing(path: Path) -> None:
    """Four seconds at 10 fps: red crosses the view, by its own width in each half of a second."""
    frames = [(at, paint((RED, (at // 5, 2, at // 5 + 1, 6)))) for at in range(40)]
    write_video(path, frames, time_base=Fraction(1, 10), fps=Fraction(10), options={"crf": "4"})
