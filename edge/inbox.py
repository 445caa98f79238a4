"""What waits for the node's one thread: messages and news, a bounded number of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from threading import Condition

from edge.desk import Incoming

MAX_MESSAGES = 256
MAX_BATCH = 64
MAX_NEWS = 1024

News = Callable[[], None]


class Inbox:
    """Filled by network and reader threads, emptied by one worker.

    `put_message` and `put_news` block while full, which makes a broker keep what it has and a rank
    wait.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._messages: deque[Incoming] = deque()
        self._news: deque[News] = deque()
        self._closed = False

    def put_message(self, message: Incoming) -> None:
        """Add a message; when closed, it is dropped unacknowledged and will come again."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._messages) < MAX_MESSAGES or self._closed)
            if not self._closed:
                self._messages.append(message)
                self._changed.notify_all()

    def put_news(self, news: News) -> None:
        """Add something that the worker is to call; blocks while there is too much of it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._news) < MAX_NEWS or self._closed)
            self._news.append(news)
            self._changed.notify_all()

    def take_news(self, timeout_s: float) -> list[News]:
        """All news, after waiting for news or messages for at most `timeout_s`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._news or self._messages or self._closed, timeout=timeout_s
            )
            news = list(self._news)
            self._news.clear()
            self._changed.notify_all()
            return news

    def peek_messages(self) -> list[Incoming]:
        """The next batch; it stays here until `drop_messages`."""
        with self._changed:
            return list(islice(self._messages, MAX_BATCH))

    def drop_messages(self, num: int) -> None:
        """Forget the first `num` messages, which are on disk now."""
        with self._changed:
            for _ in range(num):
                self._messages.popleft()
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
