"""The sessions of this instance by their users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from catfish.errors import Close
from catfish.rooms.events import Event


class UserSession(Protocol):
    apart: frozenset[str]
    """Whom its user has blocked, and who has blocked it."""

    @property
    def user(self) -> str: ...

    @property
    def hear(self) -> Callable[[Event], None]:
        """Tells the client an event that comes from no room that it is in."""
        ...

    @property
    def identified(self) -> bool:
        """A token says who it is."""
        ...

    @property
    def hang_up(self) -> Callable[[Close], None]:
        """Ends the connection."""
        ...

    def disconnect(self) -> None:
        """End the session from the server's side."""
        ...


class Users:
    """A session is moved whenever it says that it is somebody else."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[UserSession]] = {}

    def add(self, session: UserSession) -> None:
        self._sessions.setdefault(session.user, []).append(session)

    def remove(self, session: UserSession, user: str) -> None:
        """It is no session of that user any more."""
        sessions = self._sessions.get(user)
        if sessions is not None and session in sessions:
            sessions.remove(session)
            if not sessions:
                del self._sessions[user]

    def of(self, user: str) -> list[UserSession]:
        return list(self._sessions.get(user, ()))

    def disconnect(self, user: str) -> int:
        """End all sessions of a user here; how many there were."""
        sessions = self.of(user)
        for session in sessions:
            session.disconnect()
        return len(sessions)

    def tell(self, event: Event, user: str) -> None:
        """To all sessions of a user here."""
        for session in self.of(user):
            session.hear(event)

    def set_apart(self, user: str, other: str, on: bool) -> None:
        """One of the two has blocked the other, or neither does any more."""
        for one, two in (user, other), (other, user):
            for session in self.of(one):
                session.apart = session.apart | {two} if on else session.apart - {two}

    def end_guests(self, user: str, close: Close) -> int:
        """End the sessions that have a user's id without a token; how many there were."""
        guests = [session for session in self.of(user) if not session.identified]
        for session in guests:
            session.hang_up(close)
        return len(guests)
