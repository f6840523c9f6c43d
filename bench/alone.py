"""Runs one function in a process of its own, where only its own work counts.

`python -m bench.alone MODULE FUNCTION ARGUMENT…` prints what the function returns, as JSON.
"""

import asyncio
import json
import sys
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from inference.child import open_log, read_tail


async def run_alone(module: str, function: str, *arguments: object) -> Any:
    """Call a function with its arguments as text, elsewhere, and return what it returns.

    Raises:
        RuntimeError: it failed.
    """
    with ExitStack() as stack:
        stderr = stack.enter_context(open_log())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.alone", module, function, *map(str, arguments)),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{module}.{function}: {read_tail(stderr)}")
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Call what the command line names."""
    module, function, *arguments = sys.argv[1:]
    print(json.dumps(getattr(import_module(module), function)(*arguments)))


if __name__ == "__main__":
    main()
