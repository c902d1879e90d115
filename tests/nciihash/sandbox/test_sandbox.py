import contextlib
import json
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.formats import Format, detect
from nciihash.media.limits import Limits
from nciihash.sandbox import Sandbox, pipe, replies
from nciihash.sandbox import parent as sandbox
from nciihash.sandbox.pipe import PIECE, send_bytes
from nciihash.sandbox.warmup import SAMPLES
from nciihash.signals import MADE, SignalType
from support.films import film, moving
from support.paths import ROOT
from support.pictures import encode, png, scene


@pytest.fixture(scope="module")
def box():
    with Sandbox() as started:
        yield started


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encode(scene(400, 300), "PNG"))
    return path


def _pid(box):
    return box._child.pid


def _gone(pid):
    """Wait until a process is no more; True if that happens at all."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_the_child_hashes_as_the_library_does(box, picture):
    for signals in ((SignalType.PDQ,), MADE):
        assert box.hash_file(picture, signals=signals) == hasher.hash_file(picture, signals=signals)


def test_the_child_is_the_same_from_file_to_file(box, picture):
    box.hash_file(picture)
    first = _pid(box)
    with pytest.raises(errors.EmptyFile):
        box.hash_file(_file(picture, b""))
    box.hash_file(picture)
    assert _pid(box) == first


def _file(beside, data):
    path = beside.with_name("other")
    path.write_bytes(data)
    return path


def test_every_format_is_read_behind_the_walls(box, tmp_path):
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
def test_refusals_come_through_with_their_sentence(box, picture, data, kind):
    path = _file(picture, data)
    with pytest.raises(kind) as refusal:
        box.hash_file(path)
    with pytest.raises(kind) as here:
        hasher.hash_file(path)
    assert str(refusal.value) == str(here.value)


def test_paths_that_are_no_files(box, tmp_path):
    for path in (tmp_path, tmp_path / "missing", "/dev/zero", "nul\0byte"):
        with pytest.raises(errors.NotAFile):
            box.hash_file(path)


def test_paths_may_be_relative_or_not_even_unicode(box, picture, monkeypatch):
    monkeypatch.chdir(picture.parent)
    assert box.hash_file(picture.name) == hasher.hash_file(picture)
    strange = os.fsencode(picture.parent) + b"/\xff\xfe.png"
    Path(os.fsdecode(strange)).write_bytes(picture.read_bytes())
    assert box.hash_file(os.fsdecode(strange)) == hasher.hash_file(picture)


def test_wrong_requests_are_value_errors(box, picture):
    with pytest.raises(ValueError, match="one of none, match, standard, full"):
        box.hash_file(picture, variants="all")
    with pytest.raises(ValueError, match="at least one"):
        box.hash_file(picture, signals=())


def test_threads_take_turns(box, picture, tmp_path):
    other = _file(picture, encode(scene(300, 400, seed=5), "PNG"))
    expected = {path: hasher.hash_file(path) for path in (picture, other)}
    with ThreadPoolExecutor(8) as pool:
        paths = [picture, other] * 30
        for path, item in zip(paths, pool.map(box.hash_file, paths), strict=True):
            assert item == expected[path]


def test_an_idle_child_that_was_killed_is_replaced(picture):
    with Sandbox() as box:
        before = _pid(box)
        os.kill(before, signal.SIGKILL)
        os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)  # the last of its threads has ended
        assert box.hash_file(picture) == hasher.hash_file(picture)
        assert _pid(box) != before


def test_a_child_that_dies_as_a_request_comes_is_replaced(picture):
    # held still, so that it surely has read nothing of the request when it dies
    with Sandbox() as box:
        child = _pid(box)
        os.kill(child, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(box.hash_file, picture)
            while not box._lock.locked():
                time.sleep(0.01)
            time.sleep(0.2)
            os.kill(child, signal.SIGKILL)
            assert answer.result(60) == hasher.hash_file(picture)
        assert _pid(box) != child


def test_children_that_die_as_soon_as_they_start_are_not_the_files_fault(picture, monkeypatch):
    boot = sandbox._BOOT.partition("from nciihash")[0]
    boot += "import os; os.write(1, (13).to_bytes(4) + b'{\"ready\": []}')"
    monkeypatch.setattr(sandbox, "_BOOT", boot)
    with pytest.raises(errors.SandboxUnavailable, match="as soon as it starts"):
        Sandbox().hash_file(picture)


def _while_sending(monkeypatch, act):
    """Do something when the child has asked for the file, before the first byte is sent."""
    once = iter([act])

    def acting(*arguments):
        next(once, lambda: None)()
        return send_bytes(*arguments)

    monkeypatch.setattr(sandbox, "send_bytes", acting)


DEATHS = {
    signal.SIGSEGV: errors.CorruptFile,
    signal.SIGABRT: errors.CorruptFile,
    signal.SIGKILL: errors.TooLarge,
    signal.SIGXCPU: errors.TimedOut,
}


@pytest.mark.parametrize("number", DEATHS)
def test_a_file_that_kills_the_child_is_refused_and_the_next_one_hashed(
    picture, number, monkeypatch
):
    with Sandbox() as box:
        child = _pid(box)
        _while_sending(monkeypatch, lambda: os.kill(child, number))
        with pytest.raises(DEATHS[number]):
            box.hash_file(picture)
        assert box.hash_file(picture) == hasher.hash_file(picture)
        assert _pid(box) != child


def test_a_child_that_takes_no_more_of_a_file_does_not_hold_us_up(picture, monkeypatch):
    large = _file(picture, encode(scene(2000, 2000), "BMP"))  # far more than a pipe holds
    with Sandbox(Limits(seconds=2.0)) as box:
        child = _pid(box)
        _while_sending(monkeypatch, lambda: os.kill(child, signal.SIGSTOP))
        with pytest.raises(errors.TimedOut):
            box.hash_file(large)
        assert _gone(child)
        assert box.hash_file(large) == hasher.hash_file(large)


def test_a_file_that_cannot_be_read_to_its_end_is_refused(box, picture, monkeypatch):
    def failing(path, *, limits):
        yield picture.read_bytes()
        raise errors.UnreadableFile("The disk is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "read_path", failing)
        with pytest.raises(errors.UnreadableFile, match="disk is gone"):
            box.hash_file(picture)
    assert box.hash_file(picture) == hasher.hash_file(picture)


def test_every_byte_of_a_large_file_arrives(box, picture):
    large = _file(picture, encode(scene(1500, 1000), "BMP"))
    signals = (SignalType.SHA256, SignalType.MD5, SignalType.PDQ)
    assert large.stat().st_size > 4 << 20
    assert box.hash_file(large, signals=signals) == hasher.hash_file(large, signals=signals)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    path.write_bytes(film(moving(30)))
    return path


@pytest.mark.parametrize("variants", hasher.VARIANTS)
def test_a_video_is_hashed_in_the_child_as_in_the_library(box, footage, variants):
    asked = {"variants": variants, "signals": (SignalType.PDQ, SignalType.SHA256)}
    item = box.hash_file(footage, **asked)
    assert item == hasher.hash_file(footage, **asked)
    assert item.frames == 5
    assert item.hashes[1].time is not None


def test_of_a_large_video_only_what_is_needed_is_read(picture):
    """A gibibyte that holds nothing lies before the frames, as much as the child's memory."""
    data = film(moving(30))
    path = picture.with_name("large.mov")
    gap = 1 << 30
    with path.open("wb") as file:
        kind = int.from_bytes(data[:4])
        file.write(data[:kind] + (1).to_bytes(4) + b"mdat" + gap.to_bytes(8))
        file.seek(kind + gap)
        file.write(_moved(data[kind:], gap))
    tracemalloc.start()
    try:
        with Sandbox(Limits(memory=900 << 20, max_bytes=1000)) as box:
            assert box.hash_file(path).hashes == hasher.hash_bytes(data).hashes
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def _moved(boxes, by):
    """Correct the places of an MP4's chunks (ISO/IEC 14496-12, 8.7.5)."""
    at = boxes.index(b"stco")
    count = int.from_bytes(boxes[at + 8 : at + 12])
    start, end = at + 12, at + 12 + 4 * count
    places = struct.unpack(f">{count}I", boxes[start:end])
    return boxes[:start] + struct.pack(f">{count}I", *(p + by for p in places)) + boxes[end:]


@pytest.mark.parametrize("number", DEATHS)
def test_a_video_that_kills_the_child_is_refused(footage, number, monkeypatch):
    with Sandbox() as box:
        child = _pid(box)
        _while_sending(monkeypatch, lambda: os.kill(child, number))
        with pytest.raises(DEATHS[number]):
            box.hash_file(footage)
        assert box.hash_file(footage).frames == 5
        assert _pid(box) != child


def test_a_video_that_takes_too_long_is_refused(footage, monkeypatch):
    with Sandbox(Limits(video_seconds=2.0)) as box:
        child = _pid(box)
        _while_sending(monkeypatch, lambda: os.kill(child, signal.SIGSTOP))
        with pytest.raises(errors.TimedOut, match="2 seconds"):
            box.hash_file(footage)
        assert _gone(child)


def test_a_video_that_can_be_read_no_more_is_refused(box, footage, monkeypatch):
    def failing(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(sandbox.os, "pread", failing)
        with pytest.raises(errors.UnreadableFile):
            box.hash_file(footage)
    assert box.hash_file(footage).frames == 5


def test_a_damaged_video_does_not_end_the_child(box, footage):
    child = _pid(box)
    for cut in (40, 2000):
        with pytest.raises(errors.CorruptFile, match="video"):
            box.hash_file(_file(footage, footage.read_bytes()[:cut]))
    assert _pid(box) == child


@pytest.mark.parametrize(
    "asked", [[-1, 5], [100, 1], [0, 0], [0], ["0", 1], [0, PIECE + 1], 7, None]
)
def test_pieces_that_there_are_not_are_not_handed_out(asked):
    with pytest.raises(ValueError, match="no piece"):
        replies.piece({"read": asked}, 100)
    assert replies.piece({"read": [99, 1]}, 100) == (99, 1)


@pytest.mark.parametrize("time", [-1, "0", float("inf"), float("nan"), [], True])
def test_a_time_that_is_none_is_not_believed(time):
    entry = {"type": "pdq", "value": "0" * 64, "quality": 3, "variant": "original", "tied": False}
    answer = {"item": {"media": "video", "hashes": [entry | {"time": time}], "every": 0.25}}
    with pytest.raises(errors.CorruptFile, match="nonsense"):
        replies.understood(answer, (SignalType.PDQ,))
    answer["item"]["hashes"] = [entry | {"time": 0.5}]
    assert replies.understood(answer, (SignalType.PDQ,)).hashes[0].time == 0.5


def _sparse(beside, size):
    path = beside.with_name("sparse")
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_large_file_passes_through_this_process_by_pieces(box, picture):
    tracemalloc.start()
    try:
        with pytest.raises(errors.UnsupportedFormat):
            box.hash_file(_sparse(picture, 100 << 20))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_the_childs_memory_does_not_end_it(picture):
    with Sandbox(Limits(memory=700 << 20, max_bytes=1 << 30, seconds=300)) as box:
        child = _pid(box)
        with pytest.raises(errors.TooLarge, match="memory"):
            box.hash_file(_sparse(picture, 800 << 20))
        assert box.hash_file(picture) == hasher.hash_file(picture)
        assert _pid(box) == child


def test_a_file_of_too_many_bytes_is_refused_without_the_child(picture):
    box = Sandbox(Limits(max_bytes=1000))
    with pytest.raises(errors.TooLarge, match="larger than"):
        box.hash_file(_sparse(picture, 1001))
    assert box._child is None


def test_a_file_that_takes_too_long_is_refused_and_the_child_replaced(picture):
    with Sandbox(Limits(seconds=2.0)) as box:
        child = _pid(box)
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(errors.TimedOut, match="2 seconds"):
            box.hash_file(picture)
        assert _gone(child)
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_memory_is_limited(picture):
    # what the child has loaded takes some 500 MiB of addresses, mostly OpenCV
    large = _file(picture, encode(scene(9000, 9000), "JPEG", quality=50))
    with Sandbox(Limits(memory=680 << 20)) as box:
        with pytest.raises(errors.TooLarge, match="memory"):
            box.hash_file(large)
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_limits_reach_the_child(picture):
    with Sandbox(Limits(max_pixels=100)) as box, pytest.raises(errors.TooLarge):
        box.hash_file(picture)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"item": {"media": "image", "hashes": []}},
        {"item": {"media": "image", "hashes": [{"type": "pdq"}]}},
        {
            "item": {
                "media": "picture",
                "hashes": [
                    {
                        "type": "pdq",
                        "value": "0" * 64,
                        "quality": 3,
                        "variant": "original",
                        "tied": False,
                    }
                ],
            }
        },
        {"refused": "no_such_code", "message": "Text."},
        {"refused": "corrupt_file", "message": "\x1b]0;a title that is a command\x07"},
        {"refused": "corrupt_file", "message": "long " * 1000},
        {"refused": ["corrupt_file"], "message": "Text."},
        {"refused": "corrupt_file", "message": 7},
    ],
)
def test_nonsense_from_the_child_is_not_believed(answer):
    with pytest.raises(errors.CorruptFile, match="nonsense"):
        replies.understood(answer, (SignalType.PDQ,))


def test_a_message_of_absurd_depth_is_none():
    inlet, outlet = os.pipe()
    os.write(outlet, (50_000).to_bytes(4) + b"[" * 50_000)
    with pytest.raises(ValueError, match="depth"):
        pipe.receive(inlet)
    os.close(inlet)
    os.close(outlet)


@pytest.mark.parametrize("frames", [0, -1, "2", None, 1.5, [], {}])
def test_a_count_of_frames_that_is_none_is_not_believed(frames):
    entry = {"type": "pdq", "value": "0" * 64, "quality": 3, "variant": "original", "tied": False}
    entry["time"] = None
    answer = {"item": {"media": "image", "hashes": [entry], "frames": 2}}
    assert replies.understood(answer, (SignalType.PDQ,)).frames == 2
    answer["item"]["frames"] = frames
    with pytest.raises(errors.CorruptFile, match="nonsense"):
        replies.understood(answer, (SignalType.PDQ,))


def test_a_child_that_cannot_start_means_that_nothing_is_decoded(picture, monkeypatch):
    decoded = []
    monkeypatch.setattr(hasher, "hash_file", decoded.append)
    for program in ("/nonexistent/python", "/bin/false", "/bin/cat"):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(errors.SandboxUnavailable, match="--no-sandbox"):
            Sandbox().hash_file(picture)
        with pytest.raises(errors.SandboxUnavailable), Sandbox():
            pass
    assert not decoded


def _python(code, *arguments, **keywords):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        **keywords,
    )


def test_the_parent_loads_no_decoder(picture):
    code = (
        "import sys, nciihash.sandbox as s; s.hash_file(sys.argv[1]);"
        "print([m for m in ('PIL', 'cv2', 'av', 'pi_heif', 'simplejpeg') if m in sys.modules])"
    )
    with _python(code, picture) as process:
        assert process.communicate(timeout=60)[0] == "[]\n"
        assert process.returncode == 0


WAITING = """
import sys, time, threading
from nciihash.sandbox import parent as sandbox
sandbox.hash_file(sys.argv[1])
print(sandbox._shared._child.pid, flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(picture, number):
    with _python(WAITING, picture, start_new_session=True) as parent:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        # to the whole foreground group, as a terminal does
        os.killpg(parent.pid, number)
        parent.wait(30)
        assert _gone(child)


BUSY = """
import os, signal, sys, threading
from nciihash.sandbox import Sandbox
box = Sandbox()
box.hash_file(sys.argv[1])
child = box._child.pid
os.kill(child, signal.SIGSTOP)
print(child, flush=True)
try:
    box.hash_file(sys.argv[1])
except KeyboardInterrupt:
    os.kill(os.getpid(), 0)
    print(box._child, box.hash_file(sys.argv[1]).media, flush=True)
"""


def test_ctrl_c_in_the_middle_of_a_file_ends_the_child(picture):
    with _python(BUSY, picture) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        os.kill(parent.pid, signal.SIGINT)
        assert parent.stdout.readline() == "None image\n"
        assert parent.wait(30) == 0
        assert _gone(child)


def test_a_child_outlives_the_thread_that_started_it(picture):
    box = Sandbox()
    thread = threading.Thread(target=box.hash_file, args=(picture,))
    thread.start()
    thread.join()
    child = _pid(box)
    time.sleep(0.2)
    box.hash_file(picture)
    assert _pid(box) == child
    box.close()
    assert _gone(child)


FORKED = """
import os, sys
from nciihash.sandbox import Sandbox
box = Sandbox()
mine = box.hash_file(sys.argv[1])
child = box._child.pid
if (fork := os.fork()) == 0:
    same = box.hash_file(sys.argv[1]) == mine and box._child.pid != child
    box.close()
    os._exit(0 if same else 1)
status = os.waitpid(fork, 0)[1]
print(status, box.hash_file(sys.argv[1]) == mine, box._child.pid == child)
box.close()
"""


def test_a_fork_starts_a_child_of_its_own(picture):
    with _python(FORKED, picture) as process:
        assert process.communicate(timeout=60)[0] == "0 True True\n"


def test_a_closed_sandbox_starts_again(picture):
    box = Sandbox()
    box.close()
    for _ in range(2):
        assert box.hash_file(picture) == hasher.hash_file(picture)
        box.close()


def test_the_walls_are_named(box):
    assert box.isolation[0] == "process"
    assert set(box.isolation) <= set(sandbox._WALLS)
    if sys.platform == "linux":
        assert {"memory", "no-file-growth", "few-open-files"} <= set(box.isolation)


# What a hostile picture would try from inside, each with what happens to it behind the walls.
ATTEMPTS = {
    "socket": "import socket; socket.socket()",
    "socketpair": "import socket; socket.socketpair()",
    "write": "open(path, 'r+b')",
    "create": "open(path + '.new', 'wb')",
    "append": "open(path, 'ab')",
    "remove": "os.unlink(path)",
    "rename": "os.rename(path, path + '.new')",
    "folder": "os.mkdir(path + '.d')",
    "link": "os.link(path, path + '.l')",
    "program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "kill": "os.kill(parent, 0)",
    "limits": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))",
    "temporary": "open(os.open('/tmp', os.O_RDWR | os.O_TMPFILE))",
    "read": "open(path, 'rb')",
    "read low down": "os.open(path, os.O_RDONLY)",
    "openat2": "call(437, -100, os.fsencode(path), (ctypes.c_uint64 * 3)(), 24)",
    "creat": "call(85, os.fsencode(path), 0o600)",
    "look": "os.stat(path)",
    "look without following": "os.lstat(path)",
    "list": "os.listdir('/proc')",
    "program of the parent": "os.readlink(f'/proc/{parent}/exe')",
    "secrets of the parent": "open(f'/proc/{parent}/environ', 'rb').read()",
    "memory of the parent": "open(f'/proc/{parent}/mem', 'rb')",
    "own memory": "open('/proc/self/mem', 'rb')",
    "memory file": "os.memfd_create('name')",
    "pipe": "os.pipe()",
    "mode": "os.chmod(path, 0)",
    "truncate": "os.truncate(path, 0)",
}
CALL = """
import ctypes, os, resource, socket
parent = os.getppid()  # asked before the walls stand, for it is refused behind them
def call(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""
CONFINED = f"""{CALL}
import json, sys
from nciihash.sandbox import confinement
path, attempts = sys.argv[1], json.loads(sys.argv[2])
confinement.leave_network()
confinement.limit(1 << 30, open_files=32)
filtered = confinement.filter_calls()
outcome = {{}}
for name, code in attempts.items():
    try:
        exec(code)
        outcome[name] = "done"
    except (OSError, ValueError):  # Python calls a refused limit a ValueError
        outcome[name] = "refused"
    except Exception as error:
        outcome[name] = repr(error)
print(json.dumps([filtered, outcome]))
"""


def test_the_walls_keep_out_what_decoding_does_not_need(picture):
    size = picture.stat().st_size
    with _python(CONFINED, picture, json.dumps(ATTEMPTS)) as process:
        filtered, outcome = json.loads(process.communicate(timeout=60)[0])
    if not filtered:
        pytest.skip("this system permits no filter of system calls")
    assert set(outcome.values()) == {"refused"}, outcome
    assert picture.stat().st_size == size
    assert [p.name for p in picture.parent.iterdir()] == [picture.name]


def test_the_attempts_work_without_the_walls(picture):
    # or the test above would prove nothing
    code = CONFINED.replace("filtered = confinement.filter_calls()", "filtered = False")
    code = code.replace("confinement.limit(1 << 30, open_files=32)", "")
    harmful = {"program", "fork", "limits", "remove", "rename", "truncate", "temporary"}
    harmful.add("memory of the parent")  # many systems keep it from all but root
    if platform.machine() != "x86_64":
        harmful.add("creat")  # there is no such call
    harmless = {name: code for name, code in ATTEMPTS.items() if name not in harmful}
    with _python(code, picture, json.dumps(harmless)) as process:
        _, outcome = json.loads(process.communicate(timeout=60)[0])
    assert set(outcome.values()) == {"done"}, outcome


# A decoder that a picture has taken over, in the child as it really runs.
HOSTILE = f"""{CALL}
import nciihash.hashing.hasher
from nciihash import errors
from nciihash.sandbox import confinement
honest = nciihash.hashing.hasher.decode
def hostile(data, *, limits):
    if not data.startswith(b"attempt "):
        return honest(data, limits=limits)
    path, outcome = os.devnull, "done"
    try:
        exec(data.removeprefix(b"attempt "))
    except (OSError, ValueError) as error:
        outcome = "refused"
    raise errors.CorruptFile(outcome)
nciihash.hashing.hasher.decode = hostile
"""
READING = ("read", "read low down", "secrets of the parent", "memory of the parent", "pipe")


def _boot(monkeypatch, code):
    """Let the child run some code of the test before it serves."""
    first, serving = sandbox._BOOT.split("from nciihash.sandbox.child")
    monkeypatch.setattr(
        sandbox, "_BOOT", first + f"exec({code!r}, {{}})\nfrom nciihash.sandbox.child" + serving
    )


def _outcome(box, beside, name):
    with pytest.raises(errors.CorruptFile) as refusal:
        box.hash_file(_file(beside, b"attempt " + ATTEMPTS[name].encode()))
    return str(refusal.value)


def test_a_decoder_that_is_taken_over_can_read_nothing(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE)
    with Sandbox() as box:
        filtered = "system-call-filter" in box.isolation
        # each of these needs a descriptor, which the limit refuses even where nothing is filtered
        for name in READING if not filtered else ATTEMPTS.keys() - {"write", "append"}:
            assert _outcome(box, picture, name) == "refused", name
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_without_a_filter_there_is_no_descriptor_to_be_had(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE + "confinement.filter_calls = lambda: False\n")
    with Sandbox() as box:
        for name in READING:
            assert _outcome(box, picture, name) == "refused", name


def test_without_walls_a_decoder_that_is_taken_over_reads_the_secrets(picture, monkeypatch):
    # or the two tests above would prove nothing
    unwalled = "confinement.filter_calls = confinement.leave_network = lambda: False\n"
    unwalled += "confinement.limit = lambda *a, **k: ()\n"
    _boot(monkeypatch, HOSTILE + unwalled)
    with Sandbox() as box:
        for name in READING:
            if name != "memory of the parent":  # many systems keep it from all but root
                assert _outcome(box, picture, name) == "done", name


# From when the walls stand, the child dies if any Python code opens a file or looks for a module.
WATCHED = """
import os, sys
from nciihash.sandbox import confinement
standing = False
def watch(event, arguments):
    if standing and event in {"open", "import"}:
        os._exit(9)
sys.addaudithook(watch)
filter_calls = confinement.filter_calls
def filter_then_watch():
    global standing
    filtered, standing = filter_calls(), True
    return filtered
confinement.filter_calls = filter_then_watch
"""


@pytest.fixture
def watched(monkeypatch):
    _boot(monkeypatch, WATCHED)
    with Sandbox() as started:
        yield started


def test_the_watcher_sees_a_file_opened(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE + WATCHED)
    with Sandbox() as box, pytest.raises(errors.CorruptFile, match="crash"):
        box.hash_file(_file(picture, b"attempt " + ATTEMPTS["read"].encode()))


def test_whatever_is_loaded_late_is_loaded_before_the_walls_stand(watched, tmp_path):
    for format, data in SAMPLES.items():
        path = tmp_path / format
        path.write_bytes(data)
        for variants in hasher.VARIANTS:
            asked = {"variants": variants, "signals": MADE}
            assert watched.hash_file(path, **asked) == hasher.hash_file(path, **asked)
        assert detect(data) is format
    assert set(SAMPLES) == set(Format)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p"),
        ("libx265", "yuv420p10le"),
        ("libsvtav1", "yuv420p"),
        ("libvpx-vp9", "yuv420p"),
        ("libvpx", "yuv420p"),
        ("prores_ks", "yuv422p10le"),
        ("flv", "yuv420p"),
        ("ffv1", "bgr0"),
    ],
)
def test_videos_need_nothing_that_is_loaded_late(watched, tmp_path, codec, pix_fmt):
    path = tmp_path / "film"
    path.write_bytes(film(moving(8), codec, "flv" if codec == "flv" else "matroska", pix_fmt))
    child = _pid(watched)
    assert watched.hash_file(path, variants="standard").frames == 2
    assert _pid(watched) == child


def test_odd_files_need_nothing_that_is_loaded_late(watched, shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    child = _pid(watched)
    for path in files:
        with contextlib.suppress(errors.FileRefused):
            watched.hash_file(path, signals=MADE)
        assert _pid(watched) == child, path
        assert watched._child.poll() is None, path


def test_odd_files_through_the_sandbox(box, shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    first = None
    for path in files:
        with contextlib.suppress(errors.FileRefused):
            box.hash_file(path)
        first = first or _pid(box)
    assert _pid(box) == first, "a file has killed the child"
    status = Path(f"/proc/{first}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 1 << 20  # KiB: a GiB
