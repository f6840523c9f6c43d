"""What is counted and told of a video that was stored."""

from dataclasses import replace
from uuid import uuid4

from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from tests.integration.test_claims import make_analysis

from poller.outcomes import note_stored
from poller.postgres.claims import Claimed


def test_a_second_decoder_is_told_of() -> None:
    """Its results may be another sampling's, and the first one's end means something."""
    before = REGISTRY.get_sample_value("poller_errors_total", {"kind": "decoder_retried"})
    claim = Claimed(7, uuid4(), 1, uuid4(), 1, 0)

    with capture_logs() as logs:
        note_stored(claim, make_analysis(events=1))
        note_stored(claim, replace(make_analysis(events=1), retried="decoder_crashed: 9"))

    [told] = [each for each in logs if each["event"] == "decoder.retried"]
    assert (told["analysis_id"], told["why"]) == (7, "decoder_crashed: 9")
    after = REGISTRY.get_sample_value("poller_errors_total", {"kind": "decoder_retried"})
    assert before is not None
    assert after == before + 1
