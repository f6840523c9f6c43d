"""What the environment may say, and that all that is wrong in it is said at once."""

import os

import pytest

from poller.errors import SettingsError
from poller.settings import find_unknown, load, require


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set `POLLER_` variables, given in lower case, and no other."""
    for name in [name for name in os.environ if name.startswith("POLLER_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(f"POLLER_{name.upper()}", value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"heartbeat_seconds": "90"}, "POLLER_HEARTBEAT_SECONDS (90) must be below"),
        ({"heartbeat_seconds": "91"}, "POLLER_HEARTBEAT_SECONDS (91) must be below"),
        ({"visibility_seconds": "119"}, "POLLER_VISIBILITY_SECONDS (119) must be at least"),
        ({"drain_seconds": "31"}, "POLLER_DRAIN_SECONDS (31) must be at least 12 more"),
        ({"results_bucket": "b", "raw_bucket": "b"}, "POLLER_RESULTS_BUCKET (b) must be a bucket"),
        (
            {"results_bucket": "b", "allowed_buckets": "a,b"},
            "POLLER_RESULTS_BUCKET (b) must be a bucket of its own",
        ),
        ({"sample_fps": "0"}, "POLLER_SAMPLE_FPS: must be `all`"),
        ({"sample_fps": "often"}, "POLLER_SAMPLE_FPS: must be `all`"),
        ({"sample_fps": "1001"}, "POLLER_SAMPLE_FPS: must be `all`"),
        ({"sample_fps": "nan"}, "POLLER_SAMPLE_FPS: must be `all`"),
        ({"database_url": "mysql://h/d"}, "POLLER_DATABASE_URL: must look like"),
        ({"database_url": "postgresql:///d"}, "POLLER_DATABASE_URL: must look like"),
        ({"database_url": "postgresql://h:no/d"}, "POLLER_DATABASE_URL: "),
        ({"queue_url": "uploads"}, "POLLER_QUEUE_URL: must be the queue's URL"),
        ({"dlq_url": "arn:aws:sqs:eu-west-1:0:q"}, "POLLER_DLQ_URL: must be the queue's URL"),
        ({"max_video_bytes": "1XB"}, "POLLER_MAX_VIDEO_BYTES: must be a number of bytes, such as"),
        ({"max_video_bytes": "big"}, "POLLER_MAX_VIDEO_BYTES: must be a number of bytes, such as"),
        ({"decoder_memory_bytes": "0"}, "POLLER_DECODER_MEMORY_BYTES: Input should be greater"),
    ],
)
def test_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """One line that names the variable."""
    set_environment(monkeypatch, variables)

    with pytest.raises(SettingsError) as refused:
        load()

    (line,) = refused.value.lines
    assert line.startswith(said)


@pytest.mark.parametrize(
    "variables",
    [
        {"heartbeat_seconds": "89"},
        {"visibility_seconds": "120"},
        {"drain_seconds": "32"},
        {"sample_fps": "1000"},
        {"sample_fps": "all"},
        {"sample_fps": "keyframes"},
        {"sample_fps": "auto"},
        {"database_url": "postgres://u:p@h:1/d"},
        {"queue_url": ""},
    ],
)
def test_what_is_just_right(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """The limits themselves are allowed, and an empty variable is none."""
    set_environment(monkeypatch, variables)

    assert load().max_attempts == 3


def test_all_numbers_that_disagree_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each, so that nobody mends one and finds the next."""
    set_environment(
        monkeypatch,
        {"heartbeat_seconds": "100", "visibility_seconds": "90", "drain_seconds": "20"},
    )

    with pytest.raises(SettingsError) as refused:
        load()

    assert len(refused.value.lines) == 3


def test_malformed_and_contradicting_ones_are_named_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Except for a contradiction to a value that is malformed: what would it contradict."""
    set_environment(
        monkeypatch,
        {"lease_seconds": "long", "heartbeat_seconds": "91", "drain_seconds": "20"},
    )

    with pytest.raises(SettingsError) as refused:
        load()

    assert [line.split()[0] for line in refused.value.lines] == [
        "POLLER_LEASE_SECONDS:",
        "POLLER_DRAIN_SECONDS",
    ]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("1024", 1024), ("1GB", 10**9), ("1 GiB", 2**30), ("1.5KiB", 1536)],
)
def test_bytes_have_units(monkeypatch: pytest.MonkeyPatch, said: str, meant: int) -> None:
    """A bare number is bytes; the units are those that people write."""
    set_environment(monkeypatch, {"max_video_bytes": said})

    assert load().max_video_bytes == meant


def test_a_variable_that_means_nothing_is_found() -> None:
    """With the name that was probably meant, if there is one; others' variables are their own."""
    found = find_unknown(["POLLER_DEVICES", "POLLER_XYZ", "POLLER_DEVICE", "AWS_REGION"])

    assert found == {"POLLER_DEVICES": "POLLER_DEVICE", "POLLER_XYZ": None}


def test_buckets_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces and empty parts mean nothing."""
    set_environment(monkeypatch, {"allowed_buckets": " a, b-c ,,"})

    assert load().allowed_buckets == ("a", "b-c")


def test_a_secret_is_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of the two names it; without both, both are named, as is what else is missing."""
    set_environment(monkeypatch, {})
    bare = load()
    set_environment(monkeypatch, {"database_secret_arn": "arn"})
    require(load(), "database")

    with pytest.raises(SettingsError) as refused:
        require(bare, "queue_url", "database")

    assert [line.split(":")[0] for line in refused.value.lines] == [
        "set POLLER_QUEUE_URL",
        "set POLLER_DATABASE_URL or POLLER_DATABASE_SECRET_ARN",
    ]
