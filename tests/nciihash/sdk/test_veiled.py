"""Matching against a veiled bank: candidates, confirmed by the clearinghouse or stored."""

import errno
import os
import stat
from pathlib import Path

import pytest

from nciihash.bank import Bank
from nciihash.client import PlatformClient
from nciihash.errors import BankCorrupt, ProtocolError, ServiceUnreachable
from nciihash.feed import Added, FeedPage
from nciihash.hashing.hasher import hash_file
from nciihash.sdk.veiled import Candidate, Confirmer, PendingCandidates, load_veil, save_veil
from nciihash.signals import Media, Signal, SignalType, Variant
from nciihash.veil import Veil
from nciihash.wire import Hit
from support import serving
from support.local import random_item
from support.pictures import scene

VEIL = Veil(SignalType.PDQ_VEIL128, bytes(32))


def signal():
    return Signal.from_hex(SignalType.PDQ, serving.pdq())


@pytest.fixture
def listed():
    return [signal() for _ in range(4)]


@pytest.fixture
def bank(tmp_path, listed):
    entries = tuple(
        Added(f"{n:032x}", f"{n:032x}", part, 90, Media.IMAGE, Variant.ORIGINAL)
        for n, part in enumerate(VEIL.over(listed))
    )
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage(entries, "0" * 32, more=False))
        yield bank


def hit(n):
    return Hit(id=f"{n:032x}", item=f"{n:032x}", band="strong")


def test_only_candidates_leave_this_machine(bank, listed):
    sent = []

    def ask(signals):
        sent.append(list(signals))
        return [(hit(n),) for n in range(len(signals))]

    confirmer = Confirmer(bank, VEIL, ask)
    unlisted = [signal() for _ in range(20)]
    assert confirmer.find(unlisted) == [()] * 20
    assert confirmer.candidates([*unlisted, listed[2]]) == [20]
    assert sent == []
    other = Signal(SignalType.PHASH, bytes(8))
    found = confirmer.find([unlisted[0], listed[1], other, listed[3]])
    assert sent == [[listed[1], listed[3]]]
    assert found == [(), (hit(0),), (), (hit(1),)]
    assert (confirmer.asked, confirmer.unanswered) == (2, frozenset())


def test_after_a_transient_error_the_service_is_not_queried_again(bank, listed):
    counts = []

    def ask(signals):
        counts.append(len(signals))
        raise ServiceUnreachable("away")

    confirmer = Confirmer(bank, VEIL, ask)
    other = signal()
    for _ in range(3):
        assert confirmer.find([listed[0], other]) == [(), ()]
        assert confirmer.unanswered == {listed[0]}
    assert counts == [1]
    assert confirmer.find([other]) == [()]
    assert confirmer.unanswered == frozenset()


def test_an_invalid_response_is_raised(bank, listed):
    def ask(_signals):
        raise ProtocolError("invalid")

    with pytest.raises(ProtocolError):
        Confirmer(bank, VEIL, ask).find(listed)


def test_the_veil_is_stored_next_to_the_bank(tmp_path):
    bank = tmp_path / "bank"
    assert load_veil(bank) is None
    save_veil(bank, VEIL)
    assert load_veil(bank) == VEIL
    file = tmp_path / "bank-veil"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(file.read_text().replace("128", "129"))
    with pytest.raises(BankCorrupt):
        load_veil(bank)


def test_candidates_are_stored_until_all_are_confirmed(tmp_path):
    waiting = PendingCandidates(tmp_path / "bank")
    assert waiting.read() == []
    candidates = [Candidate(f"photo {n}\n\udce4.jpg", (signal(), signal())) for n in range(5)]
    for candidate in candidates:
        waiting.add(candidate)
    assert waiting.read() == candidates
    assert stat.S_IMODE(waiting.path.stat().st_mode) == 0o600
    waiting.drop(2)
    assert PendingCandidates(tmp_path / "bank").read() == candidates[2:]
    waiting.drop(1)
    late = Candidate("late", (signal(),))
    waiting.add(late)
    assert waiting.read() == [*candidates[3:], late]
    waiting.drop(3)
    assert waiting.read() == []
    assert waiting.path.stat().st_size == 0, "no hash remains"


def test_candidates_keep_which_hashes_have_little_detail(tmp_path):
    waiting = PendingCandidates(tmp_path / "bank")
    one, other = signal(), signal()
    stored = [
        Candidate("x", (one, other), plain) for plain in (None, frozenset(), frozenset({other}))
    ]
    for candidate in stored:
        waiting.add(candidate)
    assert waiting.read() == stored
    assert waiting.path.read_text().count("plain") == 2


def test_a_torn_line_is_skipped(tmp_path):
    waiting = PendingCandidates(tmp_path / "bank")
    first, second = Candidate("one", (signal(),)), Candidate("two", (signal(),))
    waiting.add(first)
    with waiting.path.open("ab") as file:
        file.write(b'{"file": "torn", "signals": [["pdq", "00')
    waiting.add(second)
    assert waiting.read() == [first, second]


# --- the commands ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    scene(320, 240, seed=91).save(path, quality=95)
    return path


def test_a_platform_can_match_without_ever_storing_a_whole_hash(run, local, tmp_path, photo):
    hashed = hash_file(photo)
    others = [random_item() for _ in range(20)]
    case = local.open(hashed, *others)
    key, bank = local.platform("veil,match"), tmp_path / "bank"
    follow = ("follow", "--server", local.address, "--bank", bank, "--once")
    done = run(*follow, "--veil", NCIIHASH_KEY=key)
    assert (done.code, "21 signals" in done.out) == (0, True)
    values = [h.signal for i in (hashed, *others) for h in i.hashes]
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} >= {"bank", "bank-veil"}
    for file in files:
        data = file.read_bytes()
        assert not [v for v in values if v.value in data or v.hex.encode() in data]

    match = ("match", photo, "--bank", bank)
    assert run(*match, NCIIHASH_KEY=key).code == 2, "candidates are not matches"
    done = run(*match, "--confirm", "--server", local.address, "--json", NCIIHASH_KEY=key)
    assert done.code == 0
    assert [m["band"] for m in done.line["matches"]] == ["strong"]

    unreachable = run(*match, "--confirm", "--server", "http://127.0.0.1:9", NCIIHASH_KEY=key)
    assert unreachable.code == 1
    assert "1 file(s) may match" in unreachable.err
    assert photo.read_bytes()[:64] not in (tmp_path / "bank-waiting").read_bytes()
    confirm = ("confirm", "--server", local.address, "--bank", bank)
    done = run(*confirm, "--json", NCIIHASH_KEY=key)
    assert (done.code, done.line["file"]) == (0, str(photo))
    assert [m["band"] for m in done.line["matches"]] == ["strong"]
    assert "nothing to confirm" in run(*confirm, NCIIHASH_KEY=key).err

    assert run(*follow, NCIIHASH_KEY=key).code == 2, "a veiled bank is not followed unveiled"
    local.withdraw(case)
    assert run(*follow, "--veil", NCIIHASH_KEY=key).code == 0
    done = run(*match, "--confirm", "--server", local.address, "--json", NCIIHASH_KEY=key)
    assert done.line["matches"] == []


@pytest.mark.parametrize("how", ["full disk", "nearly full disk", "too many"])
def test_a_candidate_that_cannot_be_stored_is_reported_and_does_not_end_the_run(
    run, local, tmp_path, photo, monkeypatch, how
):
    key, bank = local.platform("veil,match"), tmp_path / "bank"
    local.open(hash_file(photo))
    other = tmp_path / "other.png"
    scene(300, 200, seed=4711).save(other)
    run("follow", "--server", local.address, "--bank", bank, "--once", "--veil", NCIIHASH_KEY=key)
    write, sizes = os.write, [7 if how == "nearly full disk" else 0]

    def write_to_full_disk(file, data):
        """Write only so many bytes to FILE-waiting, then fail."""
        if Path(f"/proc/self/fd/{file}").resolve() != tmp_path / "bank-waiting":
            return write(file, data)
        if not (size := sizes.pop() if sizes else 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:size])

    if how == "too many":
        monkeypatch.setattr("nciihash.sdk.veiled.WAITING_MAX", -1)
    else:
        monkeypatch.setattr(os, "write", write_to_full_disk)
    words = ("match", "--json", photo, other, photo, "--bank", bank, "--confirm", "--no-sandbox")
    done = run(*words, "--server", "http://127.0.0.1:9", NCIIHASH_KEY=key)
    assert done.code == 1
    assert [line.get("waiting") for line in done.lines] == [False, None, False]
    assert "2 further file(s) may match, but could not be stored" in done.err
    assert ("Too many" if how == "too many" else f"{bank}-waiting") in done.err
    assert PendingCandidates(bank).read() == []
    assert (tmp_path / "bank-waiting").read_bytes() == b""


def test_a_bank_of_whole_hashes_cannot_become_veiled(run, local, tmp_path, photo):
    key, bank = local.platform("feed,match"), tmp_path / "bank"
    follow = ("follow", "--server", local.address, "--bank", bank, "--once")
    assert run(*follow, NCIIHASH_KEY=key).code == 0
    done = run(*follow, "--veil", NCIIHASH_KEY=key)
    assert (done.code, "whole hashes" in done.err) == (2, True)
    words = ("match", photo, "--bank", bank, "--confirm", "--server", local.address)
    assert run(*words, NCIIHASH_KEY=key).code == 2
    assert run("match", photo, "--bank", bank, "--confirm", NCIIHASH_KEY=key).code == 2


def test_a_veiled_bank_refuses_hashes_of_another_length(run, local, tmp_path):
    bank = tmp_path / "bank"
    follow = ("follow", "--server", local.address, "--bank", bank, "--once", "--veil")
    local.open(random_item())
    assert run(*follow, NCIIHASH_KEY=local.platform("veil", name="Grown")).code == 0
    with Bank.read(bank) as before:
        count = len(before)
    local.open(random_item())
    done = run(*follow, NCIIHASH_KEY=local.rotate_key("Grown", "veil160"))
    assert (done.code, "new --bank" in done.err) == (2, True)
    with Bank.read(bank) as after:
        assert len(after) == count


def test_the_client_returns_the_veil(local):
    with PlatformClient(local.address, local.platform("veil160")) as client:
        assert client.veil().type is SignalType.PDQ_VEIL160
        entries = client.feed(limit=10_000).entries
    assert all(entry.signal.type.veils for entry in entries if isinstance(entry, Added))
