import io
import os
import stat
from pathlib import Path

import pytest

from nciihash import errors
from nciihash.media.limits import Limits
from nciihash.media.reading import read_file, read_path


def test_a_file_is_read_in_chunks(tmp_path):
    data = os.urandom((5 << 19) + 7)
    path = tmp_path / "file"
    path.write_bytes(data)
    chunks = list(read_path(path))
    assert b"".join(chunks) == data
    assert [len(chunk) for chunk in chunks] == [1 << 20, 1 << 20, (1 << 19) + 7]


def test_an_empty_file_has_no_chunks(tmp_path):
    (tmp_path / "file").touch()
    assert list(read_path(tmp_path / "file")) == []


def test_max_bytes_is_inclusive(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    assert b"".join(read_path(path, limits=Limits(max_bytes=100))) == bytes(100)
    with pytest.raises(errors.TooLarge):
        next(read_path(path, limits=Limits(max_bytes=99)))


def test_a_file_that_grows_while_it_is_read_is_refused():
    # a stream's size is not known in advance
    with pytest.raises(errors.TooLarge):
        list(read_file(io.BytesIO(bytes(101)), limits=Limits(max_bytes=100)))


def test_paths_that_are_not_regular_files_are_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (
        tmp_path,
        tmp_path / "missing",
        tmp_path / "missing" / "x",
        fifo,
        "/dev/zero",
        "a\0b",
    ):
        with pytest.raises(errors.NotAFile):
            next(read_path(path))


def test_a_pipe_that_replaces_the_file_does_not_block(tmp_path, monkeypatch):
    path = tmp_path / "file"
    os.mkfifo(path)
    regular = Path(__file__).stat()
    monkeypatch.setattr(Path, "stat", lambda self: regular)  # the path was a file before
    assert stat.S_ISREG(regular.st_mode)
    with pytest.raises(errors.NotAFile, match="not a regular file"):
        next(read_path(path))


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path, monkeypatch):
    def deny(*arguments):
        raise PermissionError

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(errors.UnreadableFile):
        next(read_path(tmp_path / "file"))


def test_a_file_opened_in_text_mode_raises_a_type_error():
    with pytest.raises(TypeError, match="binary"):
        next(read_file(io.StringIO("text")))
