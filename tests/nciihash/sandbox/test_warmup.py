"""The sample files with which the sandbox's child loads its decoders."""

import io
from importlib.resources import files

import av
import pi_heif
import pytest
from PIL import Image

from nciihash.media.formats import Format, detect, video_format
from nciihash.sandbox import warmup

FILES = {file.name: file.read_bytes() for file in files(warmup).iterdir() if file.is_file()}


@pytest.mark.parametrize("image_format", Format)
def test_each_sample_is_a_small_picture_of_its_format(image_format):
    data = warmup.SAMPLES[image_format]
    assert detect(data) is image_format
    if image_format is Format.HEIC:
        picture = pi_heif.open_heif(data)
        assert picture.mimetype == "image/heic"
    else:
        picture = Image.open(io.BytesIO(data), formats=[image_format.upper()])
        picture.load()
        assert picture.format == image_format.upper()
    assert max(picture.size) <= 16


def test_the_video_is_matroska_with_two_frames_of_mpeg_4():
    assert video_format(warmup.VIDEO) == "matroska"
    with av.open(io.BytesIO(warmup.VIDEO)) as video:
        assert "matroska" in video.format.name
        assert [stream.codec_context.name for stream in video.streams] == ["mpeg4"]
        assert len(list(video.decode(video=0))) == 2


def test_the_package_contains_only_the_samples():
    kept = [data for name, data in FILES.items() if not name.startswith("__init__.")]
    assert sorted(kept) == sorted([*warmup.SAMPLES.values(), warmup.VIDEO])
    named = {name.rpartition(".")[2]: data for name, data in FILES.items()}
    for ending, image_format in (
        *(("jpg", Format.JPEG), ("png", Format.PNG), ("webp", Format.WEBP), ("gif", Format.GIF)),
        *(("tif", Format.TIFF), ("bmp", Format.BMP), ("avif", Format.AVIF), ("heic", Format.HEIC)),
    ):
        assert named[ending] == warmup.SAMPLES[image_format]
    assert named["mkv"] == warmup.VIDEO
