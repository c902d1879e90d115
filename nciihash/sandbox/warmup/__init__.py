"""One tiny file of each format, hashed by the child to load its decoders before it is confined.

The images are at most 16 pixels wide and were drawn for this purpose. All files are read when this
package is imported, since a confined process cannot open any.
"""

from importlib.resources import files
from typing import Final

from nciihash.media.formats import Format

_FOLDER: Final = files(__name__)
_NAMES: Final = {
    Format.JPEG: "picture.jpg",
    Format.PNG: "picture.png",
    Format.WEBP: "picture.webp",
    Format.GIF: "picture.gif",
    Format.TIFF: "picture.tif",
    Format.BMP: "picture.bmp",
    Format.AVIF: "picture.avif",
    Format.HEIC: "picture.heic",
}

SAMPLES: Final = {
    image_format: (_FOLDER / name).read_bytes() for image_format, name in _NAMES.items()
}
VIDEO: Final = (_FOLDER / "video.mkv").read_bytes()  # Matroska with two frames of MPEG-4
