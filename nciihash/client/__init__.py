"""Clients of a clearinghouse, for survivors, platforms and advocates.

They share only their transport (`nciihash.client.transport`). All of them are context managers, and
all raise only subclasses of `nciihash.errors.ServiceError`, whose messages contain no passphrase,
key or hash.
"""

from typing import TYPE_CHECKING

from nciihash._lazy import attach

if TYPE_CHECKING:
    from nciihash.client.advocate import AdvocateClient
    from nciihash.client.platform import AsyncPlatformClient, PlatformClient
    from nciihash.client.survivor import Client

__all__ = ["AdvocateClient", "AsyncPlatformClient", "Client", "PlatformClient"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "advocate": ("AdvocateClient",),
        "platform": ("AsyncPlatformClient", "PlatformClient"),
        "survivor": ("Client",),
    },
    __all__,
)
