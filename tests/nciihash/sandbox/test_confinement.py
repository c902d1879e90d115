import contextlib
import json
import platform
import subprocess
import sys

import pytest

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.formats import Format, detect
from nciihash.sandbox import Sandbox
from nciihash.sandbox import parent as sandbox
from nciihash.sandbox.warmup import SAMPLES
from nciihash.signals import MADE
from support.films import film, moving
from support.sandboxes import pid_of, python, sibling
from support.tracks import SIDE_TRACKS, with_side_track


def test_the_walls_are_named(box):
    assert box.isolation[0] == "process"
    assert set(box.isolation) <= set(sandbox.WALLS)
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
    with python(CONFINED, picture, json.dumps(ATTEMPTS)) as process:
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
    with python(code, picture, json.dumps(harmless)) as process:
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
        box.hash_file(sibling(beside, b"attempt " + ATTEMPTS[name].encode()))
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
    monkeypatch.setenv("NCIIHASH_SANDBOX_WITHOUT_FILTER", "1")
    with Sandbox() as box:
        for name in READING:
            assert _outcome(box, picture, name) == "refused", name


def test_without_walls_a_decoder_that_is_taken_over_reads_the_secrets(picture, monkeypatch):
    # or the two tests above would prove nothing
    unwalled = "confinement.filter_calls = confinement.leave_network = lambda: False\n"
    unwalled += "confinement.limit = lambda *a, **k: ()\n"
    _boot(monkeypatch, HOSTILE + unwalled)
    monkeypatch.setenv("NCIIHASH_SANDBOX_WITHOUT_FILTER", "1")
    with Sandbox() as box:
        for name in READING:
            if name != "memory of the parent":  # many systems keep it from all but root
                assert _outcome(box, picture, name) == "done", name


# Refuse this process and its children the filter, as the profile of a container may.
REFUSED = """
import ctypes, errno, struct, sys
from nciihash.sandbox import confinement
from nciihash.sandbox import Sandbox
code = [(0x20, 0, 0, 0), (0x15, 0, 1, confinement._SECCOMP[confinement.platform.machine()]),
        (0x06, 0, 0, 0x50000 | errno.EPERM), (0x06, 0, 0, confinement._ALLOW)]
program = b"".join(struct.pack("=HBBI", *each) for each in code)
held = ctypes.create_string_buffer(program, len(program))
header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0) == 0
"""


@pytest.fixture
def linux():
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("a filter of system calls is for Linux")


@pytest.mark.usefixtures("linux")
def test_where_the_filter_is_refused_nothing_is_decoded(picture):
    code = f"""{REFUSED}
from nciihash.cli.app import main
sys.argv = ["nciihash", "hash", "--json", sys.argv[1]]
main()
"""
    with python(code, picture) as process:
        told = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 1
    assert told["error"]["code"] == "sandbox_unavailable"
    assert "seccomp" in told["error"]["message"]
    assert "NCIIHASH_SANDBOX_WITHOUT_FILTER=1" in told["error"]["message"]


@pytest.mark.usefixtures("linux")
def test_who_accepts_limits_alone_is_told_on_every_run(picture, monkeypatch):
    monkeypatch.setenv("NCIIHASH_SANDBOX_WITHOUT_FILTER", "1")
    code = f"""{REFUSED}
from nciihash.cli.app import main
sys.argv = ["nciihash", "hash", "--jobs", "2", "--json", sys.argv[1], sys.argv[1]]
main()
"""
    with python(code, picture, stderr=subprocess.PIPE) as process:
        out, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(out.splitlines()) == 2
    assert told.count("refuses the filter of system calls") == 1
    assert "limits of memory, time and files alone" in told


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


@pytest.fixture(scope="module")
def _watched():
    box = Sandbox()
    yield box
    box.close()


@pytest.fixture
def watched(_watched):
    """Give one sandbox with a watcher in its child to all tests."""
    with pytest.MonkeyPatch.context() as patched:
        _boot(patched, WATCHED)
        assert _watched.isolation
    return _watched


def test_the_watcher_sees_a_file_opened(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE + WATCHED)
    with Sandbox() as box, pytest.raises(errors.ProgramFault, match="ended"):
        box.hash_file(sibling(picture, b"attempt " + ATTEMPTS["read"].encode()))


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
    ("codec", "format", "pix_fmt"),
    [
        ("libx264", "matroska", "yuv420p"),
        ("libx265", "matroska", "yuv420p10le"),
        ("libsvtav1", "matroska", "yuv420p"),
        ("libvpx-vp9", "webm", "yuv420p"),
        ("libvpx", "webm", "yuv420p"),
        ("prores_ks", "mov", "yuv422p10le"),
        ("flv", "flv", "yuv420p"),
        ("ffv1", "matroska", "bgr0"),
        ("mpeg4", "avi", "yuv420p"),
        ("mpeg2video", "mpegts", "yuv420p"),
        ("mpeg1video", "mpeg", "yuv420p"),
        ("mjpeg", "avi", "yuvj420p"),
        ("wmv1", "asf", "yuv420p"),
        ("wmv2", "asf", "yuv420p"),
        ("msmpeg4v2", "avi", "yuv420p"),
        ("msmpeg4", "avi", "yuv420p"),
        ("rawvideo", "avi", "yuv420p"),
    ],
)
def test_videos_need_nothing_that_is_loaded_late(watched, tmp_path, codec, format, pix_fmt):
    path = tmp_path / "film"
    rate = 24 if codec.startswith("mpeg") else 12  # the old ones know few rates
    path.write_bytes(film(moving(8), codec, format, pix_fmt, rate=rate))
    child = pid_of(watched)
    assert watched.hash_file(path, variants="standard").frames in {1, 2}
    assert pid_of(watched) == child


@pytest.mark.parametrize("kind", SIDE_TRACKS)
def test_a_video_with_other_tracks_is_hashed_as_without_the_sandbox(watched, tmp_path, kind):
    path = tmp_path / "film"
    path.write_bytes(with_side_track(kind))
    child = pid_of(watched)
    assert watched.hash_file(path) == hasher.hash_file(path)
    assert pid_of(watched) == child


# Modules that a decoder imports in one of its functions, in a process that is ready to hash.
MISSING = """
import ast, json, sys
from pathlib import Path
from nciihash.sandbox import child
child._wake()
missing = set()
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] not in {"av", "PIL", "pi_heif"} or not module.__file__:
        continue
    source = Path(module.__file__.partition(".cpython-")[0].partition(".abi3")[0])
    if not (source := source.with_suffix(".py")).is_file():
        continue
    inner = {node for function in ast.walk(ast.parse(source.read_text()))
             if isinstance(function, ast.FunctionDef) for node in ast.walk(function)}
    for node in inner:
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level:
                base = ".".join(filter(None, (module.__package__, node.module)))
            outer = sys.modules.get(base)
            named = [base] if outer is None else [
                base + "." + alias.name for alias in node.names if not hasattr(outer, alias.name)]
        else:
            continue
        missing |= {each for each in named if each not in sys.modules}
print(json.dumps(sorted(missing)))
"""
# What no file makes the decoders import: other programs' windows, and formats that are not opened.
UNREACHED = {
    *("PIL.ImageQt", "PIL.ImageShow", "PIL.ImageCms", "PIL.PpmImagePlugin", "PIL.MpoImagePlugin"),
    *("colorsys", "defusedxml", "mmap"),
}


def test_what_decoders_import_late_is_imported_when_the_child_is_ready():
    with python(MISSING) as process:
        missing = set(json.loads(process.communicate(timeout=60)[0]))
    assert missing <= UNREACHED


# A decoder that opens a file late, in the child as it really runs.
LATE = f"""{CALL}
from nciihash.hashing import image
from nciihash.sandbox import confinement
standing, honest, filter_calls = False, image._pixels, confinement.filter_calls
def late(*arguments, **more):
    if standing:
        open("/dev/null", "rb")
    return honest(*arguments, **more)
def filter_then_stand():
    global standing
    filtered, standing = filter_calls(), True
    return filtered
image._pixels, confinement.filter_calls = late, filter_then_stand
"""


@pytest.mark.parametrize("error", ["ImportError", "PermissionError", "RuntimeError", "KeyError"])
def test_an_error_of_the_program_is_not_called_a_harmful_file(picture, monkeypatch, error):
    code = HOSTILE.replace("except (OSError, ValueError) as error:", "except () as error:")
    _boot(monkeypatch, code)
    with Sandbox() as box:
        attempt = sibling(picture, f"attempt raise {error}('text')".encode())
        child = pid_of(box)
        with pytest.raises(errors.ProgramFault, match=error) as refusal:
            box.hash_file(attempt)
        assert "harm" not in str(refusal.value)
        assert pid_of(box) == child  # it goes on with the next file
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_a_call_that_the_filter_refuses_within_a_decoder_is_told_as_a_fault(picture, monkeypatch):
    _boot(monkeypatch, LATE)
    with Sandbox() as box:
        if "system-call-filter" not in box.isolation:
            pytest.skip("this system permits no filter of system calls")
        with pytest.raises(errors.ProgramFault, match="PermissionError"):
            box.hash_file(picture)


def test_odd_files_need_nothing_that_is_loaded_late(watched, shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    child = pid_of(watched)
    for path in files:
        with contextlib.suppress(errors.FileRefused):
            watched.hash_file(path, signals=MADE)
        assert pid_of(watched) == child, path
        assert watched._child.poll() is None, path
