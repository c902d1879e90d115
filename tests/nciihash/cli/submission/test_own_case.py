"""`submit` for one's own pictures, without the command line."""

import stat
from datetime import UTC, datetime

import pytest
import typer

from nciihash.cli.submission.options import SubmitOptions
from nciihash.cli.submission.own_case import submit
from nciihash.cli.terminal import ExitCode
from nciihash.errors import ServiceUnreachable
from nciihash.signals import VariantSet
from nciihash.wire import CaseOpened, Reason

SERVER = "https://clearinghouse.example"


class FakeClient:
    """A survivor's client whose calls end in `errors`, one each, and then succeed."""

    def __init__(self, receipts, *errors, unanswered=False):
        self.unanswered = unanswered
        self.calls = []
        self._receipts = receipts
        self._errors = list(errors)

    def open_case(self, items, *, on_sent, **details):
        self.calls.append((items, details))
        if self._errors:
            raise self._errors.pop(0)
        opened = CaseOpened(
            case="K7Q4-29XD-MM3R",
            passphrase="correct horse battery staple six words",
            expires=datetime(2028, 5, 17, tzinfo=UTC),
            items=self._receipts(items),
        )
        on_sent(opened)
        return opened


def options(*files, **changes):
    return SubmitOptions(
        SERVER,
        files,
        **{"reason": Reason.SHARED, "yes": True, "variants": VariantSet.NONE, "sandboxed": False}
        | changes,
    )


def test_a_case_is_opened_and_its_credentials_are_shown(
    terminal, receipts, photos, tmp_path, capsys
):
    client, receipt = FakeClient(receipts), tmp_path / "receipt"
    files = (photos / "photo0.jpg", photos / "photo1.jpg")
    assert submit(terminal, client, options(*files, receipt=receipt)) is ExitCode.OK
    [(items, details)] = client.calls
    assert [len(item.hashes) for item in items] == [1, 1]
    assert (details["reason"], details["adult"], details["depicted"]) == (Reason.SHARED, True, True)
    out, err = capsys.readouterr()
    for text in (out, receipt.read_text()):
        assert "K7Q4-29XD-MM3R" in text
        assert "correct horse battery staple six words" in text
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert err.index("To be sent, for 2 files: that it is a picture;") < err.index("The receipt is")


def test_a_file_that_is_refused_leaves_the_others(terminal, receipts, photos, bad_files):
    client = FakeClient(receipts)
    code = submit(terminal, client, options(bad_files[0], photos / "photo0.jpg"))
    assert code is ExitCode.SOME_FAILED
    assert len(client.calls[0][0]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reason": None}, "--reason"),
        ({"resume": "7KQ2"}, "--advocate"),
        ({"files": ()}, "--from"),
        ({"files": ("a.jpg",) * 201}, "at most 200 files, and these are 201"),
    ],
)
def test_options_that_do_not_go_together(terminal, receipts, photos, changes, message):
    client = FakeClient(receipts)
    given = {"files": (photos / "photo0.jpg",)} | changes
    with pytest.raises(typer.BadParameter, match=message):
        submit(terminal, client, options(*given.pop("files"), **given))
    assert client.calls == []


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("yes\nyes\n3\nyes\n", ExitCode.OK, "I want to be safe"),
        ("yes\nyes\n3\nno\n", ExitCode.OK, "Nothing was sent. No case was opened."),
    ],
)
def test_nothing_is_sent_without_a_last_yes(
    terminal, receipts, photos, answers, capsys, typed, code, message
):
    client = FakeClient(receipts)
    answers(typed)
    assert submit(terminal, client, options(photos / "photo0.jpg", yes=False, reason=None)) is code
    assert message in capsys.readouterr().err
    assert [details["reason"] for _, details in client.calls] == (
        [Reason.PRECAUTION] if typed.endswith("yes\n") else []
    )


@pytest.mark.parametrize("typed", ["no\n", "yes\nno\n", "yes\n", ""])
def test_without_the_declarations_no_file_is_opened(
    terminal, receipts, tmp_path, answers, monkeypatch, typed
):
    monkeypatch.setattr("nciihash.cli.submission.preparation.hash_files", None)
    answers(typed)
    with pytest.raises(typer.Exit):
        submit(terminal, FakeClient(receipts), options(tmp_path / "a.jpg", yes=False))


def test_plain_pictures_open_no_case(terminal, receipts, photos, capsys):
    client = FakeClient(receipts)
    assert submit(terminal, client, options(photos / "plain.png")) is ExitCode.SOME_FAILED
    assert client.calls == []
    assert "There is nothing left to send. No case was opened." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "unanswered", "message"),
    [
        (ServiceUnreachable("No connection."), False, "No case was opened."),
        (KeyboardInterrupt(), False, "No case was opened."),
        (KeyboardInterrupt(), True, "It is not known whether the case was opened"),
    ],
)
def test_a_call_that_fails_says_what_is_known(
    terminal, receipts, photos, tmp_path, capsys, error, unanswered, message
):
    client = FakeClient(receipts, error, unanswered=unanswered)
    receipt = tmp_path / "receipt"
    with pytest.raises(type(error)):
        submit(terminal, client, options(photos / "photo0.jpg", receipt=receipt))
    assert message in capsys.readouterr().err
    assert not receipt.exists()


def test_an_uncertain_failure_is_repeated_with_the_same_key(
    terminal, receipts, photos, answers, capsys
):
    lost = ServiceUnreachable("No answer.")
    lost.uncertain = True
    client = FakeClient(receipts, lost)
    answers("yes\nyes\n1\nyes\nyes\n")
    assert submit(terminal, client, options(photos / "photo0.jpg", yes=False)) is ExitCode.OK
    first, second = (details["idempotency_key"] for _, details in client.calls)
    assert first == second
    assert "It cannot open a second case." in capsys.readouterr().err
