"""The commands of a moderator, next to a gate that may be running."""

import csv
import io
import json
import stat

import pytest
from PIL import Image

from nciihash.client import PlatformClient
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.decisions.records import DecisionKind, new_reference
from nciihash.gate.decisions.report import COLUMNS
from nciihash.gate.decisions.verdicts import VerdictReporter
from nciihash.gate.exceptions import Exceptions
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.hashing.hasher import hash_file
from nciihash.sdk.lookup import LookupResult
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.signals import Band, Match, Media, SignalType, Variant, Verdict
from support.command_line import operate
from support.full_disk import full_disk
from support.local import random_item

HOUR = 3600
SIGNAL, ITEM = "a" * 32, "b" * 32
MATCH = Match(SIGNAL, ITEM, SignalType.PDQ, Variant.ORIGINAL, 20)
BLOCK = DecisionKind(Dialect.HTTP, Media.IMAGE, Decision.BLOCK, Reason.MATCH, Band.LIKELY, True)
CLEAR = DecisionKind(Dialect.HTTP, Media.IMAGE, Decision.CLEAR, Reason.NO_MATCH)
DRY = DecisionKind(
    Dialect.CLAMD, Media.IMAGE, Decision.BLOCK, Reason.MATCH, Band.STRONG, True, True
)


@pytest.fixture
def data(tmp_path):
    """Return the folder of a gate whose configuration is next to it."""
    (tmp_path / "gate.toml").write_text(
        """
        server = "https://clearinghouse.example"
        data = "data"
        [http]
        listen = "127.0.0.1:8480"
        """
    )
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(data):
    with DecisionStore(data / "decisions") as store:
        yield store


@pytest.fixture
def gate(run, data, monkeypatch):
    """Return a function that runs `nciihash gate` where the configuration is."""
    monkeypatch.chdir(data.parent)
    return lambda *words, **more: run("gate", *words, **more)


@pytest.fixture
def now(monkeypatch):
    """Return the time that commands run at, as a list to change it."""
    times = [1_795_000_123.5]  # 2026-11-18 11:08 UTC
    monkeypatch.setattr("nciihash.cli.gate_decisions.time.time", lambda: times[-1])
    return times


def block(store, now, kind=BLOCK):
    store.counts.add(kind, now=now[-1])
    return store.record(kind, [MATCH], obeyed=True, now=now[-1])


def queued(data):
    with VerdictQueue(data / "verdicts") as queue:
        return queue.waiting([SIGNAL])


def test_decide_stores_and_queues_a_verdict(gate, data, store, now):
    reference = block(store, now)
    now.append(now[0] + 2 * HOUR)
    done = gate("decide", reference.lower(), "unsure", "--by", " Ana ")
    assert (done.code, done.out) == (0, f"{reference}: unsure.\n"), done.err
    decision = store.get(reference, now=now[-1])
    assert (decision.state, decision.by) == (Verdict.UNSURE, "Ana")
    assert queued(data) == {SIGNAL: Verdict.UNSURE}
    done = gate("decide", reference, "blocked", "--json")
    assert done.line == decision.fields() | {"state": "blocked", "by": None}
    assert queued(data) == {SIGNAL: Verdict.BLOCKED}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("decide", new_reference(), "blocked"), 1, "No decision has this reference"),
        (("decide", "../x", "blocked"), 1, "No decision has this reference"),
        (("decide", "x", "pending"), 2, "pending"),
        (("decide", "x", "blocked", "--by", "x" * 65), 2, "at most 64 characters"),
        (("except", "a.jpg", "--reference", "x", "--by", " "), 2, "Say who excepts the file"),
        (("except", "a.jpg", "--reference", "x"), 2, "--by"),
        (("except", "a.jpg", "--reference", "x", "--by", "Ana"), 1, "No decision has this"),
        (("exceptions", "--remove", "3"), 1, "no exception with this number"),
        (("report", "--month", "2026-13"), 2, "Write the month as 2026-11"),
        (("report", "--month", "November"), 2, "Write the month as 2026-11"),
    ],
)
def test_wrong_usage_says_what_to_do(gate, store, now, words, code, message):
    done = gate(*words)
    assert done.code == code
    assert message in " ".join(done.err.split())
    assert store.exceptions.all() == []


def test_an_expired_reference_is_unknown(gate, store, now):
    reference = block(store, now)
    now.append(now[0] + 91 * 24 * HOUR)
    done = gate("decide", reference, "blocked", "--json")
    assert done.code == 1
    assert done.line["error"]["code"] == "reference_unknown"
    assert reference not in done.out + done.err


def test_a_gate_that_never_ran_has_no_decisions(gate, data, now):
    done = gate("report", "--month", "2026-11")
    assert done.code == 2
    assert "No such file" in done.err
    assert list(data.iterdir()) == [], "nothing is created"


def test_a_configuration_with_faults_is_refused(gate, data, now):
    (data.parent / "gate.toml").write_text("data = 7\n")
    done = gate("exceptions")
    assert done.code != 0
    assert "data" in done.err


def test_except_stores_the_hashes_and_reports_not_blocked(gate, data, store, now, photos):
    reference = block(store, now)
    before = store.exceptions.version()
    done = gate("except", photos / "photo1.jpg", "--reference", reference, "--by", "Ana")
    assert done.code == 0, done.err
    assert f"{reference}: not_blocked" in done.out
    (excepted,) = store.exceptions.all()
    assert (excepted.number, excepted.reference, excepted.by) == (1, reference, "Ana")
    assert excepted.hour == now[0] // HOUR * HOUR
    item = hash_file(photos / "photo1.jpg", variants="match")
    assert excepted.hashes == tuple(hashed.signal for hashed in item.hashes)
    assert store.exceptions.version() != before, "the running gate takes notice"
    assert queued(data) == {SIGNAL: Verdict.BLOCKED}  # `not_blocked` follows when it is sent
    with store.unqueued_verdicts(10) as verdicts:
        assert verdicts == {SIGNAL: Verdict.NOT_BLOCKED}
    assert store.get(reference, now=now[-1]).state is Verdict.NOT_BLOCKED
    result = LookupResult(((SignalType.PDQ, MATCH),))
    assert Exceptions.of([excepted]).matches(item, result) == {SIGNAL}
    stored = b"".join(path.read_bytes() for path in data.iterdir())
    assert b"photo1" not in stored, "no name is kept"


def test_a_picture_within_a_frame_is_excepted_with_both_hashes(gate, store, now, tmp_path, photos):
    framed = Image.new("RGB", (400, 520), "black")
    framed.paste(Image.open(photos / "photo0.jpg"), (40, 140))
    framed.save(tmp_path / "framed.png")
    reference = block(store, now)
    done = gate("except", tmp_path / "framed.png", "--reference", reference, "--by", "Ana")
    assert done.code == 0, done.err
    (excepted,) = store.exceptions.all()
    assert len(excepted.hashes) == 2


def test_a_file_that_matches_nothing_cannot_be_excepted(gate, store, now, photos, tmp_path):
    reference = block(store, now)
    (tmp_path / "notes.txt").write_text("no picture")
    for file, code in (
        (photos / "plain.png", "too_plain"),
        (tmp_path / "notes.txt", "unsupported_format"),
        (tmp_path / "missing.jpg", "not_a_file"),
    ):
        done = gate("except", file, "--reference", reference, "--by", "Ana", "--json")
        assert done.code == 1
        assert done.line["error"]["code"] == code
    assert store.exceptions.all() == []
    assert store.get(reference, now=now[-1]).decided is None


def test_exceptions_are_listed_and_removed(gate, store, now, photos):
    assert "There are no exceptions" in gate("exceptions").err
    references = [block(store, now) for _ in range(2)]
    for number, reference in enumerate(references):
        words = ("--reference", reference, "--by", f"Ana [bold]{number}")
        done = gate("except", photos / f"photo{number}.jpg", *words, "--json")
        assert done.line["number"] == number + 1
    done = gate("exceptions")
    assert all(reference in done.out for reference in references)
    assert "Ana [bold]1" in done.out
    assert "2026-11-18T11:00:00Z" in done.out
    lines = gate("exceptions", "--json").lines
    assert [line["by"] for line in lines] == ["Ana [bold]0", "Ana [bold]1"]
    assert set(lines[0]) == {"number", "reference", "by", "hour"}, "no hash is shown"
    assert gate("exceptions", "--remove", "1").out == "Exception 1 is removed.\n"
    assert gate("exceptions", "--remove", "2", "--json").line == {"removed": 2}
    assert store.exceptions.all() == []


@pytest.fixture
def month(store, now):
    """Store a month: 3 blocks, one of them overturned after 5 hours, and a dry run."""
    references = [block(store, now) for _ in range(3)]
    block(store, now, DRY)
    for _ in range(40):
        store.counts.add(CLEAR, now=now[0])
    store.decide(references[0], Verdict.NOT_BLOCKED, now=now[0] + 5 * HOUR)
    store.counts.flush()


def test_a_report_in_words(gate, month, now):
    done = gate("report", "--month", "2026-11")
    text = " ".join(done.out.split())
    assert "2026-11: 43 uploads, of which 3 were stopped." in text
    assert "People decided on 1, half of them within 5 hours. 1 stopped uploads" in text
    assert "Dry run: of 1 uploads, 1 would have been stopped, for these reasons: 1 match." in text
    assert "clamd (dry run)" in text
    done = gate("report", "--month", "2026-10")
    assert done.out == "2026-10: 0 uploads, of which 0 were stopped.\n"


def test_a_report_as_csv(gate, month, now):
    done = gate("report", "--month", "2026-11", "--format", "csv", COLUMNS="40")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert tuple(rows[0]) == COLUMNS
    first = rows[0]
    assert (first["decision"], first["band"], first["stopped"]) == ("block", "likely", "true")
    assert (first["uploads"], first["blocked"], first["not_blocked"]) == ("3", "2", "1")
    assert (first["decided"], first["median_hours"], first["overturned"]) == ("1", "5.0", "1")
    assert (rows[1]["decision"], rows[1]["uploads"], rows[1]["band"]) == ("clear", "40", "")
    assert (rows[2]["dialect"], rows[2]["dry_run"]) == ("clamd", "true")


@pytest.mark.parametrize("words", [("--format", "json"), ("--json",)])
def test_a_report_as_json(gate, month, now, words):
    report = gate("report", "--month", "2026-11", *words).line
    assert report["month"] == "2026-11"
    assert report["totals"] == {
        "uploads": 43,
        "stopped": 3,
        "decided": 1,
        "median_hours": 5.0,
        "overturned": 1,
    }
    assert report["dry_run"] == {"uploads": 1, "would_have_stopped": 1, "reasons": {"match": 1}}
    assert tuple(report["rows"][0]) == COLUMNS


def test_a_full_disk_changes_nothing_and_says_so(gate, data, store, now):
    reference = block(store, now)
    VerdictQueue(data / "verdicts").close()
    with full_disk(data):
        done = gate("decide", reference, "not_blocked")
        while done.code == 0:  # until the last free bytes are used
            done = gate("decide", block(store, now), "not_blocked")
    assert done.code == 2
    assert "cannot be read or written" in done.err


def test_a_verdict_that_cannot_be_queued_waits_for_the_gate(gate, data, store, now):
    reference = block(store, now)
    (data / "verdicts").write_text("these are notes, and no database at all. " * 30)
    done = gate("decide", reference, "unsure")
    assert done.code == 0
    assert "The clearinghouse is not notified yet" in " ".join(done.err.split())
    (data / "verdicts").unlink()
    assert gate("decide", block(store, now), "blocked").code == 0
    assert queued(data) == {SIGNAL: Verdict.BLOCKED}


def test_an_overturned_block_reaches_the_operators_review(
    local, gate, data, store, now, capsys, monkeypatch
):
    """From the gate's files through the real service to `clearinghouse review list`."""
    local.open(random_item())
    key = local.platform("feed,feedback", name="Example gate")
    with PlatformClient(local.address, key) as client, VerdictQueue(data / "verdicts") as queue:
        added = client.feed(None).entries[-1]
        match = Match(added.id, added.item, SignalType.PDQ, Variant.ORIGINAL, 20)
        reference = store.record(BLOCK, [match], obeyed=True, now=now[-1])
        reporter = VerdictReporter(store, queue)
        assert reporter.report()  # as the gate does
        # decided while the clearinghouse is away: both verdicts are sent later, one after another
        assert gate("decide", reference, "not_blocked").code == 0
        assert queue.send(client).recorded == 1
        assert reporter.report()
        assert queue.send(client).recorded == 1
    for name, value in local.environment.items():
        if name.startswith("CLEARINGHOUSE_"):
            monkeypatch.setenv(name, value)
    words = ("review", "list", "--database", local.database, "--json")
    code, out, err = operate(capsys, monkeypatch, *words)
    assert code == 0, err
    (question,) = (q for q in json.loads(out) if q["kind"] == "overturned")
    assert (question["platform"], question["count"]) == ("Example gate", 1)
    assert question["verdicts"] == {"not_blocked": 1}
