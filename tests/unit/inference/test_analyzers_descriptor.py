"""The embedding finds a changed picture again, and better than a thumbnail would."""

import cv2
import numpy as np
import pytest
import torch
from tests.retrieval import CHANGES, HEIGHT, WIDTH, Picture, auc, make_pictures, ours, thumbnail

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """The same fifty pictures for each test."""
    return make_pictures()


def test_better_than_a_thumbnail(pictures: list[Picture]) -> None:
    """Over all changes together, retrieval is far better than by a thumbnail."""
    names = list(CHANGES)

    score, peer = auc(ours, pictures, names), auc(thumbnail, pictures, names)

    assert score > 0.99
    assert score > peer + 0.02


@pytest.mark.parametrize("name", CHANGES)
def test_each_change(pictures: list[Picture], name: str) -> None:
    """No single change is where a thumbnail does clearly better."""
    score = auc(ours, pictures, [name])

    assert score > 0.97
    assert score > auc(thumbnail, pictures, [name]) - 0.01


def test_mirror_image(pictures: list[Picture]) -> None:
    """A picture and its mirror image have the same vector."""
    for picture in pictures[:10]:
        np.testing.assert_allclose(ours(picture), ours(picture[:, ::-1].copy()), atol=2e-6)


def test_scale(pictures: list[Picture]) -> None:
    """A picture at another size has nearly the same vector."""
    for picture in pictures[:10]:
        small = np.asarray(cv2.resize(picture, (128, 72), interpolation=cv2.INTER_AREA), np.uint8)
        assert ours(picture) @ ours(small) > 0.97


@pytest.mark.parametrize("level", [0, 1, 2, 128, 255])
def test_nothing_to_see(level: int) -> None:
    """A flat picture, black too, has a finite vector of length 1."""
    vector = ours(np.full((HEIGHT, WIDTH, 3), level, np.uint8))

    assert vector.shape == (256,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-6


def test_no_two_cancel_out(pictures: list[Picture]) -> None:
    """Each vector's constant is positive, so that no mean of vectors is zero."""
    assert all(ours(picture)[-1] > 0 for picture in pictures)


def test_black_is_not_white() -> None:
    """Flat pictures are told apart by their brightness."""
    black, white = (ours(np.full((HEIGHT, WIDTH, 3), level, np.uint8)) for level in (0, 255))

    assert black @ white < 0.5
