"""The order in which frames and crops go through the models of a bundle."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.factories_bundle import AGE, DETECTOR, EMBEDDER, GENDER, write_bundle, write_embedder
from tests.known_models import write_colour_classifier, write_rectangle_detector

from inference.models.line import Line, Look
from inference.models.loaded import Models
from inference.models.pixels import Preparation
from inference.sights import Sight

# One worker pays for the import of transformers.
pytestmark = pytest.mark.xdist_group("bundles")

BATCH = 4
FOREVER = float("inf")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Finds red and blue rectangles; red is a man of 40, blue a woman of 70."""
    root = tmp_path_factory.mktemp("bundle")
    write_rectangle_detector(root / "detector")
    write_colour_classifier(root / "gender", ("female", "male"), red=(0, 6), blue=(6, 0))
    write_colour_classifier(root / "age", ("years",), red=(40,), blue=(70,))
    write_embedder(root / "embedder", "clip")
    bundle = write_bundle(root, DETECTOR, GENDER, AGE, EMBEDDER)
    return Models.load(bundle, torch.device("cpu"), batch_size=BATCH)


def make_looks(video: int, persons: Sequence[int]) -> list[Look[int]]:
    """Frames of noise with a red person, a red and a blue one, or nobody; the owner is the video's.

    All are different, so that one taken for another would be noticed.
    """
    chance = np.random.default_rng(video)
    looks = []
    for count in persons:
        picture = chance.integers(90, 130, (90, 160, 3), np.uint8)
        for at, colour in enumerate([(250, 10, 0), (0, 10, 250)][:count]):
            picture[22:55, 20 + 80 * at : 60 + 80 * at] = colour
        looks.append(Look(video, video, torch.from_numpy(picture).permute(2, 0, 1)))
    return looks


class Watched:
    """A line, and what it says that it begins."""

    def __init__(
        self, models: Models, *, depth: int = 1, wait: float = FOREVER, alone: int = 0
    ) -> None:
        self.line = Line[int](models, wait, depth, alone, self._note)
        self.begun = list[tuple[set[int], int]]()

    def _note(self, owners: set[int], frames: int) -> None:
        self.begun.append((owners, frames))

    @property
    def frames(self) -> list[int]:
        """Of each batch that was begun; 0: of crops."""
        return [frames for _, frames in self.begun]

    def finish(self, videos: int = 1) -> list[Look[int]]:
        """Go on until nothing is left to do."""
        out = list[Look[int]]()
        while self.line.due(videos) is not None:
            out += self.line.step(videos)
        return out


def assert_equal(seen: Sight, expected: Sight) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(seen.persons.boxes, expected.persons.boxes)
    np.testing.assert_array_equal(seen.persons.scores, expected.persons.scores)
    assert seen.readings == expected.readings
    np.testing.assert_array_equal(np.array(seen.vectors), np.array(expected.vectors))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("wait", [0.0, FOREVER])
def test_the_order_changes_no_bit(models: Models, depth: int, wait: float) -> None:
    """However many batches are begun at once, and whatever waits for whom."""
    persons = [1, 2, 0, 1, 2, 2, 0, 1, 1]
    alone = []
    for look in make_looks(1, persons):
        one = Watched(models)
        one.line.add(1, [look])
        alone += one.finish()
    watched = Watched(models, depth=depth, wait=wait)
    looks = make_looks(1, persons)

    assert watched.line.add(1, looks) == len(looks)
    out = watched.finish()

    assert [len(look.persons.scores) for look in looks] == persons
    assert sorted(map(id, out)) == sorted(map(id, looks))
    for look, expected in zip(looks, alone, strict=True):
        assert_equal(look.sight(), expected.sight())


def test_crops_of_several_batches_share_theirs(models: Models) -> None:
    """Four persons in two batches are one batch, if they may wait for each other."""
    found = {}
    for wait in (0.0, FOREVER):
        watched = Watched(models, wait=wait)
        watched.line.add(1, make_looks(1, [1, 0, 1, 1, 0, 1, 0, 0]))
        assert len(watched.finish()) == 8
        found[wait] = watched.frames

    assert found == {0.0: [4, 0, 4, 0], FOREVER: [4, 4, 0]}


def test_a_full_batch_of_crops_goes_first(models: Models) -> None:
    """And those that are left over wait for more, until there is nothing else to do."""
    watched = Watched(models)
    watched.line.add(1, make_looks(1, [2, 1, 1, 1, 1, 0, 0, 0]))

    watched.finish()

    assert watched.frames == [4, 0, 4, 0]


def test_wholes_have_batches_of_their_own(models: Models) -> None:
    """They are seen by the embedder alone."""
    watched = Watched(models)
    looks = make_looks(1, [1, 0])
    looks[0].whole = True
    watched.line.add(1, looks)

    watched.finish()

    assert watched.frames == [2, 0, 0]  # found, read, embedded as a whole
    assert looks[0].frame_vector is not None
    assert looks[1].frame_vector is None
    assert looks[0].vectors[0] is not None
    assert not np.array_equal(looks[0].frame_vector, looks[0].vectors[0])


def test_nobody_waits_for_parts_that_are_not_there(models: Models) -> None:
    """Without attributes and embedder, all is known when persons are found."""
    watched = Watched(replace(models, attributes={}, embedder=None))
    looks = make_looks(1, [2, 1, 0])
    looks[0].whole = True
    watched.line.add(1, looks)

    assert watched.finish() == looks

    assert watched.frames == [3]
    assert [look.sight().vectors for look in looks] == [[None, None], [None], []]


def test_the_detector_is_given_what_it_is_asked_about(models: Models) -> None:
    """Frames that only the embedder wants take none of its places, and others none at all."""
    watched = Watched(models)
    looks = make_looks(1, [1] * 9)
    for at, look in enumerate(looks):
        look.searched, look.whole = at % 3 == 0, at % 3 == 1

    assert watched.line.add(1, looks) == 6
    assert len(watched.finish()) == 6

    assert watched.frames == [3, 0, 0]
    assert [len(look.persons.scores) for look in looks] == [1, 0, 0] * 3
    assert [look.frame_vector is not None for look in looks] == [False, True, False] * 3


def test_the_next_batch_is_begun_before_one_is_read(models: Models) -> None:
    """So the device has work while this process reads."""
    watched = Watched(models, depth=2)
    line, looks = watched.line, make_looks(1, [0] * 12)
    line.add(1, looks)

    assert line.step(1) == []
    assert line.owners() == {1}
    assert line.step(1) == looks[:4]
    assert watched.frames == [4, 4]
    assert line.step(1) == looks[4:8]
    assert watched.frames == [4, 4, 4]
    assert line.step(1) == looks[8:]
    assert line.owners() == set()
    assert line.due(1) is None


def test_a_device_at_work_gets_full_batches_only(models: Models) -> None:
    """What would not fill one waits for what is answered now: that brings more frames."""
    watched = Watched(models, depth=2, wait=0.0)
    watched.line.add(1, make_looks(1, [0] * 6))

    watched.line.step(1)
    watched.line.step(1)

    assert watched.frames == [4]
    watched.line.step(1)
    assert watched.frames == [4, 2]


def test_alone_means_alone(models: Models) -> None:
    """Of one video, and all that follows from its frames before another one's are begun."""
    watched = Watched(models, depth=2, wait=0.0, alone=4)
    for video in (1, 2):
        watched.line.add(video, make_looks(video, [1, 1]))

    while watched.line.due(2) is not None:
        watched.line.step(2)
        assert not watched.line.owners()  # each batch is read before anything else is begun

    assert watched.begun == [({1}, 2), ({1}, 0), ({2}, 2), ({2}, 0)]
    assert watched.line.alone_batches == 2


def test_alone_means_alone_for_wholes(models: Models) -> None:
    """In a bundle that has nothing but an embedder."""
    watched = Watched(replace(models, detector=None), depth=2, alone=2)
    for video in (1, 2, 3, 4):
        looks = make_looks(video, [0, 0])
        for look in looks:
            look.whole = True
        watched.line.add(video, looks)

    watched.finish()

    assert watched.begun == [({1}, 2), ({2}, 2), ({3, 4}, 4)]
    assert watched.line.alone_batches == -1


def test_a_video_that_ends_takes_its_crops_along(models: Models) -> None:
    """And its wholes. Its slabs are gone: nothing looks at them any more."""
    watched = Watched(models)
    theirs, ours = make_looks(1, [1, 1]), make_looks(2, [1])
    theirs[0].whole = True
    watched.line.add(1, theirs)
    watched.line.add(2, ours)
    assert watched.line.step(2) == []  # all have crops that wait

    watched.line.drop(1)

    assert watched.finish() == ours
    assert watched.begun == [({1, 2}, 3), ({2}, 0)]


def test_a_crowd_holds_up_nobody(models: Models) -> None:
    """Another video's frames go after the batch that is at work, and their crops share the next."""
    watched = Watched(models)
    watched.line.add(1, make_looks(1, [2, 2, 2, 2]))
    assert watched.line.step(1) == []  # eight crops wait
    watched.line.add(2, make_looks(2, [1]))

    out = watched.finish()

    assert watched.begun == [({1}, 4), ({1}, 0), ({2}, 1), ({1, 2}, 0), ({1}, 0)]
    assert [look.video for look in out] == [1, 1, 1, 2, 1]


def test_nobody_looks_at_persons_in_a_video_that_was_given_up(models: Models) -> None:
    """Its frames were at work when it was."""
    watched = Watched(models, depth=2)
    watched.line.add(1, make_looks(1, [2, 1]))
    assert watched.line.step(1) == []
    watched.line.drop(1)

    watched.finish()

    assert watched.begun == [({1}, 2)]


def test_wholes_wait_for_those_of_others_where_nobody_is_looked_for(models: Models) -> None:
    """As frames do before a detector."""
    watched = Watched(replace(models, detector=None))
    looks = [look for video in (1, 2, 3) for look in make_looks(video, [0])]
    for look in looks:
        look.whole = True
        watched.line.add(look.video, [look])

    assert watched.line.due(4) == FOREVER
    assert watched.line.due(3) == float("-inf")
    watched.finish(videos=3)
    assert watched.begun == [({1, 2, 3}, 3)]


def test_persons_too_small_to_be_looked_at(models: Models) -> None:
    """Of one of six pixels the box is known and nothing else, and nobody waits for more."""
    picture = np.full((24, 24, 3), 110, np.uint8)
    picture[3:9, 3:9], picture[12:21, 12:21] = (250, 10, 0), (0, 10, 250)
    watched = Watched(models)
    watched.line.add(1, [Look(1, 1, torch.from_numpy(picture).permute(2, 0, 1))])

    (look,) = watched.finish()

    sight = look.sight()
    assert len(sight.persons.boxes) == 2
    assert [each is None for each in sight.vectors] == [False, True]
    assert [each.text for each in sight.readings["gender"]] == ["female", None]
    assert (watched.frames, look.lacking) == ([1, 0], 0)


def test_parts_that_want_the_same_pictures_share_them(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gender and age are prepared once, the embedder's pictures are others."""
    prepared, each = list[Preparation](), Preparation.each

    def note(self: Preparation, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        prepared.append(self)
        return each(self, pictures)

    monkeypatch.setattr(Preparation, "each", note)
    watched = Watched(models)
    watched.line.add(1, make_looks(1, [1, 1]))

    watched.finish()

    assert models.detector is not None
    assert models.embedder is not None
    crops = models.attributes["gender"].prepare
    assert prepared == [models.detector.prepare, crops, models.embedder.prepare]


def test_no_time_is_put_down_twice(models: Models) -> None:
    """Not even where batches are begun while others are at work, and others measure between."""
    watched = Watched(models, depth=3)
    looks = make_looks(1, [2, 1, 0, 1] * 4)
    watched.line.add(1, looks)
    start, others = time.monotonic(), 0.0

    while watched.line.due(1) is not None:
        watched.line.step(1)
        before = time.monotonic()
        time.sleep(0.01)
        others += watched.line.seconds_since(before)
    wall = time.monotonic() - start

    seconds = sum(look.seconds for look in looks)
    assert min(look.seconds for look in looks) > 0
    assert seconds + others <= wall
    assert seconds + others > wall / 2
