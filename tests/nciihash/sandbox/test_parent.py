import contextlib
import errno
import json
import os
import signal
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.sandbox import Sandbox
from nciihash.sandbox import parent as sandbox
from nciihash.signals import FILE_SIGNAL_TYPES, SignalType
from support.pictures import encode, png, scene
from support.sandboxes import DEATHS, gone, pid_of, sibling, while_sending


def test_the_child_hashes_as_the_library_does(box, picture):
    for signals in ((SignalType.PDQ,), FILE_SIGNAL_TYPES):
        assert box.hash_file(picture, signals=signals) == hasher.hash_file(picture, signals=signals)


def test_the_child_is_kept_from_file_to_file(box, picture):
    box.hash_file(picture)
    first = pid_of(box)
    with pytest.raises(errors.EmptyFile):
        box.hash_file(sibling(picture, b""))
    box.hash_file(picture)
    assert pid_of(box) == first


def test_every_format_is_read_in_the_confined_child(box, tmp_path):
    from support import heifs  # loads an encoder

    files = {
        "JPEG": encode(scene(), "JPEG"),
        "PNG": encode(scene(), "PNG"),
        "WEBP": encode(scene(), "WEBP"),
        "GIF": encode(scene().quantize(64), "GIF"),
        "TIFF": encode(scene(), "TIFF", compression="tiff_lzw"),
        "BMP": encode(scene(), "BMP"),
        "AVIF": encode(scene(), "AVIF"),
        "HEIC": heifs.heic(scene()),
    }
    for data in files.values():
        path = tmp_path / "file"
        path.write_bytes(data)
        assert box.hash_file(path) == hasher.hash_file(path)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", errors.EmptyFile),
        (b"this is text", errors.UnsupportedFormat),
        (encode(scene(), "JPEG")[:700], errors.CorruptFile),
        (png(100_000, 100_000, b""), errors.TooLarge),
    ],
)
def test_refusals_have_the_same_message_as_in_process(box, picture, data, kind):
    path = sibling(picture, data)
    with pytest.raises(kind) as refusal:
        box.hash_file(path)
    with pytest.raises(kind) as in_process:
        hasher.hash_file(path)
    assert str(refusal.value) == str(in_process.value)


def test_paths_that_are_not_regular_files_are_refused(box, tmp_path):
    for path in (tmp_path, tmp_path / "missing", "/dev/zero", "nul\0byte"):
        with pytest.raises(errors.NotAFile):
            box.hash_file(path)


def test_paths_may_be_relative_or_not_unicode(box, picture, monkeypatch):
    monkeypatch.chdir(picture.parent)
    assert box.hash_file(picture.name) == hasher.hash_file(picture)
    path = os.fsencode(picture.parent) + b"/\xff\xfe.png"
    Path(os.fsdecode(path)).write_bytes(picture.read_bytes())
    assert box.hash_file(os.fsdecode(path)) == hasher.hash_file(picture)


def test_invalid_requests_raise_value_errors(box, picture):
    with pytest.raises(ValueError, match="one of none, match, standard, full"):
        box.hash_file(picture, variants="all")
    with pytest.raises(ValueError, match="at least one"):
        box.hash_file(picture, signals=())


def test_threads_take_turns(box, picture, tmp_path):
    other = sibling(picture, encode(scene(300, 400, seed=5), "PNG"))
    expected = {path: hasher.hash_file(path) for path in (picture, other)}
    with ThreadPoolExecutor(8) as pool:
        paths = [picture, other] * 30
        for path, item in zip(paths, pool.map(box.hash_file, paths), strict=True):
            assert item == expected[path]


def test_an_idle_child_that_was_killed_is_replaced(box, picture):
    before = pid_of(box)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)  # until all of its threads have ended
    assert box.hash_file(picture) == hasher.hash_file(picture)
    assert pid_of(box) != before


def test_a_child_that_dies_before_reading_a_request_is_replaced(box, picture):
    # stopped, so that it has not read the request when it dies
    child = pid_of(box)
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(box.hash_file, picture)
        while not box._lock.locked():
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(child, signal.SIGKILL)
        assert future.result(60) == hasher.hash_file(picture)
    assert pid_of(box) != child


def test_children_that_die_at_once_are_not_blamed_on_the_file(picture, monkeypatch):
    boot = sandbox._BOOT.partition("from nciihash")[0]
    ready = json.dumps({"ready": sandbox.ISOLATION_MEASURES}).encode()
    boot += f"import os; os.write(1, {len(ready).to_bytes(4) + ready!r})"
    monkeypatch.setattr(sandbox, "_BOOT", boot)
    with pytest.raises(errors.SandboxUnavailable, match="as soon as it starts"):
        Sandbox().hash_file(picture)


@pytest.mark.parametrize("number", DEATHS)
def test_a_file_that_kills_the_child_is_refused_and_the_next_one_hashed(
    box, picture, number, monkeypatch
):
    child = pid_of(box)
    while_sending(monkeypatch, lambda: os.kill(child, number))
    with pytest.raises(DEATHS[number]):
        box.hash_file(picture)
    assert box.hash_file(picture) == hasher.hash_file(picture)
    assert pid_of(box) != child


def test_a_child_that_stops_reading_times_out(hasty, picture, monkeypatch):
    large = sibling(picture, encode(scene(2000, 2000), "BMP"))  # far more than a pipe holds
    child = pid_of(hasty)
    while_sending(monkeypatch, lambda: os.kill(child, signal.SIGSTOP))
    with pytest.raises(errors.TimedOut):
        hasty.hash_file(large)
    assert gone(child)
    assert hasty.hash_file(large) == hasher.hash_file(large)


def test_a_file_that_cannot_be_read_to_its_end_is_refused(box, picture, monkeypatch):
    large, pread = sibling(picture, encode(scene(1500, 1000), "BMP")), os.pread

    def fail(file, length, start):
        if start:
            raise OSError(errno.EIO, "Input/output error")
        return pread(file, length, start)

    with monkeypatch.context() as patched:
        patched.setattr(sandbox.os, "pread", fail)
        with pytest.raises(errors.UnreadableFile, match="disk reports an error"):
            box.hash_file(large)
    assert box.hash_file(picture) == hasher.hash_file(picture)


def test_a_picture_that_grows_beyond_the_limit_while_it_is_read_is_refused(picture, monkeypatch):
    pread = os.pread

    def grow(file, length, start):
        return pread(file, length, start) or bytes(1)

    with Sandbox(Limits(max_bytes=picture.stat().st_size)) as box:
        with monkeypatch.context() as patched:
            patched.setattr(sandbox.os, "pread", grow)
            with pytest.raises(errors.TooLarge, match="larger than"):
                box.hash_file(picture)
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_every_byte_of_a_large_file_reaches_the_child(box, picture):
    large = sibling(picture, encode(scene(1500, 1000), "BMP"))
    signals = (SignalType.SHA256, SignalType.MD5, SignalType.PDQ)
    assert large.stat().st_size > 4 << 20
    assert box.hash_file(large, signals=signals) == hasher.hash_file(large, signals=signals)


def _sparse(sibling_path, size):
    path = sibling_path.with_name("sparse")
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_large_file_is_sent_in_chunks(box, picture):
    tracemalloc.start()
    try:
        with pytest.raises(errors.UnsupportedFormat):
            box.hash_file(_sparse(picture, 100 << 20))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_the_childs_memory_is_refused(picture):
    with Sandbox(Limits(memory=700 << 20, max_bytes=1 << 30, seconds=300)) as box:
        child = pid_of(box)
        with pytest.raises(errors.TooLarge, match="memory"):
            box.hash_file(_sparse(picture, 800 << 20))
        assert box.hash_file(picture) == hasher.hash_file(picture)
        assert pid_of(box) == child


def test_a_file_of_too_many_bytes_is_refused_before_the_child_starts(picture):
    box = Sandbox(Limits(max_bytes=1000))
    with pytest.raises(errors.TooLarge, match="larger than"):
        box.hash_file(_sparse(picture, 1001))
    assert box._child is None


def test_a_file_that_takes_too_long_is_refused_and_the_child_replaced(hasty, picture):
    child = pid_of(hasty)
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(errors.TimedOut, match="2 seconds"):
        hasty.hash_file(picture)
    assert gone(child)
    assert hasty.hash_file(picture) == hasher.hash_file(picture)


def test_memory_is_limited(picture):
    # the loaded libraries take about 500 MiB of address space, mostly OpenCV
    large = sibling(picture, encode(Image.new("RGB", (9000, 9000), "navy"), "JPEG", quality=50))
    with Sandbox(Limits(memory=680 << 20)) as box:
        with pytest.raises(errors.TooLarge, match="memory"):
            box.hash_file(large)
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_limits_are_passed_to_the_child(picture):
    with Sandbox(Limits(max_pixels=100)) as box, pytest.raises(errors.TooLarge):
        box.hash_file(picture)


def test_nothing_is_decoded_if_the_child_cannot_start(picture, monkeypatch):
    decoded = []
    monkeypatch.setattr(hasher, "hash_file", decoded.append)
    for program in ("/nonexistent/python", "/bin/false", "/bin/cat"):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(errors.SandboxUnavailable, match="--no-sandbox"):
            Sandbox().hash_file(picture)
        with pytest.raises(errors.SandboxUnavailable), Sandbox():
            pass
    assert not decoded


def test_odd_files_through_the_sandbox(box, shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    first = None
    for path in files:
        with contextlib.suppress(errors.FileRefused):
            box.hash_file(path)
        first = first or pid_of(box)
    assert pid_of(box) == first, "a file killed the child"
    status = Path(f"/proc/{first}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 1 << 20  # KiB: a GiB
