"""The sessions of this instance by their users."""

from __future__ import annotations

from typing import Protocol


class UserSession(Protocol):
    @property
    def user(self) -> str: ...

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
