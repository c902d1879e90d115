"""Promise 1: hashing opens no socket and writes no file.

Proven twice: by an audit hook, which sees all that Python code does, and, where `strace` is at
hand, by the system calls themselves, which show what the decoders' own libraries do. Both watchers
are shown to see a leak that is planted.
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
from support.videos import film, moving

HASHING = """
from nciihash import errors
from nciihash.hashing import hasher
from nciihash.signals import MADE, SignalType
for path in sys.argv[1:]:
    try:
        if path.endswith(".mp4"):
            hasher.hash_file(path, variants="standard", signals=[SignalType.PDQ, SignalType.MD5])
            hashed += 1
            continue
        hasher.hash_file(path, signals=MADE)
        hasher.hash_image(path)
        with open(path, "rb") as file:
            hasher.hash_image(file)
        hashed += 1
    except errors.FileRefused:
        refused += 1
"""
SANDBOXED = """
from nciihash import sandbox, errors
from nciihash.signals import MADE, SignalType
with sandbox.Sandbox() as box:
    for path in sys.argv[1:]:
        try:
            film = path.endswith(".mp4")
            signals = [SignalType.PDQ, SignalType.MD5] if film else MADE
            box.hash_file(path, variants="standard" if film else "none", signals=signals)
            hashed += 1
        except errors.FileRefused:
            refused += 1
"""
LEAKS = {
    "a socket": "import socket; socket.socket().close()",
    "a name looked up": "import socket; socket.getaddrinfo('localhost', 1)",
    "a request": "import urllib.request as r\ntry: r.urlopen('http://127.0.0.1:9/', timeout=1)\n"
    "except OSError: pass",
    "a file written": "open(sys.argv[1] + '.copy', 'wb').close()",
    "a file appended to": "open(sys.argv[1], 'ab').close()",
    "a file opened low down": "import os; os.close(os.open(sys.argv[1], os.O_RDWR))",
    "a picture saved": "from PIL import Image; Image.new('L', (9, 9)).save(sys.argv[1] + '.png')",
    "a temporary file": "import tempfile; tempfile.TemporaryFile().close()",
    "a folder": "import os; os.mkdir(sys.argv[1] + '.d')",
}

# The hook stands before anything of ours is imported, so that imports are watched as well.
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
        # a number is a descriptor that is open already, as a pipe's
        if flags & WRITING and path != os.devnull and not isinstance(path, int):
            seen.append(f"open {path} {mode} {flags:o}")
    elif event.startswith(WATCHED):
        seen.append(event)
sys.addaudithook(watch)
hashed = refused = 0
"""
TOLD = "\nprint(json.dumps([hashed, refused, seen]))\n"


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
        "j.mp4": film(moving(12)),
        "k.gif": encode(photo, "GIF", save_all=True, append_images=[scene(seed=2)]),
        "broken.mp4": film(moving(12))[:3000],
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
        "PYTHONDONTWRITEBYTECODE": "1",  # the interpreter's own cache is nobody's picture
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
    assert _run(WATCHED + HASHING + TOLD, files, tmp_path / "home") == [11, 4, []]
    assert _snapshot(tmp_path) == before


def test_the_sandbox_only_starts_its_child(files, tmp_path):
    before = _snapshot(tmp_path)
    answer = _run(WATCHED + SANDBOXED + TOLD, files, tmp_path / "home")
    assert answer == [11, 4, ["subprocess.Popen"]]
    assert _snapshot(tmp_path) == before


@pytest.mark.parametrize("leak", LEAKS)
def test_the_watcher_sees_a_planted_leak(files, tmp_path, leak):
    _, _, seen = _run(WATCHED + LEAKS[leak] + TOLD, files, tmp_path / "home")
    assert seen


# What `strace` prints of a call that reaches out or writes; /dev/null holds nothing.
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
        pytest.skip("this system permits no tracing")
    before = "import json, sys\nhashed = refused = 0\nseen = []\n"
    answer = _run(
        before + code + TOLD, files, folder / "home", strace, "-f", "-o", log, "-e", calls
    )
    lines = [line for line in log.read_text().splitlines() if '"/dev/null"' not in line]
    assert len(lines) > 20  # or nothing was traced
    return answer, [line for line in lines if _LEAKING.search(line)]


@pytest.mark.parametrize("code", [HASHING, SANDBOXED], ids=["here", "sandbox"])
def test_no_system_call_of_hashing_reaches_out_or_writes(files, tmp_path, code):
    answer, leaking = _traced(code, files, tmp_path)
    assert answer == [11, 4, []]
    assert not leaking


@pytest.mark.parametrize("leak", LEAKS)
def test_the_trace_shows_a_planted_leak(files, tmp_path, leak):
    _, leaking = _traced(LEAKS[leak], files, tmp_path)
    assert leaking
