"""Coverage-guided fuzzing of the functions that parse untrusted input (atheris).

    PYTHONPATH=tests python tests/tools/fuzz_code.py [--minutes 10] [--seed 1] [TARGET …]

The targets share the time. Each has its own process, because a fuzzer never returns. Inputs that
fail are written to `fuzz-found-TARGET…`; `--one FILE TARGET` reproduces the failure.
`tests/tools/fuzz_files.py` fuzzes the sandbox with mutated files instead.
"""

import argparse
import functools
import gc
import gzip
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import types
import zlib
from contextlib import suppress
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path

import atheris
from pydantic import ValidationError

from nciihash import errors, vpdq, wire
from nciihash.cli import saved_hashes as saved
from nciihash.gate.dialects import clamd_protocol, mail
from nciihash.gate.dialects.icap.content import PIECE, Content
from nciihash.gate.dialects.icap.http_head import HttpHead, prefers_json
from nciihash.gate.dialects.icap.messages import Data, End, Head, Pause
from nciihash.gate.dialects.icap.parser import BadRequest, RequestParser
from nciihash.gate.upload import Upload, UploadMemory
from nciihash.hashing import frame_selection, hasher, image, jpeg, jpeg_repair
from nciihash.media import formats, tiff_pages
from nciihash.media.limits import Limits
from nciihash.media.structure import check_whole
from nciihash.sandbox import pipe, replies, warmup
from nciihash.signals import Hashed, Item, Level, Media, Signal, SignalType, Variant
from support.icap import chunks as icap_chunks
from support.icap import request as icap_request
from support.pictures import encode, exif, scene

LIMITS = Limits(max_pixels=250_000, reduced_pixels=1_000_000)
SCRATCH = Path(tempfile.gettempdir()) / "nciihash-fuzz"


def structure(data):
    """Detect the format of a file, and run the parsers of structure."""
    formats.video_format(data)
    formats.holds_video(data)
    assert 1 <= formats.orientation(data) <= 8
    for read in (formats.detect, formats.png_pixels, jpeg.read_orientation, jpeg_repair.Scans):
        with suppress(errors.FileRefused):
            read(data)
    jpeg.header(data)
    for page in tiff_pages.pages(data):
        for tag in page.entries:
            page.values(tag)
    for container in ("mov", "matroska"):
        with suppress(errors.CorruptFile):
            check_whole(io.BytesIO(data), container)


def picture(data):
    """Decode and hash a picture in this process."""
    if formats.video_format(data):
        return
    with suppress(errors.FileRefused):
        item = hasher.hash_bytes(data, variants="match", fast=len(data) % 2 == 0, limits=LIMITS)
        assert item.hashes
        assert image.count_frames(data) >= 1


def messages(data):
    """Parse the messages of clients and of the service."""
    for form in (
        *(wire.OpenCase, wire.AddItems, wire.MatchQuery, wire.Feedback, wire.Acknowledgement),
        *(wire.CaseStatus, wire.MatchReply, wire.Problem),
    ):
        with suppress(ValidationError):
            form.model_validate_json(data)
    with suppress(ValidationError):
        page = wire.FeedReply.model_validate_json(data).page
        assert wire.FeedReply.of(page).page == page
    with suppress(ValidationError):
        for item in wire.AddItems.model_validate_json(data).items:
            hashes = tuple(signal.hashed for signal in item.signals)
            assert wire.ItemIn.of(Item(item.media, hashes)) == item


def saved_hashes(data):
    """Parse the files that the page saves and `hash --json` writes."""
    SCRATCH.write_bytes(data)
    with suppress(errors.InvalidRequest):
        for item in saved.read_saved(SCRATCH):
            vpdq.group_by_frame(item.hashes)


def child(data):
    """Parse messages of the sandbox's child."""
    inlet, outlet = os.pipe()
    try:
        os.write(outlet, data[:60_000])
        os.close(outlet)
        with suppress(EOFError, ValueError):
            reply = pipe.receive(inlet)
            for level in (None, Level.WINDOWS):
                with suppress(errors.FileRefused, ValueError):
                    luma = bytes(replies.luma_size(reply, level))
                    replies.parse_item(reply, [SignalType.PDQ, SignalType.MD5], level, luma)
            with suppress(ValueError):
                replies.requested_range(reply, 1000)
    finally:
        os.close(inlet)


def frames(data):
    """Select the frames of a video, and compare it with itself."""
    random = atheris.FuzzedDataProvider(data)
    chosen = frame_selection.FrameSelector(
        random.ConsumeIntInRange(1, 40), close=random.ConsumeBool()
    )
    value, start = 0, 0.0
    while random.remaining_bytes() > 4:
        value ^= random.ConsumeUInt(4) << random.ConsumeIntInRange(0, 224)
        end = start + random.ConsumeIntInRange(0, 400) / 100
        quality = random.ConsumeIntInRange(0, 100)
        own = Hashed(Signal(SignalType.PDQ, value.to_bytes(32)), quality)
        copy = Hashed(Signal(SignalType.PDQ, (value ^ 0xFFFF).to_bytes(32)), 90, Variant.MIRROR)
        if chosen.due(start, end) and chosen.take(own):
            chosen.keep((own, copy))
        start = end
    hashes = chosen.hashes(random.ConsumeIntInRange(0, 60))
    if hashes:
        video = vpdq.group_by_frame(hashes)
        assert len(video) == max(1, len(chosen))
        assert vpdq.compare(video, video).query.fraction == 1.0
        assert Item(Media.VIDEO, hashes)


def icap(data):
    """Parse ICAP requests, whole and byte by byte, and read the HTTP bodies in them."""
    events = _icap_events([data])
    assert events == _icap_events([data[i : i + 1] for i in range(len(data))])
    head = None
    memory = UploadMemory(1 << 20)
    for event in events:
        match event:
            case Head():
                head = event
                body = b""
            case Data(more):
                body += more
            case End() if head is not None:
                _read_body(head, body, memory)
    assert memory.used == 0


def _icap_events(pieces):
    """Return the events of the pieces of a connection, with the data of a body joined."""
    parser, events = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        try:
            while (event := parser.next_event()) is not None:
                if isinstance(event, Data) and isinstance(events[-1], Data):
                    events[-1] = Data(events[-1].data + event.data)
                else:
                    events.append(event)
                if isinstance(event, Pause):
                    parser.proceed()
                if isinstance(event, End):
                    parser.next_request()
        except BadRequest as error:
            return [*events, error.status]
    return events


def _read_body(head, body, memory):
    """Read the body of an encapsulated HTTP message, whole and in pieces."""
    http = HttpHead.parse(head.response or head.request)
    prefers_json(",".join(http.values("accept")))
    found = []
    for size in (len(body) or 1, 3):
        new_upload = functools.partial(Upload, memory, 1 << 16)
        keep = not head.allows_204
        with Content(http, new_upload, memory, inflated=1 << 14, keep=keep) as content:
            for start in range(0, len(body), size):
                for _ in content.write(body[start : start + size]):
                    assert memory.used <= (1 << 18) + PIECE
            content.not_a_file(whole=False)
            content.end()
            content.not_a_file(whole=True)
            found.append([(each.refused, bytes(each.data)) for each in content.uploads])
            if content.original is not None and content.original.refused is None:
                assert content.original.data == body
    assert found[0] == found[1]


def clamd(data):
    """Answer clamd's commands, whole and byte by byte."""
    whole = _clamd_conversation([data])
    assert whole == _clamd_conversation([data[i : i + 1] for i in range(len(data))])


def _clamd_conversation(pieces):
    """Return the events and replies of the pieces of a connection."""
    protocol, events, replied, content = clamd_protocol.ClamdProtocol(1 << 20), [], b"", b""
    for piece in pieces:
        protocol.receive(piece)
        while (event := protocol.next_event()) is not None:
            match event:
                case clamd_protocol.Data(more):
                    assert more
                    content += more
                    continue
                case clamd_protocol.EndOfStream():
                    replied += protocol.reply(f"stream: {len(content)}")
                case clamd_protocol.Refused(text):
                    replied += protocol.reply(text)
                    assert protocol.closed
                case clamd_protocol.Command(command) if command != "INSTREAM":
                    replied += protocol.reply(command)
            events.append((event, content))
            content = b""
        assert protocol.buffered <= clamd_protocol.COMMAND_MAX
        assert not protocol.closed or protocol.buffered == 0
    return events, replied, content, protocol.closed


def email(data):
    """Find the pictures of an email."""
    mail.is_message(data)
    with suppress(mail.TooComplex):
        for file in mail.files(data):
            assert len(file) <= len(data)


TARGETS = {
    each.__name__: each
    for each in (
        *(structure, picture, messages, saved_hashes, child, frames, icap),
        *(clamd, email),
    )
}
LONG = ("messages", "saved_hashes", "child", "icap", "clamd", "email")
SIZES = {"picture": 4096} | dict.fromkeys(LONG, 2048)  # bytes at most


def seeds(name):
    """Yield valid inputs of a target."""
    pdq, md5 = "25" * 32, "ab" * 16
    signals = [
        {"type": "pdq", "value": pdq, "quality": 93, "variant": "original"},
        {"type": "md5", "value": md5, "quality": None, "variant": "original"},
    ]
    items = {"items": [{"media": "image", "signals": signals}]}
    match name:
        case "structure" | "picture":
            yield from warmup.SAMPLES.values()
            for file_format in ("TIFF", "PNG", "GIF", "WEBP"):
                more = [scene(24, 20, seed=2)]
                yield encode(scene(24, 20), file_format, save_all=True, append_images=more)
            yield encode(scene(24, 20).convert("CMYK"), "JPEG", exif=exif(6))
            yield encode(scene(24, 20).quantize(9), "PNG", transparency=1)
        case "messages":
            added = {"op": "add", "id": md5, "item": md5, "media": "video"} | signals[0]
            for message in (
                items,
                items | {"declaration": {"adult": True, "depicted": True}, "reason": "shared"},
                {"entries": [added, {"op": "remove", "id": md5}], "cursor": md5, "more": False},
                {"type": "pdq", "values": [pdq]},
                {"as_of": md5, "matches": [[{"id": md5, "item": md5, "band": "strong"}]]},
                {"verdicts": [{"id": md5, "verdict": "blocked"}]},
                {"title": "No", "status": 400, "code": "bad_cursor"},
            ):
                yield json.dumps(message).encode()
        case "saved_hashes":
            yield json.dumps(items).encode()
            line = {"file": "a.mp4", "media": "video", "hashes": [signals[0] | {"time": 0.25}]}
            yield "\n".join(map(json.dumps, (line, {"file": "b", "error": {}}))).encode()
            yield b"[" * 1500 + b"\n" + b"9" * 500
        case "child":
            hashes = [entry | {"tied": False, "time": 1.5} for entry in signals]
            item = {"media": "video", "hashes": hashes, "frames": 3, "every": 0.25}
            part = {"kind": "whole", "box": [0, 0, 1, 1], "angle": 0, "shape": 1.5, "time": 0.25}
            turned = part | {"kind": "rotated", "angle": -90.0}
            for reply in (
                {"item": item},
                {"item": item | {"parts": [part, turned]}},
                {"refused": "corrupt_file", "message": "It is damaged."},
                {"invalid": "variants"},
                {"read": [0, 100]},
            ):
                text = json.dumps(reply).encode()
                yield len(text).to_bytes(4) + text
            yield (1500).to_bytes(4) + b"[" * 1500
        case "frames":
            yield bytes(range(256))
        case "clamd":
            stream = b"INSTREAM\n\0\0\0\3abc\0\0\0\1d\0\0\0\0"
            yield b"n" + stream
            yield b"nIDSESSION\nn" + stream + b"zPING\0n" + stream + b"nEND\n"
            yield b"zVERSIONCOMMANDS\0"
            yield b"zIDSESSION\0nSCAN /a\n"
            yield b"STATS\r\n" + stream
            yield b"zFILDES\0\0"
        case "email":
            letter = EmailMessage()
            letter["From"], letter["Subject"] = "a@example.org", "b"
            letter.set_content("c")
            letter.add_attachment(encode(scene(4, 3), "GIF"), "image", "gif", filename="d.gif")
            yield letter.as_bytes()
            letter.add_attachment(message_from_bytes(letter.as_bytes()))
            yield letter.as_bytes()
            fields = b"Received: a\nContent-Type: image/gif\nContent-Transfer-Encoding: "
            yield fields + b"quoted-printable\n\nGIF89a=00=\n"
            yield fields + b"x-uuencode\n\nbegin 644 a\n#86)C\n`\nend\n"
            yield fields + b"base64\n\nbegin-base64 644 a\nYWJj\n====\n"
        case "icap":
            section = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n%b\r\n'
            form = section % b"picture" * 2 + b"--x--\r\n"
            multipart = "Content-Type: multipart/form-data; boundary=x\r\n"
            for body, http, preview in (
                (b"picture", "Content-Type: image/png\r\nAccept: text/html;q=0.5\r\n", None),
                (form, multipart, 1024),
                (gzip.compress(form, mtime=0), f"{multipart}Content-Encoding: gzip\r\n", 16),
                (zlib.compress(b"picture" * 9), "Content-Encoding: deflate\r\n", 0),
            ):
                for method in ("REQMOD", "RESPMOD"):
                    request = icap_request(method, body, http=http, preview=preview, size=50)
                    rest = b"" if preview is None or preview >= len(body) else body[preview:]
                    yield request + (icap_chunks(rest, 40) + b"0\r\nA: b\r\n\r\n" if rest else b"")
            yield b"OPTIONS icap://h/s ICAP/1.0\r\nHost: h\r\n\r\n"


def quiet():
    """Log nothing about what is parsed."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def instrument():
    """Instrument our functions. Import hooks cannot, because the install is editable."""
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and str(function.__module__).startswith("ncii"):
            atheris.instrument_func(function)


def fuzz(name, seconds, seed):
    """Fuzz a target in this process, and exit."""
    quiet()
    instrument()
    folder = tempfile.mkdtemp()
    for number, data in enumerate(seeds(name)):
        (Path(folder) / str(number)).write_bytes(data)
    options = [
        *(sys.argv[0], folder, f"-max_total_time={seconds}", f"-seed={seed}"),
        *("-timeout=20", "-rss_limit_mb=3000", "-verbosity=0", "-print_final_stats=1"),
        *(f"-max_len={SIZES.get(name, 1024)}", f"-artifact_prefix=fuzz-found-{name}-"),
    ]
    atheris.Setup(options, TARGETS[name])
    atheris.Fuzz()


def main():
    """Run the targets one after another; exit with an error if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", type=Path, help="run the target on this file only")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.one:
        TARGETS[names[0]](options.one.read_bytes())
        return
    seconds = max(1, round(60 * options.minutes / len(names)))
    if options.alone:
        fuzz(names[0], seconds, options.seed)
        return
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        os.environ["TMPDIR"] = folder  # a fuzzer exits without cleaning up
        failed = [name for name in names if not _run(name, seconds, options.seed)]
    if failed:
        sys.exit(f"these targets failed: {', '.join(failed)}")


def _run(name, seconds, seed):
    """Fuzz a target in a process of its own, print a summary, and return whether it passed."""
    command = [sys.executable, __file__, name, "--alone", "--minutes", str(seconds / 60)]
    process = subprocess.run([*command, "--seed", str(seed)], stderr=subprocess.PIPE)
    output = process.stderr.decode(errors="replace")
    stats = dict(
        line.removeprefix("stat::").split(":", 1)
        for line in output.splitlines()
        if line.startswith("stat::")
    )
    runs = int(stats.get("number_of_executed_units", 0))
    print(f"{name}: {runs:,} inputs in {seconds} s", flush=True)
    if process.returncode:
        print(output[-3000:], flush=True)
    return not process.returncode


if __name__ == "__main__":
    main()
