"""Settings: what the environment says, validated once before anything is touched."""

import difflib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from inference.sampling import Rate
from poller.errors import SettingsError
from poller.rules.lease import MARGIN, RELEASE_SECONDS

_PREFIX = "POLLER_"
_GIB = 1024**3
_FAULTS = dict.fromkeys(
    ("byte_size", "byte_size_unit"), "must be a number of bytes, such as 500000000, 500MB or 20GiB"
)
"""Our words for what pydantic says too curtly, by its name of the fault."""


class Settings(BaseSettings):
    """Every `POLLER_` variable, with its unit and default."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    queue_url: str | None = Field(None, description="SQS queue that announces uploads")
    dlq_url: str | None = Field(
        None, description="dead-letter queue; default: from the queue's redrive policy"
    )
    database_url: str | None = Field(None, description="postgresql://user:password@host:port/name")
    database_secret_arn: str | None = Field(
        None,
        description="Secrets Manager secret, read at run time: a URL, or JSON with username and"
        " password, as RDS writes it; a host, port or dbname that the JSON lacks is taken from"
        " POLLER_DATABASE_URL",
    )
    raw_bucket: str | None = Field(None, description="bucket that `poller submit` uploads to")
    results_bucket: str | None = Field(
        None, description="bucket for pictures of events and result files"
    )
    allowed_buckets: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated buckets to accept videos from; empty: every bucket"
    )
    max_concurrent_videos: int = Field(4, ge=1, le=64, description="videos in flight at once")
    max_video_bytes: ByteSize = Field(
        ByteSize(20 * _GIB), ge=1, description="largest object to fetch, in bytes or as `20GiB`"
    )
    max_video_seconds: float = Field(4 * 3600, gt=0, description="longest video, in seconds")
    sample_fps: Rate = Field(
        5.0, description="frames analysed per second of video, or `all`, `auto` or `keyframes`"
    )
    model: str = Field(
        "builtin",
        description="`builtin`, or a model bundle: a directory, or `s3://bucket/prefix`",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where torch runs")
    batch_size: int = Field(32, ge=1, le=1024, description="frames in one batch")
    batch_wait_ms: float = Field(
        15, ge=0, description="longest wait of a frame for its batch of a bundle's models, ms"
    )
    lease_seconds: float = Field(90, gt=0, description="how long a claim holds without a beat, s")
    heartbeat_seconds: float = Field(30, gt=0, description="time between heartbeats, s")
    visibility_seconds: int = Field(900, ge=1, le=43200, description="visibility on receive, s")
    wait_time_seconds: int = Field(20, ge=0, le=20, description="long poll, s")
    max_attempts: int = Field(3, ge=1, le=100, description="attempts before a video is failed")
    drain_seconds: float = Field(90, gt=0, le=110, description="time to finish after SIGTERM, s")
    protection_idle_seconds: float = Field(
        45, ge=0, description="ECS scale-in protection outlives the work by this, s"
    )
    http_port: int = Field(9102, ge=0, le=65535, description="metrics and health; 0: any free port")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    work_dir: Path | None = Field(
        None, description="directory for fetched videos; default: the system's temporary directory"
    )
    checkpoint_seconds: float = Field(
        60, gt=0, description="how much work may have to be done again after a disturbance, s"
    )
    decoder_stall_seconds: float = Field(
        30, gt=0, description="kill a decoder that says nothing for this long, s"
    )
    decoder_memory_bytes: ByteSize = Field(
        ByteSize(4 * _GIB),
        ge=1,
        description="address space of one decoder process, in bytes or as `4GiB`",
    )

    @field_validator("allowed_buckets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("sample_fps", mode="before")
    @classmethod
    def _parse_rate(cls, value: object) -> Rate:
        if value in ("auto", "keyframes"):
            return value
        try:
            rate = None if value in ("all", None) else float(str(value))
        except ValueError:
            rate = 0.0
        if rate is not None and not 0 < rate <= 1000:
            raise ValueError(
                "must be `all`, `auto`, `keyframes`, or frames per second above 0 and at most 1000"
            )
        return rate

    @field_validator("database_url")
    @classmethod
    def _parse_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("postgresql", "postgres") or not parts.hostname:
                raise ValueError("must look like postgresql://user:password@host:port/name")
            _ = parts.port  # raises ValueError for what is no port
        return value

    @field_validator("queue_url", "dlq_url")
    @classmethod
    def _parse_queue(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("must be the queue's URL, not its name or ARN")
        return value

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        lines = []
        if self.heartbeat_seconds >= self.lease_seconds:
            lines.append(
                f"POLLER_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g}) must be below "
                f"POLLER_LEASE_SECONDS ({self.lease_seconds:g}); a third of it survives a late beat"
            )
        shown_again = self.lease + MARGIN
        if timedelta(seconds=self.visibility_seconds) < shown_again:
            lines.append(
                f"POLLER_VISIBILITY_SECONDS ({self.visibility_seconds}) must be at least "
                f"POLLER_LEASE_SECONDS + {MARGIN.seconds} ({shown_again.total_seconds():g})"
            )
        if self.drain_seconds < self.wait_time_seconds + RELEASE_SECONDS:
            lines.append(
                f"POLLER_DRAIN_SECONDS ({self.drain_seconds:g}) must be at least "
                f"{RELEASE_SECONDS:g} more than "
                f"POLLER_WAIT_TIME_SECONDS ({self.wait_time_seconds}): the open poll is awaited"
            )
        if self.results_bucket in (self.raw_bucket, *self.allowed_buckets) and self.results_bucket:
            lines.append(
                f"POLLER_RESULTS_BUCKET ({self.results_bucket}) must be a bucket of its own: "
                "results among the uploads would be announced as uploads"
            )
        if lines:
            raise SettingsError(lines)
        return self

    @property
    def lease(self) -> timedelta:
        """How long a claim holds without a beat."""
        return timedelta(seconds=self.lease_seconds)


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: with one line for each variable that is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
        lines = [_line(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()]
        raise SettingsError([*lines, *_disagreements(faults)]) from error


def find_unknown(environment: Iterable[str]) -> dict[str, str | None]:
    """The `POLLER_` variables that mean nothing, each with the name that was probably meant."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    strange = sorted(name for name in environment if name.startswith(_PREFIX))
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), None)
        for name in strange
        if name not in known
    }


def require(settings: Settings, *names: str) -> None:
    """Check that the variables which a command needs are set.

    Raises:
        SettingsError: with one line for each that is missing.
    """
    lines = missing(settings, *names)
    if lines:
        raise SettingsError(lines)


def missing(settings: Settings, *names: str) -> list[str]:
    """Name those of these variables that are not set, a line for each."""
    lines = []
    for name in names:
        if name == "database":
            if not (settings.database_url or settings.database_secret_arn):
                lines.append("set POLLER_DATABASE_URL or POLLER_DATABASE_SECRET_ARN")
        elif getattr(settings, name) is None:
            description = type(settings).model_fields[name].description
            lines.append(f"set POLLER_{name.upper()}: {description}")
    return lines


def _disagreements(faults: Iterable[str]) -> list[str]:
    """Check the other variables against each other; those with faults say nothing."""
    defaults = {name: Settings.model_fields[name].default for name in faults}
    try:
        Settings(**defaults)
    except SettingsError as error:
        named = [f"{_PREFIX}{name.upper()} " for name in faults]
        return [line for line in error.lines if not any(name in line for name in named)]
    return []


def _line(location: tuple[int | str, ...], fault: str, message: str) -> str:
    name = str(location[0]).upper() if location else ""
    return f"{_PREFIX}{name}: {_FAULTS.get(fault, message).removeprefix('Value error, ')}"
