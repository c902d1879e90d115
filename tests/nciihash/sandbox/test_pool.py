import os
import threading
import time

import pytest

from nciihash.errors import CorruptFile, FileRefused, NotAFile, SandboxUnavailable
from nciihash.hashing import hasher
from nciihash.media.reading import files_in
from nciihash.sandbox import Sandbox, parent, pool
from nciihash.sandbox.pool import hash_files
from nciihash.signals import SignalType
from support.pictures import encode, scene
from support.videos import make_video, moving_frames

PDQ = (SignalType.PDQ,)


@pytest.fixture(scope="module")
def contents():
    pictures = {f"{n}.jpg": encode(scene(64, 48, seed=n), "JPEG") for n in range(6)}
    return pictures | {
        "a/b/video.mp4": make_video(moving_frames(8)),
        "a/b/notes.txt": b"neither picture nor video",
        "cut.png": encode(scene(), "PNG")[:300],
    }


@pytest.fixture
def folder(tmp_path, contents):
    """Make a folder of pictures, a video, another file and subfolders."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_folders_are_walked_in_order_of_names(folder):
    names = [str(path.relative_to(folder)) for path in files_in([folder])]
    assert names == [*(f"{n}.jpg" for n in range(6)), "a/b/notes.txt", "a/b/video.mp4", "cut.png"]
    assert next(files_in([folder / "1.jpg", folder / "a"])) == folder / "1.jpg"
    assert list(files_in([folder / "no"])) == [folder / "no"]


def test_links_to_folders_are_not_followed(folder):
    (folder / "a" / "round").symlink_to(folder)
    (folder / "a" / "link.jpg").symlink_to(folder / "1.jpg")
    (folder / "a" / "broken").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    names = [path.name for path in files_in([folder])]
    assert len(names) == 11
    assert {"link.jpg", "broken"} <= set(names)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("fast", [True, False])
def test_several_processes_return_the_same_results_in_order(folder, jobs, fast):
    paths = list(files_in([folder]))
    parallel = list(hash_files(paths, signals=PDQ, fast=fast, jobs=jobs))
    unsandboxed = list(hash_files(paths, signals=PDQ, fast=fast, sandboxed=False))
    assert [path for path, _ in parallel] == paths
    for (_, parallel_result), (_, unsandboxed_result) in zip(parallel, unsandboxed, strict=True):
        if isinstance(unsandboxed_result, FileRefused):
            assert type(parallel_result) is type(unsandboxed_result)
        else:
            assert parallel_result == unsandboxed_result


def test_a_slow_file_delays_results_but_not_hashing(folder, monkeypatch):
    """While the first file is being hashed, the next ones are too, up to a bound."""
    monkeypatch.setattr(pool, "_AHEAD", 2)
    done, finish_first = [], threading.Event()

    def hash_file(_, path, **options):
        if path.name == "0.jpg":
            finish_first.wait(30)
        done.append(path.name)
        return hasher.hash_file(path, **options)

    monkeypatch.setattr(Sandbox, "hash_file", hash_file)
    taken = []

    def paths():
        for path in files_in([folder]):
            taken.append(path.name)
            if len(taken) == 5:
                while len(done) < 3:  # hashed by the second process
                    time.sleep(0.01)
                assert "0.jpg" not in done
                finish_first.set()
            yield path

    hashed = hash_files(paths(), signals=PDQ, jobs=2)
    assert next(hashed)[0].name == "0.jpg"
    assert len(taken) == 5
    assert len(list(hashed)) == 8


def test_no_child_outlives_an_interrupted_run(folder, monkeypatch):
    started = []
    start = parent._start

    def record(limits):
        child, isolation = start(limits)
        started.append(child)
        return child, isolation

    monkeypatch.setattr(parent, "_start", record)
    paths = [folder / "1.jpg", *[folder / "a" / "b" / "video.mp4"] * 50]
    hashed = hash_files(paths, signals=PDQ, variants="standard", jobs=2)
    next(hashed)
    hashed.close()
    assert len({child.pid for child in started}) == 2
    assert all(child.poll() is not None for child in started)


def test_a_stopped_sandbox_stays_stopped(folder):
    sandbox = Sandbox()
    sandbox.stop()
    with pytest.raises(SandboxUnavailable, match="stopped"):
        sandbox.hash_file(folder / "1.jpg")


def test_children_that_do_not_start_end_the_run(folder, monkeypatch):
    monkeypatch.setattr("nciihash.sandbox.parent._BOOT", "raise SystemExit(1)")
    with pytest.raises(SandboxUnavailable):
        list(hash_files(files_in([folder]), signals=PDQ, jobs=2))


def test_refusals_are_yielded_in_order(folder):
    paths = [folder / "cut.png", folder / "1.jpg", folder / "none.jpg"]
    (_, cut), (_, good), (_, none) = hash_files(paths, signals=PDQ, jobs=2)
    assert isinstance(cut, CorruptFile)
    assert isinstance(none, NotAFile)
    assert good == hasher.hash_file(paths[1])
