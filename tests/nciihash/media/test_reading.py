import io
import os
import stat
from pathlib import Path

import pytest

from nciihash import errors
from nciihash.media.limits import Limits
from nciihash.media.reading import read_file, read_path


def test_a_file_is_read_piece_by_piece(tmp_path):
    data = os.urandom((5 << 19) + 7)
    path = tmp_path / "file"
    path.write_bytes(data)
    pieces = list(read_path(path))
    assert b"".join(pieces) == data
    assert [len(piece) for piece in pieces] == [1 << 20, 1 << 20, (1 << 19) + 7]


def test_an_empty_file_has_no_pieces(tmp_path):
    (tmp_path / "file").touch()
    assert list(read_path(tmp_path / "file")) == []


def test_a_file_of_just_the_limit_is_read_and_one_more_byte_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    assert b"".join(read_path(path, limits=Limits(max_bytes=100))) == bytes(100)
    with pytest.raises(errors.TooLarge):
        next(read_path(path, limits=Limits(max_bytes=99)))


def test_a_file_that_grows_while_it_is_read_is_refused():
    # as a stream, for its size is not known before
    with pytest.raises(errors.TooLarge):
        list(read_file(io.BytesIO(bytes(101)), limits=Limits(max_bytes=100)))


def test_what_is_no_regular_file_is_refused(tmp_path):
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


def test_a_pipe_that_takes_the_files_place_does_not_hold_us_up(tmp_path, monkeypatch):
    path = tmp_path / "file"
    os.mkfifo(path)
    honest = Path(__file__).stat()
    monkeypatch.setattr(Path, "stat", lambda self: honest)  # it was a file a moment ago
    assert stat.S_ISREG(honest.st_mode)
    with pytest.raises(errors.NotAFile, match="not a regular file"):
        next(read_path(path))


def test_a_file_that_the_system_refuses_is_unreadable(tmp_path, monkeypatch):
    def refusing(*arguments):
        raise PermissionError

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(errors.UnreadableFile):
        next(read_path(tmp_path / "file"))


def test_a_file_opened_as_text_is_an_error_of_the_program():
    with pytest.raises(TypeError, match="binary"):
        next(read_file(io.StringIO("text")))
