"""Prints what the image installs, with the versions that this interpreter has: `name==version`.

The project and its extra `models`, without what only tests and `poller local` need.
"""

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Requirement("video-poller[models]")


def find_installed() -> dict[str, str]:
    """Versions by name: what the project asks for, and what that asks for, to the end."""
    versions: dict[str, str] = {}
    seen: set[str] = set()
    wanted = [PROJECT]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if f"{name}[{sorted(requirement.extras)}]" in seen:
            continue
        seen.add(f"{name}[{sorted(requirement.extras)}]")
        found = distribution(requirement.name)
        # A build for a device has a part of its own, which no index of advisories knows.
        versions[name] = Version(found.version).public
        extras = requirement.extras | {""}
        wanted += [
            asked
            for asked in map(Requirement, found.requires or ())
            if asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in extras)
        ]
    del versions[PROJECT.name]
    return versions


if __name__ == "__main__":
    for name, version in sorted(find_installed().items()):
        print(f"{name}=={version}")
