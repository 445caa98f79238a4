"""What waits for the node's one thread: messages and news, bounded in number and bytes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition

from edge.desk import Incoming

MB = 1_000_000
MAX_MESSAGES = 256
MAX_BYTES = 64 * MB
MAX_BATCH = 64
MAX_BATCH_BYTES = 16 * MB
MAX_NEWS = 1024
# A commit costs the same for one message as for ten: while they keep coming, ten are awaited.
LINGER_S = 0.005
LINGER_FOR = 32
TELL_S = 1.0

News = Callable[[], None]


class Inbox:
    """Filled by network and reader threads, emptied by one worker.

    `put_message` and `put_news` block while full, which makes a broker keep what it has and a rank
    wait.

    Parameters
    ----------
    max_bytes : int
        Of all waiting messages together; one that is larger is taken when no other waits.
    withheld : callable
        Told the seconds that the broker's next message had to wait for room.
    """

    def __init__(
        self, max_bytes: int = MAX_BYTES, withheld: Callable[[float], None] = lambda _s: None
    ) -> None:
        self._max_bytes = max_bytes
        self._withheld = withheld
        self._changed = Condition()
        self._messages: deque[Incoming] = deque()
        self._num_bytes = 0
        self._news: deque[News] = deque()
        self._closed = False

    @property
    def num_messages(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    @property
    def num_bytes(self) -> int:
        """Bytes of the messages that wait."""
        return self._num_bytes

    def put_message(self, message: Incoming) -> None:
        """Add a message; when closed, it is dropped unacknowledged and will come again."""
        with self._changed:
            if not self._has_room(message):
                self._await_room(message)
            if not self._closed:
                self._messages.append(message)
                self._num_bytes += message.num_bytes
                self._changed.notify_all()

    def put_news(self, news: News) -> None:
        """Add something that the worker is to call; blocks while there is too much of it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._news) < MAX_NEWS or self._closed)
            self._news.append(news)
            self._changed.notify_all()

    def take_news(self, timeout_s: float) -> list[News]:
        """All news, after waiting for news or messages for at most `timeout_s`.

        The first few messages wait for more for at most `LINGER_S`.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._news or self._messages or self._closed, timeout=timeout_s
            )
            if 0 < len(self._messages) < LINGER_FOR:
                self._changed.wait_for(
                    lambda: self._news or len(self._messages) >= LINGER_FOR or self._closed,
                    timeout=LINGER_S,
                )
            news = list(self._news)
            self._news.clear()
            self._changed.notify_all()
            return news

    def peek_messages(self) -> list[Incoming]:
        """The next batch; it stays here until `drop_messages`."""
        batch: list[Incoming] = []
        num_bytes = 0
        with self._changed:
            for message in self._messages:
                num_bytes += message.num_bytes
                if batch and (len(batch) == MAX_BATCH or num_bytes > MAX_BATCH_BYTES):
                    break
                batch.append(message)
        return batch

    def drop_messages(self, num: int) -> None:
        """Forget the first `num` messages, which are on disk now."""
        with self._changed:
            for _ in range(num):
                self._num_bytes -= self._messages.popleft().num_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, message: Incoming) -> bool:
        if self._closed or not self._messages:
            return True
        fits = self._num_bytes + message.num_bytes <= self._max_bytes
        return fits and len(self._messages) < MAX_MESSAGES

    def _await_room(self, message: Incoming) -> None:
        began = time.monotonic()
        while not self._changed.wait_for(lambda: self._has_room(message), timeout=TELL_S):
            began = self._tell_withheld(began)
        self._tell_withheld(began)

    def _tell_withheld(self, began: float) -> float:
        now = time.monotonic()
        self._withheld(now - began)
        return now
