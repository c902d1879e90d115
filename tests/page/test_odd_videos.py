"""Videos that are stored in odd ways, hashed by the browser as by Python."""

import base64
import re

import numpy as np
import pytest
from PIL import Image

from nciihash import errors, pdq
from nciihash.hashing.hasher import hash_bytes
from support.hashes import bits_apart, fingerprints, frames_of
from support.pictures import encode, scene
from support.tracks import boxes_of, cropped, fragmented, live, with_two_tracks
from support.videos import make_video, moving_frames, oriented, stored


def values(page, data):
    (got,) = fingerprints(page, [data])
    assert set(got) == {"found"}, got
    assert got["found"]["media"] == "video"
    return frames_of(got["found"]["signals"])


def assert_equal(page, data, apart=8):
    """Assert that each hash of either side is near one of the other's."""
    browser = values(page, data)
    python = [h.signal.hex for h in hash_bytes(data).hashes]
    for ours, theirs in ((browser, python), (python, browser)):
        assert max(min(bits_apart(a, b) for b in theirs) for a in ours) <= apart
    return browser


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mirrored_or_turned_video(page, orientation):
    frames = [stored(frame, orientation) for frame in moving_frames(12, 480, 270)]
    assert_equal(page, oriented(make_video(frames), orientation))


@pytest.mark.parametrize("flags", [(0, 3), (3, 2), (3, 3), (0, 0)])
@pytest.mark.parametrize("sizes", [((128, 96), (320, 240)), ((320, 240), (128, 96))])
def test_the_track_that_the_browser_shows(page, flags, sizes):
    tracks = [moving_frames(12, *size, seed=number) for number, size in enumerate(sizes)]
    assert_equal(page, with_two_tracks(tracks, flags=flags))


def test_a_video_whose_default_track_the_browser_does_not_show_is_refused(page):
    tracks = [moving_frames(12, 128, 96, seed=seed) for seed in (1, 2)]
    options = {"container_format": "webm", "codec": "libvpx"}
    (got,) = fingerprints(page, [with_two_tracks(tracks, default=(False, True), **options)])
    assert got == {"code": "unplayable"}
    for default in ((True, False), (True, True), (False, False)):
        assert_equal(page, with_two_tracks(tracks, default=default, **options))


@pytest.mark.parametrize(("left", "top"), [(0, 0), (20, 0), (0, 10), (34, 14), (64, 2)])
def test_cropping_in_a_streams_header(page, left, top):
    assert_equal(page, cropped(moving_frames(12, 320, 224), "libx264", left, top))


def test_cropping_in_a_rotated_streams_header(page):
    data = cropped(moving_frames(12, 320, 224), "libx264", 20, 6)
    for orientation in (2, 5, 6):
        assert_equal(page, oriented(data, orientation))


LENGTHS = {
    "swipes between pictures": [2.0, *[0.05] * 6, 1.0, *[0.04] * 5, 3.0, *[0.03] * 4, 1.5],
    "a moment, then a long picture": [0.1, 2.0],
    "just a quarter second": [0.26, 0.11, 0.25, 0.13, 0.25, 0.01, 0.25],
    "a loop shorter than the looks": [0.06, 0.06, 0.06],
    "an end that is soon over": [1.0, 0.1, 0.1],
}


@pytest.mark.parametrize("name", LENGTHS)
def test_pictures_of_different_durations(page, name):
    lengths = LENGTHS[name]
    scenes = moving_frames(len(lengths), still=1, seed=2)
    times = [0.0, *np.cumsum(lengths[:-1]).tolist()]
    assert_equal(page, make_video(scenes, times=times))
    # of VP8 frames shorter than a quarter second, Chromium shows different ones
    found = values(page, make_video(scenes, "libvpx", "webm", times=times))
    for drawn, length in zip(scenes, lengths, strict=True):
        if length >= 0.25:
            own = pdq.analyse(drawn).packed.tobytes().hex()
            assert min(bits_apart(own, each) for each in found) <= 31


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    "lengths", [[0.1, 3.0], [0.3, 0.06, 0.3], [0.06, 0.06, 0.06], [0.1] * 9, [0.01] * 6]
)
def test_animated_pictures(page, image_format, lengths):
    scenes = [Image.fromarray(each) for each in moving_frames(len(lengths), still=1, seed=2)]
    data = encode(
        scenes[0],
        image_format,
        save_all=True,
        append_images=scenes[1:],
        duration=[round(1000 * length) for length in lengths],
        loop=0,
    )
    (got,) = fingerprints(page, [data])
    item = hash_bytes(data)
    assert got["found"]["moments"] == item.frames
    assert_equal(page, data, apart=12)


HASH_ANIMATION = """async ([encoded, milliseconds]) => {
    const { hashAnimation } = await import("/page/worker/animation.js");
    const blob = new Blob([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))]);
    return hashAnimation("webp", blob, performance.now() + milliseconds);
}"""


@pytest.mark.parametrize("length", [100, 50])
def test_an_animation_that_takes_too_long_keeps_its_frames_so_far(page, length):
    first, *others = [Image.fromarray(each) for each in moving_frames(4, still=1, seed=2)]
    data = encode(first, "WEBP", save_all=True, append_images=others, duration=length, loop=0)
    encoded = base64.b64encode(data).decode()
    whole = page.evaluate(HASH_ANIMATION, [encoded, 60_000])
    stopped = page.evaluate(HASH_ANIMATION, [encoded, -1])
    assert whole["moments"] > stopped["moments"] == 1
    assert frames_of(stopped["signals"]) == frames_of(whole["signals"])[:1]


def test_a_still_picture_is_no_animation(page):
    for image_format in ("GIF", "WEBP", "PNG", "AVIF"):
        (got,) = fingerprints(page, [encode(scene(320, 240), image_format)])
        assert got["found"]["media"] == "image"


def test_a_video_with_a_missing_part_is_refused(page):
    pieces = boxes_of(fragmented(moving_frames(36)))
    whole = b"".join(data for _, data in pieces)
    recorded, ends = live(moving_frames(36), "libvpx")
    sound = [
        *(whole, b"".join(data for _, data in pieces[:6]), b"\0\0\0\x10free" + bytes(8) + whole),
        *(recorded, recorded[: ends[-5]], whole + b"\r\n"),
        *(recorded + strays for strays in (b"\n", b"the end", bytes(5000))),
    ]
    at = int(ends[9]) - 60
    broken = [
        *(b"".join(data for _, data in pieces[:6])[:-lost] for lost in (1, 300)),
        b"".join(data for _, data in pieces[:5]),
        b"".join(data for _, data in (*pieces[:6], *pieces[8:])),
        *(recorded + recorded, recorded + b"made by a program"),
        *(recorded[:-9] + bytes(5009), b"".join(data for _, data in pieces[:5]) + b"\r\n"),
        *(recorded[:-30], recorded[: ends[-5] - 1], recorded[:at] + recorded[at + 1000 :]),
    ]
    for data in sound:
        assert_equal(page, data)
    for data in broken:
        with pytest.raises(errors.CorruptFile):
            hash_bytes(data)
    assert [got.get("code") for got in fingerprints(page, broken)] == ["damaged"] * len(broken)


def test_every_kind_of_video_is_recognised_as_one(page):
    frames = moving_frames(12)
    stream = make_video(frames, "libx264", "mpegts")
    parts = [stream[at : at + 188] for at in range(0, len(stream), 188)]
    whole = fragmented(frames)
    segment = b"\0\0\0\x18stypmsdh\0\0\0\0msdhmsix"
    pieces = b"".join(data for name, data in boxes_of(whole) if name in {b"moof", b"mdat"})
    unplayable = [
        *(stream[100:], b"".join(b"\x12abc" + part for part in parts)),
        b"".join(part + bytes(16) for part in parts)[5:],
        *(make_video(frames, "libx264", "h264"), make_video(frames, "libx265", "hevc")),
        *(make_video(frames, "mpeg2video", "mxf", rate=25), make_video(frames, "libvpx", "ivf")),
        *(segment + pieces, b".RMF\0\0\0\x12\0\1", b"#EXTM3U\nclip.ts\n"),
    ]
    codes = [got.get("code") for got in fingerprints(page, unplayable)]
    assert codes == ["unplayable"] * len(unplayable)
    assert_equal(page, segment + whole)
    (text,) = fingerprints(page, [b"G" * 5000])
    assert text == {"code": "not_picture"}


def test_videos_that_were_reported(page, shared_data):
    """With the values that were drawn; see the README next to the files."""
    folder = shared_data / "reported"
    wanted = {}
    for line in (folder / "README.md").read_text().splitlines():
        if found := re.match(r"- `(\S+)`", line):
            wanted[found[1]] = re.findall(r"\b[0-9a-f]{64}\b", line.partition("**Expected:**")[2])
    for name, apart in (
        ("vfr_gif_100ms_3s.gif", 10),
        ("vfr_screen_recording_swipes.mp4", 31),
        ("matrix_hflip.mp4", 10),
        ("two_tracks_first_disabled.mp4", 10),
        ("h264_crop_left_20.mp4", 10),
    ):
        found = values(page, (folder / name).read_bytes())
        distances = [min(bits_apart(a, b) for b in found) for a in wanted[name]]
        assert max(distances) <= apart, (name, distances)
    refused = {
        "fragmented_cut_off.mp4": "damaged",
        "avchd_camcorder.m2ts": "unplayable",  # Chromium knows neither
        "theora_still_scene.ogv": "unplayable",
    }
    got = fingerprints(page, [(folder / name).read_bytes() for name in refused])
    assert [found["code"] for found in got] == list(refused.values())
