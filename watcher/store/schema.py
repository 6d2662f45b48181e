"""The tables of the lease store, and the migrations of older files.

`PRAGMA user_version` is the number of migrations that a file has seen. A released migration is
never changed; another follows it. A service of the previous version may have the file open until
it is restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

APPLICATION_ID: Final = 0x77746368
"""Identifies a lease store to `file` and this program: `wtch`."""

_FIRST: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    # AUTOINCREMENT: a key is never reused. `root` and `id` are those of the container that the
    # sandbox was made for, which may have gone.
    """
    CREATE TABLE sandbox (
        key   INTEGER PRIMARY KEY AUTOINCREMENT,
        root  TEXT NOT NULL,
        id    TEXT NOT NULL,
        pid   INTEGER NOT NULL,
        start INTEGER NOT NULL,
        netns INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX sandbox_id ON sandbox (id, key)",
    "CREATE INDEX sandbox_netns ON sandbox (netns, key)",
    # `number` is the order of joining.
    """
    CREATE TABLE member (
        number  INTEGER PRIMARY KEY,
        root    TEXT NOT NULL,
        id      TEXT NOT NULL,
        pid     INTEGER NOT NULL,
        start   INTEGER NOT NULL,
        sandbox INTEGER NOT NULL REFERENCES sandbox ON DELETE CASCADE
    ) STRICT
    """,
    "CREATE UNIQUE INDEX member_id ON member (id, root)",
    "CREATE INDEX member_sandbox ON member (sandbox)",
    """
    CREATE TABLE interface (
        sandbox   INTEGER NOT NULL REFERENCES sandbox ON DELETE CASCADE,
        ordinal   INTEGER NOT NULL,
        network   TEXT NOT NULL,
        name      TEXT NOT NULL,
        host_name TEXT NOT NULL,
        mac       TEXT NOT NULL,
        PRIMARY KEY (sandbox, ordinal)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX interface_mac ON interface (network, mac)",
    "CREATE INDEX interface_host_name ON interface (host_name)",
    # One row per leased or remembered address. If it is remembered, `root` and `id` are its last
    # holder's, and `freed` is greater the later it was freed. `pooled`: it is in the pool, and so
    # worth remembering.
    """
    CREATE TABLE address (
        network TEXT NOT NULL,
        address TEXT NOT NULL,
        family  INTEGER NOT NULL,
        prefix  INTEGER NOT NULL,
        root    TEXT NOT NULL,
        id      TEXT NOT NULL,
        pooled  INTEGER NOT NULL,
        sandbox INTEGER REFERENCES sandbox,
        ordinal INTEGER,
        freed   INTEGER,
        PRIMARY KEY (network, address),
        CHECK ((sandbox IS NULL) = (ordinal IS NULL) AND (sandbox IS NULL) <> (freed IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX address_sandbox ON address (sandbox, ordinal, family) WHERE sandbox IS NOT NULL",
    "CREATE INDEX address_freed ON address (network, family, freed) WHERE freed IS NOT NULL",
    """
    CREATE INDEX address_had ON address (id, root, network, family, freed) WHERE freed IS NOT NULL
    """,
    # Each pool's cursor, as an offset in `subnet`: every address before it is in `address`.
    """
    CREATE TABLE pool (
        network TEXT NOT NULL,
        family  INTEGER NOT NULL,
        subnet  TEXT NOT NULL,
        cursor  INTEGER NOT NULL,
        PRIMARY KEY (network, family)
    ) STRICT, WITHOUT ROWID
    """,
    # An empty `host_ip` means every address of both families.
    """
    CREATE TABLE claim (
        member    INTEGER NOT NULL REFERENCES member ON DELETE CASCADE,
        position  INTEGER NOT NULL,
        protocol  TEXT NOT NULL,
        host_ip   TEXT NOT NULL,
        host_port INTEGER NOT NULL,
        port      INTEGER NOT NULL,
        PRIMARY KEY (member, position)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX claim_port ON claim (host_port, protocol)",
    # `number` is the order of failing.
    """
    CREATE TABLE failure (
        number  INTEGER PRIMARY KEY,
        root    TEXT NOT NULL,
        id      TEXT NOT NULL,
        pid     INTEGER,
        start   INTEGER,
        key     TEXT NOT NULL,
        value   TEXT NOT NULL,
        reason  TEXT NOT NULL,
        refused INTEGER NOT NULL,
        at      REAL NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX failure_id ON failure (id, root)",
    "CREATE INDEX failure_refused ON failure (number) WHERE refused",
    # What the handlers and the networks have to know after a restart.
    "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)

_RANGES: Final = (
    # A port map is `length` consecutive ports. `size`, that rounded up to a power of 16, lets an
    # index find overlaps.
    "ALTER TABLE claim ADD COLUMN length INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE claim ADD COLUMN size INTEGER NOT NULL DEFAULT 1",
    "DROP INDEX claim_port",
    "CREATE INDEX claim_ports ON claim (protocol, size, host_port)",
)

_STALE: Final = (
    # Released addresses whose flows may be left in the kernel.
    "CREATE TABLE stale (address TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
)

_DOCUMENTS: Final = (
    # Consecutive ports become one port map: version 0.1 wrote one per port.
    """
    CREATE TABLE anew AS
    WITH split AS (
        SELECT *, (protocol, host_ip, host_port, port) IS NOT (
            lag(protocol) OVER before, lag(host_ip) OVER before,
            lag(host_port + length) OVER before, lag(port + length) OVER before
        ) AS first
        FROM claim WINDOW before AS (PARTITION BY member ORDER BY position)
    ), numbered AS (
        SELECT *, sum(first) OVER (PARTITION BY member ORDER BY position) - 1 AS number FROM split
    ), joined AS (
        SELECT member, number, protocol, host_ip, min(host_port), min(port), sum(length) AS length
        FROM numbered GROUP BY member, number
    )
    SELECT *, CASE WHEN length = 1 THEN 1 WHEN length <= 16 THEN 16 WHEN length <= 256 THEN 256
        WHEN length <= 4096 THEN 4096 ELSE 65536 END
    FROM joined
    """,
    "DELETE FROM claim",
    "INSERT INTO claim SELECT * FROM anew",
    "DROP TABLE anew",
    # `asked` is the container's request as a document (`documents.py`). For old rows it is made
    # from networks and ports; which addresses and MACs were requested is not known.
    """ALTER TABLE member ADD COLUMN asked TEXT NOT NULL DEFAULT '{"version":1}'""",
    """
    UPDATE member SET asked = json_patch(asked, json_object(
        'networks', (
            SELECT json(nullif(nullif(json_group_array(network), '[]'), '["default"]')) FROM (
                SELECT network FROM sandbox JOIN interface ON interface.sandbox = key
                WHERE key = member.sandbox AND sandbox.id = member.id AND sandbox.root = member.root
                    AND sandbox.pid = member.pid AND sandbox.start = member.start
                ORDER BY ordinal
            )
        ),
        'ports', (
            SELECT json(nullif(json_group_array(json(map)), '[]')) FROM (
                SELECT json_array(protocol, nullif(host_ip, ''), host_port, port, length) AS map
                FROM claim WHERE claim.member = number ORDER BY position
            )
        )
    ))
    """,
)

_NAMES: Final = (
    # What members are called beside their ids; the request has it too, but no index has that.
    """
    CREATE TABLE name (
        name   TEXT NOT NULL,
        member INTEGER NOT NULL REFERENCES member ON DELETE CASCADE,
        PRIMARY KEY (name, member)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX name_member ON name (member)",
    "CREATE INDEX failure_at ON failure (at) WHERE refused",
)

_CHANGES: Final = (
    # The member that an interface was connected for; none if the sandbox was made with it.
    "ALTER TABLE interface ADD COLUMN member INTEGER REFERENCES member",
    "CREATE INDEX interface_member ON interface (member) WHERE member IS NOT NULL",
    # Whether a copy of the sandbox is kept beside the store.
    "ALTER TABLE sandbox ADD COLUMN kept INTEGER NOT NULL DEFAULT 0",
)

_CAUSES: Final = (
    # In a word, for those who count failures.
    "ALTER TABLE failure ADD COLUMN cause TEXT NOT NULL DEFAULT ''",
)

_LIMITS: Final = (
    # What a sandbox was limited to when it was made, as a document (`documents.py`).
    "ALTER TABLE sandbox ADD COLUMN limits TEXT NOT NULL DEFAULT '{}'",
    # The numbers by which the firewall knows lists of destinations and sources.
    """
    CREATE TABLE list (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        document TEXT NOT NULL UNIQUE
    ) STRICT
    """,
    # The kernel, and a service that runs, may have numbers of a store that was lost: none of them
    # is to stand for another list.
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('list', abs(random() % 2000000000))",
)

_CLUSTER: Final = (
    # What this host has of clustered networks; `number` is the order of taking, and `cursor` an
    # offset in the block: every address before it is in `address`.
    """
    CREATE TABLE block (
        number  INTEGER PRIMARY KEY AUTOINCREMENT,
        network TEXT NOT NULL,
        prefix  TEXT NOT NULL,
        family  INTEGER NOT NULL,
        state   TEXT NOT NULL,
        cursor  INTEGER NOT NULL DEFAULT 0,
        UNIQUE (network, prefix)
    ) STRICT
    """,
    "ALTER TABLE address ADD COLUMN block INTEGER REFERENCES block",
    "CREATE INDEX address_block ON address (block) WHERE block IS NOT NULL",
    # The other hosts, and what they have. Routes lead there also while the registry is away.
    """
    CREATE TABLE peer (
        host    TEXT PRIMARY KEY,
        address TEXT NOT NULL,
        alive   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE peer_block (
        network TEXT NOT NULL,
        prefix  TEXT NOT NULL,
        host    TEXT NOT NULL,
        PRIMARY KEY (network, prefix)
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: Final = (
    _FIRST, _RANGES, _STALE, _DOCUMENTS, _NAMES, _CHANGES, _CAUSES, _LIMITS, _CLUSTER,
)  # fmt: skip

VERSION: Final = len(MIGRATIONS)
"""The version of the schema that this program reads and writes."""


def version_of(db: sqlite3.Connection) -> int | None:
    """The schema version of an open file: 0 if it is empty, `None` if it is no lease store."""
    version, application, tables = db.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)"
        " FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if version == 0 and application == 0 and tables == 0:
        return 0
    return int(version) if application == APPLICATION_ID and version > 0 else None


def migrate(db: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring an open file through all `migrations` in one transaction; nothing if it has them."""
    version = len(migrations)
    if version_of(db) == version:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        done = version_of(db) or 0  # another process may have been first
        for statements in migrations[done:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {max(done, version)}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
