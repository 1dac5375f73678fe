"""A service that reads every message that Catfish stored, once, and together with its colleagues.

    python consumer.py redis://localhost:6379 [--group GROUP] [--name NAME] [--stream catfish:messages]

Start it several times with the same group: the messages are divided among them. Kill one: what it had not acknowledged
is taken over by the others. Start another group: it gets every message again. docs/streams.md tells what it relies on.
Needs only `pip install redis`.
"""

import argparse
import json
import os
import signal
import time
from collections import OrderedDict

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

IDLE_MS = 10_000
"""A message that a colleague has had for so long without acknowledging it is taken over."""
REMEMBERED = 10_000
"""Ids of messages that were processed, to notice the ones that come again."""


def process(message: dict) -> None:
    """Your work. It may happen that the same message comes again: after a crash, and after Redis lost its data."""
    print(json.dumps([message["room"], message["seq"], message["name"], message["content"]]), flush=True)


class Consumer:
    def __init__(self, url: str, stream: str, group: str, name: str) -> None:
        # Every command here may be repeated, so a lost connection is no more than a pause.
        retry = Retry(ExponentialBackoff(cap=2.0, base=0.05), retries=1_000_000)
        errors = [redis.ConnectionError, redis.TimeoutError]
        self.redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=10.0, retry=retry, retry_on_error=errors
        )
        self.stream, self.group, self.name = stream, group, name
        self.done: OrderedDict[str, None] = OrderedDict()
        self.last = "0"
        self.stopping = False

    def run(self) -> None:
        take_over_at = 0.0
        while not self.stopping:
            try:
                if time.monotonic() >= take_over_at:
                    self.take_over()
                    take_over_at = time.monotonic() + IDLE_MS / 1000
                read = self.redis.xreadgroup(self.group, self.name, {self.stream: ">"}, count=100, block=1_000)
                for _, entries in read or []:
                    self.handle(entries)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self.create_group()

    def create_group(self) -> None:
        """At the first start, and when Redis lost its data. Catfish fills the stream again, under the same ids."""
        try:
            self.redis.xgroup_create(self.stream, self.group, id=self.last, mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def take_over(self) -> None:
        """What colleagues who died had begun, and what was ours before a crash."""
        start = "0-0"
        while True:
            start, entries, *_ = self.redis.xautoclaim(
                self.stream, self.group, self.name, min_idle_time=IDLE_MS, start_id=start, count=100
            )
            self.handle(entries)
            if start == "0-0":
                return

    def handle(self, entries: list) -> None:
        for id, fields in entries:
            if fields and fields["event"] == "chat:message" and id not in self.done:
                process(json.loads(fields["message"]))
                self.done[id] = None
                if len(self.done) > REMEMBERED:
                    self.done.popitem(last=False)
            self.redis.xack(self.stream, self.group, id)
            self.last = id

    def stop(self, *_: object) -> None:
        self.stopping = True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--stream", default="catfish:messages")
    parser.add_argument("--group", default="example")
    parser.add_argument("--name", default=f"consumer-{os.getpid()}")
    arguments = parser.parse_args()
    consumer = Consumer(arguments.url, arguments.stream, arguments.group, arguments.name)
    signal.signal(signal.SIGTERM, consumer.stop)
    signal.signal(signal.SIGINT, consumer.stop)
    consumer.run()


if __name__ == "__main__":
    main()
