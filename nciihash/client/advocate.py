"""Speak to a clearinghouse as an advocate: cases for people who asked for them."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nciihash import wire
from nciihash.client.base import KeyedClient, encoded
from nciihash.client.parts import divide, send_rest
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
    """What an advocate asks of a clearinghouse; she knows her cases by references.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the helpline's key.
        retry: how often and how long to try again after a passing fault.
        http: what carries the requests, instead of real connections.

    Raises:
        InvalidRequest: the address or the key cannot be right.
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
        sent: Callable[[OpenedForOther], object] = lambda _opened: None,
    ) -> OpenedForOther:
        """Open a case for somebody, with the hashes of up to 1,000 files.

        What is too much for one request is added to the case in further ones.

        Args:
            items: the files' hashes.
            reason: why.
            consent: whether that person knows what is sent, and agreed.
            adult: whether everybody in the pictures was over 18 when they were taken.
            depicted: whether they show that person.
            idempotency_key: that of an earlier call whose outcome is unknown; a new one by default.
            sent: called after each request with the case and the files known to be in it.

        Raises:
            InvalidRequest: no items, more than 1,000, or more signals than an item may have.
            PartlySent: the case is open, and a later request failed.
            ServiceError: `uncertain` says whether the case may have been opened all the same.
        """
        if len(items) > ASSISTED_ITEMS_MAX:
            raise InvalidRequest(f"A case holds {ASSISTED_ITEMS_MAX} files, not {len(items)}.")
        first, rest = divide(items)
        body = OpenForOther(
            consent=consent,
            declaration=wire.Declaration(adult=adult, depicted=depicted),
            reason=reason,
            items=first.items,
        )
        key = idempotency_key or new_idempotency_key()
        request = self._request("POST", "", encoded(body), key)
        opened = self._call(request, OpenedForOther, status=201)
        add, append = partial(self._add, opened.reference), partial(self._append, opened.reference)
        return send_rest(opened, rest, key, add, append, sent)

    def cases(self) -> AssistedCases:
        """List your open cases, with their clocks."""
        return self._call(self._request("GET", ""), AssistedCases)

    def add(
        self,
        reference: str,
        items: Sequence[Item],
        *,
        idempotency_key: str | None = None,
        sent: Callable[[wire.ItemsAdded], object] = lambda _added: None,
    ) -> wire.ItemsAdded:
        """Add files to an open case, up to 1,000 in all.

        What is too much for one request is sent in several.

        Raises:
            InvalidRequest: as `open_case`.
            PartlySent: files were added, and a later request failed.
            ServiceError: no such case, a closed one, or no answer.
        """
        key = idempotency_key or new_idempotency_key()
        first, rest = divide(items)
        added = self._add(reference, first.items, key)
        add, append = partial(self._add, reference), partial(self._append, reference)
        return send_rest(added, rest, key, add, append, sent)

    def _add(self, reference: str, items: tuple[wire.ItemIn, ...], key: str) -> wire.ItemsAdded:
        body = encoded(wire.AddItems(items=items))
        request = self._request("POST", f"{_named(reference)}/items", body, key)
        return self._call(request, wire.ItemsAdded, status=201)

    def _append(
        self, reference: str, item: int, signals: wire.AddSignals, key: str
    ) -> wire.SignalsAdded:
        path = f"{_named(reference)}/items/{item}/signals"
        return self._call(
            self._request("POST", path, encoded(signals), key), wire.SignalsAdded, status=201
        )

    def status(self, reference: str) -> wire.CaseStatus:
        """Ask what each platform did about each file. Asking renews the case."""
        request = self._request("GET", _named(reference))
        return self._call(request, wire.CaseStatus)

    def withdraw(self, reference: str, item: int | None = None) -> wire.Withdrawal:
        """Withdraw one file by its number, or all of them and with them the case."""
        rest = "" if item is None else f"/items/{item}"
        request = self._request("DELETE", _named(reference) + rest)
        return self._call(request, wire.Withdrawal)

    def note_report(self, reference: str) -> AssistedCases:
        """Start a case's clock of 48 hours, when a site was sent a notice; list your cases."""
        request = self._request("POST", f"{_named(reference)}/reported")
        return self._call(request, AssistedCases)

    def hand_over(self, reference: str) -> HandOver:
        """Get the code by which the person takes the case over; an earlier one ends."""
        key = new_idempotency_key()
        request = self._request("POST", f"{_named(reference)}/handover", None, key)
        return self._call(request, HandOver)

    def _request(
        self, method: str, rest: str, body: bytes | None = None, key: str | None = None
    ) -> Request:
        path = f"/v1/advocate/cases{rest}"
        return Request(method, path, body=body, idempotency_key=key)


def _named(reference: str) -> str:
    written = reference.strip().upper()
    if not _REFERENCE.fullmatch(written):
        raise InvalidRequest("A reference has four letters and digits, as the list shows it.")
    return f"/{written}"
