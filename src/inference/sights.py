"""What the models of a bundle see, as arrays: what travels from the device, and what is kept."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from inference.people import Detections, Reading
from inference.wire import Arrays

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the models make of one frame; lists of persons are in the order of the detections."""

    persons: Detections
    readings: Mapping[str, Sequence[Reading]]
    """By the attribute's name; an empty reading where the crop shows too little."""
    vectors: Sequence[Vector | None]
    """float32 [D], length 1; None where there is no embedder, or it gave no direction."""
    invalid: int = 0
    """How many pictures the embedder gave no direction for."""
    frame_vector: Vector | None = None
    """Of the whole frame; None also where it was not asked for."""


@dataclass(frozen=True, slots=True)
class Read:
    """One attribute of P persons."""

    words: tuple[str, ...]
    """All that there are, the same for all frames of a video."""
    text: npt.NDArray[np.int32]
    """int32 [P]: which of the words; -1: none."""
    score: npt.NDArray[np.float64]
    """float64 [P]: of the word, 0..1; NaN: none."""
    number: npt.NDArray[np.float64]
    """float64 [P]; NaN: none."""

    def reading(self, at: int) -> Reading:
        """What was read off one person."""
        word, number = int(self.text[at]), float(self.number[at])
        return Reading(
            None if word < 0 else self.words[word],
            None if word < 0 else float(self.score[at]),
            None if np.isnan(number) else number,
        )


@dataclass(frozen=True, slots=True)
class Sights:
    """What was seen in N consecutive frames of one video: P persons, in the order of the frames."""

    person_count: npt.NDArray[np.int64]
    """int64 [N]."""
    crowded: npt.NDArray[np.int64]
    """int64 [N]: detections left out, because there were too many."""
    invalid: npt.NDArray[np.int64]
    """int64 [N]: what the models gave that is no number, or has no direction or area."""
    boxes: npt.NDArray[np.float64]
    """float64 [P, 4]: left, top, right, bottom as shares of the frame, 0..1."""
    scores: npt.NDArray[np.float64]
    """float64 [P], 0..1; within a frame the best first."""
    vectors: Vector
    """float32 [P, D]: unit vectors; zeros for none. D is 0 without an embedder, and where the sums
    of tracks are kept in their place."""
    framed: npt.NDArray[np.bool_]
    """bool [N]: the frame as a whole has a vector."""
    frame_vectors: Vector
    """float32 [M, D]: unit vectors of the M frames that are `framed`."""
    attributes: Mapping[str, Read]

    def __post_init__(self) -> None:
        frames, persons = len(self.person_count), len(self.scores)
        framed, size = int(np.count_nonzero(self.framed)), self.frame_vectors.shape[-1]
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("person_count", "crowded", "invalid", "framed"), (frames,)),
            "boxes": (persons, 4),
            "scores": (persons,),
            "vectors": (persons, size if self.vectors.shape[-1] else 0),
            "frame_vectors": (framed, size),
        }
        for name, array in self.to_arrays().items():
            shape = (persons,) if "." in name else shapes[name]
            if not name.endswith(".words") and array.shape != shape:
                raise ValueError(f"{name} must be {shape}, not {array.shape}")
        if int(self.person_count.sum()) != persons or (self.person_count < 0).any():
            raise ValueError(f"{persons} persons are not {self.person_count.tolist()}")
        for name, read in self.attributes.items():
            if (read.text < -1).any() or (read.text >= len(read.words)).any():
                raise ValueError(f"{name} has {len(read.words)} words only")

    def __len__(self) -> int:
        return len(self.person_count)

    def without_vectors(self) -> "Sights":
        """The same but for the persons' vectors, which are most of its bytes."""
        return replace(self, vectors=np.zeros((len(self.scores), 0), np.float32))

    @classmethod
    def of(cls, seen: Sequence[Sight], words: Mapping[str, tuple[str, ...]], size: int) -> Self:
        """Put frames behind each other; `words` of each attribute, `size` of a vector."""
        boxes = [sight.persons.boxes for sight in seen]
        scores = [sight.persons.scores for sight in seen]
        frames = [sight.frame_vector for sight in seen]
        return cls(
            person_count=np.array([len(each) for each in scores], np.int64),
            crowded=np.array([sight.persons.crowded for sight in seen], np.int64),
            invalid=np.array([_invalid(sight) for sight in seen], np.int64),
            boxes=np.concatenate([np.zeros((0, 4)), *boxes]),
            scores=np.concatenate([np.zeros(0), *scores]),
            vectors=_rows([vector for sight in seen for vector in sight.vectors], size),
            framed=np.array([vector is not None for vector in frames], np.bool_),
            frame_vectors=_rows([vector for vector in frames if vector is not None], size),
            attributes={
                name: _read([r for sight in seen for r in sight.readings.get(name, ())], known)
                for name, known in words.items()
            },
        )

    def frames(
        self,
    ) -> Iterator[tuple[Detections, dict[str, list[Reading]], list[Vector | None]]]:
        """Give for each frame its detections, readings by attribute, and persons' vectors.

        The detections' `invalid` counts all that was invalid in the frame.
        """
        stops = np.cumsum(self.person_count)
        for at, (count, stop) in enumerate(zip(self.person_count, stops, strict=True)):
            persons = range(int(stop - count), int(stop))
            rows = slice(persons.start, persons.stop)
            yield (
                Detections(
                    self.boxes[rows],
                    self.scores[rows],
                    int(self.invalid[at]),
                    int(self.crowded[at]),
                ),
                {
                    name: [read.reading(person) for person in persons]
                    for name, read in self.attributes.items()
                },
                [vector if vector.any() else None for vector in self.vectors[rows]],
            )

    def whole(self) -> list[Vector | None]:
        """Give for each frame the vector of the whole of it."""
        vectors = iter(self.frame_vectors)
        return [next(vectors) if framed else None for framed in self.framed]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it by name; an attribute's arrays are called `NAME.text` and so on."""
        arrays = {name: getattr(self, name) for name in _PLAIN}
        for name, read in self.attributes.items():
            words = np.frombuffer(json.dumps(read.words).encode(), np.uint8)
            arrays |= {f"{name}.{part}": getattr(read, part) for part in _READ}
            arrays[f"{name}.words"] = words
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The inverse of `to_arrays`.

        Raises:
            KeyError, TypeError, ValueError: an array is missing or unknown, or does not fit.
        """
        plain = {name: array for name, array in arrays.items() if "." not in name}
        names = sorted({name.partition(".")[0] for name in arrays.keys() - plain.keys()})
        attributes = {
            name: Read(
                tuple(json.loads(arrays[f"{name}.words"].tobytes())),
                *(arrays[f"{name}.{part}"] for part in _READ),
            )
            for name in names
        }
        if len(arrays) != len(plain) + len(names) * (len(_READ) + 1):
            raise TypeError(f"unknown: {sorted(arrays)}")
        return cls(**plain, attributes=attributes)

    @classmethod
    def join(cls, parts: "Sequence[Sights]") -> Self:
        """Put consecutive stretches of one video, at least one, behind each other.

        Raises:
            ValueError: they are not of the same bundle.
        """
        attributes = parts[0].attributes
        known = {name: read.words for name, read in attributes.items()}
        if any({n: r.words for n, r in part.attributes.items()} != known for part in parts):
            raise ValueError("not the same attributes")
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN},
            attributes={
                name: Read(
                    words,
                    *(
                        np.concatenate([getattr(part.attributes[name], each) for part in parts])
                        for each in _READ
                    ),
                )
                for name, words in known.items()
            },
        )

    def cut(self, start: int, stop: int) -> Self:
        """The frames from `start` up to, without, `stop`."""
        frames = slice(start, stop)
        first, last = (int(self.person_count[:at].sum()) for at in (start, stop))
        persons = slice(first, last)
        above, below = (int(np.count_nonzero(self.framed[:at])) for at in (start, stop))
        at = {
            **dict.fromkeys(("person_count", "crowded", "invalid", "framed"), frames),
            **dict.fromkeys(("boxes", "scores", "vectors"), persons),
            "frame_vectors": slice(above, below),
        }
        return type(self)(
            **{name: getattr(self, name)[at[name]] for name in _PLAIN},
            attributes={
                name: Read(read.words, *(getattr(read, each)[persons] for each in _READ))
                for name, read in self.attributes.items()
            },
        )


_PLAIN = tuple(each.name for each in fields(Sights) if each.name != "attributes")
_READ = ("text", "score", "number")


def _invalid(sight: Sight) -> int:
    read = sum(each.invalid for part in sight.readings.values() for each in part)
    return sight.persons.invalid + sight.invalid + read


def _rows(vectors: Sequence[Vector | None], size: int) -> Vector:
    rows = np.zeros((len(vectors), size), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return rows


def _read(readings: Sequence[Reading], words: tuple[str, ...]) -> Read:
    nothing = float("nan")
    return Read(
        words,
        np.array([-1 if r.text is None else words.index(r.text) for r in readings], np.int32),
        np.array([nothing if r.score is None else r.score for r in readings], np.float64),
        np.array([nothing if r.number is None else r.number for r in readings], np.float64),
    )
