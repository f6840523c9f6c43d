"""Each result that the demo expects is missed when it is missing."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.factories import make_application_body

from inference.samples import Expected, Sample
from poller.cli.demo_checks import Outcome, Upload, find_faults
from poller.sqs import Message

VIDEO = Upload(Sample("black", Path("v"), (Expected("black", 3000, 6000, 250),)), "84", ("b", "v"))
TEXT = Upload(Sample("text", Path("t"), (), "not_a_video"), "85", ("b", "t"))


def make_letter(key: str = "t", reason: str = "not_a_video") -> Message:
    """A dead letter that announces `key` of bucket b."""
    attributes = {"reason": {"DataType": "String", "StringValue": reason}}
    body = make_application_body("b", key, 85)
    return Message("m", "r", body, attributes, 1, datetime.now(UTC))


def make_outcome(**video: Any) -> Outcome:
    """What is expected of both uploads; `video` replaces what is known of the first."""
    audit = {
        "analyses": 1, "external_id": "84", "external_id_source": "body",
        "event_rows": 1, "events_counted": 1, "embedding_rows": 9,
    } | video  # fmt: skip
    latest = {"state": "done", "error_code": None, "error_message": None} | video
    event = {"event_type": "black", "start_ms": 3100, "end_ms": 5900} | video
    return Outcome(
        latest={VIDEO.where: latest, TEXT.where: {"state": "failed", "error_code": "not_a_video"}},
        audits={VIDEO.where: audit, TEXT.where: {**audit, "external_id": "85"}},
        timelines={VIDEO.where: [event], TEXT.where: []},
        letters=[make_letter()],
        duplicates=2,
        queued=0,
    )


def test_expected_outcome_has_no_faults() -> None:
    """What is expected is found, within its tolerance."""
    assert find_faults([VIDEO, TEXT], make_outcome()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "processing"},
        {"analyses": 2},
        {"external_id": "2025"},
        {"external_id_source": "key"},
        {"event_rows": 2},
        {"embedding_rows": 0},
        {"event_type": "freeze"},
        {"start_ms": 2700},
        {"end_ms": 6300},
    ],
)
def test_each_wrong_result_of_a_video_is_named(wrong: dict[str, Any]) -> None:
    """One thing that is wrong with a video is one line that begins with its name."""
    faults = find_faults([VIDEO, TEXT], make_outcome(**wrong))

    assert [fault.split(":")[0] for fault in faults if "DLQ" not in fault][:1] == ["black"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"latest": {}},
        {"letters": []},
        {"letters": [make_letter(), make_letter()]},
        {"letters": [make_letter(reason="too_long")]},
        {"letters": [make_letter(key="v")]},
        {"duplicates": 1},
        {"duplicates": 3},
        {"queued": 1},
    ],
)
def test_each_wrong_result_of_the_whole_is_named(wrong: dict[str, Any]) -> None:
    """A missing analysis, a wrong DLQ, a wrong count and a rest in the queue are noticed."""
    assert find_faults([VIDEO, TEXT], replace(make_outcome(), **wrong)) != []


def test_text_that_became_a_result_is_named() -> None:
    """A file that must be refused and was not is a fault."""
    outcome = make_outcome()
    outcome = replace(outcome, latest={**outcome.latest, TEXT.where: outcome.latest[VIDEO.where]})

    assert find_faults([VIDEO, TEXT], outcome) == ["text: done (None), not not_a_video"]
