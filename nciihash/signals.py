"""The words of the field: signals, what carries them, and what counts as a match."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from nciihash.errors import InvalidSignal


class SignalType(StrEnum):
    """What kind of hash a value is.

    The last five are made of others by a clearinghouse, for lists that may leak (`nciihash.veil`).
    """

    PDQ = "pdq"
    PHASH = "phash"
    DHASH = "dhash"
    MD5 = "md5"
    SHA256 = "sha256"
    PDQ_VEIL128 = "pdq-veil128"
    PDQ_VEIL144 = "pdq-veil144"
    PDQ_VEIL160 = "pdq-veil160"
    MD5_VEIL = "md5-veil"
    SHA256_VEIL = "sha256-veil"

    @property
    def bits(self) -> int:
        """Give the length of a value in bits."""
        return _BITS[self]

    @property
    def exact(self) -> bool:
        """Tell whether values match only when equal, so that one identifies the very file."""
        return not self.threshold

    @property
    def veils(self) -> "SignalType | None":
        """Give the type of which this one shows a part; None for one that is made of a file."""
        return _VEILED.get(self)

    @property
    def threshold(self) -> int:
        """Give the largest Hamming distance, in bits, that still counts as a match."""
        return _THRESHOLDS[self]


_BITS: Final = {
    SignalType.PDQ: 256,
    SignalType.PHASH: 64,
    SignalType.DHASH: 64,
    SignalType.MD5: 128,
    SignalType.SHA256: 256,
    SignalType.PDQ_VEIL128: 128,
    SignalType.PDQ_VEIL144: 144,
    SignalType.PDQ_VEIL160: 160,
    SignalType.MD5_VEIL: 128,
    SignalType.SHA256_VEIL: 256,
}
# PDQ: 31 of 256 is the distance that the algorithm's authors recommend and platforms use (Facebook,
# "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019). ImageHash's
# 64-bit hashes: 10 is the customary figure; pairs of unrelated photos lie around 32.
_THRESHOLDS: Final = {
    SignalType.PDQ: 31,
    SignalType.PHASH: 10,
    SignalType.DHASH: 10,
    SignalType.MD5: 0,
    SignalType.SHA256: 0,
    # two hashes that differ in 31 bits differ in 31 of any part, so that no match is lost
    SignalType.PDQ_VEIL128: 31,
    SignalType.PDQ_VEIL144: 31,
    SignalType.PDQ_VEIL160: 31,
    SignalType.MD5_VEIL: 0,
    SignalType.SHA256_VEIL: 0,
}
_VEILED: Final = {
    SignalType.PDQ_VEIL128: SignalType.PDQ,
    SignalType.PDQ_VEIL144: SignalType.PDQ,
    SignalType.PDQ_VEIL160: SignalType.PDQ,
    SignalType.MD5_VEIL: SignalType.MD5,
    SignalType.SHA256_VEIL: SignalType.SHA256,
}
# What can be made of a file.
MADE: Final = tuple(type for type in SignalType if type.veils is None)

# What every clearinghouse matches by; the others have more false matches (docs/operating.md).
MATCHED: Final = frozenset({SignalType.PDQ, SignalType.MD5, SignalType.SHA256})

# How many bits of a PDQ hash are set. A bit says that its coefficient is above the 128th smallest
# of 256, so there are 128, and fewer where coefficients tie with that one. Of 2,000 hashes of
# photos, videos, drawings and maps by the reference and by this program all have 128 but for one
# drawing with 120; mirrored collages have 126 and more; blank pictures 109 and less.
PDQ_ONES: Final = range(120, 129)

# Below this a PDQ hash says too little about its picture to be submitted (the same paper).
QUALITY_MIN: Final = 50


class Media(StrEnum):
    """What kind of file an item was made from."""

    IMAGE = "image"
    VIDEO = "video"


class Variant(StrEnum):
    """Which deliberately altered copy of a picture a hash was made from.

    The names form a closed list, so that the wire has no free text in which a file name or a word
    about a person could travel. Turns are clockwise. `trim` is the picture within a flat frame or a
    screen's furniture, `raw` has its colours without regard to alpha, `flipx` is upside down,
    `flipplus1` and `flipminus1` are mirrored along a diagonal. What the others show, from `mirror`
    on, is written out in `nciihash.hashing.variants.VIEWS`; numbers are hundredths of the side or
    degrees.
    """

    ORIGINAL = "original"
    ROTATE90 = "rotate90"
    ROTATE180 = "rotate180"
    ROTATE270 = "rotate270"
    FLIPX = "flipx"
    FLIPPLUS1 = "flipplus1"
    FLIPMINUS1 = "flipminus1"
    TRIM = "trim"
    RAW = "raw"
    MIRROR = "mirror"
    CCW3 = "ccw3"
    CW3 = "cw3"
    CROP10 = "crop10"
    CROP02 = "crop02"
    CUT9X16 = "cut9x16"
    CUT3X4 = "cut3x4"
    CROP13 = "crop13"
    CROP07 = "crop07"
    CCW3_CUT = "ccw3-cut"
    CW3_CUT = "cw3-cut"
    TOP04 = "top04"
    CUT4X3 = "cut4x3"
    CUT1X1 = "cut1x1"
    CUT3X2 = "cut3x2"
    BOTTOM09 = "bottom09"
    BORDER07_WHITE = "border07-white"
    MIRROR_CROP04 = "mirror-crop04"
    BORDER10_BLACK = "border10-black"
    CUT16X9 = "cut16x9"
    PAD4X3_BLACK = "pad4x3-black"
    BOTTOM04 = "bottom04"
    CW5 = "cw5"
    LEFT09 = "left09"
    TOP12 = "top12"
    CCW5 = "ccw5"
    RIGHT09 = "right09"
    MIRROR_CROP09 = "mirror-crop09"
    MIRROR_CROP14 = "mirror-crop14"
    CW4_CUT = "cw4-cut"
    BELOW14 = "below14"
    ENDS10 = "ends10"
    RIGHT04 = "right04"
    CCW5_CUT = "ccw5-cut"
    LEFT04 = "left04"
    BORDER04_WHITE = "border04-white"
    CROP05 = "crop05"
    BORDER05_BLACK = "border05-black"
    TOP16 = "top16"
    LEFT14 = "left14"
    BOTTOM14 = "bottom14"
    RIGHT14 = "right14"
    PAD16X9_BLACK = "pad16x9-black"
    MIRROR_TOP09 = "mirror-top09"
    RIGHT18 = "right18"
    LEFT18 = "left18"
    PAD9X16_BLACK = "pad9x16-black"
    MIRROR_CROP07 = "mirror-crop07"
    PAD1X1_BLACK = "pad1x1-black"
    BORDER10_WHITE = "border10-white"
    CCW2_CUT = "ccw2-cut"
    CW1_CUT = "cw1-cut"
    TOP18 = "top18"
    TOP09 = "top09"
    ABOVE18 = "above18"
    BOTTOM20 = "bottom20"
    MIRROR_BOTTOM14 = "mirror-bottom14"
    CROP14 = "crop14"


class VariantSet(StrEnum):
    """How many altered copies of a picture to hash besides itself.

    `standard` and `full` are what a case is opened with. `match` is for looking copies up: the
    picture within its frame, where it has one.
    """

    NONE = "none"
    MATCH = "match"
    STANDARD = "standard"
    FULL = "full"


class Band(StrEnum):
    """How near a match is, in the only two steps that the service tells."""

    STRONG = "strong"
    LIKELY = "likely"


def band(type: SignalType, distance: int) -> Band:
    """Name the band of a match at `distance` bits: strong up to half the threshold."""
    return Band.STRONG if distance * 2 <= type.threshold + 1 else Band.LIKELY


class Verdict(StrEnum):
    """What a platform decided about a match."""

    PENDING = "pending"
    BLOCKED = "blocked"
    NOT_BLOCKED = "not_blocked"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Signal:
    """One hash value with its type.

    `value` is the packed hash, most significant bit first, `type.bits // 8` bytes long.

    Raises:
        InvalidSignal: the value has another length.
    """

    type: SignalType
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) * 8 != self.type.bits:
            raise InvalidSignal(
                f"A {self.type} value has {self.type.bits // 8} bytes, not {len(self.value)}."
            )

    @property
    def hex(self) -> str:
        """Give the value as lowercase hexadecimal digits."""
        return self.value.hex()

    @property
    def possible(self) -> bool:
        """Whether a picture of quality 50 or more can have this value (`PDQ_ONES`)."""
        if self.type is not SignalType.PDQ:
            return True
        return int.from_bytes(self.value, "big").bit_count() in PDQ_ONES

    @classmethod
    def from_hex(cls, type: SignalType, digits: str) -> Self:
        """Read a value from its `type.bits // 4` lowercase or uppercase hexadecimal digits.

        Raises:
            InvalidSignal: another length, or a character that is no hexadecimal digit.
        """
        try:
            # bytes.fromhex skips white space, which no hash value holds
            value = b"" if any(c.isspace() for c in digits) else bytes.fromhex(digits)
        except ValueError:
            value = b""
        if not value or len(value) * 8 != type.bits:
            raise InvalidSignal(
                f"A {type} value is written in {type.bits // 4} hexadecimal digits."
            )
        return cls(type, value)


@dataclass(frozen=True, slots=True)
class Hashed:
    """A signal made from a picture here, with what is known about its worth.

    `quality` is PDQ's measure from 0 to 100, None for other types. `tied` says that coefficients
    tie at the median, so that some bits are rounding noise and another program would not agree.
    `time` is where in a video the frame is that was hashed, in seconds from its first; None for
    pictures and for digests of whole files.
    """

    signal: Signal
    quality: int | None = None
    variant: Variant = Variant.ORIGINAL
    tied: bool = False
    time: float | None = None

    @property
    def plain(self) -> bool:
        """Tell whether the picture is too plain for this hash to be submitted."""
        return self.tied or (self.quality is not None and self.quality < QUALITY_MIN)


@dataclass(frozen=True, slots=True)
class Item:
    """One file: its kind, and the hashes made from it.

    Of a picture, `frames` is how many the file holds, as pages or a burst; the hashes are those of
    the first, or of the one that the file says to show. `reduced` says that it was hashed at a
    reduced size, up to 4 bits from its exact hash, for it is very large or was to be hashed fast;
    `motion` that a short video lies behind it, which is not hashed. Of a video or an animation,
    `frames` is how many were hashed, or of how many moments, and `every` how many seconds lay
    between one look at it and the next.
    """

    media: Media
    hashes: tuple[Hashed, ...]
    frames: int = 1
    every: float = 0.0
    reduced: bool = False
    motion: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A bank's answer to one query: what it holds no farther away than the threshold.

    `id` and `item` are the feed's names; `distance` is in bits and known only to a local bank.
    """

    id: str
    item: str
    type: SignalType
    variant: Variant
    distance: int

    @property
    def band(self) -> Band:
        """Name how near the match is."""
        return band(self.type, self.distance)
