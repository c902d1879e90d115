import pytest

from nciihash import errors
from nciihash.sandbox import replies
from nciihash.sandbox.pipe import RANGE_MAX
from nciihash.signals import SignalType


@pytest.mark.parametrize(
    "requested", [[-1, 5], [100, 1], [0, 0], [0], ["0", 1], [0, RANGE_MAX + 1], 7, None]
)
def test_ranges_outside_of_the_file_are_refused(requested):
    with pytest.raises(ValueError, match="outside"):
        replies.requested_range({"read": requested}, 100)
    assert replies.requested_range({"read": [99, 1]}, 100) == (99, 1)


@pytest.mark.parametrize("time", [-1, "0", float("inf"), float("nan"), [], True])
def test_an_invalid_time_is_refused(time):
    entry = {"type": "pdq", "value": "0" * 64, "quality": 3, "variant": "original", "tied": False}
    reply = {"item": {"media": "video", "hashes": [entry | {"time": time}], "every": 0.25}}
    with pytest.raises(errors.CorruptFile, match="invalid reply"):
        replies.parse_item(reply, (SignalType.PDQ,))
    reply["item"]["hashes"] = [entry | {"time": 0.5}]
    assert replies.parse_item(reply, (SignalType.PDQ,)).hashes[0].time == 0.5


@pytest.mark.parametrize(
    "reply",
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
        {"refused": "corrupt_file", "message": "\x1b]0;an escape sequence\x07"},
        {"refused": "corrupt_file", "message": "long " * 1000},
        {"refused": ["corrupt_file"], "message": "Text."},
        {"refused": "corrupt_file", "message": 7},
    ],
)
def test_an_invalid_reply_is_refused(reply):
    with pytest.raises(errors.CorruptFile, match="invalid reply"):
        replies.parse_item(reply, (SignalType.PDQ,))


@pytest.mark.parametrize("frames", [0, -1, "2", None, 1.5, [], {}])
def test_an_invalid_count_of_frames_is_refused(frames):
    entry = {"type": "pdq", "value": "0" * 64, "quality": 3, "variant": "original", "tied": False}
    entry["time"] = None
    reply = {"item": {"media": "image", "hashes": [entry], "frames": 2}}
    assert replies.parse_item(reply, (SignalType.PDQ,)).frames == 2
    reply["item"]["frames"] = frames
    with pytest.raises(errors.CorruptFile, match="invalid reply"):
        replies.parse_item(reply, (SignalType.PDQ,))
