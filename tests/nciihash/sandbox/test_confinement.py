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
from nciihash.signals import FILE_SIGNAL_TYPES
from support.sandboxes import pid_of, python, sibling
from support.tracks import SIDE_TRACKS, with_side_track
from support.videos import make_video, moving_frames


def test_the_isolation_measures_are_named(box):
    assert box.isolation[0] == "process"
    assert set(box.isolation) <= set(sandbox.ISOLATION_MEASURES)
    if sys.platform == "linux":
        assert {"memory", "no-file-growth", "few-open-files"} <= set(box.isolation)


# What a malicious file could try in the child; all of it must be refused.
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
    "stat": "os.stat(path)",
    "lstat": "os.lstat(path)",
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
parent = os.getppid()  # before confinement, which denies it
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
    except (OSError, ValueError):  # setrlimit raises ValueError
        outcome[name] = "refused"
    except Exception as error:
        outcome[name] = repr(error)
print(json.dumps([filtered, outcome]))
"""


def test_a_confined_process_can_do_nothing_that_decoding_does_not_need(picture):
    size = picture.stat().st_size
    with python(CONFINED, picture, json.dumps(ATTEMPTS)) as process:
        filtered, outcome = json.loads(process.communicate(timeout=60)[0])
    if not filtered:
        pytest.skip("this system permits no filter of system calls")
    assert set(outcome.values()) == {"refused"}, outcome
    assert picture.stat().st_size == size
    assert [p.name for p in picture.parent.iterdir()] == [picture.name]


def test_the_attempts_work_without_confinement(picture):
    # otherwise the test above would prove nothing
    code = CONFINED.replace("filtered = confinement.filter_calls()", "filtered = False")
    code = code.replace("confinement.limit(1 << 30, open_files=32)", "")
    harmful = {"program", "fork", "limits", "remove", "rename", "truncate", "temporary"}
    harmful.add("memory of the parent")  # many systems permit it only to root
    if platform.machine() != "x86_64":
        harmful.add("creat")  # other architectures do not have this call
    harmless = {name: code for name, code in ATTEMPTS.items() if name not in harmful}
    with python(code, picture, json.dumps(harmless)) as process:
        _, outcome = json.loads(process.communicate(timeout=60)[0])
    assert set(outcome.values()) == {"done"}, outcome


# A decoder that a malicious file has taken over, in the real child.
HOSTILE = f"""{CALL}
import nciihash.hashing.hasher
from nciihash import errors
from nciihash.sandbox import confinement
original = nciihash.hashing.hasher.decode
def hostile(data, *, limits):
    if not data.startswith(b"attempt "):
        return original(data, limits=limits)
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
    """Make the child run a test's code before it serves."""
    first, serving = sandbox._BOOT.split("from nciihash.sandbox.child")
    monkeypatch.setattr(
        sandbox, "_BOOT", first + f"exec({code!r}, {{}})\nfrom nciihash.sandbox.child" + serving
    )


def _outcome(box, path, name):
    with pytest.raises(errors.CorruptFile) as refusal:
        box.hash_file(sibling(path, b"attempt " + ATTEMPTS[name].encode()))
    return str(refusal.value)


def test_a_decoder_that_is_taken_over_can_read_nothing(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE)
    with Sandbox() as box:
        filtered = "system-call-filter" in box.isolation
        # without a filter, the limit on open files still refuses those in READING
        for name in READING if not filtered else ATTEMPTS.keys() - {"write", "append"}:
            assert _outcome(box, picture, name) == "refused", name
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_without_a_filter_no_descriptor_can_be_opened(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE + "confinement.filter_calls = lambda: False\n")
    monkeypatch.setenv("NCIIHASH_SANDBOX_WITHOUT_FILTER", "1")
    with Sandbox() as box:
        for name in READING:
            assert _outcome(box, picture, name) == "refused", name


def test_without_confinement_a_decoder_that_is_taken_over_reads_secrets(picture, monkeypatch):
    # otherwise the two tests above would prove nothing
    unconfined = "confinement.filter_calls = confinement.leave_network = lambda: False\n"
    unconfined += "confinement.limit = lambda *a, **k: ()\n"
    _boot(monkeypatch, HOSTILE + unconfined)
    monkeypatch.setenv("NCIIHASH_SANDBOX_WITHOUT_FILTER", "1")
    with Sandbox() as box:
        for name in READING:
            if name != "memory of the parent":  # many systems permit it only to root
                assert _outcome(box, picture, name) == "done", name


# Deny seccomp to this process and its children, as a container's profile may.
REFUSED = """
import ctypes, errno, struct, sys
from nciihash.sandbox import confinement
from nciihash.sandbox import Sandbox
code = [(0x20, 0, 0, 0), (0x15, 0, 1, confinement._SECCOMP[confinement.platform.machine()]),
        (0x06, 0, 0, 0x50000 | errno.EPERM), (0x06, 0, 0, confinement._ALLOW)]
program = b"".join(struct.pack("=HBBI", *each) for each in code)
instructions = ctypes.create_string_buffer(program, len(program))
header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(instructions))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0) == 0
"""


@pytest.fixture
def linux():
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("system-call filters exist only on Linux")


@pytest.mark.usefixtures("linux")
def test_nothing_is_decoded_if_the_filter_is_refused(picture):
    code = f"""{REFUSED}
from nciihash.cli.app import main
sys.argv = ["nciihash", "hash", "--json", sys.argv[1]]
main()
"""
    with python(code, picture) as process:
        output = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 1
    assert output["error"]["code"] == "sandbox_unavailable"
    assert "seccomp" in output["error"]["message"]
    assert "NCIIHASH_SANDBOX_WITHOUT_FILTER=1" in output["error"]["message"]


@pytest.mark.usefixtures("linux")
def test_running_without_a_filter_is_warned_of_once(picture, monkeypatch):
    monkeypatch.setenv("NCIIHASH_SANDBOX_WITHOUT_FILTER", "1")
    code = f"""{REFUSED}
from nciihash.cli.app import main
sys.argv = ["nciihash", "hash", "--jobs", "2", "--json", sys.argv[1], sys.argv[1]]
main()
"""
    with python(code, picture, stderr=subprocess.PIPE) as process:
        output, warnings = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(output.splitlines()) == 2
    assert warnings.count("refuses the system-call filter") == 1
    assert "limits on memory, time and files only" in warnings


# Once confined, the child exits if Python code opens a file or imports a module.
WATCHED = """
import os, sys
from nciihash.sandbox import confinement
confined = False
def watch(event, arguments):
    if confined and event in {"open", "import"}:
        os._exit(9)
sys.addaudithook(watch)
filter_calls = confinement.filter_calls
def filter_then_watch():
    global confined
    filtered, confined = filter_calls(), True
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
    """The shared sandbox whose child exits if it opens or imports anything once confined."""
    with pytest.MonkeyPatch.context() as patched:
        _boot(patched, WATCHED)
        assert _watched.isolation
    return _watched


def test_the_audit_hook_detects_an_opened_file(picture, monkeypatch):
    _boot(monkeypatch, HOSTILE + WATCHED)
    with Sandbox() as box, pytest.raises(errors.ProgramFault, match="ended"):
        box.hash_file(sibling(picture, b"attempt " + ATTEMPTS["read"].encode()))


def test_all_lazy_imports_happen_before_confinement(watched, tmp_path):
    for image_format, data in SAMPLES.items():
        path = tmp_path / image_format
        path.write_bytes(data)
        for variants in hasher.VARIANTS:
            options = {"variants": variants, "signals": FILE_SIGNAL_TYPES}
            assert watched.hash_file(path, **options) == hasher.hash_file(path, **options)
        assert detect(data) is image_format
    assert set(SAMPLES) == set(Format)


@pytest.mark.parametrize(
    ("codec", "container_format", "pix_fmt"),
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
def test_videos_import_nothing_after_confinement(
    watched, tmp_path, codec, container_format, pix_fmt
):
    path = tmp_path / "video"
    rate = 24 if codec.startswith("mpeg") else 12  # MPEG-1 and MPEG-2 support few rates
    path.write_bytes(make_video(moving_frames(8), codec, container_format, pix_fmt, rate=rate))
    child = pid_of(watched)
    assert watched.hash_file(path, variants="standard").frames in {1, 2}
    assert pid_of(watched) == child


@pytest.mark.parametrize("kind", SIDE_TRACKS)
def test_a_video_with_other_tracks_is_hashed_as_without_the_sandbox(watched, tmp_path, kind):
    path = tmp_path / "video"
    path.write_bytes(with_side_track(kind))
    child = pid_of(watched)
    assert watched.hash_file(path) == hasher.hash_file(path)
    assert pid_of(watched) == child


# Print the modules that functions of decoders import lazily and that are not loaded after warm-up.
MISSING = """
import ast, json, sys
from pathlib import Path
from nciihash.sandbox import child
child._warm_up()
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
# Modules that no file makes the decoders import: for displaying images, and for other formats.
UNREACHED = {
    *("PIL.ImageQt", "PIL.ImageShow", "PIL.ImageCms", "PIL.PpmImagePlugin", "PIL.MpoImagePlugin"),
    *("colorsys", "defusedxml", "mmap"),
}


def test_decoders_lazy_imports_are_loaded_by_the_warm_up():
    with python(MISSING) as process:
        missing = set(json.loads(process.communicate(timeout=60)[0]))
    assert missing <= UNREACHED


# A decoder that opens a file once the real child is confined.
LATE = f"""{CALL}
from nciihash.hashing import image
from nciihash.sandbox import confinement
confined, original, filter_calls = False, image._pixels, confinement.filter_calls
def open_late(*arguments, **more):
    if confined:
        open("/dev/null", "rb")
    return original(*arguments, **more)
def filter_then_confine():
    global confined
    filtered, confined = filter_calls(), True
    return filtered
image._pixels, confinement.filter_calls = open_late, filter_then_confine
"""


@pytest.mark.parametrize("error", ["ImportError", "PermissionError", "RuntimeError", "KeyError"])
def test_an_error_of_the_program_is_not_blamed_on_the_file(picture, monkeypatch, error):
    code = HOSTILE.replace("except (OSError, ValueError) as error:", "except () as error:")
    _boot(monkeypatch, code)
    with Sandbox() as box:
        attempt = sibling(picture, f"attempt raise {error}('text')".encode())
        child = pid_of(box)
        with pytest.raises(errors.ProgramFault, match=error) as refusal:
            box.hash_file(attempt)
        assert "malicious" not in str(refusal.value)
        assert pid_of(box) == child  # it is ready for the next file
        assert box.hash_file(picture) == hasher.hash_file(picture)


def test_a_denied_call_within_a_decoder_is_a_program_fault(picture, monkeypatch):
    _boot(monkeypatch, LATE)
    with Sandbox() as box:
        if "system-call-filter" not in box.isolation:
            pytest.skip("this system permits no filter of system calls")
        with pytest.raises(errors.ProgramFault, match="PermissionError"):
            box.hash_file(picture)


def test_odd_files_import_nothing_after_confinement(watched, shared_data):
    files = sorted(p for p in (shared_data / "odd").rglob("*") if p.is_file())
    child = pid_of(watched)
    for path in files:
        with contextlib.suppress(errors.FileRefused):
            watched.hash_file(path, signals=FILE_SIGNAL_TYPES)
        assert pid_of(watched) == child, path
        assert watched._child.poll() is None, path
