"""`poller doctor`: a line for each thing that the service needs, and a true one."""

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.commands import run_poller
from tests.running import running

from poller.cli.doctor import check_work_dir
from poller.errors import SettingsError
from poller.settings import Settings


def test_doctor_finds_everything_in_order(settings_env: dict[str, str]) -> None:
    """With everything in place each check has its mark, device and decoder really run, exit 0."""
    examined = run_poller(settings_env, "doctor")

    assert examined.returncode == 0, examined.stdout
    marks = re.findall(r"^(.) ([a-z ]+): ", examined.stdout, re.MULTILINE)
    assert [name for _, name in marks] == [
        "settings", "queue", "dlq", "raw bucket", "results bucket", "database", "pgvector",
        "work dir", "model", "device", "decoder", "cage", "http",
    ]  # fmt: skip
    # A disk with little room and a kernel that lacks something are no faults, and not in order.
    said = dict(re.findall(r"^. ([a-z ]+): (.*)$", examined.stdout, re.MULTILINE))
    doubts = {
        "work dir": ", less than " in said["work dir"],
        "cage": "without" in said["cage"],
    }
    assert {name for mark, name in marks if mark == "!"} == {n for n in doubts if doubts[n]}
    assert {mark for mark, _ in marks} <= {"✓", "!"}
    assert "24 frames" in examined.stdout


def test_doctor_has_nowhere_to_write(settings_env: dict[str, str]) -> None:
    """Where no file can be written each check that needs one says so, and the others go on."""
    environment = {name: v for name, v in settings_env.items() if name != "POLLER_WORK_DIR"}

    examined = subprocess.run(
        ["sh", "-c", f"ulimit -f 0; exec {sys.executable} -m poller doctor"],  # noqa: S607
        env={**environment, "PYTHONPATH": str(Path("src").resolve())},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )

    assert examined.returncode == 1, examined.stdout
    assert examined.stderr.count("Traceback") == 0
    for check in ("work dir", "decoder"):
        assert re.search(rf"^✗ {check}: .*No usable temporary", examined.stdout, re.MULTILINE)
    assert re.search(r"^✓ http: ", examined.stdout, re.MULTILINE)


def test_doctor_doubts_a_disk_with_little_room(settings_env: dict[str, str]) -> None:
    """It works for most videos, so nothing fails; a tick would be no true sign for it."""
    examined = run_poller(settings_env | {"POLLER_MAX_VIDEO_BYTES": "1000000TiB"}, "doctor")

    assert examined.returncode == 0, examined.stdout
    assert re.search(r"^! work dir: .*, less than 4 videos", examined.stdout, re.MULTILINE)


def test_doctor_names_all_that_is_wrong(settings_env: dict[str, str]) -> None:
    """What is missing has its own mark, whatever else is wrong; exit 1."""
    wrong = {
        "POLLER_RAW_BUCKET": "no-such-bucket-here",
        "POLLER_RESULTS_BUCKET": "no-such-bucket-either",
        "POLLER_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
        "POLLER_DEVICE": "cuda",
        "CUDA_VISIBLE_DEVICES": "",
        "POLLER_DECODER_MEMORY_BYTES": "1MB",
        "POLLER_WORK_DIR": "/no/such/directory",
        "POLLER_MODEL": "/no/such/bundle",
    }

    examined = run_poller(settings_env | wrong, "doctor")

    assert examined.returncode == 1
    assert set(re.findall(r"^✗ ([a-z ]+): ", examined.stdout, re.MULTILINE)) == {
        "raw bucket", "results bucket", "database", "pgvector", "work dir", "model",
        "device", "decoder",
    }  # fmt: skip
    assert "✓ queue: " in examined.stdout
    assert "✗ device: it does not start: no CUDA device\n" in examined.stdout


def test_doctor_says_which_queue_is_missing(settings_env: dict[str, str]) -> None:
    """By the setting: the two have one address but for the name."""
    mistyped = {"POLLER_DLQ_URL": settings_env["POLLER_DLQ_URL"] + "-none"}

    examined = run_poller(settings_env | mistyped, "doctor")

    assert examined.returncode == 1
    assert "✗ dlq: POLLER_DLQ_URL: there is no queue" in examined.stdout
    assert "POLLER_QUEUE_URL: there" not in examined.stdout


async def test_doctor_on_a_disk_for_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the least that stays free is all that there is, it is no doubt but a fault."""
    monkeypatch.setitem(check_work_dir.__globals__, "FREE_BYTES", 2**62)

    with pytest.raises(SettingsError, match=r"has room for no video: 4\.0EiB stay free"):
        await check_work_dir(Settings.model_construct(work_dir=tmp_path))


def test_doctor_without_a_queue(settings_env: dict[str, str]) -> None:
    """Without a queue the checks of queue and DLQ name the variable to set, and what was typed."""
    mistyped = {"POLLER_QUEUE_URL": "", "POLLER_QUEUE": "http://q"}

    examined = run_poller(settings_env | mistyped, "doctor")

    assert examined.returncode == 1
    assert examined.stdout.count("set POLLER_QUEUE_URL") == 2
    assert (
        "! settings: unknown setting POLLER_QUEUE; did you mean POLLER_QUEUE_URL?\n"
        in examined.stdout
    )


async def test_doctor_wants_the_migrations(
    settings_env: dict[str, str], postgres_url: str, database_url: str
) -> None:
    """A database that was never migrated is pointed to `poller migrate`."""
    assert database_url

    examined = run_poller(settings_env | {"POLLER_DATABASE_URL": postgres_url}, "doctor")

    assert examined.returncode == 1
    assert "pollermigrate`" in "".join(examined.stdout.split())


def test_doctor_sees_a_taken_port(settings_env: dict[str, str]) -> None:
    """A port that something listens on is named, with the variable that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        examined = run_poller(settings_env | {"POLLER_HTTP_PORT": port}, "doctor")

    assert examined.returncode == 1
    assert re.search(rf"✗ http: port {port} .*POLLER_HTTP_PORT", examined.stdout)


async def test_doctor_passes_beside_a_running_poller(settings_env: dict[str, str]) -> None:
    """The port that the service itself has taken is no fault."""
    async with running(settings_env) as service:
        [started] = await service.logged("service.started")
        port = str(started["http_port"])

        examined = await asyncio.to_thread(
            run_poller, settings_env | {"POLLER_HTTP_PORT": port}, "doctor"
        )

    assert examined.returncode == 0, examined.stdout
    assert f"✓ http: port {port} is that of a poller that runs" in examined.stdout
