import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from circlemlp.errors import UserError
from circlemlp.store import disk

HOUR_AGO = time.time() - 3600


def in_a_process(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys, time\nfrom pathlib import Path\nfrom circlemlp.store import disk\n{code}"]
        + [str(argument) for argument in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


HOLDS = """
with disk.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
WRITES = """
with disk.aside(Path(sys.argv[1])) as made:
    print(made, flush=True)
    time.sleep(60)
"""


def test_an_aside_in_a_relative_folder_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # whose characters a database's address would give a meaning
    with disk.aside(Path()) as made:
        assert made == Path(made.name)
        assert made.is_dir()


def test_a_file_is_replaced_whole_and_its_folder_is_made(tmp_path):
    path = tmp_path / "deeper" / "file"
    for content in (b"one", b"two"):
        disk.replace_file(path, content)
        assert path.read_bytes() == content
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with disk.replacing_folder(path) as made:
        (made / "one").touch()
    with pytest.raises(UserError, match="cannot be written"), disk.replacing_folder(path) as made:
        made.write_bytes(b"")  # it is a folder
    assert [one.name for one in path.iterdir()] == ["one"]
    with disk.replacing_folder(path) as made:
        (made / "three").touch()
    assert [one.name for one in path.iterdir()] == ["three"]
    assert not list(tmp_path.glob(".aside-*"))


@pytest.fixture
def calls(monkeypatch):
    """Return the list to which each call that reaches the disk or changes a name is added, as it is made."""
    made = []

    def recorded(name, what):
        function = getattr(os, name)

        def call(*arguments):
            made.append((name, what(*arguments)))
            return function(*arguments)

        monkeypatch.setattr(os, name, call)

    recorded("fsync", lambda handle: Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    for name in ("rename", "replace"):
        recorded(name, lambda _, new: Path(new).name)
    return made


def test_a_file_reaches_the_disk_before_it_gets_its_name(tmp_path, calls):
    disk.replace_file(tmp_path / "file", b"")
    assert calls == [("fsync", "file"), ("replace", "file"), ("fsync", tmp_path.name)]


def test_a_folder_and_what_is_in_it_reach_the_disk_before_it_gets_its_name(tmp_path, calls):
    with disk.replacing_folder(tmp_path / "folder") as made:
        disk.write(made / "inside", b"")
    assert calls == [("fsync", "inside"), ("fsync", "folder"), ("rename", "folder"), ("fsync", tmp_path.name)]


@pytest.mark.parametrize("umask", [0o077, 0o022])
def test_the_umask_is_honoured_and_locks_are_not_executable(tmp_path, umask):
    before = os.umask(umask)
    try:
        disk.replace_file(tmp_path / "file", b"")
        with disk.replacing_folder(tmp_path / "folder") as made:
            (made / "inside").touch()
        with disk.lock(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes[tmp_path / "file"] == modes[tmp_path / "lock"] == 0o666 & ~umask
    assert modes[tmp_path / "folder"] == 0o777 & ~umask
    assert all(not mode & 0o111 for path, mode in modes.items() if path.is_file())


def test_what_a_killed_process_left_is_cleared_but_never_under_a_living_one(tmp_path):
    dead, living = (in_a_process(WRITES, tmp_path) for _ in range(2))
    left, written = (Path(process.stdout.readline().strip()) for process in (dead, living))
    dead.kill()
    dead.communicate()
    disk.clear_abandoned(tmp_path)
    assert left.is_dir()  # so young that its maker might not have locked it yet
    for folder in (left, written):
        os.utime(folder, (HOUR_AGO, HOUR_AGO))
    disk.clear_abandoned(tmp_path)
    assert not left.exists()
    assert written.is_dir()
    living.kill()
    living.communicate()


def write_a_file(folder):
    disk.replace_file(folder / "file", b"")


def write_a_folder(folder):
    with disk.replacing_folder(folder / "made"):
        pass


@pytest.mark.parametrize("write", [write_a_file, write_a_folder])
def test_writing_clears_what_was_abandoned_beside_it(tmp_path, write):
    abandoned = tmp_path / ".aside-old"
    abandoned.mkdir()
    os.utime(abandoned, (HOUR_AGO, HOUR_AGO))
    write(tmp_path)
    assert not abandoned.exists()


def test_what_was_abandoned_of_the_same_folder_is_cleared_however_young_it_is(tmp_path):
    same, other = tmp_path / ".aside-same", tmp_path / ".aside-other"
    (same / "made").mkdir(parents=True)
    (other / "theirs").mkdir(parents=True)
    write_a_folder(tmp_path)
    assert not same.exists()
    assert other.is_dir()  # whose maker might not have locked it yet


def test_a_lock_is_one_process_s_and_is_free_when_that_is_killed(tmp_path):
    path = tmp_path / "locks" / "one"
    assert not disk.is_locked(path)
    holder = in_a_process(HOLDS, path)
    assert holder.stdout.readline() == "held\n"
    assert disk.is_locked(path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not disk.is_locked(path)
    with disk.lock(path):
        assert disk.is_locked(path)


def test_who_waits_says_so_after_two_seconds_and_for_whom(tmp_path):
    holder = in_a_process(HOLDS, tmp_path / "one")
    holder.stdout.readline()
    begun = time.monotonic()
    waiting = in_a_process(HOLDS, tmp_path / "one")
    line = waiting.stderr.readline()
    assert time.monotonic() - begun >= 2
    assert line.startswith(f"waiting for {tmp_path / 'one'}, which process {holder.pid} on ")
    assert in_a_process(HOLDS, tmp_path / "another").communicate(timeout=60) == ("held\n", "")
    holder.communicate()
    assert waiting.communicate(timeout=60) == ("held\n", "")


def test_a_file_system_without_locks_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    def without_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(UserError, match=r"one: cannot be locked \(No locks available\); keep it on a file system"):
        disk.lock(tmp_path / "one").__enter__()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "too large", "link to a device"])
def test_what_is_no_file_of_a_sensible_size_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "it"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "folder":
            path.mkdir()
        case "too large":
            path.write_bytes(bytes(101))
        case "link to a device":
            path.symlink_to("/dev/zero")
    with pytest.raises((ValueError, IsADirectoryError)):
        disk.read_regular(path, 100)


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "it").write_bytes(b"x" * 100)
    assert disk.read_regular(tmp_path / "it", 100) == b"x" * 100


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        disk.replace_file(tmp_path / "file" / "inside", b"")
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\)"):
        disk.replace_file(tmp_path / ("x" * 300), b"")


def mounts():
    return (
        shutil.which("unshare")
        and subprocess.run(
            ["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


WITH_A_SMALL_DISK = """
from circlemlp.errors import UserError
disk.replace_file(Path(sys.argv[1]) / "file", b"small")
try:
    disk.replace_file(Path(sys.argv[1]) / "file", bytes(10**6))
except UserError as error:
    print(error)
print((Path(sys.argv[1]) / "file").read_bytes(), [path.name for path in Path(sys.argv[1]).iterdir()])
"""


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a small file system of its own")
def test_a_full_disk_is_one_line_and_the_file_that_was_there_is_still_there(tmp_path):
    code = f"import sys\nfrom pathlib import Path\nfrom circlemlp.store import disk\n{WITH_A_SMALL_DISK}"
    mount = 'mount -t tmpfs -o size=512k none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", tmp_path, sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no space left on the disk; free some and run again" in done.stdout
    assert done.stdout.endswith("b'small' ['file']\n")
