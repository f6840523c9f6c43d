"""The normaliser: every shape of the contract, and everything else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import (
    DATED_KEY,
    make_application_body,
    make_eventbridge_body,
    make_s3_body,
    make_s3_record,
    make_sns_body,
)

from poller.rules.identity import ExternalId, Source
from poller.rules.message import Ignore, Reject, Requests, VideoRequest, parse_message

KEY = "shop 1/käse+wein/a b%20c.mp4"


@pytest.mark.parametrize(
    "body",
    [
        make_s3_body(make_s3_record("b", KEY)),
        make_s3_body(make_s3_record("b", KEY, "s3:ObjectCreated:CompleteMultipartUpload")),
        make_application_body("b", KEY, answer=42),
        json.dumps({"bucket": "b", "key": KEY}),
        json.dumps({"s3_bucket": "b", "s3_key": KEY}),
        make_eventbridge_body("b", KEY),
        make_sns_body(make_s3_body(make_s3_record("b", KEY))),
        make_sns_body(make_application_body("b", KEY)),
        make_sns_body(make_sns_body(json.dumps({"bucket": "b", "key": KEY}))),
    ],
)
def test_every_shape_names_the_same_object(body: str) -> None:
    """Each shape of the contract gives the bucket and the decoded key."""
    assert parse_message(body, {}) == Requests((VideoRequest("b", KEY, None),))


def test_each_record_is_a_video() -> None:
    """N records are N videos, a repeated one is one, and other events are counted."""
    body = make_s3_body(
        make_s3_record("b", "1.x.mp4"),
        make_s3_record("b", "2.x.mp4"),
        make_s3_record("b", "1.x.mp4"),
        make_s3_record("b", "3.x.mp4", "ObjectRemoved:Delete"),
    )

    parsed = parse_message(body, {})

    assert isinstance(parsed, Requests)
    assert [video.key for video in parsed.videos] == ["1.x.mp4", "2.x.mp4"]
    assert parsed.ignored == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}), "s3_test_event"),
        (make_s3_body(make_s3_record(event="ObjectRemoved:Delete")), "other_event"),
        (make_eventbridge_body(detail_type="Object Deleted"), "other_event"),
        (json.dumps({"Records": []}), "other_event"),
    ],
)
def test_what_asks_for_nothing_is_ignored(body: str, reason: str) -> None:
    """S3's test event and events other than creation are no errors."""
    assert parse_message(body, {}) == Ignore(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not_json"),
        ("not json", "not_json"),
        ("[" * 100_000, "not_json"),
        ("[1]", "unknown_shape"),
        (json.dumps({"eventType": "VideoUploaded", "s3": {}}), "unknown_shape"),
        ("{}", "unknown_shape"),
        (json.dumps({"Records": [1]}), "unknown_shape"),
        (json.dumps({"Records": "x"}), "unknown_shape"),
        (json.dumps({"bucket": "b"}), "missing_key"),
        (json.dumps({"bucket": "b", "key": ""}), "missing_key"),
        (json.dumps({"bucket": "b", "key": 7}), "missing_key"),
        (json.dumps({"key": "k"}), "missing_bucket"),
        (json.dumps({"eventType": "video-uploaded"}), "missing_key"),
        (json.dumps({"bucket": "b", "key": "k\0"}), "invalid_key"),
        (json.dumps({"bucket": "b", "key": "\ud800"}), "invalid_key"),
        (json.dumps({"bucket": "b", "key": "k" * 1025}), "invalid_key"),
        (json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": []}]}), "missing_bucket"),
        (json.dumps({"bucket": "arn:aws:s3:::b", "key": "k"}), "invalid_bucket"),
        (json.dumps({"bucket": "\ud800", "key": "k"}), "invalid_bucket"),
        (make_application_body(video_id=True), "invalid_video_id"),
        (make_application_body(video_id="\ud800"), "invalid_video_id"),
        (make_application_body(video_id="8\x004"), "invalid_video_id"),
        (make_application_body(video_id="8" * 201), "invalid_video_id"),
        (make_application_body(video_id={"a": 1}), "invalid_video_id"),
        (make_application_body(video_id=""), "invalid_video_id"),
        (make_sns_body(make_sns_body(make_sns_body(make_sns_body("{}")))), "unknown_shape"),
    ],
)
def test_what_cannot_be_understood_is_rejected(body: str, reason: str) -> None:
    """Each kind of unusable body has its own reason, and a sentence that explains it."""
    parsed = parse_message(body, {})

    assert isinstance(parsed, Reject)
    assert parsed.reason == reason
    assert parsed.detail


def test_only_allowed_buckets() -> None:
    """A record outside of the allowed buckets is refused, and its neighbours are not."""
    body = make_s3_body(make_s3_record("mine"), make_s3_record("theirs"))
    refused = Reject("bucket_not_allowed", "bucket 'theirs' is not in ALLOWED_BUCKETS")

    parsed = parse_message(body, {}, ("mine",))

    assert parsed == Requests((VideoRequest("mine", "k.mp4", None),), 0, (refused,))
    assert parse_message(make_s3_body(make_s3_record("theirs")), {}, ("mine",)) == refused


def test_a_bad_record_leaves_its_neighbours() -> None:
    """What can be analysed is; the message still says what was wrong."""
    body = make_s3_body(make_s3_record(key="good.x.mp4"), make_s3_record(key="k" * 1025))

    parsed = parse_message(body, {})

    assert isinstance(parsed, Requests)
    assert [video.key for video in parsed.videos] == ["good.x.mp4"]
    assert [one.reason for one in parsed.rejected] == ["invalid_key"]


@pytest.mark.parametrize(
    ("body", "attributes", "expected"),
    [
        (make_application_body(key=DATED_KEY, video_id=84), {"video_id": "9"}, ("84", "body")),
        (make_application_body(key="videos/7/1.mp4"), {"video_id": "9"}, ("9", "attribute")),
        (make_sns_body(make_s3_body(), {"video_id": "9"}), {}, ("9", "attribute")),
        (make_s3_body(make_s3_record(key="videos/7/1.mp4")), {}, ("7", "key")),
        (make_s3_body(make_s3_record(key="a/b/007.mp4")), {}, ("007", "filename")),
        (make_s3_body(make_s3_record(key="12")), {}, ("12", "filename")),
        (make_s3_body(make_s3_record(key=DATED_KEY)), {}, None),
        (make_s3_body(make_s3_record(key="videos/2025/12/29/x.mp4")), {}, None),
        (make_s3_body(make_s3_record(key="videos/²/x.mp4")), {}, None),
        (make_s3_body(make_s3_record(key="x/videos/7/y.mp4")), {}, None),
    ],
)
def test_where_the_video_id_comes_from(
    body: str, attributes: dict[str, str], expected: tuple[str, str] | None
) -> None:
    """The strongest source gives the id; a date in the path is no id."""
    parsed = parse_message(body, attributes)

    assert isinstance(parsed, Requests)
    found = parsed.videos[0].external_id
    assert found == (expected and ExternalId(expected[0], Source(expected[1])))


_WORDS = "Records s3 bucket key name object eventName eventType Type Message detail detail-type"
_NAMES = st.sampled_from([*_WORDS.split(), "video", "id", "s3_key", "s3_bucket", "Event"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | _NAMES, inner),
    max_leaves=12,
)


@given(
    st.text() | _JSON.map(json.dumps) | _JSON.map(lambda value: make_sns_body(json.dumps(value)))
)
def test_any_text_gets_an_answer(body: str) -> None:
    """The normaliser is total: no text makes it raise."""
    parsed = parse_message(body, {})

    assert isinstance(parsed, Requests | Ignore | Reject)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_key_survives_its_encoding(bucket: str, key: str) -> None:
    """What S3 encodes comes out as it was uploaded, or is rejected as no key."""
    try:
        body = make_s3_body(make_s3_record(bucket, key))
    except UnicodeEncodeError:
        return

    parsed = parse_message(body, {})

    if isinstance(parsed, Requests):
        assert (parsed.videos[0].bucket, parsed.videos[0].key) == (bucket, key)
    else:
        assert isinstance(parsed, Reject)
        assert parsed.reason in {"invalid_key", "invalid_bucket"}
