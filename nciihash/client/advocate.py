"""Speak to a clearinghouse as an advocate: cases for people who asked for them."""

import re
from collections.abc import Sequence
from typing import Final

from nciihash import wire
from nciihash.client.base import KeyedDoor, encoded, wire_items
from nciihash.client.sans_io import Outgoing, new_idempotency_key
from nciihash.errors import InvalidRequest
from nciihash.signals import Item
from nciihash.wire import Reason
from nciihash.wire.advocates import AssistedCases, HandOver, OpenedForOther, OpenForOther

_REFERENCE: Final = re.compile(r"[0-9A-Z]{4}")


class AdvocateClient(KeyedDoor):
    """What an advocate asks of a clearinghouse; she knows her cases by references.

    Args:
        server: the address, `https://HOST`; `http://` on this machine alone.
        key: the helpline's key.
        patience: how often and how long to try again after a passing fault.
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
    ) -> OpenedForOther:
        """Open a case for somebody, with the hashes of up to 200 files.

        Args:
            items: the files' hashes.
            reason: why.
            consent: whether that person knows what is sent, and agreed.
            adult: whether everybody in the pictures was over 18 when they were taken.
            depicted: whether they show that person.
            idempotency_key: that of an earlier call whose outcome is unknown; a new one by default.

        Raises:
            InvalidRequest: no items, more than 200, or more signals than an item may have.
            ServiceError: `uncertain` says whether the case may have been opened all the same.
        """
        body = OpenForOther(
            consent=consent,
            declaration=wire.Declaration(adult=adult, depicted=depicted),
            reason=reason,
            items=wire_items(items),
        )
        key = idempotency_key or new_idempotency_key()
        request = self._request("POST", "", encoded(body), key)
        return self._call(request, OpenedForOther, status=201)

    def cases(self) -> AssistedCases:
        """List your open cases, with their clocks."""
        return self._call(self._request("GET", ""), AssistedCases)

    def add(
        self, reference: str, items: Sequence[Item], *, idempotency_key: str | None = None
    ) -> wire.ItemsAdded:
        """Add files to an open case, up to 1,000 in all and 200 at a time.

        Raises:
            InvalidRequest: as `open_case`.
            ServiceError: no such case, a closed one, or no answer.
        """
        body = encoded(wire.AddItems(items=wire_items(items)))
        key = idempotency_key or new_idempotency_key()
        request = self._request("POST", f"{_named(reference)}/items", body, key)
        return self._call(request, wire.ItemsAdded, status=201)

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
    ) -> Outgoing:
        path = f"/v1/advocate/cases{rest}"
        return Outgoing(method, path, body=body, idempotency_key=key)


def _named(reference: str) -> str:
    written = reference.strip().upper()
    if not _REFERENCE.fullmatch(written):
        raise InvalidRequest("A reference has four letters and digits, as the list shows it.")
    return f"/{written}"
