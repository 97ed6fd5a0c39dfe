"""Whole circuits on the kernels: angles, tables, the forward sweep, expectation values, the reverse sweep.

The kernels are called by their address, not linked in, so that they are compiled once, and not once for each of their callers; all arrays
come as addresses too, so that what is here is compiled once for both precisions. Results do not depend on the number of threads: work is
cut by size alone, and partial sums are added in order.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import carray, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from pl_hybridjobs.sim import kernels
from pl_hybridjobs.sim.kernels import (
    CMASK,
    CONST,
    CVALUE,
    DIAG,
    DOT,
    E1,
    EXPVAL,
    FORWARD,
    H_ANGLES,
    H_LENGTH,
    H_LONGEST,
    H_OBS,
    H_OBS_AT,
    H_OPS,
    H_OPS_AT,
    H_QUBITS,
    H_SCALE_AT,
    H_SHIFT_AT,
    H_SLOTS_AT,
    H_SUBS_AT,
    H_VISITS,
    H_VISITS_AT,
    HAMILTONIAN,
    HEADER,
    IF_0,
    IF_1,
    KIND,
    LAYER,
    LAYER_WIDTH,
    M0,
    N_Y,
    NEEDS,
    ONE,
    PAULI,
    PHASE,
    REVERSE,
    RX,
    RY,
    RZ,
    SELECT,
    START,
    SUB_WIDTH,
    SWAP,
    TABLE,
    TARGET,
    V_FIRST,
    V_LAST,
    V_WIDTH,
    WIDTH,
    A,
    B,
    X,
    _odd,
    as_float32,
    as_float64,
    as_int64,
    jit,
)  # fmt: skip

# Modes of ``run``.
VALUES, JACOBIAN, WEIGHTED, STATE, STATE_VJP = range(5)

_PATIENCE_S = 2.0  # without a word
_PARALLEL_FROM = 14  # qubits; below, starting threads costs more than they save
_CHUNKS = 16


# An engine is a few int64 numbers, whose address is handed around: kernels, ``do`` and ``run_one`` (addresses), bytes of a real number,
# and a workspace that is kept between calls (its address, or 0 while it is in use).
_KERNELS, _DO, _RUN_ONE, _ITEMSIZE, _WORKSPACE = range(5)
# Larger workspaces are given back: the system takes 20 ms to make 32 MB of fresh memory, and that is what it would be each time.
_KEPT_BYTES = 1 << 26
_LINE = 64  # bytes of a cache line; the first holds the workspace's size
_I = types.int64
_DO_SIGNATURE = types.void(_I, _I, _I, _I, _I, _I, _I, types.float64, _I, _I, _I, _I, _I, _I, _I, _I)
_RUN_ONE_SIGNATURE = types.void(*[_I] * 17)
_RUN_SIGNATURE = types.void(*[_I] * 14)


@dataclass(frozen=True, eq=False)
class Engine:
    """The simulator compiled for a precision.

    Attributes:
        table: See above.
        run: See ``run``.
        run_one: See ``run_one``.
    """

    table: np.ndarray[Any, np.dtype[np.int64]]
    run: Any
    run_one: Any

    @property
    def address(self) -> int:
        """Of its table."""
        return int(self.table.ctypes.data)


_F = TypeVar("_F", bound=Callable[..., Any])
_lock = threading.RLock()  # whoever is linked needs others


def once(function: _F) -> _F:
    """A function that is called once for each of its arguments, by one thread; the others wait for what it finds."""
    cached = functools.cache(function)

    @functools.wraps(function)
    def found(*arguments: Any) -> Any:
        with _lock:
            return cached(*arguments)

    return cast(_F, found)


def _renew_lock() -> None:
    """A forked process has the lock of a thread that it does not have."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)

linked: list[Engine] = []  # as long as they live, so do their tables


@once
def link(real: Any) -> Engine:
    """The engine of a precision, compiled, and known as a symbol to what else is compiled."""
    name = np.dtype(real).name
    announcement = threading.Timer(_PATIENCE_S, _announce)
    announcement.daemon = True
    announcement.start()
    with contextlib.ExitStack() as stack:
        stack.callback(announcement.cancel)
        stack.enter_context(_one_compiles())
        (_, do_at), (one, one_at), (many, many_at) = _drivers()
        engine = Engine(np.array([kernels.chunk_address(name), do_at, one_at, np.dtype(real).itemsize, 0], dtype=np.int64), many, one)
        llvmlite.binding.add_symbol(f"hybridjobs_engine_{name}", engine.address)
        llvmlite.binding.add_symbol("hybridjobs_run", many_at)
        # Handlers that come out of the disk cache find numba's allocator and threads only if a function has run before.
        _start_threads()
        _warm(engine)
    linked.append(engine)
    return engine


@contextlib.contextmanager
def _one_compiles() -> Iterator[None]:
    """Of several processes that start at once, one goes ahead; the others wait, and find what it compiled."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, RuntimeError):  # no home, or one that can't be written: each for itself
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pl_hybridjobs"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            installation = hashlib.sha256(__file__.encode()).hexdigest()[:8]
            lock = stack.enter_context((folder / f"compile-{installation}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(lock, fcntl.LOCK_SH)
            stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has the descriptor too
        yield


def _start_threads() -> None:
    """Start numba's threads; GNU's OpenMP reads the environment once, when it is loaded.

    Threads that wait would spin for milliseconds. Where other work wants the cores, that makes a small circuit ten times slower.
    """
    chosen = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = "1000"
    numba.get_num_threads()
    if not chosen:
        del os.environ["GOMP_SPINCOUNT"]


def _announce() -> None:
    print("pl_hybridjobs: compiling the simulator for this machine; this happens once, and takes up to a minute ...", file=sys.stderr)


@functools.cache
def _drivers() -> list[tuple[Any, int]]:
    return [
        kernels.compiled(do, _DO_SIGNATURE, parallel=True),
        kernels.compiled(run_one, _RUN_ONE_SIGNATURE),
        kernels.compiled(run, _RUN_SIGNATURE, parallel=True),
    ]


def _warm(engine: Engine) -> None:
    """Run an empty circuit."""
    code, numbers = np.zeros(HEADER, np.int64), np.zeros((1, 8))
    code[H_QUBITS], code[H_LENGTH], code[H_LONGEST] = 3, HEADER, 1
    at = numbers.ctypes.data
    engine.run(engine.address, code.ctypes.data, at, at, 1, 0, 0, 0, at, at, at, 0, VALUES, 0)


def _by_address(signature: Any) -> Any:
    @intrinsic
    def call(typingctx: Any, address: Any, *arguments: Any) -> Any:
        del typingctx, arguments

        def codegen(context: Any, builder: Any, _: Any, values: Any) -> Any:
            function_type = context.call_conv.get_function_type(types.none, signature.args)
            function = builder.inttoptr(values[0], function_type.as_pointer())
            given = cgutils.unpack_tuple(builder, values[1]) if len(values) == 2 else values[1:]
            context.call_conv.call_function(builder, function, types.none, signature.args, given)
            return context.get_dummy_value()

        return types.none(types.int64, types.StarArgTuple(signature.args)), codegen

    return call


_call_kernels, _call_do, _call_one = _by_address(kernels.SIGNATURE), _by_address(_DO_SIGNATURE), _by_address(_RUN_ONE_SIGNATURE)
call_run = _by_address(_RUN_SIGNATURE)


def _symbol(name: str) -> Any:
    @intrinsic
    def address(typingctx: Any, like: Any) -> Any:
        del typingctx
        whole = name.format(like.dtype)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            del context, signature, values
            anything = ir.FunctionType(ir.VoidType(), [])
            return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, anything, whole), ir.IntType(64))

        return types.int64(like), codegen

    return address


#: The address of the engine for the precision of an array, and that of ``run``, once they are linked.
engine_of, run_of = _symbol("hybridjobs_engine_{}"), _symbol("hybridjobs_run")


@intrinsic
def _exchange(typingctx: Any, address: Any, value: Any) -> Any:
    """Put a number where an address says, and get the one that was there, in one step that no thread can divide."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        del context, signature
        return builder.atomic_rmw("xchg", builder.inttoptr(values[0], ir.IntType(64).as_pointer()), values[1], "acq_rel")

    del typingctx, address, value
    return types.int64(types.int64, types.int64), codegen


def _of_c(name: str, arguments: int, *, gives: bool) -> Any:
    """A function of the C library that takes whole numbers and addresses, and gives one or nothing."""

    @intrinsic
    def call(typingctx: Any, *given: Any) -> Any:
        del typingctx, given

        def codegen(context: Any, builder: Any, _: Any, values: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.FunctionType(word if gives else ir.VoidType(), [word] * arguments)
            found = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), cgutils.unpack_tuple(builder, values[0]))
            return found if gives else context.get_dummy_value()

        return (types.int64 if gives else types.none)(types.StarArgTuple([types.int64] * arguments)), codegen

    return call


_aligned_alloc, _free = _of_c("aligned_alloc", 2, gives=True), _of_c("free", 1, gives=False)


@jit
def _take(engine, size):
    """A workspace of that many bytes: the one that is kept, if it is free and large enough; 0 if there is no memory."""
    at = _exchange(engine + 8 * _WORKSPACE, 0)
    if at and carray(as_int64(at), (1,))[0] >= size:
        return at
    if at:
        _free(at)
    at = _aligned_alloc(_LINE, (size // _LINE + 2) * _LINE)
    if at:
        carray(as_int64(at), (1,))[0] = size
    return at


@jit
def _give_back(engine, at):
    """Keep a workspace for the next call."""
    before = _exchange(engine + 8 * _WORKSPACE, at)
    if before:
        _free(before)


@jit
def compute_angles(code, data, params, angles):
    """The angles of all operations."""
    slots, scale, shift = code[H_SLOTS_AT], code[H_SCALE_AT], code[H_SHIFT_AT]
    for a in range(code[H_ANGLES]):
        slot = code[slots + a]
        angle = data[shift + a]
        if slot >= 0:
            angle += data[scale + a] * params[slot]
        angles[a] = angle


@jit
def _times(a, b, out):
    """Out = a @ b for 2 x 2 complex matrices of 8 numbers each (u00, u01, u10, u11, real and imaginary); out is neither."""
    for r in range(2):
        for c in range(2):
            x = y = 0.0
            for k in range(2):
                ar, ai = a[4 * r + 2 * k], a[4 * r + 2 * k + 1]
                br, bi = b[4 * k + 2 * c], b[4 * k + 2 * c + 1]
                x += ar * br - ai * bi
                y += ar * bi + ai * br
            out[4 * r + 2 * c], out[4 * r + 2 * c + 1] = x, y


@jit
def _after(kind, c, s, data, where, u, work):
    """U becomes part @ u; ``c`` and ``s`` are cosine and sine of the part's half angle, of its angle for DIAG."""
    if kind == CONST:
        for k in range(8):
            work[k] = u[k]
        _times(data[where : where + 8], work, u)
        return
    for k in range(0, 4, 2):
        a, b, e, f = u[k], u[k + 1], u[k + 4], u[k + 5]
        if kind == RZ:
            u[k], u[k + 1], u[k + 4], u[k + 5] = c * a + s * b, c * b - s * a, c * e - s * f, c * f + s * e
        elif kind == RY:
            u[k], u[k + 1], u[k + 4], u[k + 5] = c * a - s * e, c * b - s * f, s * a + c * e, s * b + c * f
        elif kind == RX:
            u[k], u[k + 1], u[k + 4], u[k + 5] = c * a + s * f, c * b - s * e, c * e + s * b, c * f - s * a
        else:
            u[k + 4], u[k + 5] = c * e - s * f, c * f + s * e


@jit
def _matrices(code, data, angles, row, selects, trig, u, work):
    """The matrices of a one-qubit operation for both values of its select bit, and cosine and sine of each part."""
    for select in range(2):
        for k in range(8):
            u[select, k] = 1.0 if k == 0 or k == 6 else 0.0
    for sub in range(code[row + A], code[row + B]):
        at = code[H_SUBS_AT] + SUB_WIDTH * sub
        kind, where, condition = code[at], code[at + 1], code[at + 2]
        c = s = 0.0
        if kind != CONST:
            angle = angles[where] if kind == DIAG else 0.5 * angles[where]
            c, s = math.cos(angle), math.sin(angle)
            trig[where, 0], trig[where, 1] = c, s
        if condition != IF_1:
            _after(kind, c, s, data, where, u[0], work)
        if selects and condition != IF_0:
            _after(kind, c, s, data, where, u[1], work)


@jit
def _table_one(code, row, u, inverse, table, n):
    """The table of a one-qubit operation with matrices ``u[0]`` and ``u[1]``, by the select bit."""
    target, select = code[row + TARGET], code[row + SELECT]
    cmask, cvalue = code[row + CMASK] & (n - 1), code[row + CVALUE] & (n - 1)
    low_target = 1 << target < n
    low_select = select >= 0 and 1 << select < n
    high_select = code[row + E1] != 0 or (select >= 0 and not low_select)
    alike = not low_target and not low_select and cmask == 0
    for s in range(4):
        if (s & 1 and low_target) or (s & 2 and not high_select):
            continue
        if alike:
            m, t, at = u[s >> 1], s & 1, 4 * s * n
            a_r, a_i, b_r, b_i = m[6 * t], m[6 * t + 1], m[2 + 2 * t], m[3 + 2 * t]
            if inverse:
                a_i, b_r, b_i = -a_i, m[4 - 2 * t], -m[5 - 2 * t]
            for k in range(at, at + n):
                table[k], table[k + n], table[k + 2 * n], table[k + 3 * n] = a_r, a_i, b_r, b_i
            continue
        for lane in range(n):
            t = (lane >> target) & 1 if low_target else s & 1
            m = u[(lane >> select) & 1 if low_select else s >> 1]
            at = 4 * s * n + lane
            if lane & cmask != cvalue:
                table[at], table[at + n], table[at + 2 * n], table[at + 3 * n] = 1.0, 0.0, 0.0, 0.0
            elif inverse:
                table[at], table[at + n] = m[6 * t], -m[6 * t + 1]
                table[at + 2 * n], table[at + 3 * n] = m[4 - 2 * t], -m[5 - 2 * t]
            else:
                table[at], table[at + n] = m[6 * t], m[6 * t + 1]
                table[at + 2 * n], table[at + 3 * n] = m[2 + 2 * t], m[3 + 2 * t]


@jit
def _table_pauli(code, row, c, s, other, table, n):
    """Of exp(-1j * angle / 2 * P), with the half angle's cosine and sine; ``other``: a where the controls are not met.

    With partner j = i ^ x: a = c, and b = -1j * 1j**n_y * (-1)**parity(j & z) * s.
    """
    x, z, n_y = code[row + X], code[row + M0], code[row + N_Y] & 3
    cmask, cvalue = code[row + CMASK] & (n - 1), code[row + CVALUE] & (n - 1)
    wr = s if n_y == 1 else -s if n_y == 3 else 0.0
    wi = -s if n_y == 0 else s if n_y == 2 else 0.0
    for half in range(2):
        for lane in range(n):
            at = 4 * half * n + lane
            sign = -1.0 if half ^ _odd(lane & z & (n - 1)) ^ _odd(x & z) else 1.0
            if lane & cmask != cvalue:
                table[at], table[at + n], table[at + 2 * n], table[at + 3 * n] = other, 0.0, 0.0, 0.0
            elif x == 0:
                table[at], table[at + n], table[at + 2 * n], table[at + 3 * n] = c + sign * wr, sign * wi, 0.0, 0.0
            else:
                table[at], table[at + n], table[at + 2 * n], table[at + 3 * n] = c, 0.0, sign * wr, sign * wi


@jit
def _table_phase(code, row, c, s, other, table, n):
    cmask, cvalue = code[row + CMASK] & (n - 1), code[row + CVALUE] & (n - 1)
    for lane in range(n):
        here = lane & cmask == cvalue
        table[lane], table[lane + n] = c if here else other, s if here else 0.0
        table[lane + 2 * n] = table[lane + 3 * n] = 0.0


@jit
def _table_swap(code, row, table, n):
    x = code[row + X]
    cmask, cvalue = code[row + CMASK] & (n - 1), code[row + CVALUE] & (n - 1)
    for half in range(2):
        for lane in range(n):
            at = 4 * half * n + lane
            moves = half ^ _odd(lane & x & (n - 1)) and lane & cmask == cvalue
            table[at], table[at + 2 * n] = 0.0 if moves else 1.0, 1.0 if moves else 0.0
            table[at + n] = table[at + 3 * n] = 0.0


@jit
def compute_tables(code, data, angles, trig, units, tables, n, both):
    """Fill ``tables``, shape (2, operations, 16 * n): of all operations, and, if ``both``, of their inverses.

    Args:
        trig: Takes cosine and sine for each angle of a one-qubit operation, shape (angles, 2).
        units: Takes the matrices of one-qubit operations by their select bit, shape (operations, 2, 8).
    """
    work = np.empty(8)
    for op in range(code[H_OPS]):
        row = code[H_OPS_AT] + op * WIDTH
        kind = code[row + KIND]
        if kind == ONE:
            u = units[op]
            _matrices(code, data, angles, row, _selects(code, row), trig, u, work)
            _table_one(code, row, u, False, tables[0, op], n)
            if both:
                _table_one(code, row, u, True, tables[1, op], n)
        elif kind == PAULI:
            angle = 0.5 * angles[code[row + A]]
            c, s = math.cos(angle), math.sin(angle)
            _table_pauli(code, row, c, s, 1.0, tables[0, op], n)
            if both:
                _table_pauli(code, row, c, -s, 1.0, tables[1, op], n)
        elif kind == PHASE:
            angle = angles[code[row + A]]
            c, s = math.cos(angle), math.sin(angle)
            _table_phase(code, row, c, s, 1.0, tables[0, op], n)
            if both:
                _table_phase(code, row, c, -s, 1.0, tables[1, op], n)
        elif kind == SWAP:
            _table_swap(code, row, tables[0, op], n)
            if both:
                _table_swap(code, row, tables[1, op], n)
        elif kind == LAYER:
            for phase in range(code[row + B]):
                half = 0.5 * angles[code[code[row + A] + LAYER_WIDTH * phase]]
                tables[0, op, phase], tables[1, op, phase] = half, -half


@jit
def _chain_gradient(code, data, row, select, trig, u, overlap, work, grad):
    """Add to ``grad`` the derivative by each angle of a one-qubit operation, for one value of its select bit.

    With U = later @ part @ earlier and overlap O, the derivative is 2 Re tr(G M) with M = part @ earlier @ transpose(O) @ later and the
    part's generator G. From part to part, M is only turned: of its Pauli components, the imaginary parts of which are wanted alone.

    Args:
        u: The operation's matrix, 8 numbers.
        overlap: 8 numbers, sum of conj(lambda_a) * psi_b, for lambda after and psi before the operation.
        work: Shape (4, 8), for matrices.
        grad: One number for each angle.
    """
    o = work[0]
    for k in range(2):  # transpose(O)
        o[k], o[k + 2], o[k + 4], o[k + 6] = overlap[k], overlap[k + 4], overlap[k + 2], overlap[k + 6]
    m = work[1]
    _times(u, o, m)
    m0, z = 0.5 * (m[1] + m[7]), 0.5 * (m[1] - m[7])
    x, y = 0.5 * (m[3] + m[5]), 0.5 * (m[2] - m[4])
    for sub in range(code[row + B] - 1, code[row + A] - 1, -1):
        at = code[H_SUBS_AT] + SUB_WIDTH * sub
        kind, where = code[at], code[at + 1]
        if code[at + 2] == (IF_0 if select else IF_1):
            continue
        if kind == CONST:  # transpose(conj(part)) @ (x X + y Y + z Z) @ part
            for k in range(8):
                work[3, k] = data[where + k]
            h = work[0]
            h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7] = z, 0.0, x, -y, x, y, -z, 0.0
            _times(h, work[3], m)
            h[0], h[1], h[6], h[7] = work[3, 0], -work[3, 1], work[3, 6], -work[3, 7]
            h[2], h[3], h[4], h[5] = work[3, 4], -work[3, 5], work[3, 2], -work[3, 3]
            _times(h, m, work[2])
            x, y, z = work[2, 2], -work[2, 3], work[2, 0]
            continue
        c, s = trig[where, 0], trig[where, 1]
        if kind != DIAG:
            c, s = c * c - s * s, 2.0 * c * s
        if kind == RX:
            grad[where] += 2.0 * x
            y, z = c * y + s * z, c * z - s * y
        elif kind == RY:
            grad[where] += 2.0 * y
            z, x = c * z + s * x, c * x - s * z
        else:
            grad[where] += 2.0 * z if kind == RZ else 2.0 * (z - m0)
            x, y = c * x + s * y, c * y - s * x


@jit
def _selects(code, row):
    """Whether another bit chooses what a one-qubit operation does."""
    return code[row + SELECT] >= 0 or code[row + E1] != 0


@jit
def _finish_one(code, data, row, trig, u, sums, n, overlap, work, grad):
    """The derivatives by a one-qubit operation's angles, from its overlaps as they come out of the kernels."""
    target, select = code[row + TARGET], code[row + SELECT]
    cmask, cvalue = code[row + CMASK] & (n - 1), code[row + CVALUE] & (n - 1)
    low_target = 1 << target < n
    low_select = select >= 0 and 1 << select < n
    selects = _selects(code, row)
    overlap[:] = 0.0
    alike = not low_target and not low_select and cmask == 0
    for s in range(4):
        if (s & 1 and low_target) or (s & 2 and (low_select or not selects)):
            continue
        if alike:
            a = b = c = d = 0.0
            for at in range(4 * s * n, 4 * s * n + n):
                a, b, c, d = a + sums[at], b + sums[at + n], c + sums[at + 2 * n], d + sums[at + 3 * n]
            o, t = overlap[s >> 1], s & 1
            o[6 * t], o[6 * t + 1], o[2 + 2 * t], o[3 + 2 * t] = a, b, c, d
            continue
        for lane in range(n):
            if lane & cmask != cvalue:
                continue
            t = (lane >> target) & 1 if low_target else s & 1
            o = overlap[(lane >> select) & 1 if low_select else s >> 1]
            at = 4 * s * n + lane
            o[6 * t] += sums[at]
            o[6 * t + 1] += sums[at + n]
            o[2 + 2 * t] += sums[at + 2 * n]
            o[3 + 2 * t] += sums[at + 3 * n]
    for half in range(2 if selects else 1):
        _chain_gradient(code, data, row, half, trig, u[half], overlap[half], work, grad)


@jit
def _finish_gradient(code, data, angles, op, trig, units, sums, n, table, overlap, work, grad):
    row = code[H_OPS_AT] + op * WIDTH
    if code[row + KIND] == ONE:
        _finish_one(code, data, row, trig, units[op], sums, n, overlap, work, grad)
        return
    if code[row + KIND] == LAYER:
        for phase in range(code[row + B]):
            grad[code[code[row + A] + LAYER_WIDTH * phase]] += sums[phase]
        return
    angle = angles[code[row + A]]
    table[:] = 0.0
    if code[row + KIND] == PAULI:
        _table_pauli(code, row, -0.5 * math.sin(0.5 * angle), 0.5 * math.cos(0.5 * angle), 0.0, table, n)
    else:
        _table_phase(code, row, -math.sin(angle), math.cos(angle), 0.0, table, n)
    found = 0.0
    for at in range(0, TABLE * n, 2 * n):
        for k in range(at, at + n):
            found += sums[k] * table[k] - sums[k + n] * table[k + n]
    grad[code[row + A]] += 2.0 * found


@jit
def _add_up(code, data, grad_angles, grad):
    slots, scale = code[H_SLOTS_AT], code[H_SCALE_AT]
    for a in range(code[H_ANGLES]):
        slot = code[slots + a]
        if slot >= 0:
            grad[slot] += data[scale + a] * grad_angles[a]


# One circuit ------------------------------------------------------------------------------------------------------------


def do(kernels_at, task, code, data, tables, index, last, weight, re, im, lr, li, chunks, partial_at, row, threads):
    """A task of the kernels on the whole state, chunk by chunk, or with ``threads`` side by side.

    What the chunks found, ``row`` numbers each from ``partial_at``, is added up in the first row.
    """
    partial = carray(as_float64(partial_at), (chunks, row))
    for chunk in range(chunks):  # not all at once, which would be done in threads
        for k in range(row):
            partial[chunk, k] = 0.0
    if threads and chunks > 1:
        for chunk in prange(chunks):
            _call_kernels(
                kernels_at, task, code, data, tables, index, last, weight, re, im, lr, li, chunk, chunks, partial_at + 8 * row * chunk
            )
    else:
        for chunk in range(chunks):
            _call_kernels(
                kernels_at, task, code, data, tables, index, last, weight, re, im, lr, li, chunk, chunks, partial_at + 8 * row * chunk
            )
    for chunk in range(1, chunks):
        for k in range(row):
            partial[0, k] += partial[chunk, k]


@jit
def _do(engine, task, code, data, tables, index, last, weight, re, im, lr, li, partial, threads):
    _call_do(
        engine[_DO], engine[_KERNELS], task, code, data, tables, index, last, weight, re, im, lr, li,
        partial.shape[0], partial.ctypes.data, partial.shape[1], threads,
    )  # fmt: skip


@jit
def _forward(engine, code, data, tables, visits, re, im, partial, threads):
    for visit in range(visits):
        _do(engine, FORWARD, code, data, tables, visit, 0, 0.0, re, im, re, im, partial, threads)


@jit
def _backward(engine, code, code_at, data, data_at, tables, n, angles, trig, units, re, im, lr, li, partial, grad_angles, grad, threads):
    """The reverse sweep for one lambda. The states end as they are before the circuit."""
    grad_angles[:] = 0.0
    grad[:] = 0.0
    table, overlap, work = np.empty(TABLE * n), np.empty((2, 8)), np.empty((4, 8))
    for visit in range(code[H_VISITS] - 1, -1, -1):
        _do(engine, REVERSE, code_at, data_at, tables, visit, 0, 0.0, re, im, lr, li, partial, threads)
        at = code[H_VISITS_AT] + V_WIDTH * visit
        for op in range(code[at + V_FIRST], code[at + V_LAST]):
            if code[code[H_OPS_AT] + op * WIDTH + NEEDS]:
                sums = partial[0, (op - code[at + V_FIRST]) * TABLE * n :]
                _finish_gradient(code, data, angles, op, trig, units, sums, n, table, overlap, work, grad_angles)
    _add_up(code, data, grad_angles, grad)


def run_one(
    engine, code_at, data_at, params_at, n_params, start_r, start_i, weights_at, values_at, grad_at, rows, re, im, lr, li, mode, threads
):  # fmt: skip
    """One parameter set. Arrays are addresses; those of states in the engine's precision, all others of double precision.

    Args:
        engine: See ``Engine``.
        code_at: See ``program``; so ``data_at``.
        params_at: Parameters, ``n_params`` of them.
        start_r: The state before the circuit, real part; 0: all qubits in 0. ``start_i``: its imaginary part.
        weights_at: In mode WEIGHTED, of each observable in the sum whose gradient is wanted.
        values_at: Takes the expectation values.
        grad_at: Takes gradients, shape (rows, parameters): a row for each observable in mode JACOBIAN, one in WEIGHTED and STATE_VJP.
        rows: How many.
        re: Shape (2**n,), at least 8: workspace, and in mode STATE the result; so ``im``.
        lr: The same for lambda: in mode STATE_VJP, the cotangent of the final state, and at the end that of the state before; so ``li``.
        mode: What is wanted.
        threads: Use them.
    """
    header = carray(as_int64(code_at), (HEADER,))
    code = carray(as_int64(code_at), (header[H_LENGTH],))
    n = 32 // carray(as_int64(engine), (4,))[_ITEMSIZE]
    chunks = _CHUNKS if code[H_QUBITS] >= _PARALLEL_FROM else 1
    _one(
        carray(as_int64(engine), (4,)), code, code_at, carray(as_float64(data_at), (1 << 40,)), data_at,
        carray(as_float64(params_at), (n_params,)), start_r, start_i, carray(as_float64(weights_at), (code[H_OBS],)),
        carray(as_float64(values_at), (code[H_OBS],)), carray(as_float64(grad_at), (rows, n_params)), re, im, lr, li, mode, n,
        np.empty((2, max(code[H_OPS], 1), TABLE * n)), np.empty((chunks, code[H_LONGEST] * TABLE * n)), threads,
    )  # fmt: skip


@jit
def _one(
    engine, code, code_at, data, data_at, params, start_r, start_i, weights, values, grad, re, im, lr, li, mode, n, exact, partial, threads
):  # fmt: skip
    angles = np.empty(max(code[H_ANGLES], 1))
    grad_angles = np.empty(max(code[H_ANGLES], 1))
    compute_angles(code, data, params, angles)
    trig, units = np.empty((angles.size, 2)), np.empty((exact.shape[1], 2, 8))
    compute_tables(code, data, angles, trig, units, exact, n, grad.shape[0] > 0)
    tables = exact.ctypes.data
    if n == 8:  # in place: the end of each number is read before anything is written there
        single = carray(as_float32(tables), (exact.size,))
        flat = carray(as_float64(tables), (exact.size,))
        for k in range(exact.size):
            single[k] = flat[k]
    _do(engine, START, code_at, data_at, tables, 1 if start_r else 0, 0, 0.0, re, im, start_r, start_i, partial, threads)
    _forward(engine, code_at, data_at, tables, code[H_VISITS], re, im, partial, threads)
    if mode == STATE:
        return
    if mode == STATE_VJP:
        _backward(
            engine, code, code_at, data, data_at, tables, n, angles, trig, units, re, im, lr, li, partial, grad_angles, grad[0], threads
        )
        return
    # One observable in a sweep: its value is the overlap of psi and lambda, which the sweep needs anyway.
    alone = mode == JACOBIAN or (mode == WEIGHTED and code[H_OBS] == 1)
    for obs in range(0 if alone else code[H_OBS]):
        at = code[H_OBS_AT] + 2 * obs
        _do(engine, EXPVAL, code_at, data_at, tables, code[at], code[at + 1], 1.0, re, im, re, im, partial, threads)
        values[obs] = partial[0, 0]
    if mode == VALUES:
        return
    for sweep in range(grad.shape[0]):
        if sweep:
            _forward(engine, code_at, data_at, tables, code[H_VISITS], re, im, partial, threads)
        _do(engine, START, code_at, data_at, tables, -1, 0, 0.0, lr, li, lr, li, partial, threads)
        for obs in range(code[H_OBS]):
            if mode == WEIGHTED or obs == sweep:
                at = code[H_OBS_AT] + 2 * obs
                weight = 1.0 if alone else weights[obs]
                _do(engine, HAMILTONIAN, code_at, data_at, tables, code[at], code[at + 1], weight, re, im, lr, li, partial, threads)
        if alone:
            _do(engine, DOT, code_at, data_at, tables, 0, 0, 0.0, re, im, lr, li, partial, threads)
            values[sweep] = partial[0, 0]
        _backward(
            engine, code, code_at, data, data_at, tables, n, angles, trig, units, re, im, lr, li, partial, grad_angles, grad[sweep], threads
        )
        if alone and mode == WEIGHTED:
            grad[sweep] *= weights[0]


@jit
def _set(engine_at, code, data, params, n_params, start_r, start_i, weights, n_obs, values, grads, rows, mode, threads, b, kept, work):
    """One of a batch, in a workspace of 2 or 4 halves of states: the one that is ``kept``, or else ``work``."""
    engine = carray(as_int64(engine_at), (4,))
    at = kept + _LINE if kept else work.ctypes.data
    step = engine[_ITEMSIZE] << carray(as_int64(code), (HEADER,))[H_QUBITS]
    lambdas = at if mode == VALUES else at + 2 * step
    _call_one(
        engine[_RUN_ONE], engine_at, code, data, params + 8 * b * n_params, n_params, start_r, start_i, weights + 8 * b * n_obs,
        values + 8 * b * n_obs, grads + 8 * b * rows * n_params, rows, at, at + step, lambdas, lambdas + step, mode, threads,
    )  # fmt: skip


def run(engine, code, data, params, batch, n_params, start_r, start_i, weights, values, grads, rows, mode, threads):
    """A batch of parameter sets, in mode VALUES, JACOBIAN or WEIGHTED: ``run_one`` with one more axis in front.

    Args:
        threads: Use them: for one large state together, for small ones each for itself.
    """
    header = carray(as_int64(code), (HEADER,))
    n, n_obs = header[H_QUBITS], header[H_OBS]
    size = ((2 if mode == VALUES else 4) * carray(as_int64(engine), (4,))[_ITEMSIZE] << n) // 8
    if threads and n < _PARALLEL_FROM and batch > 1:
        for b in prange(batch):
            _set(
                engine, code, data, params, n_params, start_r, start_i, weights, n_obs, values, grads, rows, mode, 0, b, 0, np.empty(size)
            )  # fmt: skip
        return
    kept = _take(engine, 8 * size) if 8 * size <= _KEPT_BYTES else 0
    work = np.empty(0 if kept else size)
    for b in range(batch):
        _set(engine, code, data, params, n_params, start_r, start_i, weights, n_obs, values, grads, rows, mode, threads, b, kept, work)
    if kept:
        _give_back(engine, kept)
