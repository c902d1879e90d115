"""Sealed values open in their own context only; ids of platforms are invertible and separate."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.errors import KeyMismatch, KeyMissing, SettingInvalid
from clearinghouse.sealing.platform_ids import PlatformIds
from clearinghouse.sealing.vault import ReplyVault, Vault, parse_key, read_key

KEY = bytes(range(32))
numbers = st.integers(0, 2**48 - 1)


@given(st.binary(max_size=64), st.integers(0, 1000), st.integers(0, 1000))
def test_a_value_opens_only_with_its_own_key_and_context(value, item, ordinal):
    vault = Vault(KEY)
    sealed = vault.seal(value, "signals", "value", item, ordinal)
    assert vault.open(sealed, "signals", "value", item, ordinal) == value
    with pytest.raises(KeyMismatch):
        vault.open(sealed, "signals", "value", item, ordinal + 1)
    with pytest.raises(KeyMismatch):
        Vault(bytes(32)).open(sealed, "signals", "value", item, ordinal)
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(KeyMismatch):
        vault.open(damaged, "signals", "value", item, ordinal)


def test_sealing_a_value_twice_makes_different_ciphertexts():
    vault = Vault(KEY)
    assert vault.seal(b"value", "x") != vault.seal(b"value", "x")


def test_lookup_values_depend_on_key_kind_and_value():
    vault = Vault(KEY)
    assert vault.lookup("case", b"a") == vault.lookup("case", b"a")
    seen = {
        vault.lookup("case", b"a"),
        vault.lookup("key", b"a"),
        vault.lookup("case", b"b"),
        Vault(bytes(32)).lookup("case", b"a"),
    }
    assert len(seen) == 4


@given(st.binary(max_size=300))
def test_a_reply_opens_only_with_its_idempotency_key(reply):
    sealed = ReplyVault(b"k" * 16).seal(reply)
    assert ReplyVault(b"k" * 16).open(sealed) == reply
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever the library raises
        ReplyVault(b"j" * 16).open(sealed)


@given(st.lists(numbers, max_size=20), st.sampled_from([1, 2]))
def test_ids_are_invertible(rows, kind):
    ids = PlatformIds(b"s" * 16)
    written = ids.write(kind, rows)
    assert [ids.read(kind, id) for id in written] == [(0, row) for row in rows]
    assert len(set(written)) == len(set(rows))


@given(numbers, st.integers(0, 2**56 - 1))
def test_ids_mean_nothing_to_another_platform_or_as_another_kind(row, epoch):
    ours, theirs = PlatformIds(b"s" * 16), PlatformIds(b"t" * 16)
    [cursor] = ours.write(PlatformIds.CURSOR, [row], epoch=epoch)
    assert ours.read(PlatformIds.CURSOR, cursor) == (epoch, row)
    assert ours.read(PlatformIds.SIGNAL, cursor) is None
    # one in 2**24 decrypts to a cursor of another epoch
    assert theirs.read(PlatformIds.CURSOR, cursor) != (epoch, row)
    assert ours.write(PlatformIds.SIGNAL, [row]) != theirs.write(PlatformIds.SIGNAL, [row])
    assert ours.write(PlatformIds.SIGNAL, [row]) != ours.write(PlatformIds.ITEM, [row])


@given(st.text(max_size=40))
def test_other_text_is_not_an_id(text):
    assert PlatformIds(b"s" * 16).read(PlatformIds.SIGNAL, text) is None


def test_a_key_is_created_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "keys" / "master"
    with pytest.raises(KeyMissing):
        read_key(path, create=False)
    key = read_key(path, create=True)
    assert read_key(path, create=True) == read_key(path, create=False) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["master"]


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_an_invalid_key_is_refused(text):
    with pytest.raises(SettingInvalid):
        parse_key(text)


def test_the_repr_of_a_vault_shows_no_key():
    assert "0001" not in repr(Vault(KEY))
