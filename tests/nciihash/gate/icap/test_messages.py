"""The ICAP parser: heads, sections, chunks, previews and hostile bytes, however they are split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.gate.dialects.icap.messages import (
    CONTINUE,
    LAST_CHUNK,
    Data,
    End,
    Head,
    Pause,
    chunk,
    encapsulate,
    response,
)
from nciihash.gate.dialects.icap.parser import BadRequest, MessageLimits, RequestParser

HTTP_POST = b"POST /upload HTTP/1.1\r\nHost: site.example\r\nContent-Type: image/jpeg\r\n\r\n"
HTTP_OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"


def reqmod(
    body=b"", *, fields="", preview=None, end=LAST_CHUNK, method="REQMOD", http=HTTP_POST, size=None
):
    """Return a request that encapsulates an HTTP request; `body` is one chunk."""
    size = len(http) if size is None else size
    more = fields if preview is None else f"{fields}Preview: {preview}\r\n"
    head = (
        f"{method} icap://gate.example/nciihash ICAP/1.0\r\nHost: gate.example\r\n{more}"
        f"Encapsulated: req-hdr=0, req-body={size}\r\n\r\n"
    )
    return head.encode() + http + chunk(body) + end


def respmod(body=b"", *, fields="", request=HTTP_POST, http=HTTP_OK):
    """Return a request that encapsulates an HTTP response and its request."""
    start = len(request)
    head = (
        f"RESPMOD icap://gate.example:1344/nciihash?a=b ICAP/1.0\r\n{fields}"
        f"Encapsulated: req-hdr=0, res-hdr={start}, res-body={start + len(http)}\r\n\r\n"
    )
    return head.encode() + request + http + chunk(body) + LAST_CHUNK


def parse(*pieces, limits=None):
    """Parse one request after another; return the events, with the data of a body joined.

    The rest of a body is taken to follow each preview.
    """
    parser, events = RequestParser(limits), []
    for piece in pieces:
        parser.feed(piece)
        while (event := parser.next_event()) is not None:
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                events[-1] = Data(events[-1].data + event.data)
            else:
                events.append(event)
            if isinstance(event, Pause):
                parser.proceed()
            if isinstance(event, End):
                parser.next_request()
    return events


def outcome(*pieces, limits=None):
    """Return the events, or the status of the error."""
    try:
        return parse(*pieces, limits=limits)
    except BadRequest as error:
        return error.status


def test_a_request_with_a_body():
    head, data, end = parse(reqmod(b"abc", fields="Allow: 204, trailers\r\n"))
    assert head == Head(
        "REQMOD",
        "nciihash",
        {
            "host": "gate.example",
            "allow": "204, trailers",
            "encapsulated": f"req-hdr=0, req-body={len(HTTP_POST)}",
        },
        HTTP_POST,
        has_body=True,
    )
    assert head.allows_204
    assert not head.close
    assert data == Data(b"abc")
    assert end == End()


def test_a_response_with_its_request():
    head, data, end = parse(respmod(b"abc", fields="Connection: Close\r\n"))
    assert (head.method, head.request, head.response) == ("RESPMOD", HTTP_POST, HTTP_OK)
    assert head.close
    assert not head.allows_204
    assert (data, end) == (Data(b"abc"), End())


@pytest.mark.parametrize(
    "uri", ["icap://gate.example/a/b", "ICAP://gate.example:1344/a/b/?x=1", "/a/b", "icaps://h/a/b"]
)
def test_the_service_is_the_path_of_the_uri(uri):
    (head, end) = parse(f"OPTIONS {uri} ICAP/1.0\r\nHost: gate.example\r\n\r\n".encode())
    assert (head.method, head.service, head.has_body) == ("OPTIONS", "a/b", False)
    assert end == End()


def test_a_uri_without_a_path_has_no_service():
    assert parse(b"OPTIONS icap://gate.example ICAP/1.0\r\n\r\n")[0].service == ""


def test_requests_follow_each_other_on_one_connection():
    data = b"\r\n".join([reqmod(b"one"), respmod(b"two"), reqmod(b"")])
    kinds = [type(event) for event in parse(data)]
    assert kinds == [Head, Data, End, Head, Data, End, Head, End]


def test_a_connection_is_idle_until_a_request_starts():
    parser = RequestParser()
    assert parser.idle
    parser.feed(b"\r\n")
    assert parser.idle
    parser.feed(b"O")
    assert not parser.idle
    parser.feed(b"PTIONS icap://h/s ICAP/1.0\r\n\r\n")
    assert [type(parser.next_event()) for _ in range(3)] == [Head, End, type(None)]
    assert not parser.idle
    parser.next_request()
    assert parser.idle
    parser.feed(b"\r\n" * 9)
    assert not parser.idle  # it will be refused


def test_a_null_body_ends_at_once():
    request = (
        f"REQMOD /nciihash ICAP/1.0\r\nEncapsulated: req-hdr=0, null-body={len(HTTP_POST)}\r\n"
    )
    head, end = parse(request.encode() + b"Preview: 0\r\n\r\n" + HTTP_POST)
    assert (head.has_body, head.preview, end) == (False, None, End())


def test_chunks_may_have_extensions_and_trailers():
    end = b"0;a=b; c\r\nX-Trailer: yes\r\nX-Other: yes\r\n\r\n"
    request = reqmod(b"", end=b"0003 ; name=value\r\nabc\r\nA\r\n0123456789\r\n" + end)
    assert parse(request)[1:] == [Data(b"abc0123456789"), End()]


def test_the_rest_follows_a_preview():
    request = reqmod(b"abc", preview=3)
    assert parse(request, b"3\r\ndef\r\n" + LAST_CHUNK)[1:] == [
        Data(b"abc"),
        Pause(),
        Data(b"def"),
        End(),
    ]


@pytest.mark.parametrize("end", [b"0; ieof\r\n\r\n", b"0;IEOF\r\n\r\n", b"0; x=1; ieof\r\n\r\n"])
def test_a_preview_may_be_the_whole_body(end):
    assert parse(reqmod(b"abc", preview=1024, end=end))[1:] == [Data(b"abc"), End(in_preview=True)]


def test_a_preview_may_be_empty():
    assert parse(reqmod(b"", preview=0), b"1\r\nx\r\n" + LAST_CHUNK)[1:] == [
        Pause(),
        Data(b"x"),
        End(),
    ]


def test_an_answered_preview_is_followed_by_the_next_request():
    parser = RequestParser()
    parser.feed(reqmod(b"abc", preview=3))
    assert [type(parser.next_event()) for _ in range(4)] == [Head, Data, Pause, type(None)]
    parser.next_request()
    parser.feed(reqmod(b"x"))
    assert isinstance(parser.next_event(), Head)


def test_what_follows_a_preview_without_a_continue_is_not_read_as_a_request():
    parser = RequestParser()
    parser.feed(reqmod(b"abc", preview=3) + reqmod(b"smuggled"))
    while not isinstance(parser.next_event(), Pause):
        pass
    with pytest.raises(BadRequest):
        parser.next_request()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"REQMOD icap://h/s ICAP/2.0", 505),
        (b"REQMOD icap://h/s HTTP/1.1", 400),
        (b"FILEMOD icap://h/s ICAP/1.0", 501),
        (b"reqmod icap://h/s ICAP/1.0", 501),
        (b"REQMOD http://h/s ICAP/1.0", 400),
        (b"REQMOD icap://h/s", 400),
        (b"REQMOD  icap://h/s ICAP/1.0", 400),
        (b"GET / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
)
def test_an_unknown_request_line_is_refused(line, status):
    assert outcome(line + b"\r\nEncapsulated: null-body=0\r\n\r\n") == status


@pytest.mark.parametrize(
    "sections",
    [
        "req-hdr=0, req-body=10",  # ends within the head
        "req-hdr=0, req-body=72",  # ends within the body
        "req-hdr=0, req-body=999999999",
        "req-hdr=0, req-body=-1",
        "req-hdr=0, req-body=0",
        "req-hdr=5, req-body=71",
        "req-hdr=71, req-body=0",
        "req-body=0, req-hdr=0",
        "req-hdr=0, req-hdr=10, req-body=71",
        "req-hdr=0, res-hdr=71, req-body=80",
        "req-hdr=0, res-body=71",
        "req-hdr=0",
        "req-hdr=0, req-body=71, null-body=71",
        "opt-body=0",
        "req-hdr=0x0, req-body=71",
        "req-hdr=0 req-body=71",
        "",
    ],
)
def test_offsets_that_are_wrong_are_refused(sections):
    assert len(HTTP_POST) == 71
    head = f"REQMOD icap://h/s ICAP/1.0\r\nEncapsulated: {sections}\r\n\r\n"
    assert outcome(head.encode() + HTTP_POST + b"3\r\nabc\r\n" + LAST_CHUNK) == 400


def test_a_second_head_within_a_head_is_refused():
    http = HTTP_POST + b"GET /admin HTTP/1.1\r\n\r\n"
    assert outcome(reqmod(b"abc", http=http)) == 400


def test_a_modification_says_what_it_encapsulates():
    assert outcome(b"REQMOD icap://h/s ICAP/1.0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "line",
    [
        *(b"-3", b"+3", b"0x3", b"3 3", b" 3", b"", b"g", b"ffffffffffffffff", b"3\n", b"\xb2"),
        *(b"3;\x00", b"3,3"),
    ],
)
def test_a_chunk_size_that_is_wrong_is_refused(line):
    assert outcome(reqmod(end=line + b"\r\nabc\r\n" + LAST_CHUNK)) == 400


@pytest.mark.parametrize("end", [b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n", b"3\r\nabc0\r\n\r\n"])
def test_a_chunk_that_is_longer_than_its_size_is_refused(end):
    assert outcome(reqmod(end=end + LAST_CHUNK)) == 400


@pytest.mark.parametrize("preview", ["-1", "1e3", "99999999999", "", "0x10", "1, 2"])
def test_a_preview_that_is_no_number_is_refused(preview):
    assert outcome(reqmod(b"abc", preview=preview)) == 400


def test_a_preview_longer_than_announced_is_refused():
    assert outcome(reqmod(b"abc", preview=2)) == 400
    assert outcome(reqmod(b"", preview=1 << 20, end=b"80000\r\n" + bytes(1 << 19))) != 400
    assert outcome(reqmod(b"", preview=2, end=b"1\r\na\r\n" * 3)) == 400


@pytest.mark.parametrize(
    "field",
    ["A B: c", ": c", "A : c", "A", " folded", "A: \x00", "A: b\nC: d", "A: b\rC: d", "A: \x7f"],
)
def test_a_malformed_field_is_refused(field):
    assert outcome(reqmod(b"abc", fields=f"X: y\r\n{field}\r\n")) == 400


LIMITS = MessageLimits(head=400, fields=5, http=300, chunk_line=20, trailers=30)


@pytest.mark.parametrize(
    "flood",
    [
        b"\r\n" * 3,
        b"R" * 400,
        b"REQMOD icap://h/" + b"s" * 400,
        b"REQMOD icap://h/s ICAP/1.0\r\n" + b"A: b\r\n" * 6 + b"Encapsulated: null-body=0\r\n\r\n",
        b"REQMOD icap://h/s ICAP/1.0\r\nA: " + b"b" * 400,
        b"REQMOD icap://h/s ICAP/1.0\r\nEncapsulated: req-hdr=0, req-body=301\r\n\r\n",
        reqmod(end=b"3;" + b"a" * 20),
        reqmod(end=b"0" * 20),
        reqmod(end=b"0\r\n" + b"A: b\r\n" * 6),
        reqmod(end=b"0\r\n" + b"A" * 30),
    ],
)
def test_floods_are_refused_when_they_reach_a_limit(flood):
    assert outcome(flood, limits=LIMITS) == 400
    assert outcome(*(flood[i : i + 1] for i in range(len(flood))), limits=LIMITS) == 400


def test_an_endless_head_or_line_is_not_kept():
    for start in (b"", reqmod(end=b""), reqmod(end=b"0\r\n")):
        assert outcome(start, *[b"A" * 512] * 64) == 400


def cut(data, positions):
    """Split bytes at positions."""
    bounds = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


MESSAGES = [
    *(reqmod(b"abc" * 30), respmod(b"\r\n0\r\n\r\n"), reqmod(b"abc", preview=3) + LAST_CHUNK),
    *(reqmod(b"ab", preview=2, end=b"0; ieof\r\n\r\n"), reqmod(b"")),
    b"OPTIONS icap://h/nciihash ICAP/1.0\r\nHost: h\r\n\r\n",
    *(reqmod(b"abc", preview=2), reqmod(end=b"-1\r\n"), b"GET / HTTP/1.1\r\n\r\n"),
    respmod(b"abc", fields="A: b\r\n" * 20),
]


@given(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4), st.lists(st.integers(0, 5000)))
def test_any_split_has_the_same_events(messages, positions):
    data = b"".join(messages)
    limits = MessageLimits(fields=10)
    assert outcome(*cut(data, positions), limits=limits) == outcome(data, limits=limits)


@given(
    st.sampled_from(MESSAGES),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3)), max_size=3),
    st.lists(st.integers(0, 5000)),
)
def test_any_split_of_damaged_messages_has_the_same_events(message, changes, positions):
    data = bytearray(message)
    for position, new in changes:
        position %= len(data) + 1
        data[position : position + len(new)] = new
    damaged = bytes(data)
    assert outcome(*cut(damaged, positions)) == outcome(damaged)


def test_responses_as_they_are_sent():
    assert CONTINUE == b"ICAP/1.0 100 Continue\r\n\r\n"
    assert response(204, [("ISTag", '"x"')]) == (
        b'ICAP/1.0 204 Unmodified\r\nISTag: "x"\r\nEncapsulated: null-body=0\r\n\r\n'
    )
    assert encapsulate("res", HTTP_OK, has_body=True) == f"res-hdr=0, res-body={len(HTTP_OK)}"
    assert encapsulate("req", HTTP_POST, has_body=False) == f"req-hdr=0, null-body={len(HTTP_POST)}"
    assert encapsulate("req", b"", has_body=True) == "req-body=0"
    assert chunk(b"") == b""
    assert chunk(bytearray(b"x" * 17)) == b"11\r\n" + b"x" * 17 + b"\r\n"
