"""What can go wrong with a video, grouped by what the caller must do."""


class VideoRejectedError(Exception):
    """The file cannot be analysed, now or later: never retry.

    `reason` is one of `not_a_video`, `no_video_stream`, `unsupported_codec`, `too_long`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DecoderFailedError(Exception):
    """The decoder process died or was killed, in both of its backends.

    `reason` is one of `decoder_timeout`, `decoder_crashed`, `decoder_out_of_memory`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DecodersUnavailableError(Exception):
    """No decoder can be started here and now; no video is to blame."""


class DeviceFaultError(Exception):
    """The device process failed, and is restarted.

    `is_own`: it was at work on this video; where not, the video is certainly not to blame.
    """

    def __init__(self, detail: str, *, is_own: bool = False) -> None:
        super().__init__(detail)
        self.is_own = is_own


class ModelRefusedError(DeviceFaultError):
    """The device process does not start, because the bundle of models cannot be used on it."""
