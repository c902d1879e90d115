"""The core types: signals (typed hash values), the items they come from, and matches."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from nciihash.errors import InvalidSignal

if TYPE_CHECKING:
    from nciihash.windows import Part


class SignalType(StrEnum):
    """A kind of hash.

    A clearinghouse derives the last five from the others, for veiled feeds (`nciihash.veil`).
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
        """The length of a value, in bits."""
        return _BITS[self]

    @property
    def exact(self) -> bool:
        """Whether values match only if they are equal, as digests of whole files do."""
        return not self.threshold

    @property
    def veils(self) -> "SignalType | None":
        """The type from which a veiled type is derived; None for types computed from files."""
        return _VEILED.get(self)

    @property
    def threshold(self) -> int:
        """The largest Hamming distance, in bits, that counts as a match."""
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
# PDQ: 31 of 256 bits, as its authors recommend and platforms use (Facebook, "The TMK+PDQF
# Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019). ImageHash's 64-bit hashes: 10
# is the usual choice; unrelated photos differ in about 32 bits.
_THRESHOLDS: Final = {
    SignalType.PDQ: 31,
    SignalType.PHASH: 10,
    SignalType.DHASH: 10,
    SignalType.MD5: 0,
    SignalType.SHA256: 0,
    # hashes within 31 bits are within 31 bits on any subset of the bits: no match is lost
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
# The types computed from files.
FILE_SIGNAL_TYPES: Final = tuple(type for type in SignalType if type.veils is None)

# The types that every clearinghouse matches; the others cause more false matches
# (docs/operating.md).
ALWAYS_MATCHED: Final = frozenset({SignalType.PDQ, SignalType.MD5, SignalType.SHA256})

# How many bits of a PDQ hash are set. A bit is set if its coefficient exceeds the 128th smallest of
# 256, so there are 128, or fewer if coefficients tie with that one. Of 2,000 hashes of photos,
# videos, drawings and maps, by the reference and by this program, all but one have 128 (a drawing
# has 120). Mirrored collages have at least 126, blank images at most 109.
PDQ_ONES: Final = range(120, 129)

# A crop that leaves this fraction of a picture's area is described as the whole picture, and one
# that is nearer to an edge than this fraction of a side as reaching it.
_UNCUT: Final = 0.95
_MARGIN: Final = 0.03

# A PDQ hash of lower quality is too unspecific to be submitted (the same paper).
QUALITY_MIN: Final = 50


class Media(StrEnum):
    """The kind of file that an item is."""

    IMAGE = "image"
    VIDEO = "video"


class Variant(StrEnum):
    """The deliberately altered copy of an image from which a hash was computed.

    The list is closed, so that the wire format has no free text that could carry a file name or
    personal data. Rotations are clockwise. `trim` is the image without a plain border or the user
    interface of a screenshot, `raw` ignores the alpha channel, `flipx` is upside down, and
    `flipplus1` and `flipminus1` are mirrored along a diagonal. From `mirror` on,
    `nciihash.hashing.variants.VIEWS` defines each variant; numbers are percentages of the side
    length, or degrees, except those of `inner01` to `inner17`, which are parts from the middle of
    the image: `nciihash.window_tables.BANK_BOXES`.

    A service may be newer than this program: `unknown` is an altered copy that this program has no
    name for. It is matched like any other, and is not submitted.
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
    TOP_LEFT = "top-left"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_RIGHT = "bottom-right"
    LEFT_HALF = "left-half"
    RIGHT_HALF = "right-half"
    TOP_HALF = "top-half"
    BOTTOM_HALF = "bottom-half"
    INNER01 = "inner01"
    INNER02 = "inner02"
    INNER03 = "inner03"
    INNER04 = "inner04"
    INNER05 = "inner05"
    INNER06 = "inner06"
    INNER07 = "inner07"
    INNER08 = "inner08"
    INNER09 = "inner09"
    INNER10 = "inner10"
    INNER11 = "inner11"
    INNER12 = "inner12"
    INNER13 = "inner13"
    INNER14 = "inner14"
    INNER15 = "inner15"
    INNER16 = "inner16"
    INNER17 = "inner17"
    UNKNOWN = "unknown"

    @classmethod
    def named(cls, name: str) -> "Variant":
        """Return the variant of a name, as a service or a bank has it; `UNKNOWN` of a newer one."""
        try:
            return cls(name)
        except ValueError:
            return cls.UNKNOWN


class VariantSet(StrEnum):
    """Which altered copies of an image to hash in addition to the image itself.

    `standard`, `full` and `thorough` are for submissions. `standard` and `full` find copies that
    are looked up by one hash. `thorough` is for platforms that look up parts of a copy
    (`nciihash.Matcher`), and finds nearly all copies there. `match` is for queries: it adds the
    image without its border, if it has one.
    """

    NONE = "none"
    MATCH = "match"
    STANDARD = "standard"
    FULL = "full"
    THOROUGH = "thorough"


# The set of a submission, unless another one is chosen. The web page's is `SUBMITTED` in
# clearinghouse/page/site/worker/altered_views.js.
SUBMITTED: Final = VariantSet.STANDARD


class Level(StrEnum):
    """How thoroughly a picture is searched for in a bank.

    `fast` asks for the picture and for the picture within its frame. `windows` also asks for some
    100 parts of it, and `thorough` for nearly a thousand, rotated ones among them.
    """

    FAST = "fast"
    WINDOWS = "windows"
    THOROUGH = "thorough"


class PartKind(StrEnum):
    """What a part is of a query.

    `whole` is all of it; `trimmed` the picture within a frame; `rectangle` one that straight edges
    enclose, such as one picture of a collage; and `rotated` the whole, rotated about its middle.
    """

    WHOLE = "whole"
    TRIMMED = "trimmed"
    RECTANGLE = "rectangle"
    ROTATED = "rotated"


class Band(StrEnum):
    """How close a match is, in the only two steps that the service discloses."""

    STRONG = "strong"
    LIKELY = "likely"


def band(type: SignalType, distance: int) -> Band:
    """Return the band of a match at `distance` bits: strong up to half the type's threshold."""
    return Band.STRONG if distance * 2 <= type.threshold + 1 else Band.LIKELY


class Verdict(StrEnum):
    """A platform's decision about a match."""

    PENDING = "pending"
    BLOCKED = "blocked"
    NOT_BLOCKED = "not_blocked"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Signal:
    """A typed hash value.

    Attributes:
        type: the kind of hash.
        value: the packed hash, `type.bits // 8` bytes, most significant bit first.

    Raises:
        InvalidSignal: the value has another length.
    """

    type: SignalType
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) * 8 != self.type.bits:
            raise InvalidSignal(
                f"A {self.type} hash has {self.type.bits // 8} bytes, not {len(self.value)}."
            )

    @property
    def hex(self) -> str:
        """The value as lowercase hexadecimal digits."""
        return self.value.hex()

    @property
    def possible(self) -> bool:
        """Whether an image of quality 50 or more can have this value (`PDQ_ONES`)."""
        if self.type is not SignalType.PDQ:
            return True
        return int.from_bytes(self.value, "big").bit_count() in PDQ_ONES

    @classmethod
    def from_hex(cls, type: SignalType, digits: str) -> Self:
        """Parse a value from its `type.bits // 4` hexadecimal digits, lowercase or uppercase.

        Raises:
            InvalidSignal: another length, or a character that is not a hexadecimal digit.
        """
        try:
            # bytes.fromhex skips whitespace, which is not allowed in a hash
            value = b"" if any(c.isspace() for c in digits) else bytes.fromhex(digits)
        except ValueError:
            value = b""
        if not value or len(value) * 8 != type.bits:
            raise InvalidSignal(f"A {type} hash must be {type.bits // 4} hexadecimal digits.")
        return cls(type, value)


@dataclass(frozen=True, slots=True)
class Hashed:
    """A signal computed from a file, and how reliable it is.

    Attributes:
        signal: the hash.
        quality: PDQ's measure from 0 to 100; None for other types.
        variant: the altered copy that was hashed.
        tied: whether coefficients tie at the median, so that some bits are rounding noise and may
            differ between programs.
        time: the time of the hashed frame in a video, in seconds from the first frame; None for
            images and for digests of whole files.
        distinctive: of a PDQ hash, whether the image has enough detail for a match to mean
            anything (`nciihash.pdq.Analysis.distinctive`); None if unknown, as for stored hashes.
    """

    signal: Signal
    quality: int | None = None
    variant: Variant = Variant.ORIGINAL
    tied: bool = False
    time: float | None = None
    distinctive: bool | None = field(default=None, compare=False)

    @property
    def plain(self) -> bool:
        """Whether the image is too plain for this hash to be submitted."""
        return self.tied or (self.quality is not None and self.quality < QUALITY_MIN)


@dataclass(frozen=True, slots=True)
class Item:
    """One file and its hashes.

    Attributes:
        media: image or video.
        hashes: of an image with several frames, such as pages or a burst, those of the first frame
            or of the one that the file marks as primary.
        frames: of an image, how many frames the file contains; of a video or an animation, how
            many frames, or moments, were hashed.
        every: of a video or an animation, the seconds between two sampled frames.
        reduced: whether the image was hashed at a reduced size, up to 4 bits from its exact hash,
            because it is very large or the caller asked for fast hashing.
        motion: whether a short video is appended to the image; it is not hashed.
        parts: small copies of a query from which a `nciihash.Matcher` hashes windows; none unless
            they were requested.
    """

    media: Media
    hashes: tuple[Hashed, ...]
    frames: int = 1
    every: float = 0.0
    reduced: bool = False
    motion: bool = False
    parts: tuple["Part", ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Edit:
    """What was done to a picture, as far as a match of a window shows it.

    Boxes are (left, top, right, bottom) in fractions. They are correct to some hundredths.

    Attributes:
        part: in which part of the query the picture was found.
        box: the window of the query that matched.
        crop: what is visible of the original; None if unknown. The whole is (0, 0, 1, 1).
        mirrored: whether left and right are exchanged.
        angle: degrees by which the query has to be rotated clockwise to be upright.
        time: of a video's frame, in seconds from the first frame.
    """

    part: PartKind
    box: tuple[float, float, float, float]
    crop: tuple[float, float, float, float] | None = None
    mirrored: bool = False
    angle: float = 0.0
    time: float | None = None

    def __str__(self) -> str:
        """Return it in words, such as "cropped to the left 70 % of the picture, mirrored"."""
        words = []
        if self.part is PartKind.RECTANGLE:
            words.append("part of a larger picture")
        elif self.part is PartKind.TRIMMED:
            words.append("within a frame or a screen")
        if self.crop is not None and (visible := _visible(*self.crop)):
            words.append(f"cropped to {visible}")
        if self.mirrored:
            words.append("mirrored")
        if abs(self.angle) >= 1:
            words.append(f"rotated by {abs(self.angle):.0f} degrees")
        if self.time is not None:
            words.append(f"{self.time:.1f} seconds from the start")
        return ", ".join(words) or "a part of it matches"


def _visible(left: float, top: float, right: float, bottom: float) -> str | None:
    """Return which part of a picture a crop shows; None for the whole of it."""
    width, height = right - left, bottom - top
    across, down = _position(left, right, "left", "right"), _position(top, bottom, "top", "bottom")
    if width * height >= _UNCUT or (across is None and down is None):
        return None
    if down is None:
        return f"the {across or 'middle'} {_percent(width)} of the picture"
    if across is None:
        return f"the {down or 'middle'} {_percent(height)} of the picture"
    side = f"{down} {across}".strip() or "middle"
    return f"the {side} part of the picture, {_percent(width * height)} of its area"


def _position(start: float, end: float, first: str, last: str) -> str | None:
    """Return at which end of an axis an interval is; "" if at neither, None if it is all of it."""
    at_start, at_end = start < _MARGIN, end > 1 - _MARGIN
    if at_start and at_end:
        return None
    return first if at_start else last if at_end else ""


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


@dataclass(frozen=True, slots=True)
class Match:
    """A signal of a bank within the threshold of a query.

    Attributes:
        id: the signal's id in the feed.
        item: the item's id in the feed.
        type: the kind of hash.
        variant: the altered copy from which the bank's hash was computed.
        distance: in bits; only a local bank reports it.
        aligned: of a match of a window, the distance after the window was moved to where it fits
            best, in bits; None for a match of the picture's own hash.
        edit: what was done to the picture, as far as a match of a window shows it; None for a
            match of the picture's own hash.
        review: whether a person should look at it before anything is blocked: see
            `nciihash.Matcher`.
    """

    id: str
    item: str
    type: SignalType
    variant: Variant
    distance: int
    aligned: int | None = None
    edit: Edit | None = None
    review: bool = False

    @property
    def band(self) -> Band:
        """How close the match is; never `strong` if a person should look at it."""
        return Band.LIKELY if self.review or self.edit else band(self.type, self.distance)
