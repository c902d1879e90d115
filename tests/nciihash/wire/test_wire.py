import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nciihash import wire
from nciihash.feed import Removed
from nciihash.signals import FILE_SIGNAL_TYPES, Band, Media, SignalType, Variant, Verdict
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

# One valid document for each message: what holds for all messages is tested on these.
DOCUMENTS = {
    wire.Declaration: DECLARATION,
    wire.SignalIn: SIGNAL,
    wire.ItemIn: FILE,
    wire.OpenCase: {
        "declaration": DECLARATION,
        "reason": "precaution",
        "work": None,
        "items": [FILE],
    },
    wire.AddItems: {"items": [FILE]},
    wire.AddSignals: {"after": 1024, "signals": [SIGNAL], "more": False},
    wire.SavedHashes: {"items": [FILE]},
    wire.SignalsAdded: {"expires": HOUR.isoformat(), "item": 1, "accepted": 1, "refused": []},
    wire.Refusal: {"signal": 0, "code": "low_quality"},
    wire.ItemReceipt: {"item": 1, "accepted": 1, "refused": []},
    wire.CaseOpened: {
        "case": "K7Q4-29XD-MM3R",
        "passphrase": "a b c d e f",
        "expires": HOUR.isoformat(),
        "items": [{"item": 1, "accepted": 1, "refused": []}],
    },
    wire.ItemsAdded: {"expires": HOUR.isoformat(), "items": []},
    wire.PlatformStatus: PLATFORM,
    wire.ItemStatus: {
        "item": 1,
        "media": "image",
        "signals": 1,
        "added": HOUR.isoformat(),
        "withdrawn": None,
        "held_back": False,
        "being_checked": 1,
        "taken_out": None,
        "complete": False,
        "platforms": [PLATFORM],
    },
    wire.CaseStatus: {
        "state": "open",
        "reason": "shared",
        "opened": HOUR.isoformat(),
        "expires": HOUR.isoformat(),
        "items": [],
    },
    wire.Withdrawal: {"withdrawn": 1, "remaining": 0, "state": "withdrawn"},
    wire.AddedEntry: ADD,
    wire.RemovedEntry: {"op": "remove", "id": ID},
    wire.FeedReply: {
        "entries": [ADD, {"op": "remove", "id": ID}],
        "cursor": ID,
        "more": False,
    },
    wire.Acknowledgement: {"cursor": ID},
    wire.MatchQuery: {"type": "pdq", "values": [PDQ]},
    wire.Hit: {"id": ID, "item": ITEM, "band": "strong"},
    wire.MatchReply: {"as_of": ID, "matches": [[], [{"id": ID, "item": ITEM, "band": "likely"}]]},
    wire.VerdictIn: {"id": ID, "verdict": "blocked"},
    wire.Feedback: {"verdicts": [{"id": ID, "verdict": "unsure"}]},
    wire.FeedbackTaken: {"recorded": 1, "unknown": 0},
}
BY_NAME = pytest.mark.parametrize(
    ("model", "document"), DOCUMENTS.items(), ids=[m.__name__ for m in DOCUMENTS]
)


def read(model, document):
    return model.model_validate_json(json.dumps(document))


def refuse(model, document):
    with pytest.raises(ValidationError):
        read(model, document)


DOCUMENTED = {"nciihash.wire.cases", "nciihash.wire.platforms"}


def changed(document, **fields):
    return {**document, **fields}


def test_every_message_has_a_document():
    # tests of other APIs, which may run in this process too, import further messages
    messages = {m for m in wire.Message.__subclasses__() if m.__module__ in DOCUMENTED}
    assert {m for m in DOCUMENTS if m.__module__ in DOCUMENTED} == messages


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
def test_fields_without_a_default_are_required(model, document):
    for name, field in model.model_fields.items():
        without = {k: v for k, v in document.items() if k != name}
        if field.is_required():
            refuse(model, without)


@BY_NAME
def test_every_field_is_described_or_of_a_described_type(model, document):
    schema = model.model_json_schema()
    assert schema["description"]
    for name, field in schema["properties"].items():
        fixed = {"$ref", "const"} & field.keys()
        assert fixed or field.get("description"), f"{model.__name__}.{name}"


@BY_NAME
def test_messages_are_frozen(model, document):
    message = read(model, document)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, next(iter(document)), None)


@given(items())
def test_items_round_trip(item):
    sent = json.loads(wire.ItemIn.of(item).model_dump_json())
    received = read(wire.ItemIn, sent)
    assert received.media is item.media
    assert tuple(s.hashed for s in received.signals) == item.hashes


@given(pages())
def test_pages_of_the_feed_round_trip(page):
    reply = wire.FeedReply.of(page)
    assert read(wire.FeedReply, json.loads(reply.model_dump_json())).page == page


@given(added())
def test_a_removal_has_an_id_and_no_value(entry):
    assert set(wire.RemovedEntry.model_fields) == {"op", "id"}
    refuse(wire.RemovedEntry, {"op": "remove", "id": entry.id, "value": entry.signal.hex})
    page = wire.FeedReply(entries=(wire.RemovedEntry(id=entry.id),), cursor=ID, more=False).page
    assert page.entries == (Removed(entry.id),)


@pytest.mark.parametrize("type", FILE_SIGNAL_TYPES)
@given(length=st.integers(0, 80))
def test_values_of_another_length_are_refused(type, length):
    document = changed(SIGNAL, type=type, value="0" * length)
    if type is not SignalType.PDQ:
        document["quality"] = None
    query = {"type": type, "values": ["0" * length]}
    for model, message in ((wire.SignalIn, document), (wire.MatchQuery, query)):
        if length * 4 == type.bits:
            read(model, message)
        else:
            refuse(model, message)


@pytest.mark.parametrize(
    "value", [PDQ.upper(), PDQ[:-1] + "g", PDQ[:-1] + "\n", " " + PDQ[1:], PDQ[:-1] + "٣", 7, None]
)
def test_values_are_lowercase_hexadecimal_digits(value):
    refuse(wire.SignalIn, changed(SIGNAL, value=value))
    refuse(wire.MatchQuery, {"type": "pdq", "values": [value]})
    refuse(wire.AddedEntry, changed(ADD, value=value))


def test_an_added_entry_fits_its_type():
    for type, value in (("phash", PDQ), ("pdq", "0" * 16), ("md5", PDQ)):
        entry = changed(ADD, type=type, value=value)
        refuse(wire.AddedEntry, entry)
        refuse(wire.FeedReply, {"entries": [entry], "cursor": ID, "more": False})


@pytest.mark.parametrize("quality", [-1, 101, 50.5, "93", True, None])
def test_pdq_needs_a_quality_that_is_an_integer_from_0_to_100(quality):
    refuse(wire.SignalIn, changed(SIGNAL, quality=quality))


def test_other_types_have_no_quality():
    refuse(wire.SignalIn, changed(SIGNAL, type="sha256"))
    read(wire.SignalIn, changed(SIGNAL, type="sha256", quality=None))


@pytest.mark.parametrize("value", ["true", 1, "yes", None])
def test_a_declaration_takes_booleans_only(value):
    for name in DECLARATION:
        refuse(wire.Declaration, changed(DECLARATION, **{name: value}))


@pytest.mark.parametrize("id", ["", ID[:-1], ID + "0", ID.upper(), "g" * 32, ID[:-1] + "\n", 5])
def test_ids_and_cursors_are_32_hexadecimal_digits(id):
    refuse(wire.VerdictIn, {"id": id, "verdict": "blocked"})
    refuse(wire.Acknowledgement, {"cursor": id})
    refuse(wire.Hit, {"id": id, "item": ITEM, "band": "strong"})


@pytest.mark.parametrize(
    ("model", "document", "limit"),
    [
        (wire.AddItems, lambda n: {"items": [FILE] * n}, wire.ITEMS_MAX),
        (
            wire.AddItems,
            lambda n: {"items": [{"media": "video", "signals": [SIGNAL] * n}]},
            wire.REQUEST_SIGNALS_MAX,
        ),
        (
            wire.AddSignals,
            lambda n: {"after": 1, "signals": [SIGNAL] * n},
            wire.REQUEST_SIGNALS_MAX,
        ),
        (
            wire.ItemIn,
            lambda n: {"media": "video", "signals": [SIGNAL] * n},
            wire.SIGNALS_MAX,
        ),
        (wire.MatchQuery, lambda n: {"type": "pdq", "values": [PDQ] * n}, wire.QUERIES_MAX),
        (
            wire.Feedback,
            lambda n: {"verdicts": [{"id": ID, "verdict": "blocked"}] * n},
            wire.VERDICTS_MAX,
        ),
    ],
)
def test_lists_are_bounded_and_not_empty(model, document, limit):
    read(model, document(1))
    read(model, document(limit))
    refuse(model, document(0))
    refuse(model, document(limit + 1))


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (wire.SignalIn, "type"),
        (wire.SignalIn, "variant"),
        (wire.ItemIn, "media"),
        (wire.OpenCase, "reason"),
        (wire.VerdictIn, "verdict"),
        (wire.Hit, "band"),
    ],
)
def test_names_come_from_closed_lists(model, field):
    for word in ("", "other", "mirror of anna.jpg", "PDQ", 1):
        refuse(model, changed(DOCUMENTS[model], **{field: word}))


def test_no_request_has_free_text():
    requests = (
        wire.OpenCase,
        wire.AddItems,
        wire.MatchQuery,
        wire.Feedback,
        wire.Acknowledgement,
    )
    for model in requests:
        for name, schema in definitions(model.model_json_schema()):
            if schema.get("type") == "string":
                fixed = "enum" in schema or "const" in schema
                assert fixed or "pattern" in schema, f"{model.__name__}: {name} is free text"


def definitions(schema, name="root"):
    """Yield the name and the content of each schema within a schema."""
    if isinstance(schema, dict):
        yield name, schema
        for key, value in schema.items():
            yield from definitions(value, key)
    elif isinstance(schema, list):
        for value in schema:
            yield from definitions(value, name)


def test_a_hit_has_no_distance():
    assert set(wire.Hit.model_fields) == {"id", "item", "band"}


def test_repr_hides_the_passphrase():
    opened = read(wire.CaseOpened, DOCUMENTS[wire.CaseOpened])
    assert "a b c d e f" not in repr(opened)
    assert opened.passphrase == "a b c d e f"


def test_unknown_fields_of_a_problem_are_ignored():
    problem = read(
        wire.Problem,
        {"title": "T", "status": 400, "code": "bad_cursor", "trace": "x", "detail": "d"},
    )
    assert (problem.code, problem.status, problem.detail) == ("bad_cursor", 400, "d")


def test_enum_values_are_lowercase():
    for enum in (SignalType, Variant, Media, Band, Verdict, wire.Reason, wire.CaseState):
        assert all(str(member) == member.value == member.value.lower() for member in enum)


def test_signals_of_variants_that_only_a_newer_service_knows_are_read():
    reply = {"entries": [changed(ADD, variant="inner99")], "cursor": ID, "more": False}
    (entry,) = read(wire.FeedReply, reply).page.entries
    assert entry.variant is Variant.UNKNOWN
    assert entry.signal.hex == ADD["value"]
    for variant in (None, 7, ["original"]):
        refuse(wire.AddedEntry, changed(ADD, variant=variant))


@pytest.mark.parametrize("variant", ["unknown", "inner99", "", None])
def test_hashes_of_unknown_variants_cannot_be_submitted(variant):
    refuse(wire.SignalIn, changed(SIGNAL, variant=variant))
