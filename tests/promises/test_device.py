"""Promise 1: hashing opens no socket and writes no file.

It is shown in two ways: by an audit hook, which sees everything that Python code does, and, if
`strace` is installed, by the system calls, which also show what the decoders' libraries do. Planted
leaks show that both detect one.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from support.heifs import heic
from support.paths import ROOT
from support.pictures import encode, exif, scene
from support.videos import make_video, moving_frames

HASHING = """
from nciihash import errors
from nciihash.hashing import hasher
from nciihash.signals import FILE_SIGNAL_TYPES, SignalType
for path in sys.argv[1:]:
    try:
        if path.endswith(".mp4"):
            hasher.hash_file(path, variants="standard", signals=[SignalType.PDQ, SignalType.MD5])
            hashed += 1
            continue
        hasher.hash_file(path, signals=FILE_SIGNAL_TYPES)
        hasher.hash_image(path)
        with open(path, "rb") as file:
            hasher.hash_image(file)
        hashed += 1
    except errors.FileRefused:
        refused += 1
"""
SANDBOXED = """
from nciihash import sandbox, errors
from nciihash.signals import FILE_SIGNAL_TYPES, SignalType
with sandbox.Sandbox() as box:
    for path in sys.argv[1:]:
        try:
            video = path.endswith(".mp4")
            signals = [SignalType.PDQ, SignalType.MD5] if video else FILE_SIGNAL_TYPES
            box.hash_file(path, variants="standard" if video else "none", signals=signals)
            hashed += 1
        except errors.FileRefused:
            refused += 1
"""
LEAKS = {
    "a socket": "import socket; socket.socket().close()",
    "a DNS query": "import socket; socket.getaddrinfo('localhost', 1)",
    "a request": "import urllib.request as r\ntry: r.urlopen('http://127.0.0.1:9/', timeout=1)\n"
    "except OSError: pass",
    "a file written": "open(sys.argv[1] + '.copy', 'wb').close()",
    "a file appended to": "open(sys.argv[1], 'ab').close()",
    "a file opened by os.open": "import os; os.close(os.open(sys.argv[1], os.O_RDWR))",
    "a picture saved": "from PIL import Image; Image.new('L', (9, 9)).save(sys.argv[1] + '.png')",
    "a temporary file": "import tempfile; tempfile.TemporaryFile().close()",
    "a folder": "import os; os.mkdir(sys.argv[1] + '.d')",
}

# The hook is installed before any import of the library, so that imports are watched as well.
WATCHED = """
import json, os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
WATCHED = ("socket.", "urllib.", "http.", "tempfile.", "shutil.", "sqlite3.", "os.exec",
           "os.fork", "os.posix_spawn", "os.system", "os.mkdir", "os.rename", "os.remove",
           "os.link", "os.symlink", "os.truncate", "os.chmod", "subprocess.")
seen = []
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        # a number is an open descriptor, as of a pipe
        if flags & WRITING and path != os.devnull and not isinstance(path, int):
            seen.append(f"open {path} {mode} {flags:o}")
    elif event.startswith(WATCHED):
        seen.append(event)
sys.addaudithook(watch)
hashed = refused = 0
"""
REPORT = "\nprint(json.dumps([hashed, refused, seen]))\n"


@pytest.fixture(scope="module")
def contents():
    photo = scene()
    return {
        "a.jpg": encode(photo, "JPEG", exif=exif(6)),
        "b.jpg": encode(photo.convert("CMYK"), "JPEG", progressive=True),
        "c.png": encode(photo.convert("RGBA"), "PNG"),
        "d.webp": encode(photo, "WEBP"),
        "e.gif": encode(photo.quantize(64), "GIF"),
        "f.tif": encode(photo, "TIFF", compression="tiff_lzw"),
        "g.bmp": encode(photo, "BMP"),
        "h.avif": encode(photo, "AVIF"),
        "i.heic": heic(photo),
        "j.mp4": make_video(moving_frames(12)),
        "k.gif": encode(photo, "GIF", save_all=True, append_images=[scene(seed=2)]),
        "broken.mp4": make_video(moving_frames(12))[:3000],
        "broken.jpg": encode(photo, "JPEG")[:900],
        "broken.tif": encode(photo, "TIFF", compression="tiff_lzw")[:900],
        "text.jpg": b"this is not a picture",
    }


@pytest.fixture
def files(tmp_path, contents):
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


def _environment(folder):
    folder.mkdir(exist_ok=True)
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",  # the interpreter's cache has nothing of a picture
    }


def _run(code, files, folder, *before):
    command = [*before, sys.executable, "-c", code, *map(str, files)]
    done = subprocess.run(
        command, env=_environment(folder), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hashing_opens_no_socket_and_writes_no_file(files, tmp_path):
    before = _snapshot(tmp_path)
    assert _run(WATCHED + HASHING + REPORT, files, tmp_path / "home") == [11, 4, []]
    assert _snapshot(tmp_path) == before


def test_the_sandbox_starts_only_its_child_process(files, tmp_path):
    before = _snapshot(tmp_path)
    report = _run(WATCHED + SANDBOXED + REPORT, files, tmp_path / "home")
    assert report == [11, 4, ["subprocess.Popen"]]
    assert _snapshot(tmp_path) == before


@pytest.mark.parametrize("leak", LEAKS)
def test_the_audit_hook_detects_a_planted_leak(files, tmp_path, leak):
    _, _, seen = _run(WATCHED + LEAKS[leak] + REPORT, files, tmp_path / "home")
    assert seen


# How `strace` shows calls that use the network or write.
_LEAKING = re.compile(
    r"\b(socket|socketpair|connect|sendto|sendmsg|bind|listen)\("
    r"|\b(unlink|rename|mkdir|link|symlink|truncate|mknod|chmod|memfd_create|creat)\w*\("
    r"|\bopen\w*\([^)]*\b(O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE)\b"
)


def _traced(code, files, folder):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = folder / "calls"
    calls = "trace=network,open,openat,openat2,creat,unlink,unlinkat,rename,renameat,renameat2,"
    calls += "mkdir,mkdirat,link,linkat,symlink,symlinkat,truncate,mknod,mknodat,chmod,fchmodat,"
    calls += "memfd_create"
    works = subprocess.run(
        [strace, "-o", str(log), "-e", calls, "true"], capture_output=True, check=False
    )
    if works.returncode != 0:
        pytest.skip("this system does not allow tracing")
    before = "import json, sys\nhashed = refused = 0\nseen = []\n"
    report = _run(
        before + code + REPORT, files, folder / "home", strace, "-f", "-o", log, "-e", calls
    )
    lines = [line for line in log.read_text().splitlines() if '"/dev/null"' not in line]
    assert len(lines) > 20  # else nothing was traced
    return report, [line for line in lines if _LEAKING.search(line)]


@pytest.mark.parametrize("code", [HASHING, SANDBOXED], ids=["same process", "sandbox"])
def test_no_system_call_of_hashing_uses_the_network_or_writes(files, tmp_path, code):
    report, leaking = _traced(code, files, tmp_path)
    assert report == [11, 4, []]
    assert not leaking


@pytest.mark.parametrize("leak", LEAKS)
def test_the_trace_detects_a_planted_leak(files, tmp_path, leak):
    _, leaking = _traced(LEAKS[leak], files, tmp_path)
    assert leaking
