"""People who signed in, and what they do over HTTP."""

from __future__ import annotations

from typing import Any

import attrs

from tests.http.harness import Answer, Api


@attrs.frozen
class Person:
    api: Api
    id: str
    token: str
    user: dict[str, Any]

    async def get(self, target: str) -> Answer:
        return await self.api.get(target, authorization=self.token)

    async def post(self, target: str, content: Any = None) -> Answer:
        return await self.api.post(target, content, authorization=self.token)

    async def delete(self, target: str) -> Answer:
        return await self.api.send("DELETE", target, None, authorization=self.token)

    async def talk(self, *others: Person, name: str | None = None) -> str:
        """Begin a conversation; its id."""
        body = {"members": [other.id for other in others], "isGroup": name is not None, "name": name}
        answer = await self.post("/api/new/chat", body)
        assert answer.status == 200
        id: str = answer.json["conversation"]["id"]
        return id

    async def say(self, conversation: str, text: str) -> dict[str, Any]:
        answer = await self.post("/api/chat/send/message", {"chatId": conversation, "message": text})
        assert answer.status == 200
        message: dict[str, Any] = answer.json["message"]
        return message


async def sign_in(api: Api, name: str) -> Person:
    body = {"name": name, "email": f"{name.lower()}@example.test", "provider": "google", "oauth_id": f"oid-{name}"}
    answer = await api.post("/api/auth/login", {**body, "image": f"http://img.test/{name}.png"})
    assert answer.status == 200
    user = answer.json["user"]
    return Person(api, user["id"], user["token"], user)
