"""Finds what looks like a credential before it is written into a bundle. Reports where, never what.

Two signs: a value of a known form (an AWS key id, a private key, a GitHub token ...), or a name that says it (``API_KEY``,
``password``) on a text that is long enough. The second is for values with a name; source files and the finished pickle
are searched for the first alone.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence

from pl_hybridjobs.jobs import pickling
from pl_hybridjobs.jobs.object_paths import Child, code_texts, walk

_WALK_LIMIT = 100_000

# What it is, a literal part that makes the search fast, the form.
_FORMS: tuple[tuple[str, tuple[bytes, ...], re.Pattern[bytes]], ...] = tuple(
    (what, literals, re.compile(form))
    for what, literals, form in (
        ("an AWS access key id", (b"AKIA", b"ASIA"), rb"(?<![A-Za-z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Z0-9])"),
        ("a private key", (b"PRIVATE KEY-----",), rb"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----\s*[A-Za-z0-9+/]{8}"),
        ("a GitHub token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"gh[pousr]_[A-Za-z0-9]{36}"),
        ("a GitHub token", (b"github_pat_",), rb"github_pat_[A-Za-z0-9_]{22}"),
        ("a GitLab token", (b"glpat-",), rb"glpat-[A-Za-z0-9_-]{20}"),
        ("a Slack token", (b"xox",), rb"xox[abeoprs]-[A-Za-z0-9-]{10}"),
        ("an API key", (b"sk-",), rb"(?<![A-Za-z0-9-])sk-(?=[A-Za-z0-9_-]{0,40}[0-9])[A-Za-z0-9_-]{20}"),
        ("a Hugging Face token", (b"hf_",), rb"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30}"),
        ("a Google API key", (b"AIza",), rb"AIza[A-Za-z0-9_-]{35}"),
        ("a PyPI token", (b"pypi-Ag",), rb"pypi-Ag[A-Za-z0-9_-]{30}"),
        ("a JSON web token", (b"eyJ",), rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}"),
    )
)
_PASSWORD_IN_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@'\"]*:[^/\s@'\"{}<>$]{3,}@[A-Za-z0-9]")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IN_FILE = re.compile(r"(?:[^<>\[\]]*/)?([^/<>\[\]]+\.(?:py|pkl))(?::\d+)?")
_PASSWORDS = {"password", "passwd", "passphrase", "pwd"}
_SECRETS = {"secret", "token", "credential", "credentials", "apikey", "secretkey", "accesskey", "privatekey", "authtoken"}
_KEYS = {("api", "key"), ("access", "key"), ("secret", "key"), ("private", "key"), ("auth", "key"), ("account", "key")}
# A placeholder or a marker (`<your key>`, `[PAD]`, `${TOKEN}`), the name of an environment variable.
_PLACEHOLDER = re.compile(r"[<\[{(*$%].*|x+|\.+|[A-Z]+(?:_[A-Z]+)+", re.DOTALL)
# A sentence, an identifier, a module path, a file: no key looks like that, but a password may.
_WORDY = re.compile(r".*\s.*|[a-z]+(?:[_.][a-z]+)+|.*[/\\].*\.[a-z]{1,5}", re.DOTALL)


def in_objects(roots: list[Child], entry: object) -> list[tuple[str, str, object]]:
    """Credentials in what a call captures.

    Args:
        roots: The function, each argument: pairs of path and object.
        entry: The function that goes by value.

    Returns:
        Path, what it looks like, and the value itself (for `in_bytes`; never to be shown).
    """
    found: list[tuple[str, str, object]] = []
    for path, obj in walk(roots, lambda obj: pickling.by_reference(obj, entry), _WALK_LIMIT):
        if isinstance(obj, (str, bytes, bytearray)):
            what = _looks_like(last_name(path), obj)
            if what:
                found.append((path, what, obj))
        elif isinstance(obj, types.FunctionType) and (obj is entry or not pickling.by_reference(obj)):
            found += [(f"{path}.<code>", what, text) for text in code_texts(obj.__code__) if (what := form_of(_as_bytes(text)))]
    return found


def in_bytes(data: bytes, known: Sequence[object] = ()) -> list[str]:
    """What of known form is in some bytes and not in texts that were reported (or allowed) already."""
    texts = [_as_bytes(text) for text in known if isinstance(text, (str, bytes, bytearray))]
    found = {what: None for what, match in _matches(data) if not any(match in text for text in texts)}
    return list(found)


def in_source(data: bytes) -> list[tuple[int, str]]:
    """Line number and kind of each credential of known form in a source file."""
    return [(data.count(b"\n", 0, data.find(match)) + 1, what) for what, match in _matches(data)]


def form_of(data: bytes) -> str | None:
    """What a value looks like by its form alone, or None."""
    for what, _ in _matches(data):
        return what
    return "an address with a password" if b"://" in data and _PASSWORD_IN_URL.search(data) else None


def allowed(path: str, allow: Sequence[str]) -> bool:
    """Whether a finding was allowed, by its whole path or by its last name."""
    return path in allow or last_name(path) in allow


def last_name(path: str) -> str:
    """``API_KEY`` of ``train.<globals>.API_KEY`` and of ``kwargs["API_KEY"]``; of a list's item the name of the list; a file's name."""
    file = _IN_FILE.fullmatch(path)
    if file:
        return file[1]
    path = path.removesuffix(".<code>")
    while path.endswith("]") and "[" in path:
        path, _, key = path[:-1].rpartition("[")
        if key.startswith('"'):
            return key.strip('"')
    return path.rpartition(".")[2]


def _looks_like(name: str, value: str | bytes | bytearray) -> str | None:
    data = _as_bytes(value)
    what = form_of(data)
    if what or len(data) > 4096:
        return what
    text = data.decode("utf-8", "replace")
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or _PLACEHOLDER.fullmatch(text):
        return None
    is_password = words[-1] in _PASSWORDS and len(text) >= 6
    is_key = (words[-1] in _SECRETS or tuple(words[-2:]) in _KEYS) and len(text) >= 8 and not _WORDY.fullmatch(text)
    return "a credential by its name" if is_password or is_key else None


def _matches(data: bytes) -> Iterator[tuple[str, bytes]]:
    for what, literals, form in _FORMS:
        if any(literal in data for literal in literals):
            for match in form.finditer(data):
                yield what, match.group()


def _as_bytes(text: str | bytes | bytearray) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
