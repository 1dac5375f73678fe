"""What operators ask of all instances and rooms together."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
from psycopg.types.numeric import Int8

from catfish.rooms.codes import normalise_code
from catfish.rooms.model import RoomKind
from catfish.rooms.ports import Figures, InstanceRecord, ListedRoom, RoomsPage
from catfish.store.account_rows import find
from catfish.store.connection import Connection
from catfish.store.pool import Pool
from catfish.store.queries import ROOM_COLUMNS, ROOM_COUNTED, statement
from catfish.store.state import record_from_row

INSTANCES: Final = statement("""
SELECT i.id,
    CASE WHEN i.lease_until > clock_timestamp() THEN 'alive' WHEN i.stopped_at IS NULL THEN 'dead' ELSE 'stopped' END,
    i.started_at, (extract(epoch FROM i.lease_until - clock_timestamp()) * 1000)::bigint, i.figures
FROM instances i ORDER BY i.started_at, i.id
""")
LISTED: Final = ROOM_COUNTED + ", r.closed_at"
FIND: Final = statement(
    "SELECT {listed} FROM rooms r WHERE r.id = %(id)b OR r.code = %(code)b ORDER BY r.id = %(id)b DESC LIMIT 1",
    listed=LISTED,
)
# A scan of the primary key from above that ends with the page. A name has no index: it costs what is passed over.
LIST: Final = "SELECT {listed} FROM rooms r WHERE {conditions} ORDER BY r.number DESC LIMIT %(limit)b"
BELOW: Final = "r.number < %(below)b"
OF_KIND: Final = "r.kind = %(kind)b"
NAMED: Final = """strpos(
    lower(concat_ws(E'\\n', r.id COLLATE "default", r.name COLLATE "default", r.code COLLATE "default")),
    lower(%(name)b::text COLLATE "default")
) > 0"""
OPEN: Final = "r.closed_at IS NULL"


class Administration:
    """Implements `rooms.ports.Administration`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def instances(self) -> list[InstanceRecord]:
        return await self._pool.run(_instances)

    async def rooms(
        self,
        *,
        kind: RoomKind | None = None,
        name: str | None = None,
        closed: bool = False,
        below: int | None = None,
        limit: int,
    ) -> RoomsPage:
        conditions = ["true"] if closed else [OPEN]
        parameters: dict[str, Any] = {"limit": Int8(limit + 1)}
        if below is not None:
            conditions.append(BELOW)
            parameters["below"] = Int8(below)
        if kind is not None:
            conditions.append(OF_KIND)
            parameters["kind"] = kind.value
        if name is not None:
            conditions.append(NAMED)
            parameters["name"] = name
        query = statement(LIST, listed=LISTED, conditions=" AND ".join(conditions))
        listed = await self._pool.run(partial(_listed, query=query, parameters=parameters))
        return RoomsPage(rooms=listed[:limit], more=len(listed) > limit)

    async def find(self, name: str) -> ListedRoom | None:
        parameters = {"id": name, "code": normalise_code(name)}
        listed = await self._pool.run(partial(_listed, query=FIND, parameters=parameters))
        return listed[0] if listed else None


def _instances(connection: Connection) -> list[InstanceRecord]:
    rows = connection.cursor(binary=True).execute(INSTANCES).fetchall()
    return [
        InstanceRecord(
            id=id,
            state=state,
            started_at=started_at,
            lease_left_ms=left_ms,
            figures=None if figures is None else msgspec.convert(figures, Figures, strict=False),
        )
        for id, state, started_at, left_ms, figures in rows
    ]


def _listed(connection: Connection, query: bytes, parameters: dict[str, Any]) -> list[ListedRoom]:
    rows = find(connection, query, parameters)
    return [ListedRoom(record=record_from_row(row), closed_at=row[ROOM_COLUMNS]) for row in rows]
