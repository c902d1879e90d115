"""The commands status and withdraw, against a real service."""

import json
import os
import pty
import subprocess

from nciihash.client import PlatformClient
from support.command_line import NCIIHASH
from support.local import random_item

WRONG = "correct horse battery staple six words"


def test_status_and_withdraw(run, local, key, photos):
    case, passphrase = local.open(random_item(), random_item(), random_item())
    secret = {"NCIIHASH_PASSPHRASE": passphrase, "NCIIHASH_SERVER": local.address}
    with PlatformClient(local.address, key) as platform:
        cursor = None
        while (page := platform.feed(cursor)).more:
            cursor = page.cursor
        platform.acknowledge(page.cursor)

    status = run("status", case, "--json", **secret)
    assert status.line["state"] == "open"
    assert [item["item"] for item in status.line["items"]] == [1, 2, 3]
    table = run("status", case, **secret)
    assert "The case is open until" in table.out
    assert "UTC" in table.out.split("Has it since")[1]
    assert "not known" in table.out
    assert passphrase not in table.out + table.err

    refused = run("withdraw", case, answers="no\n", **secret)
    assert (refused.code, refused.out) == (0, "")
    one = run("withdraw", case, "--item", 2, "--json", "--yes", **secret)
    assert one.line == {"withdrawn": 1, "remaining": 2, "state": "open"}
    unknown = run("withdraw", case, "--item", 9, "--json", "--yes", **secret)
    assert (unknown.code, unknown.line["error"]["code"]) == (3, "item_unknown")
    others = run("withdraw", case, answers="yes\n", **secret)
    sentences = " ".join(others.out.split())
    assert "2 files withdrawn. The clearinghouse no longer matches them" in sentences
    assert "so the case is now closed" in sentences
    # only the platform can confirm a deletion: it may match until it has followed the feed
    for text in (others.out, run("status", case, **secret).out):
        assert "instructed every platform to delete" in text
        assert "who has confirmed" in text
        assert "any more" not in text
    repeated = run("withdraw", case, "--yes", **secret)
    assert repeated.out.startswith("The case was withdrawn already.")


def test_withdrawing_files_one_by_one(run, local):
    case, passphrase = local.open(random_item(), random_item())
    secret = {"NCIIHASH_PASSPHRASE": passphrase, "NCIIHASH_SERVER": local.address}
    first = run("withdraw", case, "--item", 1, "--yes", **secret)
    assert first.out.startswith("1 file withdrawn. The clearinghouse no longer matches it")
    assert first.out.endswith(" 1 file of the case is still matched.\n")
    repeated = run("withdraw", case, "--item", 1, "--yes", **secret)
    assert repeated.out == "File 1 was withdrawn already. 1 file of the case is still matched.\n"
    last = run("withdraw", case, "--item", 2, "--yes", **secret)
    assert last.out.endswith("No file of the case is left, so the case is now closed.\n")
    assert run("status", case, **secret).out.startswith("The case is withdrawn.")


def test_a_wrong_passphrase(run, local):
    case, passphrase = local.open(random_item())
    result = run("status", case, "--server", local.address, "--json", NCIIHASH_PASSPHRASE=WRONG)
    assert result.code == 3
    assert "credentials are wrong" in result.line["error"]["message"]
    for secret in (WRONG, passphrase, case):
        assert secret not in result.out + result.err


def test_the_passphrase_is_asked_for_without_echo(local):
    case, passphrase = local.open(random_item())
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*NCIIHASH, "status", case, "--server", local.address, "--json"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("NCIIHASH")},
    )
    os.close(slave)
    output = b""
    while b"Passphrase: " not in output:
        output += os.read(master, 1000)
    os.write(master, passphrase.encode() + b"\n")
    assert json.loads(process.stdout.read())["state"] == "open"
    assert process.wait() == 0
    process.stdout.close()
    try:
        while part := os.read(master, 1000):
            output += part
    except OSError:
        pass  # the end of a pseudo-terminal
    os.close(master)
    assert passphrase.encode() not in output
