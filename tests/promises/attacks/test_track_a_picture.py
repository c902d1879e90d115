"""Attack: open a case for somebody else's picture, to track its uploads."""

import time

import pytest
from sqlalchemy import create_engine

from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq

UPLOADS = 7


@pytest.fixture
def process(tmp_path):
    with ServiceProcess(tmp_path) as process:
        yield process


def upload(process, key, value, times):
    """Simulate a platform that looks up each upload of a picture, and blocks it."""
    for _ in range(times):
        body = {"type": "pdq", "values": [value]}
        while True:
            reply = process.client.post("/v1/match", json=body, headers=bearer(key)).json()
            if reply["matches"][0]:
                break
        [hit] = reply["matches"][0]
        body = {"verdicts": [{"id": hit["id"], "verdict": "blocked"}]}
        process.client.post("/v1/feedback", json=body, headers=bearer(key))


def counts(process, holder):
    """Return the counts of matches and blocks that the case shows, by platform."""
    status = process.client.get("/v1/case", headers=holder).json()
    return {
        row["platform"]: (row["matches"], row["verdicts"].get("blocked", 0))
        for row in status["items"][0]["platforms"]
    }


def await_saved(process):
    """Wait until the matches are in the database, half a second after a response."""
    query = "SELECT coalesce(sum(count), 0) FROM matches"
    engine = create_engine(process.database)
    end = time.monotonic() + 30
    while True:
        with engine.connect() as connection:
            found = connection.exec_driver_sql(query).scalar()
        if found and found % UPLOADS == 0:
            engine.dispose()
            return
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_case_does_not_show_when_a_picture_is_uploaded(process, record_property):
    asker = process.platform("match,feedback", "Asker")
    process.platform("match,feedback", "Another")
    value = pdq()
    case = process.client.post("/v1/cases", json=opening(item(value))).json()
    holder = credentials(case["case"], case["passphrase"])
    nothing = {"Asker": (0, 0), "Another": (0, 0)}
    assert counts(process, holder) == nothing

    upload(process, asker, value, UPLOADS)
    await_saved(process)
    on_the_day = counts(process, holder)
    process.backdate_a_day()
    next_day = counts(process, holder)
    upload(process, asker, value, UPLOADS)
    await_saved(process)
    second_day = counts(process, holder)
    process.backdate_a_day()
    third_day = counts(process, holder)
    record_property(
        "got",
        f"on the day {on_the_day['Asker'][0]}, after midnight {next_day['Asker'][0]}, a day later "
        f"{third_day['Asker'][0]} of {UPLOADS} and {2 * UPLOADS} uploads at one platform",
    )
    assert on_the_day == nothing
    assert next_day == {"Asker": (1, 1), "Another": (0, 0)}
    assert second_day == next_day, "neither more uploads nor a repeated verdict are shown"
    assert third_day == {"Asker": (10, 1), "Another": (0, 0)}
