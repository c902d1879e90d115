"""The clamd dialect with a real gate: answers, limits and hostile clients, over real sockets."""

import asyncio
import logging
import re
import socket
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from nciihash.gate.config import Address, UploadLimits
from nciihash.gate.dialects import clamd, mail
from nciihash.gate.dialects.clamd_protocol import FILES_REFUSED, TOO_LARGE
from nciihash.gate.outcome import UNCHECKED as UNCHECKED_REASONS
from nciihash.gate.outcome import UNREADABLE as UNREADABLE_REASONS
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.policy import Action, Fail, Policy
from nciihash.gate.pool import PoolFull
from nciihash.gate.rehearsal import picture_items
from support.gating import dialect_config, gate_config, open_gate
from support.pictures import encode, textured

PICTURES = Path(__file__).parents[3] / "docs" / "gate"
BLOCK, REVIEW, CLEAR, UNREADABLE = (
    (PICTURES / f"{name}.jpg").read_bytes() for name in ("block", "review", "clear", "unreadable")
)
OPEN = Policy(review_as=Action.BLOCK)
CLOSED = Policy(
    review_as=Action.BLOCK, unsupported=Fail.CLOSED, unreadable=Fail.CLOSED, unchecked=Fail.CLOSED
)


@asynccontextmanager
async def serving(folder, policy=OPEN, address=Address("127.0.0.1", 0), limits=None, **changes):  # noqa: B008 - it is immutable
    """Run a gate and its server of clamd's protocol."""
    dialect = dialect_config(listen=address, policy=policy, **changes)
    config = gate_config(folder, {Dialect.CLAMD: dialect})
    config = replace(config, limits=limits or UploadLimits())
    async with open_gate(folder, picture_items(), config) as gate:
        server = await clamd.serve(gate, dialect)
        try:
            yield gate, server
        finally:
            server.close()
            await server.wait_closed()


async def asked(server, data, *, end=False):
    """Send bytes, and return everything that is received until the connection is closed."""
    if server.address.path is not None:
        reader, writer = await asyncio.open_unix_connection(server.address.path)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def stream(data, chunk=4096):
    """Return a file as the bytes after an `INSTREAM` command."""
    chunks = [data[i : i + chunk] for i in range(0, len(data), chunk)]
    return b"".join(len(each).to_bytes(4) + each for each in (*chunks, b""))


def instream(data, chunk=4096):
    return b"zINSTREAM\0" + stream(data, chunk)


def email(*files, text="See the attachment."):
    message = EmailMessage()
    message["From"] = "a@example.org"
    message["Subject"] = "Hello"
    message.set_content(text)
    for data in files:
        message.add_attachment(data, "image", "jpeg", filename="picture.jpg")
    return b"Received: from Haraka clamd plugin\r\n" + message.as_bytes()


def without_reference(reply):
    """Return a reply without the references of decisions."""
    return re.sub(rb"\.[0-9A-Z]{4}(-[0-9A-Z]{4}){6} FOUND", b" FOUND", reply)


def answers(folder, *files, prepare=lambda gate: None, **options):
    """Return the answers about some files."""

    async def scenario():
        async with serving(folder, **options) as (gate, server):
            prepare(gate)
            replies = [await asked(server, instream(each)) for each in files]
            assert gate.memory.used == 0
            return [without_reference(reply) for reply in replies]

    return asyncio.run(scenario())


def test_copies_are_found_and_others_are_ok(tmp_path):
    files = [BLOCK, REVIEW, CLEAR, UNREADABLE, b"%PDF-1.7", b""]
    assert answers(tmp_path, *files) == [
        b"stream: NCII.match.strong FOUND\0",
        b"stream: NCII.review FOUND\0",
        *[b"stream: OK\0"] * 4,
    ]


def test_a_review_is_found_only_where_the_policy_says_so(tmp_path):
    policy = Policy(review_as=Action.CLEAR)
    assert answers(tmp_path, REVIEW, policy=policy) == [b"stream: OK\0"]


def test_a_dry_run_finds_nothing(tmp_path):
    assert answers(tmp_path, BLOCK, REVIEW, policy=CLOSED, dry_run=True) == [b"stream: OK\0"] * 2


def test_files_that_cannot_be_hashed_are_refused_if_it_fails_closed(tmp_path):
    files = [UNREADABLE, b"%PDF-1.7", b"", CLEAR]
    assert answers(tmp_path, *files, policy=CLOSED) == [
        b"stream: NCII.unreadable.corrupt FOUND\0",
        b"stream: NCII.unreadable.unsupported FOUND\0",
        b"stream: NCII.unreadable.empty FOUND\0",
        b"stream: OK\0",
    ]


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
def test_a_file_over_the_limits_is_read_to_its_end_and_answered(tmp_path, policy):
    limits = UploadLimits(image_bytes=50_000, video_bytes=100_000)
    expected = b"stream: OK\0" if policy is OPEN else b"stream: NCII.unreadable.too_large FOUND\0"
    large = bytes(3_000_000)
    assert answers(tmp_path, large, policy=policy, limits=limits) == [expected]


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
def test_when_the_memory_is_full_it_fails_as_configured(tmp_path, policy):
    (reply,) = answers(tmp_path, BLOCK, policy=policy, limits=UploadLimits(memory=10_000))
    if policy is OPEN:
        assert reply == b"stream: OK\0"
    else:
        assert reply == b"stream: NCII.unchecked.queue_full FOUND\0"
        (reply,) = answers(tmp_path, email(BLOCK), policy=policy, limits=UploadLimits(memory=10))
        assert re.fullmatch(rb"stream: [^:\0]*no capacity[^:\0]* ERROR\0", reply)


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
@pytest.mark.parametrize("state", [{"as_of": None}, {"as_of": 1e9}])
def test_without_a_current_bank_it_fails_as_configured(tmp_path, policy, state):
    def prepare(gate):
        gate.bank.changes = state

    file, message = answers(tmp_path, BLOCK, email(BLOCK), policy=policy, prepare=prepare)
    if policy is OPEN:
        assert file == message == b"stream: OK\0"
    else:
        assert re.fullmatch(rb"stream: NCII\.unchecked\.bank_(empty|stale) FOUND\0", file)
        assert re.fullmatch(rb"stream: [^:\0]*bank[^:\0]* ERROR\0", message)


def test_every_answer_is_one_that_clients_parse():
    reasons = {Decision.UNREADABLE: UNREADABLE_REASONS, Decision.UNCHECKED: UNCHECKED_REASONS}
    for decision in Decision:
        for reason in reasons.get(decision, {Reason.MATCH}):
            for message in (False, True):
                assert clamd.answer(Outcome(decision, reason), message=message) == "stream: OK"
                text = clamd.answer(Outcome(decision, reason, stop=True), message=message)
                form = r"NCII(\.[a-z_]+)+ FOUND"
                if message and decision is Decision.UNCHECKED:
                    form = r"[A-Z][^:\n\0]+\. ERROR"
                assert re.fullmatch(f"stream: {form}", text)


def test_pictures_of_emails_are_checked(tmp_path):
    mails = [
        email(CLEAR, BLOCK),
        email(CLEAR, encode(textured(3), "PNG")),
        email(),
        email(b"no picture"),
        email(REVIEW, UNREADABLE),
        b"From: a\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 1001,
    ]
    assert answers(tmp_path, *mails) == [
        b"stream: NCII.match.strong FOUND\0",
        *[b"stream: OK\0"] * 3,
        b"stream: NCII.review FOUND\0",
        b"stream: OK\0",
    ]
    assert answers(tmp_path, *mails, policy=CLOSED) == [
        b"stream: NCII.match.strong FOUND\0",
        *[b"stream: OK\0"] * 2,
        b"stream: NCII.unreadable.unsupported FOUND\0",
        b"stream: NCII.unreadable.corrupt FOUND\0",
        b"stream: NCII.unreadable.too_large FOUND\0",
    ]


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
def test_a_fault_in_parsing_an_email_fails_as_configured(tmp_path, policy, monkeypatch, caplog):
    def files(_data):
        raise ValueError("holiday.jpg")
        yield

    monkeypatch.setattr(mail, "files", files)
    (reply,) = answers(tmp_path, email(BLOCK), policy=policy)
    assert reply == b"stream: OK\0" if policy is OPEN else reply.endswith(b". ERROR\0")
    assert "ValueError" in caplog.text
    assert "holiday" not in caplog.text


def test_a_file_over_the_limits_does_not_hide_the_others_of_an_email(tmp_path):
    limits = UploadLimits(image_bytes=len(BLOCK))
    large = BLOCK + bytes(1000)
    both, alone = answers(tmp_path, email(large, BLOCK), email(large), policy=CLOSED, limits=limits)
    assert both == b"stream: NCII.match.strong FOUND\0"
    assert alone == b"stream: NCII.unreadable.too_large FOUND\0"


def test_commands_without_a_file(tmp_path):
    async def scenario():
        async with serving(tmp_path) as (gate, server):
            for start, end in ((b"n", b"\n"), (b"z", b"\0"), (b"", b"\n")):
                assert await asked(server, start + b"PING" + end) == b"PONG" + end
                version = await asked(server, start + b"VERSION" + end)
                date = rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} \d\d:\d\d:\d\d \d{4}"
                form = rb"nciihash-gate \d+\.\d+\.\d+\w*/\d+/" + date
                assert re.fullmatch(form + end, version)
                commands = await asked(server, start + b"VERSIONCOMMANDS" + end)
                assert re.fullmatch(form + rb"\| COMMANDS:( [A-Z]+)+" + end, commands)
                stats = await asked(server, start + b"STATS" + end)
                assert stats.startswith(b"POOLS: 1\n\nSTATE: VALID PRIMARY\nTHREADS: live 0 ")
                assert stats.endswith(b"\nEND" + end)
            gate.bank.changes = {"as_of": None}
            assert re.fullmatch(rb"nciihash-gate [^/]*\0", await asked(server, b"zVERSION\0"))

    asyncio.run(scenario())


def test_commands_that_end_with_their_packet(tmp_path, monkeypatch):
    monkeypatch.setattr(clamd, "PACKET_SECONDS", 0.01)

    async def scenario():
        async with serving(tmp_path) as (_, server):
            assert await asked(server, b"PING") == b"PONG\n"
            assert await asked(server, b"PING", end=True) == b"PONG\n"
            assert await asked(server, b"nPING", end=True) == b""
            assert await asked(server, b"zINSTREAM\0\0\0\0\1", end=True) == b""
            assert await asked(server, b"", end=True) == b""

    asyncio.run(scenario())


def test_a_session(tmp_path):
    async def scenario():
        async with serving(tmp_path) as (gate, server):
            data = b"".join(
                (
                    *(b"zIDSESSION\0zPING\0", instream(BLOCK), instream(CLEAR, chunk=1)),
                    *(b"nINSTREAM\n", stream(REVIEW), b"zEND\0"),
                )
            )
            assert without_reference(await asked(server, data)) == (
                b"1: PONG\x002: stream: NCII.match.strong FOUND\0"
                b"3: stream: OK\x004: stream: NCII.review FOUND\n"
            )
            refused = await asked(server, b"nIDSESSION\nnSCAN /etc/passwd\nnPING\n")
            assert refused == f"1: {FILES_REFUSED}\n".encode()
            assert gate.memory.used == 0

    asyncio.run(scenario())


def test_a_stream_that_is_too_long_for_the_protocol_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clamd, "STREAM_MAX", 100_000)

    async def scenario():
        async with serving(tmp_path) as (gate, server):
            reply = await asked(server, b"nINSTREAM\n" + stream(bytes(5_000_000)))
            assert reply == TOO_LARGE.encode() + b"\n"
            reply = await asked(server, b"nINSTREAM\n\xff\xff\xff\xff" + bytes(5_000_000))
            assert reply == TOO_LARGE.encode() + b"\n"
            assert gate.memory.used == 0

    asyncio.run(scenario())


def test_a_slow_client_is_cut_and_holds_no_memory(tmp_path):
    limits = UploadLimits(idle_seconds=0.05)

    async def scenario():
        async with serving(tmp_path, limits=limits) as (gate, server):
            reply = await asked(server, b"zINSTREAM\0" + stream(BLOCK)[:-4])
            assert reply == b"COMMAND READ TIMED OUT\n"
            assert server.cut == 1
            assert gate.memory.used == 0
            assert await asked(server, instream(CLEAR)) == b"stream: OK\0"

    asyncio.run(scenario())


def test_a_client_that_disconnects_holds_no_memory(tmp_path):
    async def scenario():
        async with serving(tmp_path) as (gate, server):
            for data in (b"zINSTREAM\0" + stream(BLOCK)[:-4], instream(BLOCK), b"zINST"):
                with socket.create_connection(("127.0.0.1", server.port)) as client:
                    client.sendall(data)
            assert await asked(server, instream(CLEAR)) == b"stream: OK\0"
            while server.connections:  # noqa: ASYNC110 - real sockets notify nobody
                await asyncio.sleep(0)
            assert gate.memory.used == 0

    asyncio.run(scenario())


def test_a_full_queue_is_answered(tmp_path, monkeypatch):
    async def scenario():
        async with serving(tmp_path, policy=CLOSED) as (gate, server):

            async def full(*_, **__):
                raise PoolFull

            monkeypatch.setattr(gate.pool, "hash", full)
            reply = await asked(server, instream(BLOCK))
            assert reply == b"stream: NCII.unchecked.queue_full FOUND\0"

    asyncio.run(scenario())


def test_a_unix_socket(tmp_path):
    path = tmp_path / "clamd.ctl"

    async def scenario():
        async with serving(tmp_path / "gate", address=Address(path=path)) as (gate, server):
            reply = await asked(server, instream(BLOCK))
            found = re.fullmatch(rb"stream: NCII\.match\.strong\.([0-9A-Z-]+) FOUND\0", reply)
            assert gate.decisions.get(found[1].decode(), now=time.time())

            # A file descriptor is not used: the kernel closes it.
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, str(path))
                socket.send_fds(client, [b"zFILDES\0\0"], [client.fileno()])
                reply = await asyncio.get_running_loop().sock_recv(client, 1000)
                assert reply == FILES_REFUSED.encode() + b"\0"

    asyncio.run(scenario())


def test_closing_answers_the_stream_in_progress(tmp_path):
    async def scenario():
        async with serving(tmp_path) as (gate, server):
            scan = asyncio.create_task(asked(server, instream(BLOCK)))
            while not gate.memory.used:  # noqa: ASYNC110 - real sockets notify nobody
                await asyncio.sleep(0)
            server.close()
            assert (await scan).startswith(b"stream: NCII.match.strong.")

    asyncio.run(scenario())


def test_the_log_has_nothing_of_uploads_and_clients(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "nciihash"):
        answers(tmp_path, BLOCK, UNREADABLE, email(BLOCK), policy=CLOSED)
    for secret in ("127.0.0.1", "picture.jpg", "example.org"):
        assert secret not in caplog.text
