"""Settings from the environment: each error names its variable and does not echo the value."""

from dataclasses import fields

import pytest

from clearinghouse.errors import SettingInvalid
from clearinghouse.settings import Settings

NUMBERS = [field.name for field in fields(Settings) if field.type in {int, float}]
MAY_BE_ZERO = {"drain_seconds", "release_every", "argon2_memory", "poll_interval"}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_value_that_is_not_a_number_is_refused(name):
    variable = f"CLEARINGHOUSE_{name.upper()}"
    with pytest.raises(SettingInvalid, match=f"^{variable} must be a number") as caught:
        Settings.from_environment({variable: "a secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_is_refused_where_it_makes_no_sense(name):
    variable = f"CLEARINGHOUSE_{name.upper()}"
    if name in MAY_BE_ZERO:
        assert getattr(Settings.from_environment({variable: "0"}), name) == 0
        return
    with pytest.raises(SettingInvalid, match=f"^{variable} must be at least"):
        Settings.from_environment({variable: "0"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLEARINGHOUSE_DATABASE", "mysql://secret@host/name"),
        ("CLEARINGHOUSE_DATABASE", "sqlite:///:memory:"),
        ("CLEARINGHOUSE_MATCH_TYPES", "phash, secret"),
        ("CLEARINGHOUSE_RELEASE_EVERY", "1441"),
        ("CLEARINGHOUSE_RELEASE_EVERY", "-1"),
    ],
)
def test_other_invalid_values_are_refused(variable, value):
    with pytest.raises(SettingInvalid, match=f"^{variable} must ") as caught:
        Settings.from_environment({variable: value})
    assert "secret" not in str(caught.value)


def test_a_misspelt_name_is_refused():
    with pytest.raises(SettingInvalid, match="Did you mean CLEARINGHOUSE_RETENTION_DAYS") as caught:
        Settings.from_environment({"CLEARINGHOUSE_RETENTION_DAY": "a secret"})
    assert "secret" not in str(caught.value)
    # the commands' own variables, and those of other programs
    Settings.from_environment({"CLEARINGHOUSE_FOLLOW_KEY": "x", "CLEARINGS": "y"})
