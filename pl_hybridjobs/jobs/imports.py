"""What a piece of code imports: read from a source file's syntax tree, or from a code object. Nothing is run."""

from __future__ import annotations

import ast
import dis
import functools
import re
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_BY_NAME = {"import_module", "__import__"}
#: CPython counts the depth of trees once for all threads: of two that parse at once, one gets a SystemError.
_one_parses = threading.Lock()


@dataclass(frozen=True)
class Import:
    """One import: ``import module``, or ``from module import names`` with ``level`` leading dots."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0

    def targets(self, package: str) -> list[str]:
        """Full names of the modules that it may load; of ``names`` each could be a module or only an attribute.

        Args:
            package: The package that leading dots count from.
        """
        base = self.module
        if self.level:
            parents = package.split(".") if package else []
            if len(parents) < self.level:
                return []
            stem = ".".join(parents[: len(parents) - self.level + 1])
            base = f"{stem}.{self.module}" if self.module else stem
        return [base, *(f"{base}.{name}" for name in self.names if name != "*")]


def of_source(source: bytes, path: str) -> tuple[Import, ...]:
    """Every import in a file, inside functions too, except those that only a type checker or the file as a script would run."""
    try:
        with _one_parses:
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError):  # a template, or code for another Python: whoever imports it will hear of it
        return ()
    return tuple(dict.fromkeys(_of_tree(tree)))


def _of_tree(tree: ast.AST) -> Iterator[Import]:
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.level)
        elif isinstance(node, ast.If) and _is_never_true_in_a_job(node.test):
            pending.extend(reversed(node.orelse))
            continue
        elif isinstance(node, ast.Call):
            yield from _named_import(node)
        pending.extend(reversed(list(ast.iter_child_nodes(node))))


def _named_import(call: ast.Call) -> Iterator[Import]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    if name in _BY_NAME and call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
        dotted = call.args[0].value
        module = dotted.lstrip(".")
        if _DOTTED.fullmatch(module):
            yield Import(module, level=len(dotted) - len(module))


def _is_never_true_in_a_job(test: ast.expr) -> bool:
    text = ast.unparse(test) if isinstance(test, (ast.Name, ast.Attribute, ast.Compare)) else ""
    return text in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "t.TYPE_CHECKING", "__name__ == '__main__'")


@functools.lru_cache(maxsize=1024)
def of_code(code: types.CodeType) -> tuple[Import, ...]:
    """Every import statement in a code object and in those nested in it; also ``import_module("a.literal")``."""
    found: dict[Import, None] = {}
    pending = [code]
    while pending:
        one = pending.pop()
        pending.extend(const for const in one.co_consts if isinstance(const, types.CodeType))
        # Reading instructions is slow; most functions import nothing.
        if dis.opmap["IMPORT_NAME"] in one.co_code[::2]:
            found.update(dict.fromkeys(_statements(one)))
        if _BY_NAME & set(one.co_names):
            texts = (const for const in one.co_consts if isinstance(const, str) and _DOTTED.fullmatch(const))
            found.update((Import(text), None) for text in texts)
    return tuple(found)


def names_of_code(code: types.CodeType) -> str:
    """Every name and text in a code object and in those nested in it, a line each."""
    found: list[str] = []
    pending = [code]
    while pending:
        one = pending.pop()
        pending.extend(const for const in one.co_consts if isinstance(const, types.CodeType))
        found += [*one.co_names, *one.co_freevars, *(const for const in one.co_consts if isinstance(const, str))]
    return "\n".join(found)


def _statements(code: types.CodeType) -> Iterator[Import]:
    constants: list[object] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and len(constants) >= 2:
            level, names = constants[-2:]
            yield Import(
                str(instruction.argval),
                tuple(str(n) for n in names) if isinstance(names, tuple) else (),
                level if isinstance(level, int) else 0,
            )
        elif instruction.opname.startswith("LOAD_"):
            constants = [*constants[-1:], instruction.argval]
