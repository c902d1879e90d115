import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nciihash.errors import SandboxUnavailable, ServiceUnreachable
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.decisions.records import DecisionsInvalid
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.gate.policy import Action, Fail, Policy
from nciihash.gate.pool import PoolFull
from nciihash.gate.rehearsal import picture_items
from nciihash.signals import Verdict
from support.gating import SwitchableBank, dialect_config, gate_config, open_gate
from support.pictures import encode, scene

HTTP = Dialect.HTTP
PICTURES = Path(__file__).parents[3] / "docs" / "gate"
BLOCK, REVIEW, CLEAR, UNREADABLE = (
    (PICTURES / f"{name}.jpg").read_bytes() for name in ("block", "review", "clear", "unreadable")
)


@pytest.fixture(scope="module")
def items():
    return picture_items()


def check(folder, items, *uploads, config=None, prepare=lambda gate: None):
    """Return the outcomes of some uploads, and the gate."""

    async def run():
        async with open_gate(folder, items, config) as gate:
            prepare(gate)
            outcomes = []
            for data in uploads:
                with gate.upload() as upload:
                    upload.write(data)
                    outcomes.append(await gate.check(HTTP, upload))
            gate.decisions.counts.flush()
            return outcomes

    return asyncio.run(run())


def one_dialect(folder, **changes):
    return gate_config(folder, {HTTP: dialect_config(**changes)})


def test_copies_are_blocked_parts_reviewed_and_others_cleared(tmp_path, items):
    copy, part, other, broken = check(tmp_path, items, BLOCK, REVIEW, CLEAR, UNREADABLE)
    assert (copy.decision, copy.reason, copy.stop) == (Decision.BLOCK, Reason.MATCH, True)
    assert {match.item for _, match in copy.result.found} == {"test picture: block"}
    assert (part.decision, part.reason, part.stop) == (Decision.REVIEW, Reason.MATCH, True)
    assert (other.decision, other.reason, other.stop) == (Decision.CLEAR, Reason.NO_MATCH, False)
    assert (broken.decision, broken.reason) == (Decision.UNREADABLE, Reason.CORRUPT)
    assert copy.reference
    assert part.reference not in {None, copy.reference}
    assert other.reference is None
    assert other.result is None
    assert copy.as_of is not None


def test_a_review_stops_only_where_the_policy_says_so(tmp_path, items):
    for review_as, stop in ((Action.BLOCK, True), (Action.CLEAR, False), (None, False)):
        config = one_dialect(tmp_path, policy=Policy(review_as=review_as))
        (outcome,) = check(tmp_path, items, REVIEW, config=config)
        assert (outcome.decision, outcome.stop) == (Decision.REVIEW, stop)


@pytest.mark.parametrize("fail", Fail)
def test_what_cannot_be_read_fails_as_configured(tmp_path, items, fail):
    config = one_dialect(tmp_path, policy=Policy(unsupported=fail, unreadable=fail))
    config = replace(config, limits=replace(config.limits, image_bytes=1000, video_bytes=1000))
    uploads = (b"", b"%PDF-1.7 no picture", encode(scene(20, 20), "JPEG")[:400], bytes(1001))
    outcomes = check(tmp_path, items, *uploads, config=config)
    assert [outcome.reason for outcome in outcomes] == [
        Reason.EMPTY,
        Reason.UNSUPPORTED,
        Reason.CORRUPT,
        Reason.TOO_LARGE,
    ]
    assert {outcome.decision for outcome in outcomes} == {Decision.UNREADABLE}
    assert {outcome.stop for outcome in outcomes} == {fail is Fail.CLOSED}


def test_documents_may_pass_where_damaged_pictures_do_not(tmp_path, items):
    config = one_dialect(tmp_path, policy=Policy(unreadable=Fail.CLOSED))
    outcomes = check(tmp_path, items, b"%PDF-1.7 no picture", UNREADABLE, config=config)
    assert [outcome.decision for outcome in outcomes] == [Decision.UNREADABLE] * 2
    assert [outcome.stop for outcome in outcomes] == [False, True]


def _raises(error):
    async def fail(*_, **__):
        raise error

    return fail


BREAKAGES = {
    Reason.BANK_EMPTY: lambda gate: gate.bank.changes.update(as_of=None),
    Reason.BANK_STALE: lambda gate: gate.bank.changes.update(as_of=1.0),
    Reason.QUEUE_FULL: lambda gate: setattr(gate.pool, "hash", _raises(PoolFull("full"))),
    Reason.SANDBOX_UNAVAILABLE: lambda gate: setattr(
        gate.pool, "hash", _raises(SandboxUnavailable("no child"))
    ),
    Reason.UNCONFIRMED: lambda gate: setattr(gate.bank, "error", ServiceUnreachable("away")),
    Reason.INTERNAL: lambda gate: setattr(gate.bank, "error", ZeroDivisionError("secret value")),
}


@pytest.mark.parametrize("fail", Fail)
@pytest.mark.parametrize("reason", BREAKAGES)
def test_what_cannot_be_checked_fails_as_configured(tmp_path, items, reason, fail, caplog):
    config = one_dialect(tmp_path, policy=Policy(unchecked=fail))
    (outcome,) = check(tmp_path, items, BLOCK, config=config, prepare=BREAKAGES[reason])
    assert (outcome.decision, outcome.reason) == (Decision.UNCHECKED, reason)
    assert outcome.stop is (fail is Fail.CLOSED)
    assert outcome.reference is None
    assert "secret" not in caplog.text


def test_too_little_memory_for_an_upload_is_a_full_queue(tmp_path, items):
    config = gate_config(tmp_path)
    config = replace(config, limits=replace(config.limits, memory=100))
    (outcome,) = check(tmp_path, items, BLOCK, config=config)
    assert (outcome.decision, outcome.reason) == (Decision.UNCHECKED, Reason.QUEUE_FULL)


def test_dry_run_accepts_everything_and_counts_what_it_would_have_done(tmp_path, items):
    config = one_dialect(tmp_path, dry_run=True)
    (outcome,) = check(tmp_path, items, BLOCK, config=config)
    assert (outcome.decision, outcome.reason) == (Decision.CLEAR, Reason.MATCH)
    assert outcome.dry_run
    assert not outcome.stop
    assert outcome.reference is None
    with DecisionStore(tmp_path / "decisions") as decisions:
        [counted] = decisions.counts.of_month(f"{datetime.now(UTC):%Y-%m}")
    assert counted.kind.decision is Decision.BLOCK
    assert counted.kind.stopped
    assert counted.kind.dry_run


def test_uploads_outside_of_the_share_are_not_hashed(tmp_path, items):
    config = one_dialect(tmp_path, share=0.0)

    def forbid(gate):
        gate.pool.hash = _raises(AssertionError("hashed"))

    (outcome,) = check(tmp_path, items, BLOCK, config=config, prepare=forbid)
    assert (outcome.decision, outcome.reason) == (Decision.CLEAR, Reason.NOT_SAMPLED)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), DecisionsInvalid("damaged"), ZeroDivisionError()],
)
def test_a_block_is_answered_when_its_reference_cannot_be_stored(tmp_path, items, error):
    def fail(gate):
        def record(*_, **__):
            raise error

        gate.decisions.record = record

    (outcome,) = check(tmp_path, items, BLOCK, prepare=fail)
    assert (outcome.decision, outcome.stop, outcome.reference) == (Decision.BLOCK, True, None)


def test_a_bank_that_becomes_stale_while_an_upload_waits_is_noticed(tmp_path, items):
    def age(gate):
        def asks(_):
            gate.bank.changes.update(as_of=1.0)
            return False

        gate.bank.asks = asks

    (outcome,) = check(tmp_path, items, CLEAR, prepare=age)
    assert (outcome.decision, outcome.reason) == (Decision.UNCHECKED, Reason.BANK_STALE)
    assert outcome.as_of == 1.0


def test_nothing_is_stored_about_an_upload_whose_caller_is_gone(tmp_path, items):
    async def run():
        async with open_gate(tmp_path, items) as gate:
            found, gone = threading.Event(), threading.Event()
            look_up = gate.bank.look_up

            def wait(*arguments):
                result = look_up(*arguments)
                found.set()
                gone.wait(60)
                return result

            gate.bank.look_up = wait
            with gate.upload() as upload:
                upload.write(BLOCK)
                checking = asyncio.create_task(gate.check(HTTP, upload))
                await asyncio.to_thread(found.wait, 60)
                checking.cancel()
                await asyncio.wait((checking,))
                gone.set()
            gate.bank.look_up = look_up
            with gate.upload() as upload:  # after that one, in the only child
                upload.write(CLEAR)
                await gate.check(HTTP, upload)
            with gate.decisions.unqueued_verdicts(10) as verdicts:
                assert verdicts == {}

    asyncio.run(run())


def test_an_upload_that_waits_for_the_clearinghouse_delays_no_other(tmp_path, items):
    """There is one child, and one upload waits for the clearinghouse."""

    async def run():
        async with open_gate(tmp_path, items) as gate:
            asked, answered = threading.Barrier(4), threading.Event()
            bank = gate.bank
            assert isinstance(bank, SwitchableBank)
            look_up = bank.look_up

            def confirm(*arguments):
                asked.wait(60)
                answered.wait(60)
                return look_up(*arguments)

            bank.look_up, bank.remote = confirm, True
            waiting = [gate.upload() for _ in range(3)]
            for upload in waiting:
                upload.write(BLOCK)
            checks = [asyncio.create_task(gate.check(HTTP, upload)) for upload in waiting]
            await asyncio.to_thread(asked.wait, 60)
            bank.look_up, bank.remote = look_up, False
            with gate.upload() as upload:
                upload.write(CLEAR)
                assert (await gate.check(HTTP, upload)).decision is Decision.CLEAR
            assert not any(check.done() for check in checks)
            answered.set()
            assert {(await check).decision for check in checks} == {Decision.BLOCK}
            assert gate.confirmations.pending == 0

    asyncio.run(run())


def test_only_so_many_uploads_wait_for_the_clearinghouse(tmp_path, items):
    def fill(gate):
        gate.bank.remote = True
        gate.confirmations.pending = 64

    (outcome,) = check(tmp_path, items, BLOCK, prepare=fill)
    assert (outcome.decision, outcome.reason) == (Decision.UNCHECKED, Reason.UNCONFIRMED)


def test_the_time_of_each_stage_is_measured(tmp_path, items):
    async def run():
        async with open_gate(tmp_path, items) as gate:
            with gate.upload() as upload:
                upload.write(BLOCK)
                await gate.check(HTTP, upload, receive=0.1)
            text = gate.metrics.read(gate.state()).decode()
            for stage in ("receive", "wait", "hash", "match"):
                counted = f'stage_seconds_count{{media="image",stage="{stage}"}} 1.0'
                assert counted in text

    asyncio.run(run())


def test_an_error_of_many_uploads_is_logged_once(tmp_path, items, caplog):
    check(tmp_path, items, *[BLOCK] * 3, prepare=BREAKAGES[Reason.UNCONFIRMED])
    assert caplog.text.count("Matches cannot be confirmed: away") == 1


def test_a_reference_leads_to_the_decision(tmp_path, items):
    references = []

    async def run():
        async with open_gate(tmp_path, items) as gate:
            with gate.upload() as upload:
                upload.write(BLOCK)
                references.append((await gate.check(HTTP, upload)).reference)
            stored = gate.decisions.get(references[0], now=1e9)
            assert stored.state is Verdict.BLOCKED
            assert gate.memory.used == 0

    asyncio.run(run())
