import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nciihash.feed import Removed
from nciihash.signals import MADE, Band, Media, SignalType, Variant, Verdict
from nciihash.wire import cases
from support.strategies import added, items, pages

HOUR = datetime(2026, 3, 1, 17, tzinfo=UTC)
ID, ITEM = "0a" * 16, "0b" * 16
PDQ = "0123456789abcdef" * 4
SIGNAL = {"type": "pdq", "value": PDQ, "quality": 93, "variant": "original"}
FILE = {"media": "image", "signals": [SIGNAL]}
DECLARATION = {"adult": True, "depicted": True}
PLATFORM = {
    "platform": "example",
    "follows": True,
    "veiled": False,
    "has_it_since": HOUR.isoformat(),
    "matches": 2,
    "verdicts": {"blocked": 1},
    "deletion_acknowledged": None,
}
ADD = {
    "op": "add",
    "id": ID,
    "item": ITEM,
    "type": "pdq",
    "value": PDQ,
    "quality": 93,
    "media": "image",
    "variant": "flipx",
}

# One valid document for each message: whatever is true of all messages is tested on these.
DOCUMENTS = {
    cases.Declaration: DECLARATION,
    cases.SignalIn: SIGNAL,
    cases.ItemIn: FILE,
    cases.OpenCase: {
        "declaration": DECLARATION,
        "reason": "precaution",
        "work": None,
        "items": [FILE],
    },
    cases.AddItems: {"items": [FILE]},
    cases.Refusal: {"signal": 0, "code": "low_quality"},
    cases.ItemReceipt: {"item": 1, "accepted": 1, "refused": []},
    cases.CaseOpened: {
        "case": "K7Q4-29XD-MM3R",
        "passphrase": "a b c d e f",
        "expires": HOUR.isoformat(),
        "items": [{"item": 1, "accepted": 1, "refused": []}],
    },
    cases.ItemsAdded: {"expires": HOUR.isoformat(), "items": []},
    cases.PlatformStatus: PLATFORM,
    cases.ItemStatus: {
        "item": 1,
        "media": "image",
        "signals": 1,
        "added": HOUR.isoformat(),
        "withdrawn": None,
        "held_back": False,
        "taken_out": None,
        "platforms": [PLATFORM],
    },
    cases.CaseStatus: {
        "state": "open",
        "reason": "shared",
        "opened": HOUR.isoformat(),
        "expires": HOUR.isoformat(),
        "items": [],
    },
    cases.Withdrawal: {"withdrawn": 1, "remaining": 0, "state": "withdrawn"},
    cases.AddedEntry: ADD,
    cases.RemovedEntry: {"op": "remove", "id": ID},
    cases.FeedReply: {
        "entries": [ADD, {"op": "remove", "id": ID}],
        "cursor": ID,
        "more": False,
    },
    cases.Acknowledgement: {"cursor": ID},
    cases.MatchQuery: {"type": "pdq", "values": [PDQ]},
    cases.Hit: {"id": ID, "item": ITEM, "band": "strong"},
    cases.MatchReply: {"as_of": ID, "matches": [[], [{"id": ID, "item": ITEM, "band": "likely"}]]},
    cases.VerdictIn: {"id": ID, "verdict": "blocked"},
    cases.Feedback: {"verdicts": [{"id": ID, "verdict": "unsure"}]},
    cases.FeedbackTaken: {"recorded": 1, "unknown": 0},
}
BY_NAME = pytest.mark.parametrize(
    ("model", "document"), DOCUMENTS.items(), ids=[m.__name__ for m in DOCUMENTS]
)


def read(model, document):
    return model.model_validate_json(json.dumps(document))


def refuse(model, document):
    with pytest.raises(ValidationError):
        read(model, document)


def changed(document, **fields):
    return {**document, **fields}


def test_every_message_has_a_document_here():
    # other doors, whose tests may run in this process too, have messages of their own
    here = {m for m in cases.Message.__subclasses__() if m.__module__ == cases.__name__}
    assert {m for m in DOCUMENTS if m.__module__ == cases.__name__} == here


@BY_NAME
def test_documents_round_trip(model, document):
    message = read(model, document)
    assert read(model, json.loads(message.model_dump_json())) == message
    assert set(json.loads(message.model_dump_json())) == set(document)


@BY_NAME
def test_unknown_fields_are_refused(model, document):
    for name in ("file_name", "filename", "note", "distance", "extra"):
        refuse(model, changed(document, **{name: "holiday.jpg"}))


@BY_NAME
def test_no_field_may_be_missing_that_has_no_default(model, document):
    for name, field in model.model_fields.items():
        without = {k: v for k, v in document.items() if k != name}
        if field.is_required():
            refuse(model, without)


@BY_NAME
def test_messages_are_frozen(model, document):
    message = read(model, document)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, next(iter(document)), None)


@given(items())
def test_items_round_trip(item):
    sent = json.loads(cases.ItemIn.of(item).model_dump_json())
    received = read(cases.ItemIn, sent)
    assert received.media is item.media
    assert tuple(s.hashed for s in received.signals) == item.hashes


@given(pages())
def test_pages_of_the_feed_round_trip(page):
    reply = cases.FeedReply.of(page)
    assert read(cases.FeedReply, json.loads(reply.model_dump_json())).page == page


@given(added())
def test_a_removal_carries_an_id_and_nothing_else(entry):
    assert set(cases.RemovedEntry.model_fields) == {"op", "id"}
    refuse(cases.RemovedEntry, {"op": "remove", "id": entry.id, "value": entry.signal.hex})
    page = cases.FeedReply(entries=(cases.RemovedEntry(id=entry.id),), cursor=ID, more=False).page
    assert page.entries == (Removed(entry.id),)


@pytest.mark.parametrize("type", MADE)
@given(length=st.integers(0, 80))
def test_values_of_another_length_are_refused(type, length):
    document = changed(SIGNAL, type=type, value="0" * length)
    if type is not SignalType.PDQ:
        document["quality"] = None
    query = {"type": type, "values": ["0" * length]}
    for model, asked in ((cases.SignalIn, document), (cases.MatchQuery, query)):
        if length * 4 == type.bits:
            read(model, asked)
        else:
            refuse(model, asked)


@pytest.mark.parametrize(
    "value", [PDQ.upper(), PDQ[:-1] + "g", PDQ[:-1] + "\n", " " + PDQ[1:], PDQ[:-1] + "٣", 7, None]
)
def test_values_are_lowercase_hexadecimal_digits(value):
    refuse(cases.SignalIn, changed(SIGNAL, value=value))
    refuse(cases.MatchQuery, {"type": "pdq", "values": [value]})
    refuse(cases.AddedEntry, changed(ADD, value=value))


def test_an_addition_in_the_feed_fits_its_type():
    for type, value in (("phash", PDQ), ("pdq", "0" * 16), ("md5", PDQ)):
        entry = changed(ADD, type=type, value=value)
        refuse(cases.AddedEntry, entry)
        refuse(cases.FeedReply, {"entries": [entry], "cursor": ID, "more": False})


@pytest.mark.parametrize("quality", [-1, 101, 50.5, "93", True, None])
def test_quality_is_a_whole_number_up_to_100_and_pdq_needs_it(quality):
    refuse(cases.SignalIn, changed(SIGNAL, quality=quality))


def test_other_types_have_no_quality():
    refuse(cases.SignalIn, changed(SIGNAL, type="sha256"))
    read(cases.SignalIn, changed(SIGNAL, type="sha256", quality=None))


@pytest.mark.parametrize("answer", ["true", 1, "yes", None])
def test_a_declaration_is_made_in_so_many_words(answer):
    for name in DECLARATION:
        refuse(cases.Declaration, changed(DECLARATION, **{name: answer}))


@pytest.mark.parametrize("id", ["", ID[:-1], ID + "0", ID.upper(), "g" * 32, ID[:-1] + "\n", 5])
def test_ids_and_cursors_are_32_hexadecimal_digits(id):
    refuse(cases.VerdictIn, {"id": id, "verdict": "blocked"})
    refuse(cases.Acknowledgement, {"cursor": id})
    refuse(cases.Hit, {"id": id, "item": ITEM, "band": "strong"})


@pytest.mark.parametrize(
    ("model", "document", "most"),
    [
        (cases.AddItems, lambda n: {"items": [FILE] * n}, cases.ITEMS_MAX),
        (
            cases.ItemIn,
            lambda n: {"media": "video", "signals": [SIGNAL] * n},
            cases.SIGNALS_MAX,
        ),
        (cases.MatchQuery, lambda n: {"type": "pdq", "values": [PDQ] * n}, cases.QUERIES_MAX),
        (
            cases.Feedback,
            lambda n: {"verdicts": [{"id": ID, "verdict": "blocked"}] * n},
            cases.VERDICTS_MAX,
        ),
    ],
)
def test_lists_are_bounded_and_not_empty(model, document, most):
    read(model, document(1))
    read(model, document(most))
    refuse(model, document(0))
    refuse(model, document(most + 1))


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (cases.SignalIn, "type"),
        (cases.SignalIn, "variant"),
        (cases.ItemIn, "media"),
        (cases.OpenCase, "reason"),
        (cases.VerdictIn, "verdict"),
        (cases.Hit, "band"),
    ],
)
def test_names_come_from_closed_lists(model, field):
    for word in ("", "other", "mirror of anna.jpg", "PDQ", 1):
        refuse(model, changed(DOCUMENTS[model], **{field: word}))


def test_no_request_has_room_for_free_text():
    requests = (
        cases.OpenCase,
        cases.AddItems,
        cases.MatchQuery,
        cases.Feedback,
        cases.Acknowledgement,
    )
    for model in requests:
        for name, schema in definitions(model.model_json_schema()):
            if schema.get("type") == "string":
                closed = "enum" in schema or "const" in schema
                assert closed or "pattern" in schema, f"{model.__name__}: {name} is free text"


def definitions(schema, name="root"):
    """Walk over all the schemas in a schema."""
    if isinstance(schema, dict):
        yield name, schema
        for key, value in schema.items():
            yield from definitions(value, key)
    elif isinstance(schema, list):
        for value in schema:
            yield from definitions(value, name)


def test_a_hit_never_tells_a_distance():
    assert set(cases.Hit.model_fields) == {"id", "item", "band"}


def test_a_passphrase_hides_in_repr():
    opened = read(cases.CaseOpened, DOCUMENTS[cases.CaseOpened])
    assert "a b c d e f" not in repr(opened)
    assert opened.passphrase == "a b c d e f"


def test_a_problem_from_a_newer_service_is_still_read():
    problem = read(
        cases.Problem,
        {"title": "T", "status": 400, "code": "bad_cursor", "trace": "x", "detail": "d"},
    )
    assert (problem.code, problem.status, problem.detail) == ("bad_cursor", 400, "d")


def test_words_on_the_wire_are_lowercase():
    for enum in (SignalType, Variant, Media, Band, Verdict, cases.Reason, cases.CaseState):
        assert all(str(member) == member.value == member.value.lower() for member in enum)
