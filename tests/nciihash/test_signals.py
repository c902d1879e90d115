import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.errors import InvalidSignal, NciihashError
from nciihash.signals import (
    FILE_SIGNAL_TYPES,
    Band,
    Edit,
    Hashed,
    Match,
    PartKind,
    Signal,
    SignalType,
    Variant,
    band,
)
from support.strategies import signals

BITS = {"pdq": 256, "phash": 64, "dhash": 64, "md5": 128, "sha256": 256}
VEILED_BITS = {"pdq-veil128": 128, "pdq-veil144": 144, "pdq-veil160": 160}
VEILED_BITS |= {"md5-veil": 128, "sha256-veil": 256}
THRESHOLDS = {"pdq": 31, "phash": 10, "dhash": 10, "md5": 0, "sha256": 0}


def test_types_have_the_names_lengths_and_thresholds_of_the_wire():
    assert [str(t) for t in FILE_SIGNAL_TYPES] == list(BITS)
    assert {t.value: t.bits for t in SignalType} == BITS | VEILED_BITS
    assert {t.value: t.threshold for t in FILE_SIGNAL_TYPES} == THRESHOLDS
    assert {t for t in FILE_SIGNAL_TYPES if t.exact} == {SignalType.MD5, SignalType.SHA256}
    for veiled in set(SignalType) - set(FILE_SIGNAL_TYPES):
        base = veiled.veils
        assert base in FILE_SIGNAL_TYPES
        assert veiled.value.startswith(f"{base.value}-veil")
        assert (veiled.threshold, veiled.exact) == (base.threshold, base.exact)


@given(signals())
def test_hex_round_trip(signal):
    assert signal.hex == signal.hex.lower()
    assert len(signal.hex) * 4 == signal.type.bits
    assert Signal.from_hex(signal.type, signal.hex) == signal
    assert Signal.from_hex(signal.type, signal.hex.upper()) == signal


@given(st.sampled_from(SignalType), st.binary(max_size=80))
def test_a_value_of_another_length_is_refused(type, value):
    if len(value) * 8 == type.bits:
        assert Signal(type, value).value == value
        return
    with pytest.raises(InvalidSignal, match="bytes"):
        Signal(type, value)
    with pytest.raises(InvalidSignal, match="hexadecimal"):
        Signal.from_hex(type, value.hex())


@given(signals(), st.characters(), st.data())
def test_characters_other_than_hexadecimal_digits_are_refused(signal, character, data):
    position = data.draw(st.integers(0, len(signal.hex) - 1))
    digits = signal.hex[:position] + character + signal.hex[position + 1 :]
    if character in "0123456789abcdefABCDEF":
        assert Signal.from_hex(signal.type, digits).hex == digits.lower()
        return
    with pytest.raises(InvalidSignal):
        Signal.from_hex(signal.type, digits)


@pytest.mark.parametrize("digits", ["", " ", "0x", "zz", "ab " * 21 + "a", " " + "0" * 63, "\n"])
def test_malformed_digits_raise_our_error_which_is_a_value_error(digits):
    with pytest.raises(InvalidSignal) as caught:
        Signal.from_hex(SignalType.PDQ, digits)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NciihashError)
    assert caught.value.code == "invalid_signal"


@pytest.mark.parametrize(
    ("type", "distance", "expected"),
    [
        ("pdq", 0, "strong"),
        ("pdq", 16, "strong"),
        ("pdq", 17, "likely"),
        ("pdq", 31, "likely"),
        ("phash", 5, "strong"),
        ("phash", 6, "likely"),
        ("sha256", 0, "strong"),
    ],
)
def test_bands(type, distance, expected):
    type = SignalType(type)
    assert band(type, distance) is Band(expected)
    match = Match("id", "item", type, Variant.ORIGINAL, distance)
    assert match.band is Band(expected)


@pytest.mark.parametrize(
    ("quality", "tied", "plain"),
    [
        (100, False, False),
        (50, False, False),
        (49, False, True),
        (0, False, True),
        (100, True, True),
        (None, False, False),
    ],
)
def test_low_quality_and_ties_are_plain(quality, tied, plain):
    signal = Signal(SignalType.PDQ, bytes(32))
    assert Hashed(signal, quality, tied=tied).plain is plain


@given(signals())
def test_signals_are_immutable_and_hashable(signal):
    with pytest.raises(AttributeError):
        signal.value = b""
    assert hash(signal) == hash(Signal(signal.type, bytes(signal.value)))


WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        ((0, 0, 0.5, 1), "the left 50 % of the picture"),
        ((0.4, 0, 1, 1), "the right 60 % of the picture"),
        ((0, 0, 1, 0.25), "the top 25 % of the picture"),
        ((0, 0.4, 1, 1), "the bottom 60 % of the picture"),
        ((0.2, 0, 0.8, 1), "the middle 60 % of the picture"),
        ((0, 0.25, 1, 0.75), "the middle 50 % of the picture"),
        ((0, 0, 0.5, 0.5), "the top left part of the picture, 25 % of its area"),
        ((0.3, 0.2, 1, 1), "the bottom right part of the picture, 56 % of its area"),
        ((0.2, 0.2, 0.8, 1), "the bottom part of the picture, 48 % of its area"),
        ((0, 0.2, 0.5, 0.8), "the left part of the picture, 30 % of its area"),
        ((0.2, 0.2, 0.7, 0.7), "the middle part of the picture, 25 % of its area"),
    ],
)
def test_an_edit_says_to_which_part_a_picture_is_cropped(crop, words):
    assert str(Edit(PartKind.WHOLE, WHOLE, crop)) == f"cropped to {words}"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit(PartKind.WHOLE, WHOLE), "a part of it matches"),
        (Edit(PartKind.WHOLE, WHOLE, WHOLE), "a part of it matches"),
        (Edit(PartKind.WHOLE, WHOLE, WHOLE, mirrored=True), "mirrored"),
        (Edit(PartKind.WHOLE, WHOLE, (0.01, 0, 0.99, 1), mirrored=True), "mirrored"),
        (Edit(PartKind.WHOLE, WHOLE, (0.04, 0, 1, 1), mirrored=True), "mirrored"),
        (Edit(PartKind.RECTANGLE, WHOLE, WHOLE), "part of a larger picture"),
        (Edit(PartKind.TRIMMED, WHOLE, WHOLE), "within a frame or a screen"),
        (Edit(PartKind.ROTATED, WHOLE, angle=-7.0), "rotated by 7 degrees"),
        (Edit(PartKind.WHOLE, WHOLE, angle=0.4, time=2.5), "2.5 seconds from the start"),
        (
            Edit(PartKind.RECTANGLE, WHOLE, (0, 0, 0.5, 1), mirrored=True, angle=90.0),
            (
                "part of a larger picture, cropped to the left 50 % of the picture, mirrored, "
                "rotated by 90 degrees"
            ),
        ),
    ],
)
def test_an_edit_in_words(edit, words):
    assert str(edit) == words
