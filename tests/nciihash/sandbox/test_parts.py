"""The parts of a query, from the sandbox's child to its parent."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.limits import PARTS_MAX
from nciihash.sandbox import Sandbox, pipe, replies
from nciihash.sandbox import parent as sandbox
from nciihash.sandbox.pool import hash_files
from nciihash.signals import Level, PartKind, SignalType
from nciihash.windows import CELLS, Part
from support.file_kinds.animations import Frame, gif
from support.paths import ROOT
from support.pictures import encode, exif, scene
from support.sandboxes import gone, pid_of, sibling
from support.videos import make_video, moving_frames

PDQ = (SignalType.PDQ,)
SIZE = CELLS * CELLS
WHOLE = {"kind": "whole", "box": [0, 0, 1, 1], "angle": 0, "shape": 1.5, "time": None}
RECTANGLE = WHOLE | {"kind": "rectangle", "box": [0.25, 0.5, 0.75, 1]}
ROTATED = WHOLE | {"kind": "rotated", "angle": -90.0}


def flat(item):
    return [
        (part.kind, part.box, part.angle, part.shape, part.time, part.luma.tobytes())
        for part in item.parts
    ]


def files():
    page = ImageOps.expand(scene(900, 700), border=(150, 200, 150, 200), fill="white")
    yield encode(page, "JPEG", exif=exif(6))
    yield encode(page, "PNG")
    yield encode(scene(20, 30), "PNG")
    yield encode(Image.new("RGB", (1200, 800), "teal"), "PNG")
    yield gif((120, 80), [Frame(scene(120, 80, seed).quantize(60)) for seed in range(1, 5)])
    yield make_video(moving_frames(40))


@pytest.mark.parametrize("level", Level)
def test_the_child_makes_the_parts_that_the_library_makes(box, picture, level):
    child = pid_of(box)
    for data in files():
        for fast in (False, True):
            path = sibling(picture, data)
            options = {"variants": "match", "level": level, "fast": fast}
            item, expected = box.hash_file(path, **options), hasher.hash_file(path, **options)
            assert item == expected
            assert flat(item) == flat(expected)
            distinctive = [hashed.distinctive for hashed in item.hashes]
            assert distinctive == [hashed.distinctive for hashed in expected.hashes]
            assert None not in distinctive
            assert item.parts[0].luma.shape == (CELLS, CELLS)
        assert not box.hash_file(path, variants="match").parts
    assert pid_of(box) == child


def test_the_largest_reply_arrives_whole(box, picture):
    frames = [
        np.asarray(ImageOps.expand(Image.fromarray(frame), border=(0, 120, 0, 120), fill="white"))
        for frame in moving_frames(16, still=1)
    ]
    path = sibling(picture, make_video(frames, rate=2))
    options = {"variants": "match", "level": Level.THOROUGH}
    item = box.hash_file(path, **options)
    assert len(item.parts) > PARTS_MAX // 3
    assert flat(item) == flat(hasher.hash_file(path, **options))


def test_requests_that_the_library_refuses_are_refused(box, picture):
    child = pid_of(box)
    with pytest.raises(ValueError, match='variants="match"'):
        box.hash_file(picture, level=Level.FAST)
    with pytest.raises(ValueError, match="use one of fast, windows, thorough"):
        box.hash_file(picture, variants="match", level="all")
    with pytest.raises(errors.CorruptFile):
        box.hash_file(
            sibling(picture, encode(scene(), "JPEG")[:700]), variants="match", level=Level.FAST
        )
    assert box.hash_file(picture, variants="match", level=Level.FAST).parts
    assert pid_of(box) == child


@pytest.mark.parametrize("sandboxed", [False, True])
def test_many_files_have_parts(tmp_path, sandboxed):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encode(scene(90, 60, seed=number), "PNG"))
    options = {"signals": PDQ, "variants": "match", "level": Level.WINDOWS}
    found = hash_files(sorted(tmp_path.iterdir()), sandboxed=sandboxed, jobs=2, **options)
    for path, item in found:
        assert flat(item) == flat(hasher.hash_file(path, **options))


def test_the_parent_loads_numpy_only_for_parts(picture):
    code = """if True:
        import sys
        from nciihash.sandbox import hash_file
        hash_file(sys.argv[1], variants="match")
        assert "numpy" not in sys.modules
        assert hash_file(sys.argv[1], variants="match", level="windows").parts
        decoders = {"PIL", "cv2", "av", "pi_heif", "simplejpeg"}
        assert not decoders & set(sys.modules), decoders & set(sys.modules)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, picture], env=environment, check=True)


def reply_with(*parts):
    entry = {"type": "pdq", "value": "0" * 64, "quality": 3, "variant": "original"}
    hashes = [entry | {"tied": False, "time": None}]
    return {"item": {"media": "image", "hashes": hashes, "parts": list(parts)}}


def parse(*parts, luma=None, level=Level.WINDOWS):
    luma = bytes(len(parts) * SIZE) if luma is None else luma
    return replies.parse_item(reply_with(*parts), PDQ, level, luma).parts


def test_valid_parts_are_parsed():
    luma = np.random.default_rng(1).integers(0, 256, (3, CELLS, CELLS), np.uint8)
    parts = parse(WHOLE, RECTANGLE | {"time": 2}, ROTATED, luma=luma.tobytes())
    assert [part.kind for part in parts] == ["whole", "rectangle", "rotated"]
    assert all(isinstance(part, Part) and isinstance(part.kind, PartKind) for part in parts)
    assert [part.box for part in parts] == [(0, 0, 1, 1), (0.25, 0.5, 0.75, 1), (0, 0, 1, 1)]
    assert [part.angle for part in parts] == [0, 0, -90]
    assert [part.shape for part in parts] == [1.5] * 3
    assert [part.time for part in parts] == [None, 2, None]
    for part, cells in zip(parts, luma, strict=True):
        assert (part.luma == cells).all()
    assert parse(level=None, luma=b"") == ()
    assert len(parse(*[WHOLE] * PARTS_MAX)) == PARTS_MAX


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "changed",
    [
        *({"kind": kind} for kind in ("", "WHOLE", "picture", None, 1, [], {})),
        *({"box": box} for box in (None, 1, [], {}, "0011", [0, 0, 1], [0, 0, 1, 1, 1])),
        *({"box": [0.2, 0.2, 0.2, 0.4]}, {"box": [0.4, 0.2, 0.2, 0.4]}),
        *({"box": [0.2, 0.4, 0.4, 0.2]}, {"box": [0.2, 0.3, 0.4, 0.3]}),
        *(
            {"box": [0, 0, 1, end]}
            for end in (1.01, -1, INFINITY, NAN, "1", None, True, [1], 10**400)
        ),
        *({"box": [start, 0, 1, 1]} for start in (-0.01, -INFINITY, NAN, "0", None, False)),
        *({"kind": kind, "box": [0, 0, 1, 0.9]} for kind in ("whole", "rotated")),
        *({"angle": angle} for angle in (3.5, NAN, INFINITY, "0", None, False, [], 10**400)),
        *({"kind": "rotated", "box": [0, 0, 1, 1], "angle": a} for a in (361, -1e300, NAN, "9")),
        *({"shape": shape} for shape in (0, -1, 1e-10, 1e10, NAN, INFINITY, "1", None, True, [])),
        *({"time": time} for time in (-1, NAN, INFINITY, "0", True, [], {})),
    ],
)
def test_an_invalid_part_is_refused(changed):
    for parts in ((WHOLE, RECTANGLE | changed), (WHOLE, WHOLE, RECTANGLE | changed, ROTATED)):
        with pytest.raises(errors.CorruptFile, match="invalid reply"):
            parse(*parts)


@pytest.mark.parametrize("key", WHOLE)
def test_a_part_without_a_field_is_refused(key):
    with pytest.raises(errors.CorruptFile, match="invalid reply"):
        parse({name: value for name, value in WHOLE.items() if name != key})


@pytest.mark.parametrize(
    ("parts", "level", "size"),
    [
        ((), Level.FAST, 0),  # no parts, though they were requested
        ((RECTANGLE, WHOLE), Level.WINDOWS, 2 * SIZE),  # the whole is not the first
        ((WHOLE,), None, SIZE),  # not requested
        ((WHOLE,), None, 0),
        ((WHOLE,), Level.WINDOWS, 0),
        ((WHOLE,), Level.WINDOWS, SIZE - 1),
        ((WHOLE,), Level.WINDOWS, 2 * SIZE),
        ((), None, SIZE),
        ((WHOLE,) * (PARTS_MAX + 1), Level.THOROUGH, (PARTS_MAX + 1) * SIZE),
        (("whole",), Level.WINDOWS, SIZE),
        ((None,), Level.WINDOWS, SIZE),
        (([],), Level.WINDOWS, SIZE),
    ],
)
def test_parts_in_a_wrong_number_or_order_are_refused(parts, level, size):
    with pytest.raises(errors.CorruptFile, match="invalid reply"):
        parse(*parts, level=level, luma=bytes(size))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FRACTIONS = st.floats(-0.5, 1.5) | st.sampled_from([0, 1, 0.5])
ENTRIES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([*PartKind]) | JSON,
        "box": st.lists(FRACTIONS, min_size=4, max_size=4) | JSON,
        "angle": st.sampled_from([0, 0.0, 3.5]) | JSON,
        "shape": st.floats() | JSON,
        "time": st.none() | st.floats() | JSON,
    }
)


@given(
    st.lists(st.sampled_from([WHOLE, RECTANGLE, ROTATED]) | ENTRIES | JSON, max_size=4) | JSON,
    st.sampled_from([None, *Level]),
)
def test_any_reply_is_refused_or_valid(parts, level):
    reply = reply_with()
    reply["item"]["parts"] = parts
    try:
        size = replies.luma_size(reply, level)
    except ValueError:
        size = 0
    try:
        item = replies.parse_item(reply, PDQ, level, bytes(size))
    except errors.CorruptFile:
        return
    assert bool(item.parts) == (level is not None)
    for part in item.parts:
        left, top, right, bottom = part.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert 0 < part.shape < INFINITY
        assert abs(part.angle) <= 360
        assert part.time is None or 0 <= part.time < INFINITY
        assert part.kind in PartKind
        assert (part.luma.shape, part.luma.dtype) == ((CELLS, CELLS), np.uint8)


@pytest.mark.parametrize("distinctive", [0, 1, 0.5, "true", [], {}])
def test_an_invalid_distinctive_is_refused(distinctive):
    reply = reply_with()
    for valid in (True, False, None):
        reply["item"]["hashes"][0]["distinctive"] = valid
        assert replies.parse_item(reply, PDQ).hashes[0].distinctive == valid
    reply["item"]["hashes"][0]["distinctive"] = distinctive
    with pytest.raises(errors.CorruptFile, match="invalid reply"):
        replies.parse_item(reply, PDQ)


def test_the_size_of_the_pixels_is_known_before_they_are_read():
    for count in (1, PARTS_MAX):
        reply = reply_with(*[WHOLE] * count)
        assert replies.luma_size(reply, Level.FAST) == count * SIZE
        with pytest.raises(ValueError, match="than requested"):
            replies.luma_size(reply, None)
    with pytest.raises(ValueError, match="than requested"):
        replies.luma_size(reply_with(*[WHOLE] * (PARTS_MAX + 1)), Level.THOROUGH)
    for reply in ({}, {"item": 3}, {"item": {"parts": "x" * 9}}, {"refused": "x"}, reply_with()):
        assert replies.luma_size(reply, Level.FAST) == 0


# A child that replies to each request with parts, before it is sent the file.
REPLY = """
import os
def write(data):
    while data:
        data = data[os.write(1, data):]
ready, reply, announced, sent = {!r}, {!r}, {}, {}
write(len(ready).to_bytes(4) + ready)
os.read(0, 1 << 16)
wanted = b'{{"file": "wanted"}}'
write(len(wanted).to_bytes(4) + wanted)
while os.read(0, 1 << 16)[-4:] != bytes(4):
    pass
write(len(reply).to_bytes(4) + reply)
write(announced.to_bytes(4) + bytes(sent))
while os.read(0, 1 << 16):
    pass
"""


@pytest.mark.parametrize(
    ("count", "announced", "sent", "level"),
    [
        (1, SIZE, SIZE, None),
        (1, SIZE - 1, SIZE, Level.WINDOWS),
        (1, 2 * SIZE, 2 * SIZE, Level.WINDOWS),
        (1, 1 << 31, 0, Level.WINDOWS),
        (PARTS_MAX + 1, SIZE, 0, Level.THOROUGH),
    ],
)
def test_a_malicious_child_is_ended(picture, monkeypatch, count, announced, sent, level):
    boot = sandbox._BOOT.partition("from nciihash")[0]
    ready = json.dumps({"ready": sandbox.ISOLATION_MEASURES}).encode()
    reply = json.dumps(reply_with(*[WHOLE] * count)).encode()
    code = REPLY.format(ready, reply, announced, sent)
    monkeypatch.setattr(sandbox, "_BOOT", f"exec({boot + code!r})")
    with Sandbox() as box:
        child = pid_of(box)
        with pytest.raises(errors.CorruptFile, match="invalid reply"):
            box.hash_file(picture, variants="match", level=level)
        assert box._child is None
        assert gone(child)


def test_frames_are_read_whole_and_of_the_announced_length():
    inlet, outlet = os.pipe()
    try:
        os.write(outlet, (5).to_bytes(4) + b"fiver")
        assert pipe.receive_frame(inlet, 5, time.monotonic() + 5) == b"fiver"
        os.write(outlet, (5).to_bytes(4) + b"fiv")
        with pytest.raises(TimeoutError):
            pipe.receive_frame(inlet, 5, time.monotonic() + 0.05)
        os.write(outlet, (6).to_bytes(4))
        with pytest.raises(ValueError, match="another length"):
            pipe.receive_frame(inlet, 5, time.monotonic() + 5)
        pipe.send_frame(outlet, b"")
        assert pipe.receive_frame(inlet, 0, time.monotonic() + 5) == b""
        os.write(outlet, (6).to_bytes(4) + b"end")
    finally:
        os.close(outlet)
    with pytest.raises(EOFError):
        pipe.receive_frame(inlet, 6, time.monotonic() + 5)
    os.close(inlet)
