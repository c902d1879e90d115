"""Files to choose on the page: pictures, a text file and a video."""

import io
from functools import cache

from PIL import Image

from golden.pictures import rings, waves
from support.videos import make_video, moving_frames


def png(rgb, **options):
    return encoded(Image.fromarray(rgb), "PNG", **options)


def encoded(image, file_format, **options):
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def file(name, data, kind="application/octet-stream"):
    return {"name": name, "mimeType": kind, "buffer": data}


def pictures():
    """Return two pictures that can be hashed, and a text file."""
    return list(_pictures())


@cache
def _pictures():
    return (
        file("holiday with Sam.png", png(waves(300, 400)), "image/png"),
        file("IMG_0042.jpg", encoded(Image.fromarray(rings(480, 640)), "JPEG"), "image/jpeg"),
        file("letter.txt", b"Dear all, this is no picture.", "text/plain"),
    )


@cache
def clip():
    """Return a short video with three scenes, in a format that every browser plays."""
    return file("IMG_0043.webm", make_video(moving_frames(18), "libvpx-vp9", "webm"), "video/webm")
