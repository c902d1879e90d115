import pytest

from nciihash import errors
from nciihash.sandbox import replies
from nciihash.sandbox.pipe import PIECE
from nciihash.signals import SignalType


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


@pytest.mark.parametrize("frames", [0, -1, "2", None, 1.5, [], {}])
def test_a_count_of_frames_that_is_none_is_not_believed(frames):
    entry = {"type": "pdq", "value": "0" * 64, "quality": 3, "variant": "original", "tied": False}
    entry["time"] = None
    answer = {"item": {"media": "image", "hashes": [entry], "frames": 2}}
    assert replies.understood(answer, (SignalType.PDQ,)).frames == 2
    answer["item"]["frames"] = frames
    with pytest.raises(errors.CorruptFile, match="nonsense"):
        replies.understood(answer, (SignalType.PDQ,))
