"""The client: one session with a server, over as many connections as it takes.

A background task owns the current `Link`. It connects, says hello, comes back to every room and sends what still waits,
in this order; then the client is OPEN. When the link ends, the close code decides between another attempt and the end.

Everything that arrives is handled in the reader's turn, without waiting: replies wake their callers; events go through
their room's view (`rooms.py`) into one bounded buffer that the user iterates over. The reader never stops for a slow
user, because a user who waits for a reply inside the loop over the events would then wait for ever. Instead, a room
whose event found the buffer full *catches up*: its messages are read from the server as the user makes place for them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import trio

from catfish.client.backoff import Backoff
from catfish.client.calls import Calls, draw_id
from catfish.client.errors import ClientClosed, ConnectFailed, ConnectionLost
from catfish.client.events import Events
from catfish.client.following import Following
from catfish.client.limits import Limits, Statistics
from catfish.client.link import ABNORMAL, Address, Dial, Ended, Link, parse_url
from catfish.client.requests import Gate, Pending, Waiting, is_repeatable, wait_before_repeating
from catfish.client.states import TABLE, Move, State
from catfish.errors import HEARTBEAT_TIMEOUT, NORMAL, PROTOCOL_ERROR, Close, PeerError, Rejected
from catfish.wire.native import JSON, MSGPACK, Codec, Event, Refusal, Reply

Token = str | Callable[[], Awaitable[str]]
_HEARTBEAT_S = 25.0


class Client(Calls):
    """A session with a server. Made by `connect`."""

    def __init__(
        self,
        address: Address,
        dial: Dial,
        codec: Codec,
        identity: dict[str, str],
        token: Token | None,
        reconnect: bool,
        limits: Limits,
        backoff: Backoff,
    ) -> None:
        self.events = Events(limits.events_max)
        self.state = State.CONNECTING
        self.user = identity.get("user", "")
        self.name = identity.get("name", "")
        self.session = ""
        """The server's id of the present session; another one after each reconnect."""
        self.server_limits: dict[str, Any] = {}
        """What the server said in its reply to hello."""
        self._address = address
        self._dial = dial
        self._codec = codec
        self._identity = identity
        self._token = token
        self._reconnect = reconnect
        self._limits = limits
        self._backoff = backoff
        self._waiting = Waiting(codec)
        self._gate = Gate(limits.requests_max, limits.request_bytes_max)
        self._following = Following(self.events, self._ask_patiently, self._fail, limits.held_max)
        self._hooks: dict[str, Callable[[Any, Any], None]] = {
            "hello": self._greeted,
            "room:join": self._following.joined,
            "room:match": self._following.paired,
            "room:next": self._following.paired,
        }
        self._link: Link | None = None
        self._heartbeat_s = _HEARTBEAT_S
        self._return_at: float | None = None
        self._ended = Ended(NORMAL)
        self._closed_by_user = False
        self._scope = trio.CancelScope(shield=True)
        self._settled = trio.Event()
        self._done = trio.Event()
        self._connections = self._dropped = 0

    def __repr__(self) -> str:
        return f"<Client {self.user!r} at {self._address.url}, {self.state.value}>"

    @property
    def rooms(self) -> tuple[str, ...]:
        """Ids of the rooms that the client is in, or comes back to."""
        return self._following.rooms

    def statistics(self) -> Statistics:
        return Statistics(
            state=self.state,
            connections=self._connections,
            rooms=len(self._following.rooms),
            requests_waiting=len(self._waiting),
            events_waiting=len(self.events),
            events_dropped=self._dropped + self._following.dropped,
            duplicates=self._following.duplicates,
            late_replies=self._waiting.late,
            catch_ups=self._following.catch_ups,
        )

    # What the user asks for

    async def request(self, event: str, data: Any = None) -> Any:
        """Send a request and wait for its reply, over a reconnect where needed.

        When it is cancelled, the server may still carry it out; its reply is dropped. A join that was cancelled leaves
        the client outside of the room: its events are dropped, and it is not entered again after a reconnect.

        Raises:
            Rejected: the server refused it; `code` is one of `catfish.errors.ERROR_CODES`.
            ConnectionLost: it was on its way when the connection broke, and may not be sent twice (`room:create`,
                `room:match`, `room:next`, `room:emit`, `signal`, `chat:send` without `clientId`).
            ClientClosed: the client is closed.
        """
        self._must_not_be_closed()
        id, payload = self._waiting.encode(event, data)
        await self._gate.enter(len(payload))
        try:
            self._must_not_be_closed()
            pending = Pending(id, event, data, payload, is_repeatable(event, data), on_reply=self._hooks.get(event))
            if event == "room:leave":
                with self._following.leaving(data):
                    return await self._wait_for(pending)
            return await self._wait_for(pending)
        finally:
            self._gate.leave(len(payload))

    def tell(self, event: str, data: Any = None) -> bool:
        """Send something ephemeral that needs no reply. Returns False when it was dropped: not connected, or too much
        waits to be sent."""
        link = self._link
        if self.state is not State.OPEN or link is None or link.outbox_bytes > self._limits.request_bytes_max:
            return False
        link.send(self._codec.encode_request(event, data))
        return True

    async def aclose(self) -> None:
        """Say goodbye and end; what waits for a reply raises `ClientClosed`. Harmless when repeated."""
        if self.state is not State.CLOSED:
            self._move("close")
            self._closed_by_user = True
            self._ended = Ended(NORMAL)
            self._waiting.fail_all(ClientClosed(NORMAL))
        if self._link is not None:
            self._link.close(Ended(NORMAL))
            with trio.move_on_after(self._limits.close_s, shield=True):
                await self._done.wait()
        self._scope.cancel()

    async def wait_open(self) -> None:
        """Wait until the first connection is open. Raises ConnectFailed."""
        await self._settled.wait()
        if self._connections == 0:
            raise ConnectFailed(self._ended.close, self._ended.code)

    def _must_not_be_closed(self) -> None:
        if self.state is State.CLOSED:
            raise ClientClosed(self._ended.close)

    async def _wait_for(self, pending: Pending) -> Any:
        self._waiting.add(pending)
        if self.state is State.OPEN or pending.internal:
            self._send(pending)
        try:
            await pending.done.wait()
        finally:
            self._waiting.remove(pending)
        if pending.error is not None:
            raise pending.error
        return pending.outcome

    def _send(self, pending: Pending) -> None:
        assert self._link is not None
        pending.sent = True
        self._link.send(pending.payload)

    async def _ask(self, event: str, data: Any) -> Any:
        """A request of the client's own, on the present connection, before it is open for the user's."""
        id, payload = self._waiting.encode(event, data)
        hook = self._hooks.get(event) if event == "hello" else None
        return await self._wait_for(Pending(id, event, data, payload, False, internal=True, on_reply=hook))

    async def _ask_patiently(self, event: str, data: Any) -> Any:
        """The same, again and again while the server has no time for it."""
        while True:
            try:
                return await self._ask(event, data)
            except Rejected as refused:
                delay = wait_before_repeating(refused)
                if delay is None:
                    raise
            await trio.sleep(delay)

    def _fail(self, error: PeerError) -> None:
        if self._link is not None:
            self._link.close(Ended(error.close))

    # From one connection to the next

    def _move(self, move: Move) -> None:
        self.state = TABLE[self.state, move]

    async def run(self) -> None:
        """Stay connected until `aclose` or until the server says not to come back."""
        try:
            with self._scope:
                while True:
                    await self._session()
                    close = self._ended.close
                    if self.state is State.CLOSED:
                        return
                    if self.state is State.CONNECTING:
                        self._move("failed")
                        return
                    if not (self._reconnect and close.reconnect):
                        self._move("ended")
                        return
                    self._move("lost" if self.state is State.OPEN else "failed")
                    delay = self._delay()
                    news = {"code": close.code, "reason": close.reason, "retryInMs": round(delay * 1000)}
                    self._put("client:reconnecting", news)
                    await trio.sleep(delay)
        finally:
            self._waiting.fail_all(ClientClosed(self._ended.close))
            self.events.close(None if self._closed_by_user else ClientClosed(self._ended.close))
            self._settled.set()
            self._done.set()

    def _delay(self) -> float:
        """Seconds until the next attempt: what the server asked for, else what the backoff says."""
        return_at, self._return_at = self._return_at, None
        if return_at is not None and return_at >= trio.current_time():
            return return_at - trio.current_time()
        return max(self._backoff.draw(), self._ended.retry_after_s or 0.0)

    async def _session(self) -> None:
        """One connection, from dialling to its end; leaves the reason in `_ended`."""
        self._link = link = Link(
            self._dial,
            self._address,
            self._codec,
            self._receive,
            message_bytes_max=self._limits.message_bytes_max,
            close_timeout_s=self._limits.close_s,
        )
        open_at: float | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, link, nursery.cancel_scope)
            with trio.move_on_after(self._limits.connect_s) as patience:
                await link.opened.wait()
                await self._greet(link)
            if patience.cancelled_caught:
                seconds = f"{self._limits.connect_s:g} s"
                link.abort(Ended(Close(ABNORMAL, f"no answer from {self._address.url} within {seconds}", True)))
                await trio.sleep_forever()
            nursery.start_soon(self._watch_over, link)
            await self._following.come_back(nursery, self.user)
            if self.state is not State.CLOSED:
                open_at = trio.current_time()
                self._opened()
        self._link = None
        self._following.cut()
        self._waiting.lost(ConnectionLost(f"the connection broke before the reply: {self._ended.close.reason}"))
        if open_at is not None:
            self._backoff.ended(trio.current_time() - open_at)

    async def _carry(self, link: Link, session: trio.CancelScope) -> None:
        ended = await link.run()
        if self.state is not State.CLOSED:
            self._ended = ended
        session.cancel()

    async def _greet(self, link: Link) -> None:
        hello = dict(self._identity)
        if self._token is not None:
            hello["token"] = self._token if isinstance(self._token, str) else await self._token()
        try:
            await self._ask("hello", hello)
        except Rejected as refused:
            again_s = wait_before_repeating(refused)
            close = Close(NORMAL.code, f"the server refused this user: {refused.message}", again_s is not None)
            link.close(Ended(close, again_s, refused.code))
            await trio.sleep_forever()

    def _greeted(self, _hello: Any, reply: Any) -> None:
        try:
            self.user, self.name, self.session = str(reply["user"]), str(reply["name"]), str(reply["session"])
            self._heartbeat_s = max(1.0, reply.get("heartbeatMs", _HEARTBEAT_S * 1000) / 1000)
            self.server_limits = dict(reply.get("limits") or {})
        except (TypeError, KeyError, ValueError, AttributeError):
            raise PeerError(PROTOCOL_ERROR, "the reply to hello is not one") from None

    def _opened(self) -> None:
        self._connections += 1
        self._move("opened")
        self._settled.set()
        if self._connections > 1:
            self._put("client:open", {"session": self.session})
        for pending in self._waiting:
            if not pending.sent:
                self._send(pending)

    async def _watch_over(self, link: Link) -> None:
        """Notice a connection that died without a sign: the server pings, so silence is first doubt, then certainty."""
        quiet_s = self._heartbeat_s * 1.5
        while True:
            await trio.sleep_until(link.heard_at + quiet_s)
            asked_at = trio.current_time()
            if link.heard_at + quiet_s > asked_at:
                continue
            with trio.move_on_after(self._limits.heartbeat_timeout_s) as patience, suppress(Rejected):
                await self._ask("ping", None)  # a refusal is a sign of life as well
            if patience.cancelled_caught and link.heard_at < asked_at:
                link.abort(Ended(HEARTBEAT_TIMEOUT))
                return

    # What arrives; called by the link's reader, so none of this waits

    def _receive(self, envelope: Event | Reply | Refusal) -> None:
        if isinstance(envelope, Event):
            self._heard(envelope)
        elif isinstance(envelope, Refusal) and envelope.id is None:
            told = {"code": envelope.code, "message": envelope.message, "event": envelope.event}
            self._put("error", told)
        else:
            self._waiting.answer(envelope)

    def _heard(self, event: Event) -> None:
        data = event.data if isinstance(event.data, dict) else {}
        if event.name == "server:draining":
            after_ms = data.get("reconnectAfterMs")
            if isinstance(after_ms, (int, float)) and after_ms >= 0:
                self._return_at = trio.current_time() + after_ms / 1000
        room = data.get("room")
        if isinstance(room, str):
            self._following.heard(room, event)
        else:
            self._put_event(event)

    def _put(self, name: str, data: Any) -> None:
        self._put_event(Event(name, data))

    def _put_event(self, event: Event) -> None:
        if not self.events.put_nowait(event):
            self._dropped += 1


@asynccontextmanager
async def connect(
    url: str,
    *,
    user: str | None = None,
    name: str | None = None,
    token: Token | None = None,
    codec: Literal["msgpack", "json"] = "msgpack",
    reconnect: bool = True,
    limits: Limits | None = None,
    backoff: Backoff | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dial | None = None,
) -> AsyncIterator[Client]:
    """Connect to a server, and stay connected for as long as the block runs.

    Args:
        url: `ws://HOST:PORT`, `wss://…`, `HOST:PORT` or `unix:SOCKET`; the path is `/ws` unless it names another.
        user: a stable id of the user. Without it (and without a token) one is drawn, which lasts as long as the client.
        name: what others see.
        token: as the server asks for, or an async function that fetches a fresh one for every connection; what it
            raises ends the client.
        codec: how envelopes are encoded; both mean the same.
        reconnect: come back by itself after a lost connection.
        limits: see `Limits`.
        backoff: delays between attempts.
        ssl_context: for `wss:`.
        dial: opens the stream in place of the address in `url`.

    Raises:
        ValueError: the URL is none.
        ConnectFailed: the first connection could not be made, or its hello was refused.
    """
    address = parse_url(url)
    if user is None and token is None:
        user = draw_id("u")
    client = Client(
        address,
        dial or (lambda: address.dial(ssl_context)),
        JSON if codec == "json" else MSGPACK,
        {key: value for key, value in (("user", user), ("name", name)) if value is not None},
        token,
        reconnect,
        limits or Limits(),
        backoff or Backoff(),
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            try:
                await client.wait_open()
                yield client
            finally:
                # The goodbye is said even when the block was cancelled; `Limits.close_s` bounds it.
                await client.aclose()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:  # the nursery is ours: what the block raised comes out as it was raised
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
