"""Files that the tests of the command line share."""

import numpy as np
import pytest
from PIL import Image

from nciihash.bank import Bank
from nciihash.feed import FeedPage
from nciihash.hashing.hasher import hash_file
from support.pictures import scene
from support.scans import added
from support.videos import make_video, moving_frames


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder of photos, a copy of the first one, and two pictures unfit to submit."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        scene(320, 240, seed=number + 10).save(folder / f"photo{number}.jpg", quality=95)
    scene(320, 240, seed=10).save(folder / "copy0.jpg", quality=40)
    Image.new("RGB", (200, 200), (120, 30, 30)).save(folder / "plain.png")
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[(np.arange(256) // 8) % 2 == 0] = 255
    Image.fromarray(stripes).save(folder / "stripes.png")
    return folder


@pytest.fixture
def bank(tmp_path, photos):
    """Return the path of a bank that holds the first photo's hash."""
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, hashed.signal),), "c", more=False))
    return tmp_path / "bank"


@pytest.fixture(scope="session")
def bad_files(photos, tmp_path_factory):
    """Return paths that cannot be hashed, each for another reason."""
    folder = tmp_path_factory.mktemp("bad-files")
    data = (photos / "photo0.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("not a picture\n" * 10)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder").mkdir()
    return [folder / n for n in ("cut.jpg", "text.jpg", "empty.jpg", "folder", "missing.jpg")]


@pytest.fixture
def multi_picture_files(tmp_path):
    """Return two files with several pictures each, and one with a single picture."""
    first, *others = [scene(320, 240, seed=n) for n in (60, 61, 62)]
    for name in ("c.tiff", "d.tiff"):
        first.save(tmp_path / name, save_all=True, append_images=others)
    first.save(tmp_path / "single.gif")
    return [tmp_path / name for name in ("c.tiff", "d.tiff", "single.gif")]


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Return a folder of a video, a mirrored excerpt, an excerpt, and another video."""
    folder = tmp_path_factory.mktemp("videos")
    frames = moving_frames(60, seed=71)
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames[18:42]]
    (folder / "video.mp4").write_bytes(make_video(frames))
    (folder / "mirrored.webm").write_bytes(make_video(mirrored, "libvpx-vp9", "webm"))
    (folder / "part.mkv").write_bytes(make_video(frames[30:], "mpeg4", "matroska"))
    (folder / "other.mp4").write_bytes(make_video(moving_frames(30, seed=72)))
    return folder


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """Return a folder of pictures and videos, some of them near-duplicates, and two bad files."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "sub").mkdir()
    for number in range(8):
        photo = scene(320, 240, seed=number + 200)
        photo.save(folder / f"{number}.jpg", quality=90)
    scene(320, 240, seed=200).save(folder / "sub" / "copy.jpg", quality=35)
    scene(160, 120, seed=201).save(folder / "sub" / "small.png")
    (folder / "sub" / "video.mp4").write_bytes(make_video(moving_frames(24, seed=3)))
    (folder / "sub" / "shorter.mp4").write_bytes(make_video(moving_frames(24, seed=3)[:20]))
    (folder / "notes.txt").write_text("not a picture")
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:2000])
    return folder
