"""Whole circuits on the kernels: angles, matrices, the forward sweep, expectation values, the reverse sweep.

The kernels are called through a symbol of the process (``kernels.chunk``), not linked in, so that they are compiled once, and not once for
each of their callers. Results do not depend on the number of threads: work is cut by size alone, and partial sums are added in order.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from pl_hybridjobs.sim import kernels
from pl_hybridjobs.sim.kernels import (
    APPLY,
    CONST,
    DIAG,
    DOT,
    EXPVAL,
    FAST,
    H_ANGLES,
    H_OBS,
    H_OBS_AT,
    H_OPS,
    H_OPS_AT,
    H_QUBITS,
    H_SCALE_AT,
    H_SHIFT_AT,
    H_SLOTS_AT,
    H_SUBS_AT,
    HAMILTONIAN,
    KIND,
    ONE,
    PAULI,
    PHASE,
    REVERSE,
    REVERSE_AFTER,
    REVERSE_BEFORE,
    RX,
    RZ,
    WIDTH,
    A,
    B,
    _odd,
    jit,
)  # fmt: skip

# Modes of ``run``.
VALUES, JACOBIAN, WEIGHTED, STATE, STATE_VJP = range(5)

_PATIENCE_S = 2.0  # without a word
_PARALLEL_FROM = 14  # qubits; below, starting threads costs more than they save
_CHUNKS = 16


@jit
def _allocate():
    return np.empty(1)


@functools.cache
def link(real: Any) -> None:
    """Make the kernels of a precision known to what is compiled here, and numba's runtime ready for callers that are not Python."""
    name = np.dtype(real).name
    announcement = threading.Timer(_PATIENCE_S, _announce)
    announcement.daemon = True
    announcement.start()
    try:
        llvmlite.binding.add_symbol(f"hybridjobs_chunk_{name}", kernels.chunk_address(name))
        _allocate()  # handlers that come out of the disk cache find numba's allocator and threads only if a function has run before
        numba.get_num_threads()
        _warm(np.empty(1, real))
    finally:
        announcement.cancel()


def _announce() -> None:
    print("pl_hybridjobs: compiling the simulator for this machine; this happens once, and takes up to a minute ...", file=sys.stderr)


def _warm(like: Any) -> None:
    """Compile (or find in the cache) what calls will need, with an empty circuit on one wire."""
    code = np.zeros(kernels.HEADER, np.int64)
    code[H_QUBITS] = 1
    none, rows, signs = np.empty(0), np.zeros((1, 0)), np.ones((2, 2))
    work = np.zeros((4, 2), like.dtype)
    start = np.empty(0, like.dtype)
    run(code, none, rows, start, start, rows, rows, np.zeros((1, 0, 0)), signs, VALUES, like, False)
    run_one(code, none, none, start, start, none, none, rows[:0], signs, work[0], work[1], work[2], work[3], STATE, 1)


@intrinsic
def _call(typingctx: Any, like: Any, *arguments: Any) -> Any:
    """Call the kernels' entry point for the precision of the array ``like``."""
    del typingctx
    name = f"hybridjobs_chunk_{like.dtype}"

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wanted = kernels.SIGNATURE.args
        function_type = context.call_conv.get_function_type(types.none, wanted)
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        given = cgutils.unpack_tuple(builder, values[1]) if len(values) == 2 else values[1:]
        context.call_conv.call_function(builder, function, types.none, wanted, given)
        return context.get_dummy_value()

    return types.none(like, types.StarArgTuple(kernels.SIGNATURE.args)), codegen


@jit
def chunk_count(n):
    """Into how many pieces work on 2**n amplitudes is cut."""
    return _CHUNKS if n >= _PARALLEL_FROM else 1


@jit
def low_signs(table):
    """table[z, k] = (-1)**parity(z & k)."""
    for z in range(table.shape[0]):
        for k in range(table.shape[1]):
            table[z, k] = -1.0 if _odd(z & k) else 1.0


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
def _part(code, data, angles, sub, s):
    """One part of a one-qubit operation as 8 numbers: u00, u01, u10, u11, real and imaginary."""
    kind, where = code[sub], code[sub + 1]
    if kind == CONST:
        for k in range(8):
            s[k] = data[where + k]
        return
    for k in range(8):
        s[k] = 0.0
    angle = angles[where]
    if kind == DIAG:
        s[0] = 1.0
        s[6], s[7] = math.cos(angle), math.sin(angle)
        return
    c, d = math.cos(0.5 * angle), math.sin(0.5 * angle)
    if kind == RZ:
        s[0], s[1], s[6], s[7] = c, -d, c, d
    elif kind == RX:
        s[0], s[3], s[5], s[6] = c, -d, -d, c
    else:
        s[0], s[2], s[4], s[6] = c, -d, d, c


@jit
def _times(a, b, out):
    """Out = a @ b for 2 x 2 complex matrices of 8 numbers each; out is neither."""
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
def compute_matrices(code, data, angles, mats):
    """Fill a row of ``mats`` for each operation: 8 numbers for ONE, cosine and sine for PAULI and PHASE."""
    work = np.empty((3, 8))
    for op in range(code[H_OPS]):
        row = code[H_OPS_AT] + op * WIDTH
        kind = code[row + KIND]
        if kind == ONE:
            at, end = code[row + A], code[row + B]
            subs = code[H_SUBS_AT]
            _part(code, data, angles, subs + 2 * at, work[0])
            for sub in range(at + 1, end):
                _part(code, data, angles, subs + 2 * sub, work[1])
                _times(work[1], work[0], work[2])
                work[0, :] = work[2]
            for k in range(8):
                mats[op, k] = work[0, k]
        elif kind == PAULI:
            angle = angles[code[row + A]]
            mats[op, 0], mats[op, 1] = math.cos(0.5 * angle), math.sin(0.5 * angle)
        elif kind == PHASE:
            angle = angles[code[row + A]]
            mats[op, 0], mats[op, 1] = math.cos(angle), math.sin(angle)


@jit
def _chain_gradient(code, data, angles, op, overlap, grad):
    """Add to ``grad`` the derivative by each angle of a one-qubit operation.

    Args:
        overlap: 8 numbers, sum of conj(lambda_a) * psi_b, for lambda after and psi before the operation.
        grad: One number for each angle.
    """
    row = code[H_OPS_AT] + op * WIDTH
    at, end, subs = code[row + A], code[row + B], code[H_SUBS_AT]
    m = end - at
    prefix = np.empty((m + 1, 8))
    part = np.empty(8)
    later = np.zeros(8)
    work = np.empty(8)
    full = np.empty(8)
    prefix[0, :] = 0.0
    prefix[0, 0] = prefix[0, 6] = 1.0
    for k in range(m):
        _part(code, data, angles, subs + 2 * (at + k), part)
        _times(part, prefix[k], prefix[k + 1])
    later[0] = later[6] = 1.0
    for k in range(m - 1, -1, -1):
        sub = subs + 2 * (at + k)
        kind = code[sub]
        if kind != CONST:
            p = prefix[k + 1]
            # work = generator @ p, where the part's derivative is generator @ part.
            if kind == DIAG:
                for c in range(2):
                    work[2 * c] = work[2 * c + 1] = 0.0
                    work[4 + 2 * c], work[5 + 2 * c] = -p[5 + 2 * c], p[4 + 2 * c]
            elif kind == RZ:
                for c in range(2):
                    work[2 * c], work[2 * c + 1] = 0.5 * p[2 * c + 1], -0.5 * p[2 * c]
                    work[4 + 2 * c], work[5 + 2 * c] = -0.5 * p[5 + 2 * c], 0.5 * p[4 + 2 * c]
            elif kind == RX:
                for c in range(2):
                    work[2 * c], work[2 * c + 1] = 0.5 * p[5 + 2 * c], -0.5 * p[4 + 2 * c]
                    work[4 + 2 * c], work[5 + 2 * c] = 0.5 * p[2 * c + 1], -0.5 * p[2 * c]
            else:
                for c in range(2):
                    work[2 * c], work[2 * c + 1] = -0.5 * p[4 + 2 * c], -0.5 * p[5 + 2 * c]
                    work[4 + 2 * c], work[5 + 2 * c] = 0.5 * p[2 * c], 0.5 * p[2 * c + 1]
            _times(later, work, full)
            total = 0.0
            for e in range(4):
                total += overlap[2 * e] * full[2 * e] - overlap[2 * e + 1] * full[2 * e + 1]
            grad[code[sub + 1]] += 2.0 * total
        _part(code, data, angles, sub, part)
        _times(later, part, work)
        later[:] = work


@jit
def needs_overlap(code, op):
    """Whether an operation has angles that depend on parameters."""
    row = code[H_OPS_AT] + op * WIDTH
    kind = code[row + KIND]
    slots = code[H_SLOTS_AT]
    if kind == ONE:
        for sub in range(code[row + A], code[row + B]):
            at = code[H_SUBS_AT] + 2 * sub
            if code[at] != CONST and code[slots + code[at + 1]] >= 0:
                return True
        return False
    return (kind == PAULI or kind == PHASE) and code[slots + code[row + A]] >= 0


@jit
def _finish_gradient(code, data, angles, op, sums, grad):
    row = code[H_OPS_AT] + op * WIDTH
    kind = code[row + KIND]
    if kind == ONE:
        _chain_gradient(code, data, angles, op, sums, grad)
    else:
        grad[code[row + A]] += sums[0]


@jit
def _add_up(code, data, grad_angles, grad):
    slots, scale = code[H_SLOTS_AT], code[H_SCALE_AT]
    for a in range(code[H_ANGLES]):
        slot = code[slots + a]
        if slot >= 0:
            grad[slot] += data[scale + a] * grad_angles[a]


# One circuit ------------------------------------------------------------------------------------------------------------


@jit
def _one_chunk(task, code, data, mats, op, last, weight, signs, re, im, lr, li, chunk, chunks, out):
    _call(
        re, task, code.ctypes.data, data.ctypes.data, mats.ctypes.data, op, last, weight, signs.ctypes.data, signs.shape[0],
        re.ctypes.data, im.ctypes.data, lr.ctypes.data, li.ctypes.data, chunk, chunks, out.ctypes.data,
    )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, fastmath=FAST, error_model="numpy", boundscheck=False)
def _all_chunks(task, code, data, mats, op, last, weight, signs, re, im, lr, li, chunks, partial):
    for chunk in prange(chunks):
        _one_chunk(task, code, data, mats, op, last, weight, signs, re, im, lr, li, chunk, chunks, partial[chunk])


@jit
def _do(task, code, data, mats, op, last, weight, signs, re, im, lr, li, chunks, partial):
    """A task on the whole state; what its chunks found is added up in ``partial[0]``."""
    partial[:] = 0.0
    if chunks == 1:
        _one_chunk(task, code, data, mats, op, last, weight, signs, re, im, lr, li, 0, 1, partial[0])
        return
    _all_chunks(task, code, data, mats, op, last, weight, signs, re, im, lr, li, chunks, partial)
    for chunk in range(1, chunks):
        for k in range(8):
            partial[0, k] += partial[chunk, k]


@jit
def _forward(code, data, mats, signs, start_r, start_i, re, im, chunks, partial):
    if start_r.size:
        re[:] = start_r
        im[:] = start_i
    else:
        re[:] = 0
        im[:] = 0
        re[0] = 1
    for op in range(code[H_OPS]):
        _do(APPLY, code, data, mats, op, 0, 0.0, signs, re, im, re, im, chunks, partial)


@jit
def _backward(code, data, mats, signs, angles, re, im, lr, li, chunks, partial, grad_angles, grad):
    """The reverse sweep for one lambda. The states end as they are before the circuit."""
    grad_angles[:] = 0.0
    grad[:] = 0.0
    for op in range(code[H_OPS] - 1, -1, -1):
        task = REVERSE
        if needs_overlap(code, op):
            task = REVERSE_AFTER if code[code[H_OPS_AT] + op * WIDTH + KIND] == ONE else REVERSE_BEFORE
        _do(task, code, data, mats, op, 0, 0.0, signs, re, im, lr, li, chunks, partial)
        if task != REVERSE:
            _finish_gradient(code, data, angles, op, partial[0], grad_angles)
    _add_up(code, data, grad_angles, grad)


@jit
def run_one(code, data, params, start_r, start_i, weights, values, grad, signs, re, im, lr, li, mode, chunks):
    """One parameter set.

    Args:
        code: See ``program``; so ``data``.
        params: Shape (parameters,).
        start_r: The state before the circuit, real part; empty: all qubits in 0. ``start_i``: its imaginary part.
        weights: In mode WEIGHTED, of each observable in the sum whose gradient is wanted.
        values: Takes the expectation values.
        grad: Takes gradients, shape (rows, parameters): a row for each observable in mode JACOBIAN, one in WEIGHTED and STATE_VJP.
        signs: See ``low_signs``.
        re: Shape (2**n,): workspace, and in mode STATE the result; so ``im``.
        lr: The same for lambda: in mode STATE_VJP, the cotangent of the final state, and at the end that of the state before; so ``li``.
        mode: What is wanted.
        chunks: Into how many pieces the work on a state is cut; more than 1 uses threads.
    """
    angles = np.empty(max(code[H_ANGLES], 1))
    grad_angles = np.empty(max(code[H_ANGLES], 1))
    mats = np.empty((max(code[H_OPS], 1), 8), re.dtype)
    partial = np.empty((chunks, 8))
    compute_angles(code, data, params, angles)
    compute_matrices(code, data, angles, mats)
    _forward(code, data, mats, signs, start_r, start_i, re, im, chunks, partial)
    if mode == STATE:
        return
    if mode == STATE_VJP:
        _backward(code, data, mats, signs, angles, re, im, lr, li, chunks, partial, grad_angles, grad[0])
        return
    # One observable in a sweep: its value is the overlap of psi and lambda, which the sweep needs anyway.
    alone = mode == JACOBIAN or (mode == WEIGHTED and code[H_OBS] == 1)
    for obs in range(0 if alone else code[H_OBS]):
        at = code[H_OBS_AT] + 2 * obs
        _do(EXPVAL, code, data, mats, code[at], code[at + 1], 0.0, signs, re, im, re, im, chunks, partial)
        values[obs] = partial[0, 0]
    if mode == VALUES:
        return
    for sweep in range(grad.shape[0]):
        if sweep:
            for op in range(code[H_OPS]):
                _do(APPLY, code, data, mats, op, 0, 0.0, signs, re, im, re, im, chunks, partial)
        lr[:] = 0
        li[:] = 0
        for obs in range(code[H_OBS]):
            if mode == WEIGHTED or obs == sweep:
                at = code[H_OBS_AT] + 2 * obs
                weight = 1.0 if alone else weights[obs]
                _do(HAMILTONIAN, code, data, mats, code[at], code[at + 1], weight, signs, re, im, lr, li, chunks, partial)
        if alone:
            _do(DOT, code, data, mats, 0, 0, 0.0, signs, re, im, lr, li, chunks, partial)
            values[sweep] = partial[0, 0]
        _backward(code, data, mats, signs, angles, re, im, lr, li, chunks, partial, grad_angles, grad[sweep])
        if alone and mode == WEIGHTED:
            grad[sweep] *= weights[0]


@njit(cache=True, nogil=True, parallel=True, fastmath=FAST, error_model="numpy", boundscheck=False)
def _batch(code, data, params, start_r, start_i, weights, values, grad, signs, mode, like):
    size = 1 << code[H_QUBITS]
    for b in prange(params.shape[0]):
        work = np.empty((4, size), like.dtype)
        run_one(
            code, data, params[b], start_r, start_i, weights[b], values[b], grad[b], signs,
            work[0], work[1], work[2], work[3], mode, 1,
        )  # fmt: skip


@jit
def run(code, data, params, start_r, start_i, weights, values, grad, signs, mode, like, threads):
    """A batch of parameter sets, in mode VALUES, JACOBIAN or WEIGHTED: ``run_one`` with one more axis in front.

    Args:
        like: An array of the precision that is wanted.
        threads: Use them: for one large state together, for small ones each for itself.
    """
    n = code[H_QUBITS]
    if threads and n < _PARALLEL_FROM and params.shape[0] > 1:
        _batch(code, data, params, start_r, start_i, weights, values, grad, signs, mode, like)
        return
    work = np.empty((2 if mode == VALUES else 4, 1 << n), like.dtype)
    last = 0 if mode == VALUES else 2
    for b in range(params.shape[0]):
        run_one(
            code, data, params[b], start_r, start_i, weights[b], values[b], grad[b], signs,
            work[0], work[1], work[last], work[last + 1], mode, chunk_count(n) if threads else 1,
        )  # fmt: skip
