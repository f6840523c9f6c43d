"""How well the descriptor finds a changed picture again, against a thumbnail of 16 x 16."""

from tests.retrieval import CHANGES, auc, make_pictures, ours, thumbnail

from bench.measure import Measurement

PICTURES = 150


def measure() -> list[Measurement]:
    """Area under ROC: a picture and its changed copy are nearer than any other two."""
    pictures, names = make_pictures(PICTURES), list(CHANGES)
    score, peer = auc(ours, pictures, names), auc(thumbnail, pictures, names)
    every = f"descriptor, {len(names)} changes of {PICTURES} pictures, AUC"
    return [
        Measurement(f"{every}: the one to reach", score, 0.98, "AUC", 1),
        Measurement(f"{every}: a thumbnail of 16 x 16", score, peer, "AUC", 1),
    ]
