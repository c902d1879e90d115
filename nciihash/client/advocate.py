"""The client of a helpline's advocate: cases on behalf of other people."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nciihash import wire
from nciihash.client.base import KeyedClient, to_json
from nciihash.client.parts import send_rest, split
from nciihash.client.sans_io import Request, new_idempotency_key
from nciihash.errors import InvalidRequest
from nciihash.signals import Item
from nciihash.wire import Reason
from nciihash.wire.advocates import (
    ASSISTED_ITEMS_MAX,
    AssistedCases,
    HandOver,
    OpenedForOther,
    OpenForOther,
)

_REFERENCE: Final = re.compile(r"[0-9A-Z]{4}")


class AdvocateClient(KeyedClient):
    """An advocate's client; she identifies a case by its reference of four characters.

    Args:
        server: the address, `https://HOST`; `http://` only for a service on this machine.
        key: the helpline's key.
        retry: the retry policy after transient failures.
        http: an httpx transport to use instead of real connections.

    Raises:
        InvalidRequest: the address or the key is invalid.
    """

    def open_case(
        self,
        items: Sequence[Item],
        *,
        reason: Reason,
        consent: bool,
        adult: bool,
        depicted: bool,
        idempotency_key: str | None = None,
        on_sent: Callable[[OpenedForOther], object] = lambda _opened: None,
    ) -> OpenedForOther:
        """Open a case for somebody, with the hashes of up to 1,000 files.

        What does not fit one request is added to the case by further ones.

        Args:
            items: the hashes of each file.
            reason: why the case is opened.
            consent: whether that person knows what is sent, and agreed.
            adult: whether everybody in the pictures was 18 or older when they were taken.
            depicted: whether they show that person.
            idempotency_key: the key of an earlier call whose outcome is unknown; a new one by
                default.
            on_sent: called after each request with the case and the receipts of the files sent so
                far.

        Raises:
            InvalidRequest: no items, more than 1,000, or an item with more than 2,048 signals.
            PartlySent: the case is open, but a later request failed.
            ServiceError: if `uncertain`, the case may have been opened nevertheless.
        """
        if len(items) > ASSISTED_ITEMS_MAX:
            raise InvalidRequest(
                f"A case holds at most {ASSISTED_ITEMS_MAX} files, not {len(items)}. Open several "
                "cases."
            )
        first, rest = split(items)
        body = OpenForOther(
            consent=consent,
            declaration=wire.Declaration(adult=adult, depicted=depicted),
            reason=reason,
            items=first.items,
        )
        key = idempotency_key or new_idempotency_key()
        request = self._request("POST", "", to_json(body), key)
        opened = self._call(request, OpenedForOther, status=201)
        add, append = partial(self._add, opened.reference), partial(self._append, opened.reference)
        return send_rest(opened, rest, key, add, append, on_sent)

    def cases(self) -> AssistedCases:
        """Return your open cases, oldest first, with their deadlines.

        Raises:
            ServiceError: the key is wrong, or there is no response.
        """
        return self._call(self._request("GET", ""), AssistedCases)

    def add(
        self,
        reference: str,
        items: Sequence[Item],
        *,
        idempotency_key: str | None = None,
        on_sent: Callable[[wire.ItemsAdded], object] = lambda _added: None,
    ) -> wire.ItemsAdded:
        """Add files to an open case, up to 1,000 in total, in as many requests as they need.

        Args:
            reference: the case's reference.
            items: the hashes of each file.
            idempotency_key: as in `open_case`.
            on_sent: called after each request with the receipts of the files sent so far.

        Raises:
            InvalidRequest: as for `open_case`.
            PartlySent: files were added, but a later request failed.
            ServiceError: there is no such case, it is closed, or there is no response.
        """
        key = idempotency_key or new_idempotency_key()
        first, rest = split(items)
        added = self._add(reference, first.items, key)
        add, append = partial(self._add, reference), partial(self._append, reference)
        return send_rest(added, rest, key, add, append, on_sent)

    def _add(self, reference: str, items: tuple[wire.ItemIn, ...], key: str) -> wire.ItemsAdded:
        body = to_json(wire.AddItems(items=items))
        request = self._request("POST", f"{_path(reference)}/items", body, key)
        return self._call(request, wire.ItemsAdded, status=201)

    def _append(
        self, reference: str, item: int, signals: wire.AddSignals, key: str
    ) -> wire.SignalsAdded:
        path = f"{_path(reference)}/items/{item}/signals"
        return self._call(
            self._request("POST", path, to_json(signals), key), wire.SignalsAdded, status=201
        )

    def status(self, reference: str) -> wire.CaseStatus:
        """Return what each platform did about each file. This renews the case.

        Raises:
            InvalidRequest: this is not a reference.
            ServiceError: there is no such case, or there is no response.
        """
        request = self._request("GET", _path(reference))
        return self._call(request, wire.CaseStatus)

    def withdraw(self, reference: str, item: int | None = None) -> wire.Withdrawal:
        """Withdraw one file by its number, or the whole case with all of its files.

        Raises:
            InvalidRequest: this is not a reference.
            ServiceError: there is no such case or file, or there is no response.
        """
        suffix = "" if item is None else f"/items/{item}"
        request = self._request("DELETE", _path(reference) + suffix)
        return self._call(request, wire.Withdrawal)

    def note_report(self, reference: str) -> AssistedCases:
        """Record that a site was sent a notice, which starts its 48 hours.

        Returns:
            Your open cases, as `cases` does.

        Raises:
            InvalidRequest: this is not a reference.
            ServiceError: there is no such case, or there is no response.
        """
        request = self._request("POST", f"{_path(reference)}/reported")
        return self._call(request, AssistedCases)

    def hand_over(self, reference: str) -> HandOver:
        """Return a new code for taking over the case, which replaces any earlier one.

        Raises:
            InvalidRequest: this is not a reference.
            ServiceError: there is no such case, or there is no response.
        """
        key = new_idempotency_key()
        request = self._request("POST", f"{_path(reference)}/handover", None, key)
        return self._call(request, HandOver)

    def _request(
        self, method: str, suffix: str, body: bytes | None = None, key: str | None = None
    ) -> Request:
        path = f"/v1/advocate/cases{suffix}"
        return Request(method, path, body=body, idempotency_key=key)


def _path(reference: str) -> str:
    normalized = reference.strip().upper()
    if not _REFERENCE.fullmatch(normalized):
        raise InvalidRequest(
            "A reference has four letters and digits. Copy it from the list of your cases."
        )
    return f"/{normalized}"
