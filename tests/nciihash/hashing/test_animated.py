import numpy as np
import pytest

from nciihash import errors
from nciihash.hashing import hasher, image
from support.file_kinds.animations import CLEAR, KEEP, RESTORE, Frame, apng, gif, shown
from support.hashes import bits_apart
from support.pictures import chunk, encode, exif, scene

SIZE = (120, 80)


def picture(seed, width=120, height=80):
    return scene(width, height, seed).quantize(60)


def translucent(seed, width, height):
    """Return a picture whose upper half is half transparent and whose left third fully so."""
    rgba = scene(width, height, seed).convert("RGBA")
    alpha = np.full((height, width), 255, np.uint8)
    alpha[: height // 2], alpha[:, : width // 3] = 128, 0
    rgba.putalpha(image.Image.fromarray(alpha))
    return rgba


def frames_of(data):
    return [pixels.astype(int) for _, pixels in image.animation(data)]


def assert_frames(data, frames, size=SIZE, *, tolerance=1):
    expected = shown(size, frames)
    actual = frames_of(data)
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert np.abs(got - want).max() <= tolerance
    assert np.abs(image.decode(data).astype(int) - expected[0]).max() <= tolerance
    assert image.count_frames(data) == len(frames)


@pytest.mark.parametrize("disposal", [KEEP, CLEAR, RESTORE])
def test_gif_frames_are_composed_as_viewers_show_them(disposal):
    frames = [
        Frame(picture(1, 60, 50), 20, 10, disposal=disposal),
        Frame(picture(2, 80, 40), 30, 35, clear=3, disposal=disposal),
        Frame(picture(3), clear=7, disposal=disposal),
        Frame(picture(4, 20, 20), 0, 60),
    ]
    assert_frames(gif(SIZE, frames), frames)


@pytest.mark.parametrize("colour", [b"\0\0\0", b"\xff\0\0"])
@pytest.mark.parametrize("clear", [None, 5])
def test_the_background_colour_of_a_gif_is_never_painted(colour, clear):
    frames = [Frame(picture(1, 60, 50), 20, 10, clear=clear)]
    data = gif(SIZE, frames, background=colour)
    assert_frames(data, frames)
    assert (image.decode(data)[:10] == 255).all()


def test_a_gif_frame_may_exceed_the_screen():
    data = gif((50, 40), [Frame(picture(1)), Frame(picture(2), 30, 10)])
    want = np.asarray(picture(1).convert("RGB"))
    np.testing.assert_array_equal(image.decode(data), want)
    assert [each.shape for each in frames_of(data)] == [want.shape] * 2


@pytest.mark.parametrize("between", [b"", b"\0", bytes(7)])
@pytest.mark.parametrize("trailer", [b";", b"", b"\0", b"; and more", b";" + bytes(90)])
def test_a_gif_needs_no_trailer_and_may_contain_stray_nuls(between, trailer):
    frames = [Frame(picture(1)), Frame(picture(2))]
    assert_frames(gif(SIZE, frames, between=between, trailer=trailer), frames)


def test_a_gif_ends_at_other_stray_bytes():
    frames = [Frame(picture(1)), Frame(picture(2))]
    first, whole = (len(gif(SIZE, frames[:n], trailer=b"")) for n in (1, 2))
    data = gif(SIZE, frames, trailer=b"")
    assert_frames(data[:first] + b"U" + data[first:], frames[:1])
    assert_frames(data + b"U", frames)
    with pytest.raises(errors.CorruptFile):
        image.decode(data[:19] + b"U" + data[19:])
    assert whole == len(data)


def test_a_gif_may_end_after_its_pixels_but_not_within_them():
    frames = [Frame(picture(1))]
    data = gif(SIZE, frames, trailer=b"")
    assert_frames(data[:-1], frames)  # the end of the last block of pixels
    for cut in (3, 10, len(data) // 2):
        with pytest.raises(errors.CorruptFile):
            image.decode(data[:-cut])
        with pytest.raises(errors.CorruptFile):
            image.decode(data[:-cut] + b"\0;")


def test_interlaced_gifs_and_local_palettes_are_read():
    data = encode(picture(1), "GIF", interlace=1)
    np.testing.assert_array_equal(image.decode(data), np.asarray(picture(1).convert("RGB")))
    expected = [Frame(picture(1)), Frame(picture(9))]
    assert_frames(gif(SIZE, expected), expected)


APNG = [
    Frame(translucent(1, 120, 80), duration=400),
    Frame(translucent(2, 60, 50), 20, 10, disposal=CLEAR),
    Frame(translucent(3, 70, 40), 30, 35, disposal=RESTORE),
    Frame(translucent(4, 80, 60), 10, 5, replaces=True),
    Frame(translucent(5, 30, 20)),
]


def test_animated_png_frames_are_composed_as_browsers_show_them():
    assert_frames(apng(SIZE, APNG), APNG, tolerance=2)


def test_a_default_image_outside_the_animation_is_not_shown():
    hidden = scene(seed=9).convert("RGBA")
    data = apng(SIZE, APNG[1:], hidden=hidden)
    assert_frames(data, APNG[1:], tolerance=2)
    first = apng(SIZE, APNG[:1], hidden=hidden)
    assert_frames(first, APNG[:1])
    item = hasher.hash_bytes(first)
    assert item.hashes[0].signal.hex == hasher.hash_image(encode(APNG[0].picture, "PNG")).signal.hex


def test_a_default_image_outside_the_animation_has_no_variants():
    opaque = [Frame(scene(200, 160, seed)) for seed in (1, 2)]
    hidden = scene(200, 160, 9)
    data = apng((200, 160), opaque, hidden=hidden)
    kept = hasher.hash_bytes(data, variants="standard").hashes
    other = hasher.hash_bytes(encode(hidden, "PNG"), variants="standard").hashes
    for one in kept:
        for two in other:
            assert bits_apart(one.signal.hex, two.signal.hex) > 31


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "RGB"])
def test_animated_pngs_of_every_colour_type_are_read(mode):
    pictures = [scene(seed=n).convert("L" if mode == "I;16" else mode) for n in (1, 2)]
    if mode == "I;16":
        pictures = [image.Image.fromarray(np.asarray(p).astype(np.uint16) << 8) for p in pictures]
    still = encode(pictures[0], "PNG")
    data = apng(SIZE, [Frame(each) for each in pictures])
    if mode == "P":  # both with the palette of the first
        at = still.index(b"PLTE") - 4
        insert_at = data.index(b"acTL") - 4
        length = 12 + int.from_bytes(still[at : at + 4])
        data = data[:insert_at] + still[at : at + length] + data[insert_at:]
    first, _ = frames_of(data)
    np.testing.assert_array_equal(first, image.decode(still))


def test_exif_orientation_is_applied_to_an_animated_png():
    data = apng(SIZE, [Frame(scene(seed=1)), Frame(scene(seed=2))], hidden=scene(seed=3))
    turned = chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))
    at = data.index(b"acTL") - 4
    data = data[:at] + turned + data[at:]
    expected = np.rot90(np.asarray(scene(seed=1)), -1)
    np.testing.assert_array_equal(image.decode(data), expected)
    assert [each.shape for each in frames_of(data)] == [expected.shape] * 2


def test_an_invalid_animation_is_a_still_picture():
    hidden, still = scene(seed=9), np.asarray(scene(seed=9))
    data = apng(SIZE, [Frame(scene(seed=1)), Frame(scene(seed=2))], hidden=hidden)
    no_frames = chunk(b"acTL", bytes(8))
    at = data.index(b"acTL") - 4
    for invalid in (
        data[:at] + no_frames + data[at + 20 :],
        data[:at] + data[at + 20 :],
        data.replace(chunk(b"acTL", b"\0\0\0\2" + bytes(4)), b""),
    ):
        np.testing.assert_array_equal(image.decode(invalid), still)
        assert frames_of(invalid) == []
    outside = apng(SIZE, [Frame(scene(seed=1), 1)], hidden=hidden)
    np.testing.assert_array_equal(image.decode(outside), still)


def test_durations_below_20_ms_count_as_100_ms():
    frames = [Frame(scene(seed=n), duration=ms) for n, ms in ((1, 0), (2, 10), (3, 300), (4, 20))]
    data = apng(SIZE, frames)
    assert [round(time, 3) for time, _ in image.animation(data)] == [0, 0.1, 0.2, 0.5]


def test_reported_files(shared_data):
    one = hasher.hash_image(shared_data / "reported" / "gif_frame_on_black_background.gif")
    expected = "738e71c9c9c6cce380e1c773e733c3e193678e4eccd90999371e320c33315d16"
    assert one.signal.hex == expected
    one = hasher.hash_image(shared_data / "reported" / "gif_without_trailer.gif")
    assert one.signal.hex == "950b56a63e5cf56a11ea6c9b4b869b6cf60b02f3e4b56f940b685a1d62d11a5a"
    hashed = hasher.hash_file(shared_data / "reported" / "apng_default_image_hidden.png").hashes
    assert [each.signal.hex for each in hashed] == [
        "5228bcc6db24f383bde3f7c974cadbb272f814c6383cc507517b062970cb1323",
        "6e99d2c630946daab9692ac9669297309f754e8f2c4ab2b9033157e2ec5a1cdd",
    ]
