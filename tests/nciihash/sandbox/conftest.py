import pytest

from nciihash.media.limits import Limits
from nciihash.sandbox import Sandbox
from support.pictures import encode, scene
from support.videos import make_video, moving_frames


@pytest.fixture(scope="session")
def _box():
    with Sandbox() as started:
        yield started


@pytest.fixture
def box(_box):
    """The sandbox shared by all tests; a new child is started if the last test killed it."""
    assert _box.isolation
    return _box


@pytest.fixture(scope="session")
def _hasty():
    with Sandbox(Limits(seconds=2.0, video_seconds=2.0)) as started:
        yield started


@pytest.fixture
def hasty(_hasty):
    """A shared sandbox with short timeouts."""
    assert _hasty.isolation
    return _hasty


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encode(scene(400, 300), "PNG"))
    return path


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "video.mp4"
    path.write_bytes(make_video(moving_frames(30)))
    return path
