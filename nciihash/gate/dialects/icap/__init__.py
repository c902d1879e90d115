"""ICAP (RFC 3507): uploads and downloads that a proxy or a client of scanners passes on."""

from nciihash.gate.dialects.icap.service import IcapService, serve

__all__ = ["IcapService", "serve"]
