"""A batch of circuits cut into chunks, sent to workers, and their results in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pl_hybridjobs.errors import FanOutError, WorkerLost
from pl_hybridjobs.fanout import work
from pl_hybridjobs.fanout.executors import Executor, Pending
from pl_hybridjobs.fanout.messages import dumps, loads
from pl_hybridjobs.fanout.work import Failure, Item, Recipe

#: How often a circuit is tried whose worker was lost while it ran alone.
ATTEMPTS = 3
_CHUNKS_PER_WORKER = 4  # the last ones even out what the first ones differ in


@dataclass(frozen=True)
class _Sent:
    """A chunk that was submitted."""

    items: tuple[Item, ...]
    pending: Pending
    attempt: int


class _Remote(Exception):
    """A traceback from a worker, as text, shown as the cause of what was raised there."""

    def __str__(self) -> str:
        return "in a worker\n\n" + str(self.args[0])


class Dispatch:
    """Runs a device's methods on workers.

    Args:
        executor: Where the workers are.
        recipe: The device, which each of them makes for itself.
        workers: For how many of them batches are cut.
        threads: How many threads our kernels may use in each.
    """

    def __init__(self, executor: Executor, recipe: Recipe, workers: int, threads: int) -> None:
        self.executor, self.workers, self.threads = executor, workers, threads
        try:
            self._recipe, self._versions = dumps(recipe), work.versions()
        except Exception as error:
            raise FanOutError(
                f"{recipe.name}: its options cannot be sent to workers ({type(error).__name__}: {error}); give it what can be pickled, "
                "or take it without workers"
            ) from error

    def warm(self) -> None:
        """Let the workers make their devices now. What goes wrong there goes wrong again with circuits, and is then said."""
        for _ in range(self.workers):
            self.executor.submit(work.warm, self._recipe)

    def run(self, method: str, items: Sequence[Item], config: Any) -> list[Any]:
        """What the device's method gives for each circuit.

        Raises:
            FanOutError: Workers were lost again and again, or the pool gave up.
            Exception: What a circuit raised, the first one of the batch that did, with its number and drawing as a note.
        """
        if not items:
            return []
        batch = _Batch(self, method, items, config)
        try:
            return batch.results()
        except BaseException:
            batch.abandon()
            raise

    def submit(self, request: bytes) -> Pending:
        """Send a chunk."""
        return self.executor.submit(work.run, self._recipe, self._versions, self.threads, request)


class _Batch:
    """One batch on its way."""

    def __init__(self, dispatch: Dispatch, method: str, items: Sequence[Item], config: Any) -> None:
        self._dispatch, self._method, self._items, self._config = dispatch, method, items, config
        self._sent: list[_Sent] = []

    def results(self) -> list[Any]:
        count = min(len(self._items), self._dispatch.workers * _CHUNKS_PER_WORKER)
        borders = [len(self._items) * number // count for number in range(count + 1)]
        sent = [self._send(self._items[first:last]) for first, last in pairwise(borders)]
        return [result for chunk in sent for result in self._of(chunk)]

    def abandon(self) -> None:
        """Nobody wants what is still on its way."""
        for sent in self._sent:
            stop = getattr(sent.pending, "abandon", None) or getattr(sent.pending, "cancel", None)
            if stop is not None:
                stop()

    def _send(self, items: Sequence[Item], attempt: int = 1) -> _Sent:
        request = self._packed(items)
        try:
            pending = self._dispatch.submit(request)
        except Exception as error:  # shut down, broken; pools of others raise what they like
            raise FanOutError(f"{self._dispatch.executor!r} takes no circuits: {type(error).__name__}: {error}") from error
        sent = _Sent(tuple(items), pending, attempt)
        self._sent.append(sent)
        return sent

    def _packed(self, items: Sequence[Item]) -> bytes:
        try:
            return dumps((self._method, tuple(items), self._config))
        except Exception as error:
            if len(items) > 1:  # which one it is
                for item in items:
                    self._packed((item,))
            raise FanOutError(
                f"what cannot be pickled cannot go to workers ({type(error).__name__}: {error}); run it on a device without workers, "
                f"or mend {self._brief(items[0].index)}"
            ) from error

    def _of(self, sent: _Sent) -> list[Any]:
        """Its results; of a chunk whose worker was lost, each circuit is tried again alone."""
        try:
            answer = loads(sent.pending.result())
        except WorkerLost as lost:
            if len(sent.items) > 1:
                alone = [self._send((item,)) for item in sent.items]
                return [result for one in alone for result in self._of(one)]
            if sent.attempt < ATTEMPTS:
                return self._of(self._send(sent.items, sent.attempt + 1))
            raise FanOutError(
                f"{ATTEMPTS} workers were lost, one after the other, with {self._brief(sent.items[0].index)}\n{lost}"
            ) from lost
        except FanOutError:
            raise
        except Exception as error:
            which = f"circuits {sent.items[0].index} to {sent.items[-1].index} of {len(self._items)}"
            raise FanOutError(
                f"{self._dispatch.executor!r} did not run {which}: {type(error).__name__}: {error}; "
                "executor='processes' replaces workers that are lost"
            ) from error
        if isinstance(answer, Failure):
            raise self._error(answer)
        return list(answer)

    def _error(self, failure: Failure) -> BaseException:
        error = failure.error
        error.add_note(f"raised in a worker, by {self._brief(failure.index)}")
        error.__cause__ = _Remote(failure.text)
        return error

    def _brief(self, index: int) -> str:
        return work.brief([item.circuit for item in self._items], index)
