"""Every metric of the service, declared once. An id or a URL is never a label.

A counter with a label starts at 0 for each value that the label can have: one that first appears
with its first event has not increased, as Prometheus sees it, and no alert would tell of it.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# A time of creation for each counter and label says nothing here.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it is published without types

MESSAGES_RECEIVED = Counter("poller_messages_received_total", "Messages received from the queue")
MESSAGES_SETTLED = Counter(
    "poller_messages_settled_total", "Messages settled, by what was done with them", ["verdict"]
)
RECORDS_IGNORED = Counter(
    "poller_records_ignored_total", "Announcements that ask for no analysis", ["reason"]
)
DUPLICATES = Counter(
    "poller_duplicates_total", "Videos announced again after they were finished", ["outcome"]
)
VIDEOS_IN_FLIGHT = Gauge("poller_videos_in_flight", "Messages being worked on")
SLOTS = Gauge("poller_slots", "Messages that may be worked on at once")
VIDEOS_FINISHED = Counter(
    "poller_videos_finished_total", "Claimed videos by the state they were left in", ["state"]
)
VIDEO_SECONDS = Counter("poller_video_seconds_total", "Seconds of video analysed and stored")
FRAMES_DECODED = Counter(
    "poller_frames_decoded_total", "Frames decoded, or passed over on the way to sampled ones"
)
FRAMES_INFERRED = Counter("poller_frames_inferred_total", "Frames analysed on the device")
BATCH_FRAMES = Histogram(
    "poller_batch_frames",
    "Frames in one batch on the device",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
STAGE_SECONDS = Histogram(
    "poller_stage_seconds",
    "Time that a video spent in a stage",
    ["stage"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
CHECKPOINTS = Counter("poller_checkpoints_total", "Checkpoints written")
LEASE_LOST = Counter("poller_lease_lost_total", "Leases lost while working", ["cause"])
HEARTBEATS = Counter("poller_heartbeats_total", "Heartbeats by result", ["result"])
HEARTBEAT_LAG = Gauge(
    "poller_heartbeat_lag_seconds", "How late the latest heartbeat was, in the worst video"
)
LEASE_REMAINING = Gauge(
    "poller_lease_remaining_seconds", "Shortest time left on any lease that is held"
)
STILL_SECONDS = Gauge(
    "poller_still_seconds", "Time since the last progress, of the video that shows none longest"
)
OUTAGE = Gauge("poller_outage", "1 while the service waits for a system that is away", ["system"])
LAST_RECEIVE = Gauge(
    "poller_last_receive_timestamp_seconds", "When the last receive completed, as Unix time"
)
QUEUE_MESSAGES = Gauge(
    "poller_queue_messages", "Messages in a queue, as SQS counts them", ["queue", "state"]
)
DEVICE_BUSY = Counter("poller_device_busy_seconds_total", "Time that the device spent computing")
DEVICE_MEMORY = Gauge("poller_device_memory_bytes", "Memory of the device process")
MODEL_BATCHES = Counter(
    "poller_model_batches_total",
    "Batches of the bundle's detector, or of its embedder if it has none",
)
MODEL_FRAMES = Counter("poller_model_batch_frames_total", "Frames in these batches")
MODEL_ROOM = Counter(
    "poller_model_batch_room_total", "Frames that these batches had room for, filled or not"
)
DEVICE_RESTARTS = Counter("poller_device_restarts_total", "Restarts of the device process")
DECODER_SERVER_RESTARTS = Counter(
    "poller_decoder_server_restarts_total", "Restarts of the process that decoders are forked from"
)
EVENTS_STORED = Counter("poller_events_stored_total", "Timeline events committed", ["event_type"])
EMBEDDINGS_STORED = Counter("poller_embeddings_stored_total", "Embedding vectors committed")
ERRORS = Counter("poller_errors_total", "Errors by kind", ["kind"])
TASK_PROTECTION = Gauge(
    "poller_task_protection", "1 while this ECS task is protected from scale-in"
)
DRAIN_SECONDS = Gauge("poller_drain_seconds", "How long the drain has taken so far")

ERROR_KINDS = (
    *("not_json", "unknown_shape", "missing_bucket", "invalid_bucket", "missing_key"),
    *("invalid_key", "invalid_video_id", "bucket_not_allowed", "identity_conflict"),
    *("object_missing", "object_forbidden", "object_unreadable", "too_large", "too_long"),
    *("not_a_video", "no_video_stream", "unsupported_codec"),
    *("decoder_timeout", "decoder_crashed", "decoder_out_of_memory", "device_fault"),
    *("device_unavailable", "decoder_unavailable", "decoder_retried"),
    *("model_invalid", "model_crowded"),
    *(
        "attempts_exhausted",
        "checkpoint_too_large",
        "store_timeout",
        "interrupted",
        "internal",
        "stale_receipt",
        "settle",
        "ecs",
    ),
    *("postgres", "postgres_unavailable", "s3_unavailable", "sqs_unavailable"),
    *("results_unavailable", "thumbnail"),
    *("disk_unavailable", "secretsmanager", "secretsmanager_unavailable"),
)
SYSTEMS = ("postgres", "secretsmanager", "s3", "sqs", "disk", "device", "decoder", "results")

for _metric, _values in (
    (MESSAGES_SETTLED, ("ack", "hide", "continue", "deadletter", "leave")),
    (RECORDS_IGNORED, ("s3_test_event", "other_event")),
    (DUPLICATES, ("done", "failed", "superseded")),
    (VIDEOS_FINISHED, ("done", "failed", "retry", "superseded")),
    (LEASE_LOST, ("fence", "database", "heartbeat")),
    (HEARTBEATS, ("ok", "failed", "lost")),
    (ERRORS, ERROR_KINDS),
    (OUTAGE, SYSTEMS),
):
    for _value in _values:
        _metric.labels(_value)
