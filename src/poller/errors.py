"""Failures of the service, grouped by what the caller must do."""


class SettingsError(Exception):
    """The service cannot start with these settings; one clear line for each fault."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class PermanentError(Exception):
    """Never retry: the video or the message itself is at fault."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RetryableError(Exception):
    """Try this video again later, a few times: the fault may be its own."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class UnavailableError(Exception):
    """A system that we need is away. No video is to blame, so no attempt is counted."""

    def __init__(self, system: str, detail: str) -> None:
        super().__init__(f"{system} is unavailable: {detail}")
        self.system = system
        self.detail = detail


class LeaseLostError(Exception):
    """Another worker may own the video now: store nothing, settle nothing."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"lease lost: {cause}")
        self.cause = cause


class HorizonError(Exception):
    """SQS hides this message no longer; the work goes on under another one."""


class SupersededError(Exception):
    """The object was overwritten; the new revision's own message does the work."""
