"""Which rooms a request over HTTP may see, and which it may end.

| who | open room | conversation | private or matched room |
| --- | --- | --- | --- |
| a server with the API key | all | all | all |
| a user with a token | sees | sees as a member of the conversation | sees as its creator, or while in it |
| a guest | sees | sees (its id is what admits) | sees nothing |

Whoever made a room may end it; a guest cannot prove that it did.
"""

from __future__ import annotations

from catfish.errors import Rejected
from catfish.rooms.commands import RoomRecord
from catfish.rooms.directory import Directory
from catfish.rooms.model import RoomKind
from catfish.server.accounts import Accounts
from catfish.server.archive import available
from catfish.server.instance import Instance


class Access:
    def __init__(self, instance: Instance, accounts: Accounts, directory: Directory) -> None:
        self._instance = instance
        self._accounts = accounts
        self._directory = directory

    async def see(self, id: str, user: str | None, *, is_server: bool) -> RoomRecord:
        """The room, when it may be seen. Rejected: bad_request, no_such_room, forbidden."""
        record = await self._instance.archive.record(room=id)
        if not (is_server or await self._is_seen(record, user)):
            raise Rejected("forbidden", "room: only its members see it")
        return record

    async def _is_seen(self, record: RoomRecord, user: str | None) -> bool:
        if record.room.kind is RoomKind.OPEN:
            return user is None or await self._accounts.admits(record.room.id, user)
        if user is None:
            return False
        return record.created_by == user or await available(self._directory.is_member(record.number, user))

    async def end(self, id: str, user: str | None, *, is_server: bool) -> RoomRecord:
        """The room, when it may be ended. Rejected: bad_request, no_such_room, forbidden."""
        record = await self._instance.archive.record(room=id)
        if not is_server and (user is None or record.created_by != user):
            raise Rejected("forbidden", "room: only who made it closes it")
        return record
