"""The unmodified `threatexchange` against a real service, and our extension for it."""

import contextlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import pytest

from support.service_process import ServiceProcess
from support.serving import credentials, item, near, opening, pdq

pytest.importorskip("threatexchange", reason="`pip install threatexchange faiss-cpu` for these")
pytest.importorskip("faiss", reason="`pip install threatexchange faiss-cpu` for these")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of third-party packages
    from threatexchange.cli.cli_state import CliIndexStore
    from threatexchange.cli.exceptions import CommandError
    from threatexchange.cli.main import inner_main
    from threatexchange.exchanges.clients.stopncii.api import (
        StopNCIIAPI,
        StopNCIICSPFeedbackValue,
        StopNCIIEndpoint,
        StopNCIISignalType,
    )

TX = (sys.executable, "-W", "ignore", "-m", "threatexchange")


@pytest.fixture
def process(tmp_path):
    running = ServiceProcess(tmp_path)
    yield running
    running.end(signal.SIGKILL)


def base_url(process):
    return f"{process.address}/stopncii/v1"


def api(process, key):
    return StopNCIIAPI(
        key,
        key,
        {StopNCIIEndpoint.SubmitFeedback: key, StopNCIIEndpoint.SubmitHashes: key},
        base_url_override=base_url(process),
    )


def open_case(process, *items):
    reply = process.client.post("/v1/cases", json=opening(*items))
    assert reply.status_code == 201, reply.text
    case = reply.json()
    return credentials(case["case"], case["passphrase"])


class Tx:
    """The `tx` command line with its own state folder."""

    def __init__(self, folder, **environ):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("TX_")
        } | {"HOME": str(folder), "TX_STATEDIR": str(folder / "state"), **environ}

    def __call__(self, *words, code=0):
        """Run a command in this process, since a new one takes seconds to start.

        Each command loads the extension again, and its patch of `tx` is undone after the command.
        """
        sys.modules.pop("nciihash.tx", None)
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            mock.patch.object(sys, "argv", ["tx", *words]),
            mock.patch.object(CliIndexStore, "clear", CliIndexStore.clear),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            status: int | str = 0
            try:
                inner_main(words, Path(self.environ["TX_STATEDIR"]))
            except CommandError as error:
                err.write(str(error))
                status = error.returncode
            except SystemExit as error:  # from argparse
                status = error.code or 0
        assert status == code, out.getvalue() + err.getvalue()
        return out.getvalue()

    def process(self, *words, code=0):
        """Run a command in a new process."""
        result = subprocess.run(
            [*TX, *words], env=self.environ, cwd=self.folder, capture_output=True, text=True
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result

    def match(self, *values):
        path = self.folder / "hashes.txt"
        path.write_text("".join(f"{v}\n" for v in values))
        return self("match", "-A", "-H", "-S", "pdq", "photo", str(path)).splitlines()


def test_the_python_client_fetches_submits_feedback_and_submits_hashes(process):
    hashes, video = [pdq() for _ in range(350)], "ab" * 16
    case = open_case(process, *(item(v) for v in hashes[:200]))
    open_case(process, *(item(v) for v in hashes[200:]))
    open_case(process, {"media": "video", "signals": [{"type": "md5", "value": video}]})
    key = process.platform("feed,match,feedback,contribute", name="Example")
    client = api(process, key)
    pages = []
    page = client.fetch_hashes(page_size=101)
    while True:
        pages.append(page)
        if not page.hasMoreRecords:
            break
        page = client.fetch_hashes(page_size=101, next_page=page.nextPageToken)
    assert [p.count for p in pages] == [101, 101, 101, 48]
    found = {(r.signalType, r.hashValue): r for p in pages for r in p.hashRecords}
    assert set(found) == {(StopNCIISignalType.ImagePDQ, v) for v in hashes} | {
        (StopNCIISignalType.VideoMD5, video)
    }
    [whole] = client.fetch_hashes_iter()
    assert whole.nextSetTimestamp == pages[-1].nextSetTimestamp

    client.submit_feedback(
        StopNCIISignalType.ImagePDQ, hashes[3], StopNCIICSPFeedbackValue.Blocked, {"Nude"}
    )
    fresh = list(client.fetch_hashes_iter(whole.nextSetTimestamp))[-1].hashRecords[-1]
    assert fresh.hashValue == hashes[3]
    [feedback] = fresh.CSPFeedbacks
    assert (feedback.feedbackValue, feedback.source) == (
        StopNCIICSPFeedbackValue.Blocked,
        "Example",
    )
    process.backdate_a_day()
    [status] = process.client.get("/v1/case", headers=case).json()["items"][3]["platforms"]
    assert status["verdicts"] == {"blocked": 1}

    own = pdq()
    client.submit_hash(StopNCIISignalType.ImagePDQ, own, {"tag"})
    values = [r.hashValue for p in client.fetch_hashes_iter() for r in p.hashRecords]
    assert own in values
    assert len(values) == 352
    client.submit_feedback(
        StopNCIISignalType.ImagePDQ, own, StopNCIICSPFeedbackValue.Withdrawn, set()
    )
    assert process.client.delete("/v1/case", headers=case).is_success
    values = [r.hashValue for p in client.fetch_hashes_iter() for r in p.hashRecords]
    assert sorted(values) == sorted([*hashes[200:], video])


def test_tx_fetches_and_matches(process, tmp_path):
    hashes = [pdq() for _ in range(120)]
    open_case(process, *(item(v) for v in hashes))
    key = process.platform(name="Example")
    tx = Tx(tmp_path / "tx", TX_STOPNCII_KEYS=f"{key},{key},{base_url(process)}")
    tx("config", "collab", "edit", "stop_ncii", "--create", "Ours")
    tx.process("fetch", "--only-api", "stop_ncii")
    assert tx("dataset") == "pdq: 120\n"
    assert sorted(tx("dataset", "-P", "-S").split()[1::2]) == sorted(hashes)
    lines = tx.match(hashes[0], near(hashes[1], 20), pdq())
    assert len(lines) == 2, lines
    assert all(line.startswith("pdq") and "(Ours)" in line for line in lines)
    # further hashes in the same hour, fetched from the checkpoint
    more = [pdq() for _ in range(150)]
    open_case(process, *(item(v) for v in more))
    tx("fetch", "--only-api", "stop_ncii")
    assert tx("dataset") == "pdq: 270\n"
    assert len(tx.match(more[-1])) == 1


def extension(process, folder, key):
    tx = Tx(folder, TX_NCIIHASH_KEY=key)
    tx("config", "extensions", "add", "nciihash.tx")
    server = process.address
    tx("config", "collab", "edit", "nciihash", "--create", "Ours", "--server", server)
    return tx


def test_withdrawal_works_through_the_extension(process, tmp_path):
    withdrawn, kept, twice = pdq(), pdq(), pdq()
    case, first = open_case(process, item(withdrawn)), open_case(process, item(twice))
    second, last = open_case(process, item(twice)), open_case(process, item(kept))
    md5 = {"media": "video", "signals": [{"type": "md5", "value": "cd" * 16}]}
    other = {"media": "image", "signals": [{"type": "phash", "value": "cd" * 8}]}
    video = open_case(process, md5, other)
    tx = extension(process, tmp_path / "tx", process.platform(name="Example"))
    tx("fetch")
    assert tx("dataset") == "pdq: 3\nvideo_md5: 1\n"
    assert len(tx.match(withdrawn, kept, twice)) == 3

    assert process.client.delete("/v1/case", headers=case).is_success
    assert process.client.delete("/v1/case", headers=first).is_success
    tx("fetch")
    assert tx("dataset") == "pdq: 2\nvideo_md5: 1\n"
    assert len(tx.match(withdrawn)) == 0
    assert len(tx.match(kept, twice)) == 2, "another case still has the value"

    for headers in (second, last, video):
        assert process.client.delete("/v1/case", headers=headers).is_success
    tx.process("fetch")
    assert tx("dataset") == ""
    assert tx("match", "-H", "-S", "pdq", "photo", str(tx.folder / "hashes.txt"), code=1) == ""
    open_case(process, item(kept), item(pdq()))
    tx("fetch")
    assert len(tx.match(kept)) == 1
    assert len(tx.match(withdrawn)) == 0


def test_the_extension_starts_over_when_its_cursor_has_expired(process, tmp_path):
    withdrawn, kept = pdq(), pdq()
    case = open_case(process, item(withdrawn))
    open_case(process, item(kept), item(pdq()))  # tx's index of a single PDQ hash matches nothing
    key = process.platform(name="Example")
    tx = extension(process, tmp_path / "tx", key)
    tx("fetch")
    assert len(tx.match(withdrawn, kept)) == 2
    # as after a restore: the log has another epoch, and the removal has an unknown id
    process.client.delete("/v1/case", headers=case)
    process.end()
    change_epoch(process.database)
    restarted = ServiceProcess(tmp_path)
    try:
        server = restarted.address
        tx("config", "collab", "edit", "nciihash", "Ours", "--server", server)
        tx("fetch", code=3)
        tx("fetch")
        assert tx("dataset") == "pdq: 2\n"
        assert len(tx.match(withdrawn, kept)) == 1
    finally:
        restarted.end(signal.SIGKILL)


def change_epoch(database):
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    with connection:
        connection.execute("UPDATE facts SET value = ? WHERE name = 'epoch'", (b"restore",))
    connection.close()


def test_the_extension_needs_a_valid_key(process, tmp_path):
    tx = extension(process, tmp_path / "tx", "nciik_wrong")
    tx("fetch", code=3)
    tx.environ.pop("TX_NCIIHASH_KEY")
    assert "TX_NCIIHASH_KEY" in tx.process("fetch", code=2).stderr


def test_the_stopncii_api_answers_errors_with_problem_documents(service):
    headers = {"x-functions-key": service.platform().key}
    reply = service.client.get("/stopncii/v1/FetchHashes", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "credentials_missing")
    assert reply.headers["content-type"] == "application/problem+json"
