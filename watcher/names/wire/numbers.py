"""Numbers of the protocol (RFC 1035, section 4.1; IANA, "Domain Name System Parameters")."""

from __future__ import annotations

from typing import Final

HEADER: Final = 12
"""Bytes before the question."""

NAME_AT_MOST: Final = 255
LABEL_AT_MOST: Final = 63
"""Bytes (RFC 1035, section 2.3.4)."""

POINTER: Final = 0xC000
"""The two upper bits of a pointer to a name (RFC 1035, section 4.1.4)."""

UDP_WITHOUT_EDNS: Final = 512
"""The longest answer by UDP to who does not say otherwise (RFC 1035, section 4.2.1)."""

UDP_AT_MOST: Final = 1232
"""The longest answer by UDP to anybody: it is not fragmented on its way (DNS flag day 2020)."""

TCP_AT_MOST: Final = 65535
"""The longest answer by TCP: its length has two bytes."""

# The second 16 bits of a header:

QR: Final = 0x8000
OPCODE: Final = 0x7800
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
AD: Final = 0x0020
CD: Final = 0x0010
RCODE: Final = 0x000F

DO: Final = 0x8000
"""Of the flags of an OPT record (RFC 3225)."""

# Response codes:

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
YXDOMAIN: Final = 6
BADVERS: Final = 16

# Types and classes:

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
DNAME: Final = 39
OPT: Final = 41
TKEY: Final = 249
TSIG: Final = 250
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255
"""As a type and as a class."""

IN: Final = 1
