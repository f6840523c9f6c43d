"""How this program was started, so that commands in what it prints can be typed as they stand."""

import shlex
import shutil
import sys
from pathlib import Path


def command(started_as: str = sys.argv[0], interpreter: str = sys.executable) -> str:
    """`poller`, a path to it, or `python -m poller`: whichever was typed and works again."""
    if Path(started_as).name == "__main__.py":
        return f"{_shortest(interpreter)} -m poller"
    return _shortest(started_as)


def as_typed(text: str) -> str:
    """Put what was typed into each command that the text has between backticks."""
    return text.replace("`poller ", f"`{command()} ")


def _shortest(program: str) -> str:
    """The bare name, where the shell finds this very program by it."""
    path = Path(program)
    found = shutil.which(path.name)
    is_found = found is not None and Path(found).absolute() == path.absolute()
    return path.name if is_found else shlex.quote(program)
