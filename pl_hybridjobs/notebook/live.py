"""A card that follows what it shows, in a running kernel: by ipywidgets where they are installed, else by updates of the cell's output.

One thread looks at all cards of a kernel in turn. It ends when there is nothing left to follow: each thing shown has ended, or nobody has
its card on the screen any more. What is saved with the notebook is HTML and text in the same output as the widgets, brought up to date
whenever the status changes, after each cell, and now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pl_hybridjobs.notebook.markup import block, text
from pl_hybridjobs.plain import plain

_PAUSE_S = 0.5  # between two looks, at least
_SHARE = 15  # a look that took 0.1 s is not repeated for 1.5 s: the kernel belongs to the user
_LONGEST_PAUSE_S = 20.0
_OUTPUT_PAUSE_S = 2.0  # between two updates of an output, each of which changes the notebook's file
_SAVE_EVERY_S = 60.0  # where widgets show what is new
_QUICK_S = 0.3  # a look that took longer is not made between two cells: a job elsewhere may be slow to answer
_PATIENCE_S = 1.0  # for a look that another thread has begun
_MOST_SLEEPING = 50  # cards of things that have stopped and may go on
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class View:
    """What is to be seen at one moment.

    Attributes:
        html: One element.
        words: The same as text.
        status: What it is about; a new one is saved at once.
        is_over: Nothing will happen by itself.
        is_final: Nor by anything that somebody does.
        actions: Those that make sense now.
    """

    html: str
    words: str
    status: str = ""
    is_over: bool = True
    is_final: bool = True
    actions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Notice:
    """What became of a press of a button.

    Attributes:
        words: A line, or "".
        is_bad: It could not be done.
    """

    words: str = ""
    is_bad: bool = False


class Subject(Protocol):
    """What a card shows."""

    @property
    def key(self) -> Hashable:
        """The same for cards of the same thing."""

    @property
    def actions(self) -> Mapping[str, Callable[[], str]]:
        """What its buttons do; each gives a line for the card, or ""."""

    def look(self, notice: Notice) -> View:
        """As it is now, with a line of the card's own. May take a while, may raise anything."""


def in_kernel() -> bool:
    """Whether this process is a Jupyter kernel."""
    shell = _shell()
    return shell is not None and getattr(shell, "kernel", None) is not None


def show(subject: Subject) -> None:
    """Put a card of something into the output of the running cell, and let it follow.

    Raises:
        NotImplementedError: This is no kernel; IPython then tries the next way to show an object.
    """
    if not in_kernel():
        raise NotImplementedError
    Card(subject).display()


class Card:
    """A card in a cell's output.

    Args:
        subject: What it shows.
    """

    def __init__(self, subject: Subject) -> None:
        from IPython.display import DisplayHandle

        self.subject = subject
        self.view: View | None = None
        self.due = 0.0  # monotonic seconds
        self.took_s = 0.0  # the last look
        self._lock = threading.RLock()
        self._notice = Notice()
        self._acting = ""
        self._saved: tuple[str, str] = ("", "")  # HTML and status, as they stand in the notebook
        self._saved_at = 0.0
        self._handle = DisplayHandle()
        self._panel = _panel(subject.actions, self._act, self._seen)

    @property
    def is_hidden(self) -> bool:
        """It was on a screen and is on none any more: its cell was cleared or run again."""
        return self._panel is not None and self._panel.is_hidden

    def display(self) -> None:
        """Show it, and let it follow unless there is nothing to follow."""
        self._look()
        self._handle.display(self._bundle(), raw=True)
        self._has_saved()
        _PULSE.follow(self)

    def refresh(self, *, save: bool = False) -> None:
        """Look again, and show what is new. Raises nothing: it runs where nobody would hear of it.

        Args:
            save: Bring the notebook's own output up to date as well; that must be quick.
        """
        if not self._lock.acquire(timeout=_PATIENCE_S):
            return
        try:
            if not save or self.took_s <= _QUICK_S:
                self._look()
            self._publish(save)
            self.due = time.monotonic() + min(_LONGEST_PAUSE_S, max(_PAUSE_S, _SHARE * self.took_s))
        except Exception:  # noqa: BLE001 - a kernel that shuts down, a frontend that is gone: the next look may succeed
            self.due = time.monotonic() + _LONGEST_PAUSE_S
        finally:
            self._lock.release()

    def _look(self) -> None:
        notice = Notice(f"{self._acting} ...") if self._acting else self._notice
        begin = time.monotonic()
        try:
            self.view = self.subject.look(notice)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a job's files is shown, and does not end a cell
            said = f"{type(error).__name__}: {error}"
            self.view = View(block(f'<div class="hj-bad">{text(said)}</div>'), plain(said), "unreadable", is_final=False)
        self.took_s = time.monotonic() - begin

    def _publish(self, save: bool) -> None:
        assert self.view is not None
        if self._panel is not None:
            self._panel.update(self.view, self._acting)
        if (self.view.html, self.view.status) == self._saved:
            return
        since_s = time.monotonic() - self._saved_at
        pause_s = _SAVE_EVERY_S if self._panel is not None and self._panel.is_seen else _OUTPUT_PAUSE_S
        if save or self.view.status != self._saved[1] or self.view.is_over or since_s >= pause_s:
            self._handle.update(self._bundle(), raw=True)
            self._has_saved()

    def _has_saved(self) -> None:
        assert self.view is not None
        self._saved = self.view.html, self.view.status
        self._saved_at = time.monotonic()

    def _bundle(self) -> dict[str, Any]:
        """Widgets only while there is something to press or to follow: a page that nobody's kernel serves shows the HTML."""
        assert self.view is not None
        bundle: dict[str, Any] = {"text/plain": self.view.words, "text/html": self.view.html}
        if self._panel is not None and not self.view.is_final:
            self._panel.update(self.view, self._acting)
            bundle[_WIDGET_VIEW] = self._panel.reference
        return bundle

    def _seen(self) -> None:
        """A frontend shows or hides it."""
        if not self.is_hidden:
            _PULSE.follow(self)

    def _act(self, name: str) -> None:
        """A button was pressed. The deed may take long, so it has a thread of its own; pressed twice, it is done once."""
        if self._acting:
            return
        self._acting, self._notice = name, Notice()
        threading.Thread(target=self._do, args=(name,), name=f"hybridjobs-{name}", daemon=True).start()
        self.refresh()

    def _do(self, name: str) -> None:
        try:
            self._notice = Notice(self.subject.actions[name]())
        except Exception as error:  # noqa: BLE001 - nobody would hear of it but the person before the card
            self._notice = Notice(f"{name}: {error}", is_bad=True)
        self._acting = ""
        self.refresh()
        _PULSE.follow(self)


class _Panel:
    """A card as widgets: HTML, and buttons below.

    Args:
        names: What the buttons are called.
        act: Is told which one was pressed.
        seen: Is told when the number of screens that show it has changed.
    """

    def __init__(self, names: Mapping[str, Any], act: Callable[[str], None], seen: Callable[[], None]) -> None:
        import ipywidgets

        self._html = ipywidgets.HTML()
        self._buttons = {name: ipywidgets.Button(description=name) for name in names}
        for name, button in self._buttons.items():
            button.on_click(lambda _, name=name: act(name))
        self._row = ipywidgets.HBox([*self._buttons.values()])
        self._box = ipywidgets.VBox([self._html, self._row], _view_count=0)  # frontends count only where there is a number
        self._was_seen = False

        def counted(change: Any) -> None:
            self._was_seen = self._was_seen or change["new"] > 0
            seen()

        self._box.observe(counted, "_view_count")

    @property
    def is_seen(self) -> bool:
        return bool(self._box._view_count)

    @property
    def is_hidden(self) -> bool:
        return self._was_seen and not self.is_seen

    @property
    def reference(self) -> dict[str, Any]:
        return {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}

    def update(self, view: View, acting: str) -> None:
        """Sends only what has changed."""
        self._html.value = view.html
        for name, button in self._buttons.items():
            button.disabled = bool(acting)
            button.layout.display = "" if name in view.actions or name == acting else "none"
        self._row.layout.display = "" if view.actions or acting else "none"
        for button in self._buttons.values():
            # ipykernel 7 takes a press to the shell that wrote to the widget last, where a cell may be waiting for the job. Without this
            # mark it goes where the frontend sends it: JupyterLab has a subshell for widgets, which is free.
            vars(button.comm).pop("_reply_subshell_id", None)


def _panel(names: Mapping[str, Any], act: Callable[[str], None], seen: Callable[[], None]) -> _Panel | None:
    """None where ipywidgets is not installed, or too old."""
    try:
        return _Panel(names, act, seen)
    except Exception:  # noqa: BLE001 - another library's trouble must not cost the picture
        return None


class _Pulse:
    """Looks at the cards of a kernel. Its thread lives as long as there is a card to follow."""

    def __init__(self) -> None:
        self._followed: list[Card] = []
        self._sleeping: list[Card] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._shell: Any = None

    def follow(self, card: Card) -> None:
        """From now on, until there is nothing to follow."""
        with self._lock:
            self._forget(card)
            assert card.view is not None
            if card._panel is None:  # of a cell that was cleared nobody would tell us: the newest card of a thing follows it
                self._followed = [one for one in self._followed if one._panel is not None or one.subject.key != card.subject.key]
            if not card.view.is_over:
                self._followed.append(card)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="hybridjobs-cards", daemon=True)
                    self._thread.start()
            elif not card.view.is_final:
                self._sleep(card)
        self._listen()

    def _forget(self, card: Card) -> None:
        self._followed = [one for one in self._followed if one is not card]
        self._sleeping = [one for one in self._sleeping if one is not card]

    def _sleep(self, card: Card) -> None:
        self._sleeping = [*self._sleeping, card][-_MOST_SLEEPING:]

    def _run(self) -> None:
        while True:
            with self._lock:
                self._followed = [card for card in self._followed if not card.is_hidden]
                if not self._followed:
                    self._thread = None
                    return
                card = min(self._followed, key=lambda one: one.due)
            wait_s = card.due - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, _PAUSE_S))
                continue
            card.refresh()
            self._sort(card)

    def _sort(self, card: Card) -> None:
        """Where a card belongs after a look."""
        with self._lock:
            assert card.view is not None
            if card in self._followed and card.view.is_over:
                self._forget(card)
                if not card.view.is_final:
                    self._sleep(card)

    def _listen(self) -> None:
        """After each cell outputs are brought up to date: the kernel may be stopped, or the file saved, before the next look."""
        shell = _shell()
        if shell is not None and shell is not self._shell:
            self._shell = shell
            shell.events.register("post_run_cell", self._after_cell)

    def _after_cell(self, *_: Any) -> None:
        with self._lock:
            cards = [card for card in (*self._followed, *self._sleeping) if not card.is_hidden]
        for card in cards:
            card.refresh(save=True)
            assert card.view is not None
            if card in self._sleeping and not card.view.is_over:  # somebody has resumed it
                self.follow(card)
            else:
                self._sort(card)


_PULSE = _Pulse()


def _shell() -> Any:
    """IPython's shell in this process, None where there is none."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()
