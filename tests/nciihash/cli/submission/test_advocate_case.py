"""`submit --advocate`, without the command line."""

from datetime import UTC, datetime

import pytest
import typer

from nciihash.cli.submission.advocate_case import submit_for_other
from nciihash.cli.submission.options import SubmitOptions
from nciihash.cli.terminal import ExitCode
from nciihash.errors import ServiceUnreachable
from nciihash.signals import VariantSet
from nciihash.wire import ItemsAdded, Reason
from nciihash.wire.advocates import OpenedForOther

EXPIRES = datetime(2028, 5, 17, tzinfo=UTC)


class FakeClient:
    """An advocate's client that may fail after so many items."""

    def __init__(self, receipts, *, error=None, after=0, unanswered=False):
        self.unanswered = unanswered
        self.opened = []
        self.added = []
        self._receipts = receipts
        self._error = error
        self._after = after

    def open_case(self, items, *, on_sent, **details):
        self.opened.append((items, details))
        self._send(items, on_sent, lambda done: OpenedForOther(
            reference="7KQ2", expires=EXPIRES, items=self._receipts(done)
        ))  # fmt: skip

    def add(self, reference, items, *, on_sent):
        self.added.append((reference, items))
        self._send(
            items, on_sent, lambda done: ItemsAdded(expires=EXPIRES, items=self._receipts(done))
        )

    def _send(self, items, on_sent, reply):
        if self._error is None:
            on_sent(reply(items))
            return
        if self._after:
            on_sent(reply(items[: self._after]))
        raise self._error


def options(*files, **changes):
    return SubmitOptions(
        "https://clearinghouse.example",
        files,
        **{"reason": Reason.SHARED, "yes": True, "variants": VariantSet.NONE, "sandboxed": False}
        | {"advocate": True}
        | changes,
    )


def test_a_case_is_opened_for_somebody_who_agreed(terminal, receipts, photos, answers, capsys):
    client = FakeClient(receipts)
    answers("yes\nyes\n1\nyes\n")
    code = submit_for_other(
        terminal, client, options(photos / "photo0.jpg", yes=False, reason=None)
    )
    assert code is ExitCode.OK
    [(items, details)] = client.opened
    assert len(items) == 1
    assert details == {
        "reason": Reason.THREATENED,
        "consent": True,
        "adult": True,
        "depicted": True,
    }
    out, err = capsys.readouterr()
    assert "Its reference is 7KQ2." in out
    assert "your word that the person in the pictures was 18 or older and agreed" in err


def test_files_are_added_to_a_case(terminal, receipts, photos, bad_files):
    client = FakeClient(receipts)
    files = (photos / "photo0.jpg", bad_files[1], photos / "photo1.jpg")
    given = options(*files, resume="7KQ2", reason=None)
    assert submit_for_other(terminal, client, given) is ExitCode.SOME_FAILED
    [(reference, items)] = client.added
    assert (reference, len(items), client.opened) == ("7KQ2", 2, [])


@pytest.mark.parametrize(
    ("typed", "message"),
    [("no\n", "Take It Down"), ("yes\nno\n", "Only the person in the pictures decides.")],
)
def test_nothing_is_sent_for_minors_or_without_consent(
    terminal, receipts, photos, answers, capsys, typed, message
):
    client = FakeClient(receipts)
    answers(typed)
    with pytest.raises(typer.Exit):
        submit_for_other(terminal, client, options(photos / "photo0.jpg", yes=False))
    assert message in capsys.readouterr().err
    assert client.opened == []


def test_a_receipt_is_refused(terminal, receipts, photos, tmp_path):
    given = options(photos / "photo0.jpg", receipt=tmp_path / "receipt")
    with pytest.raises(typer.BadParameter, match="no receipt until they claim it"):
        submit_for_other(terminal, FakeClient(receipts), given)
    assert not (tmp_path / "receipt").exists()


@pytest.mark.parametrize("error", [ServiceUnreachable("No connection."), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ({"after": 1}, "the last 1 files were added to the case 7KQ2"),
        ({"unanswered": True}, "It is not known whether the case was opened."),
    ],
)
def test_a_failure_halfway_says_what_is_missing(
    terminal, receipts, photos, capsys, error, failure, message
):
    client = FakeClient(receipts, error=error, **failure)
    with pytest.raises(type(error)):
        submit_for_other(terminal, client, options(photos / "photo0.jpg", photos / "photo1.jpg"))
    assert message in capsys.readouterr().err
