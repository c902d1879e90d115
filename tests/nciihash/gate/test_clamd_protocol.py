"""clamd's protocol, byte by byte."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.gate.dialects.clamd_protocol import (
    COMMAND_MAX,
    FILES_REFUSED,
    INVALID_IN_SESSION,
    OLD_STYLE_IN_SESSION,
    TOO_LARGE,
    TOO_LONG,
    UNAVAILABLE,
    UNKNOWN,
    ClamdProtocol,
    Closed,
    Command,
    Data,
    EndOfStream,
    Refused,
)

STREAM_MAX = 5000


def stream(*chunks):
    """Return the bytes after an `INSTREAM` command."""
    return b"".join(len(chunk).to_bytes(4) + chunk for chunk in (*chunks, b""))


class Session:
    """A server's half, whose answer to each command is the command's name, or a stream's size."""

    def __init__(self, stream_max=STREAM_MAX):
        self.protocol = ClamdProtocol(stream_max)
        self.events = []
        self.replies = b""
        self.content = bytearray()

    def receive(self, data):
        self.protocol.receive(data)
        while event := self.protocol.next_event():
            match event:
                case Data(content):
                    assert content
                    self.content += content
                case EndOfStream():
                    self.events.append((event, bytes(self.content)))
                    self.replies += self.protocol.reply(f"stream: {len(self.content)}")
                    self.content.clear()
                case Command("INSTREAM"):
                    self.events.append(event)
                case Command(name):
                    self.events.append(event)
                    self.replies += self.protocol.reply(name)
                case Refused(text):
                    self.events.append(event)
                    self.replies += self.protocol.reply(text)
                    assert self.protocol.closed
                case Closed():
                    self.events.append(event)
                    assert self.protocol.closed


def replies(data):
    session = Session()
    session.receive(data)
    return session.replies, session.protocol.closed


@pytest.mark.parametrize("name", [b"PING", b"VERSION", b"STATS", b"VERSIONCOMMANDS"])
def test_a_reply_has_the_terminator_of_its_command(name):
    assert replies(b"n" + name + b"\n") == (name + b"\n", True)
    assert replies(b"z" + name + b"\0") == (name + b"\0", True)
    assert replies(name + b"\n") == (name + b"\n", True)
    assert replies(name + b"\r\n") == (name + b"\n", True)
    assert replies(b"n" + name + b"\r\n") == (name + b"\n", True)


@pytest.mark.parametrize(
    ("start", "end"), [(b"nINSTREAM\n", b"\n"), (b"zINSTREAM\0", b"\0"), (b"INSTREAM\n", b"\n")]
)
def test_a_stream_is_answered_after_its_last_chunk(start, end):
    session = Session()
    session.receive(start + stream(b"abc", b"defg"))
    assert session.events == [Command("INSTREAM"), (EndOfStream(), b"abcdefg")]
    assert session.replies == b"stream: 7" + end
    assert session.protocol.closed


def test_an_empty_stream():
    assert replies(b"zINSTREAM\0" + stream()) == (b"stream: 0\0", True)


def test_what_follows_the_only_command_is_ignored():
    assert replies(b"nPING\nnPING\n" + b"x" * 10_000) == (b"PING\n", True)
    assert replies(b"nINSTREAM\n" + stream(b"a") + b"nPING\n") == (b"stream: 1\n", True)


def test_a_session_numbers_its_commands():
    session = Session()
    session.receive(b"zIDSESSION\0zPING\0zINSTREAM\0" + stream(b"a") + b"zINSTREAM\0")
    assert session.replies == b"1: PING\x002: stream: 1\0"
    session.receive(stream(b"bc") + b"nVERSION\n")
    assert session.replies.endswith(b"3: stream: 2\x004: VERSION\n")
    assert not session.protocol.closed
    session.receive(b"zEND\0zPING\0")
    assert session.events[-1] == Closed()
    assert session.replies.endswith(b"4: VERSION\n")


@pytest.mark.parametrize(
    "command",
    [
        *(b"nSCAN /etc/passwd\n", b"zCONTSCAN /srv\0", b"nMULTISCAN /\n", b"zALLMATCHSCAN /\0"),
        *(b"zOPTSCAN ALLMATCH INSTREAM x\0", b"zFILDES\0\0", b"SCAN /etc/passwd\n"),
    ],
)
def test_no_files_of_the_machine_are_read(command):
    end = b"\0" if command[:1] == b"z" else b"\n"
    assert replies(command) == (FILES_REFUSED.encode() + end, True)


def test_a_refusal_in_a_session_ends_it():
    assert replies(b"nIDSESSION\nnSCAN /a\nnPING\n") == (f"1: {FILES_REFUSED}\n".encode(), True)
    expected = f"1: PING\n2: {INVALID_IN_SESSION}\n".encode()
    assert replies(b"nIDSESSION\nnPING\nnRELOAD\nnPING\n") == (expected, True)
    assert replies(b"nIDSESSION\nPING\n") == (f"1: {OLD_STYLE_IN_SESSION}\n".encode(), True)
    assert replies(b"nIDSESSION\nnIDSESSION\n") == (f"1: {INVALID_IN_SESSION}\n".encode(), True)


@pytest.mark.parametrize("name", [b"RELOAD", b"SHUTDOWN", b"QUIT", b"DETSTATS", b"DETSTATSCLEAR"])
def test_clamd_cannot_be_controlled(name):
    assert replies(b"n" + name + b"\n") == (UNAVAILABLE.encode() + b"\n", True)


@pytest.mark.parametrize(
    "command",
    [
        *(b"nEND\n", b"n\n", b"\n", b"nping\n", b"nPING x\n", b"zPING\n\0", b"nSCAN\n"),
        *(b"nFILDES x\n", b"nINSTREAM \n", b"GET / HTTP/1.1\r\n\r\n", b"EHLO example.org\r\n"),
        b"\x16\x03\x01\x02\0\n",
    ],
)
def test_unknown_commands(command):
    end = b"\0" if command[:1] == b"z" else b"\n"
    assert replies(command) == (UNKNOWN.encode() + end, True)


def test_a_stream_over_the_limit_is_refused_before_it_is_received():
    session = Session()
    session.receive(b"nINSTREAM\n" + (STREAM_MAX + 1).to_bytes(4) + b"abc")
    assert session.replies == TOO_LARGE.encode() + b"\n"
    assert session.protocol.closed
    assert not session.content
    assert replies(b"zINSTREAM\0\xff\xff\xff\xff")[0] == TOO_LARGE.encode() + b"\0"
    assert replies(b"nINSTREAM\n" + stream(b"x" * STREAM_MAX)) == (b"stream: 5000\n", True)
    chunks = [b"x" * (STREAM_MAX - 1), b"xx"]
    assert replies(b"nINSTREAM\n" + stream(*chunks))[0] == TOO_LARGE.encode() + b"\n"
    assert replies(b"nIDSESSION\nnINSTREAM\n\xff\xff\xff\xff") == (
        f"1: {TOO_LARGE}\n".encode(),
        True,
    )


def test_each_stream_of_a_session_has_the_whole_limit():
    streams = (b"zINSTREAM\0" + stream(b"x" * STREAM_MAX)) * 3
    expected = b"1: stream: 5000\x002: stream: 5000\x003: stream: 5000\0"
    assert replies(b"zIDSESSION\0" + streams) == (expected, False)


@pytest.mark.parametrize("prefix", [b"n", b"z", b""])
def test_a_command_without_end_is_refused(prefix):
    session = Session()
    session.receive(prefix + b"SCAN /" + b"x" * (COMMAND_MAX - 10))
    assert not session.protocol.closed
    session.receive(b"x" * 100)
    end = b"\0" if prefix == b"z" else b"\n"
    assert session.replies == TOO_LONG.encode() + end
    assert session.protocol.closed
    assert not session.protocol.buffered


def test_a_command_without_prefix_may_end_with_its_packet():
    session = Session()
    session.receive(b"PING")
    assert session.protocol.unprefixed
    assert not session.events
    session.protocol.end_packet()
    session.receive(b"")
    assert session.replies == b"PING\n"
    for other in (b"", b"nPING", b"zPING", b"nINSTREAM\n\0\0"):
        session = Session()
        session.receive(other)
        assert not session.protocol.unprefixed
        session.protocol.end_packet()
        session.receive(b"")
        assert not session.replies


def conversations():
    """Return a strategy of what clients send, right or wrong."""
    names = ["PING", "VERSION", "INSTREAM", "IDSESSION", "END", "SCAN /a", "STATS", "FILDES", "x"]
    command = st.tuples(st.sampled_from(["n", "z", ""]), st.sampled_from(names)).map(
        lambda pair: "".join(pair).encode() + (b"\0" if pair[0] == "z" else b"\n")
    )
    chunks = st.lists(st.binary(max_size=50), max_size=5).map(lambda each: stream(*each))
    start = st.sampled_from([b"", b"zIDSESSION\0", b"nIDSESSION\n"])
    scan = chunks.map(lambda chunks: b"zINSTREAM\0" + chunks)
    parts = st.lists(st.one_of(command, scan, scan, chunks, st.binary(max_size=20)), max_size=8)
    return st.tuples(start, parts).map(lambda pair: pair[0] + b"".join(pair[1]))


@given(conversations(), st.randoms(use_true_random=False))
def test_the_split_of_the_bytes_does_not_matter(data, chance: random.Random):
    whole, split = Session(), Session()
    whole.receive(data)
    start = 0
    while start < len(data):
        end = start + chance.choice([1, 1, 2, 5, 50])
        split.receive(data[start:end])
        assert split.protocol.buffered <= COMMAND_MAX
        start = end
    assert split.events == whole.events
    assert split.replies == whole.replies
    assert split.content == whole.content
    assert split.protocol.closed == whole.protocol.closed


@given(
    st.sampled_from([b"n", b"z", b"", b"nIDSESSION\n", b"nINSTREAM\n"]), st.binary(), st.binary()
)
def test_no_input_is_buffered_beyond_a_command(start, data, more):
    session = Session(stream_max=1 << 32)
    session.receive(start + data)
    for _ in range(20):
        session.receive(more * 40)
        assert session.protocol.buffered <= COMMAND_MAX
