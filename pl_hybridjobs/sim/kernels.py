"""numba kernels: the operations of a circuit, their overlaps for gradients, and observables, on blocks of a split state.

A circuit comes as two flat arrays (see ``program``): ``code`` (int64: what to do) and ``data`` (float64: constants). Nothing here needs
Python objects, so the same functions serve direct calls and XLA handlers, and nothing is compiled again for another circuit.

State: ``re`` and ``im``, both of length 2**n, float32 or float64; wire 0 is the most significant bit of the index. Operations come in
visits: a visit goes through the state block by block, and does several operations on a block while that is in the cache.

Most operations have one form: ``new[i] = a[i] * old[i] + b[i] * old[i ^ x]``, with coefficients that depend on the lane of i and on two
parities of its other bits, and so are a table of 4 sets. Where a and b are real, which costs half, column N_Y of a one-qubit operation is
1. The others are dense matrices, and layers of phases: products of ``exp(-1j * angle / 2 * (-1)**parity(i & z))``.

All of this is in one file, because numba's disk cache looks at one file only. Gradients follow T. Jones and J. Gacon, "Efficient
calculation of gradients in classical simulations of variational quantum algorithms", arXiv:2009.02823.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from pl_hybridjobs.sim.lanes import (
    lanes,
    load,
    minus_times,
    mirrored,
    plus,
    plus_times,
    splat,
    store,
    times,
    total,
    zero,
)

# Kinds of operations.
ONE, PAULI, PHASE, SWAP, MATRIX, LAYER = range(6)
# Kinds of parts of a one-qubit operation, and where the select bit lets them act.
RX, RY, RZ, DIAG, CONST = range(5)
ALWAYS, IF_1, IF_0 = range(3)

# Columns of an operation's row in ``code``. Bits are those of an index into a block; those named E_ are of the block's base.
KIND, TARGET, SELECT, A, B, X, M0, M1, CMASK, CVALUE, E0, E1, E_CMASK, E_CVALUE, N_Y, NEEDS = range(16)
WIDTH = 16
# Columns of a visit: qubits of a block, first and last operation, log2 of a contiguous run, where bits and offsets lie in ``code``.
V_QUBITS, V_FIRST, V_LAST, V_RUN, V_BITS, V_OFFSETS = range(6)
V_WIDTH = 6
# Columns of a part.
SUB_WIDTH = 3
# The header of ``code``.
H_QUBITS, H_OPS, H_OPS_AT, H_ANGLES, H_SLOTS_AT, H_SUBS_AT, H_OBS, H_OBS_AT, H_GROUPS_AT, H_TERMS_AT = range(10)
# Offsets into ``data``.
H_SCALE_AT, H_SHIFT_AT, H_COEFF_AT = range(10, 13)
#: Length of ``code`` itself.
H_LENGTH = 13
H_VISITS, H_VISITS_AT, H_LONGEST = range(14, 17)
HEADER = 20

#: Numbers in an operation's table, in lanes: 4 sets of a and b, real and imaginary.
TABLE = 16
#: Phases in a layer at most, and numbers of each in ``code``: its angle, its z in a block, and that of the block's base.
LAYER_PHASES = 64
LAYER_WIDTH = 3
# log2 of how many amplitudes' phases are a table; the others are another one.
_LOW_QUBITS = 6
#: Amplitudes whose coefficients in an observable are worked out together.
BLOCK = 64
# Observables: terms of one group that are cheaper one by one than by a Walsh-Hadamard transform; amplitudes between changes of group.
_FEW_TERMS = 4
_TILE = 4096
# Every computed index is masked by this: then the compiler knows that it is not negative, and leaves out Python's counting from the end.
_INDEX = (1 << 48) - 1

FAST = {"contract", "reassoc", "nsz", "arcp"}  # not "nnan": NaN must stay NaN


def jit(function: Any) -> Any:
    """As all kernels are compiled: cached on disk, without the interpreter's lock."""
    return njit(function, cache=True, nogil=True, fastmath=FAST, error_model="numpy", boundscheck=False)


@intrinsic
def _popcount(typingctx: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    del typingctx, value
    return types.int64(types.int64), codegen


@jit
def _odd(value):
    return _popcount(value) & 1


@jit
def _sets(index, m0, m1):
    """Which set of a table an index uses."""
    return _odd(index & m0) | (_odd(index & m1) << 1)


@jit
def _spread(p, code, bits, count):
    """Insert a zero at each of some bit positions (ascending) of ``p``."""
    for k in range(count):
        bit = code[bits + k]
        p = ((p >> bit) << (bit + 1)) | (p & ((1 << bit) - 1))
    return p & _INDEX


# Operations on a block ---------------------------------------------------------------------------------------------------


@jit
def _run_length(size, masks):
    """How many amplitudes follow each other that are treated alike."""
    return masks & -masks if masks else size


@jit
def _update(re, im, at, vr, vi, wr, wi, ar, ai, br, bi):
    store(re, at, minus_times(plus_times(minus_times(times(ar, vr), ai, vi), br, wr), bi, wi))
    store(im, at, plus_times(plus_times(plus_times(times(ar, vi), ai, vr), br, wi), bi, wr))


@jit
def _add(out, at, value):
    store(out, at, plus(load(out, at), value))


@jit
def _update_real(re, im, at, vr, vi, wr, wi, a, b):
    store(re, at, plus_times(times(a, vr), b, wr))
    store(im, at, plus_times(times(a, vi), b, wi))


@jit
def _apply_real(high, low, m0, m1, cmask, cvalue, begin, pivot, table, re, im):
    """As ``_apply_alone`` and ``_apply_pairs``, with real coefficients."""
    n = lanes(re)
    if not high:
        run = _run_length(re.size, m0 | m1 | cmask)
        for start in range(0, re.size, run):
            if start & cmask != cvalue:
                continue
            t = (begin ^ _sets(start, m0, m1)) * 4 * n
            a, b = load(table, t), load(table, t + 2 * n)
            for k in range(start, start + run, n):
                vr, vi = load(re, k), load(im, k)
                _update_real(re, im, k, vr, vi, mirrored(vr, low), mirrored(vi, low), a, b)
        return
    run = _run_length(re.size, high | m0 | m1 | cmask)
    toggle = _sets(high, m0, m1)
    for p in range(0, re.size // 2, run):
        i = (((p >> pivot) << (pivot + 1)) | (p & ((1 << pivot) - 1))) & _INDEX
        if i & cmask != cvalue:
            continue
        j = (i ^ high) & _INDEX
        s = begin ^ _sets(i, m0, m1)
        t = (s ^ toggle) * 4 * n
        s = s * 4 * n
        a, b, c, d = load(table, s), load(table, s + 2 * n), load(table, t), load(table, t + 2 * n)
        for k in range(0, run, n):
            vr, vi, wr, wi = load(re, i + k), load(im, i + k), load(re, j + k), load(im, j + k)
            _update_real(re, im, i + k, vr, vi, wr, wi, a, b)
            _update_real(re, im, j + k, wr, wi, vr, vi, c, d)


@jit
def _reverse_real(high, low, m0, m1, cmask, cvalue, begin, pivot, table, re, im, lr, li, out):
    """Undo an operation with real coefficients on psi and lambda, and add the real parts of the overlaps in between, in one pass."""
    n = lanes(re)
    if not high:
        run = _run_length(re.size, m0 | m1 | cmask)
        for start in range(0, re.size, run):
            if start & cmask != cvalue:
                continue
            t = (begin ^ _sets(start, m0, m1)) * 4 * n
            a, b = load(table, t), load(table, t + 2 * n)
            first = second = zero(re)
            for k in range(start, start + run, n):
                vr, vi = load(re, k), load(im, k)
                vr, vi = plus_times(times(a, vr), b, mirrored(vr, low)), plus_times(times(a, vi), b, mirrored(vi, low))
                store(re, k, vr)
                store(im, k, vi)
                x, y = load(lr, k), load(li, k)
                first = plus_times(plus_times(first, x, vr), y, vi)
                second = plus_times(plus_times(second, x, mirrored(vr, low)), y, mirrored(vi, low))
                _update_real(lr, li, k, x, y, mirrored(x, low), mirrored(y, low), a, b)
            _add(out, t, first)
            _add(out, t + 2 * n, second)
        return
    run = _run_length(re.size, high | m0 | m1 | cmask)
    toggle = _sets(high, m0, m1)
    for p in range(0, re.size // 2, run):
        i = (((p >> pivot) << (pivot + 1)) | (p & ((1 << pivot) - 1))) & _INDEX
        if i & cmask != cvalue:
            continue
        j = (i ^ high) & _INDEX
        s = begin ^ _sets(i, m0, m1)
        t = (s ^ toggle) * 4 * n
        s = s * 4 * n
        a, b, c, d = load(table, s), load(table, s + 2 * n), load(table, t), load(table, t + 2 * n)
        aa = ab = bb = ba = zero(re)
        for k in range(0, run, n):
            vr, wr, x, y = load(re, i + k), load(re, j + k), load(lr, i + k), load(lr, j + k)
            vr, wr = plus_times(times(a, vr), b, wr), plus_times(times(c, wr), d, vr)
            store(re, i + k, vr)
            store(re, j + k, wr)
            aa, ab = plus_times(aa, x, vr), plus_times(ab, x, wr)
            bb, ba = plus_times(bb, y, wr), plus_times(ba, y, vr)
            store(lr, i + k, plus_times(times(a, x), b, y))
            store(lr, j + k, plus_times(times(c, y), d, x))
            vr, wr, x, y = load(im, i + k), load(im, j + k), load(li, i + k), load(li, j + k)
            vr, wr = plus_times(times(a, vr), b, wr), plus_times(times(c, wr), d, vr)
            store(im, i + k, vr)
            store(im, j + k, wr)
            aa, ab = plus_times(aa, x, vr), plus_times(ab, x, wr)
            bb, ba = plus_times(bb, y, wr), plus_times(ba, y, vr)
            store(li, i + k, plus_times(times(a, x), b, y))
            store(li, j + k, plus_times(times(c, y), d, x))
        _add(out, s, aa)
        _add(out, s + 2 * n, ab)
        _add(out, t, bb)
        _add(out, t + 2 * n, ba)


@jit
def _apply_alone(x, m0, m1, cmask, cvalue, begin, table, re, im):
    """Where an amplitude's partner is in its own vector, or there is none."""
    n = lanes(re)
    run = _run_length(re.size, m0 | m1 | cmask)
    for start in range(0, re.size, run):
        if start & cmask != cvalue:
            continue
        t = (begin ^ _sets(start, m0, m1)) * 4 * n
        ar, ai, br, bi = load(table, t), load(table, t + n), load(table, t + 2 * n), load(table, t + 3 * n)
        if x:
            for k in range(start, start + run, n):
                vr, vi = load(re, k), load(im, k)
                _update(re, im, k, vr, vi, mirrored(vr, x), mirrored(vi, x), ar, ai, br, bi)
        else:
            for k in range(start, start + run, n):
                vr, vi = load(re, k), load(im, k)
                store(re, k, minus_times(times(ar, vr), ai, vi))
                store(im, k, plus_times(times(ar, vi), ai, vr))


@jit
def _apply_pairs(high, low, m0, m1, cmask, cvalue, begin, pivot, table, re, im):
    n = lanes(re)
    run = _run_length(re.size, high | m0 | m1 | cmask)
    toggle = _sets(high, m0, m1)
    for p in range(0, re.size // 2, run):
        i = (((p >> pivot) << (pivot + 1)) | (p & ((1 << pivot) - 1))) & _INDEX
        if i & cmask != cvalue:
            continue
        j = (i ^ high) & _INDEX
        s = begin ^ _sets(i, m0, m1)
        t = (s ^ toggle) * 4 * n
        s = s * 4 * n
        ar, ai, br, bi = load(table, s), load(table, s + n), load(table, s + 2 * n), load(table, s + 3 * n)
        cr, ci, dr, di = load(table, t), load(table, t + n), load(table, t + 2 * n), load(table, t + 3 * n)
        if low:
            for k in range(0, run, n):
                vr, vi, wr, wi = load(re, i + k), load(im, i + k), load(re, j + k), load(im, j + k)
                _update(re, im, i + k, vr, vi, mirrored(wr, low), mirrored(wi, low), ar, ai, br, bi)
                _update(re, im, j + k, wr, wi, mirrored(vr, low), mirrored(vi, low), cr, ci, dr, di)
        else:
            for k in range(0, run, n):
                vr, vi, wr, wi = load(re, i + k), load(im, i + k), load(re, j + k), load(im, j + k)
                _update(re, im, i + k, vr, vi, wr, wi, ar, ai, br, bi)
                _update(re, im, j + k, wr, wi, vr, vi, cr, ci, dr, di)


@jit
def _apply_matrix(code, data, row, base, re, im, inverse):
    """A constant matrix on k qubits.

    Column A: where it lies in ``data``; B: k; TARGET: where its bits lie in ``code``, the least significant first, and then ascending.
    """
    at, k, bits = code[row + A], code[row + B], code[row + TARGET]
    cmask, cvalue = code[row + CMASK], code[row + CVALUE]
    n = lanes(re)
    size = 1 << k
    offsets = np.empty(size, np.int64)
    for m in range(size):
        offsets[m] = 0
        for b in range(k):
            if (m >> b) & 1:
                offsets[m] |= 1 << code[bits + b]
    matrix_r, matrix_i = np.empty(size * size, re.dtype), np.empty(size * size, re.dtype)
    for r in range(size):
        for c in range(size):
            if inverse:
                matrix_r[r * size + c] = data[at + 2 * (c * size + r)]
                matrix_i[r * size + c] = -data[at + 2 * (c * size + r) + 1]
            else:
                matrix_r[r * size + c] = data[at + 2 * (r * size + c)]
                matrix_i[r * size + c] = data[at + 2 * (r * size + c) + 1]
    old_r, old_i = np.empty(size * n, re.dtype), np.empty(size * n, re.dtype)
    for m in range(size * n):
        old_r[m] = old_i[m] = 0
    found = np.empty(2 * n, re.dtype)
    indices = np.empty(n, np.int64)
    whole = code[bits + k] >= _log2(n) and cmask & (n - 1) == 0 and re.size >> k >= n
    for p in range(0, re.size >> k, n):
        many = min(n, (re.size >> k) - p)
        for lane in range(many):
            indices[lane] = _spread(p + lane, code, bits + k, k)
        if whole:
            i = indices[0]
            if i & cmask != cvalue:
                continue
            for m in range(size):
                store(old_r, m * n, load(re, (i | offsets[m]) & _INDEX))
                store(old_i, m * n, load(im, (i | offsets[m]) & _INDEX))
        else:
            for m in range(size):
                for lane in range(many):
                    old_r[m * n + lane], old_i[m * n + lane] = re[indices[lane] | offsets[m]], im[indices[lane] | offsets[m]]
        for r in range(size):
            x = y = zero(re)
            for c in range(size):
                mr, mi = splat(re, matrix_r[r * size + c]), splat(re, matrix_i[r * size + c])
                vr, vi = load(old_r, c * n), load(old_i, c * n)
                x = minus_times(plus_times(x, mr, vr), mi, vi)
                y = plus_times(plus_times(y, mr, vi), mi, vr)
            if whole:
                store(re, (indices[0] | offsets[r]) & _INDEX, x)
                store(im, (indices[0] | offsets[r]) & _INDEX, y)
                continue
            store(found, 0, x)
            store(found, n, y)
            for lane in range(many):
                if indices[lane] & cmask == cvalue:
                    re[indices[lane] | offsets[r]], im[indices[lane] | offsets[r]] = found[lane], found[n + lane]


@jit
def _turn(tr, ti, z, c, s, signs):
    """Multiply a table of phases by ``c - 1j * s * (-1)**parity(k & z)``."""
    n = lanes(tr)
    mine, across = load(signs, (z & (n - 1)) * n), z & ~(n - 1)
    cosine, up, down = splat(tr, c), times(mine, splat(tr, s)), times(mine, splat(tr, -s))
    for k in range(0, tr.size, n):
        vr, vi = load(tr, k), load(ti, k)
        sine = down if _odd(k & across) else up
        store(tr, k, plus_times(times(cosine, vr), sine, vi))
        store(ti, k, minus_times(times(cosine, vi), sine, vr))


@jit
def _apply_layer(code, row, base, turns, signs, work, re, im, lr, li, both):
    """Multiply by a layer's phases; with ``both``, psi and lambda alike.

    Args:
        turns: Cosine and sine of each half angle.
        signs: See ``lane_signs``.
        work: Shape (2, 2**_LOW_QUBITS + re.size / 2**_LOW_QUBITS + 2**_LOW_QUBITS).
    """
    n, at, count = lanes(re), code[row + A], code[row + B]
    size = 1 << _LOW_QUBITS
    rest = re.size >> _LOW_QUBITS
    low_r, low_i = work[0, :size], work[1, :size]
    run_r, run_i = work[0, size : 2 * size], work[1, size : 2 * size]
    high_r, high_i = work[0, 2 * size : 2 * size + rest], work[1, 2 * size : 2 * size + rest]
    low_r[:] = 1
    low_i[:] = 0
    high_r[:] = 1
    high_i[:] = 0
    crossing = 0
    for phase in range(count):
        z, c, s = code[at + LAYER_WIDTH * phase + 1], turns[2 * phase], turns[2 * phase + 1]
        if _odd(base & code[at + LAYER_WIDTH * phase + 2]):
            s = -s
        if z >> _LOW_QUBITS == 0:
            _turn(low_r, low_i, z, c, s, signs)
        elif z & (size - 1) == 0:
            _turn(high_r, high_i, z >> _LOW_QUBITS, c, s, signs)
        else:
            crossing += 1
    for u in range(rest):
        hr, hi = splat(re, high_r[u]), splat(re, high_i[u])
        for k in range(0, size, n):
            vr, vi = load(low_r, k), load(low_i, k)
            store(run_r, k, minus_times(times(hr, vr), hi, vi))
            store(run_i, k, plus_times(times(hr, vi), hi, vr))
        if crossing:
            for phase in range(count):
                z = code[at + LAYER_WIDTH * phase + 1]
                if z >> _LOW_QUBITS != 0 and z & (size - 1) != 0:
                    flip = _odd(base & code[at + LAYER_WIDTH * phase + 2]) ^ _odd((z >> _LOW_QUBITS) & u)
                    sine = turns[2 * phase + 1]
                    _turn(run_r, run_i, z & (size - 1), turns[2 * phase], -sine if flip else sine, signs)
        start = u << _LOW_QUBITS
        for k in range(0, size, n):
            tr, ti, vr, vi = load(run_r, k), load(run_i, k), load(re, start + k), load(im, start + k)
            store(re, start + k, minus_times(times(tr, vr), ti, vi))
            store(im, start + k, plus_times(times(tr, vi), ti, vr))
        if both:
            for k in range(0, size, n):
                tr, ti, vr, vi = load(run_r, k), load(run_i, k), load(lr, start + k), load(li, start + k)
                store(lr, start + k, minus_times(times(tr, vr), ti, vi))
                store(li, start + k, plus_times(times(tr, vi), ti, vr))


@jit
def _overlap_layer(code, row, base, signs, work, re, im, lr, li, out):
    """Add to ``out``, for each phase of a layer, the sum of Im(conj(lambda) * psi) * (-1)**parity(i & z); both on the same side of it."""
    n, at, count = lanes(re), code[row + A], code[row + B]
    size = 1 << _LOW_QUBITS
    rest = re.size >> _LOW_QUBITS
    sums, here, totals = work[0, :size], work[0, size : 2 * size], work[0, 2 * size : 2 * size + rest]
    sums[:] = 0
    crossing = 0
    for phase in range(count):
        z = code[at + LAYER_WIDTH * phase + 1]
        crossing += z >> _LOW_QUBITS != 0 and z & (size - 1) != 0
    for u in range(rest):
        start = u << _LOW_QUBITS
        whole = zero(re)
        for k in range(0, size, n):
            part = minus_times(times(load(lr, start + k), load(im, start + k)), load(li, start + k), load(re, start + k))
            store(here, k, part)
            store(sums, k, plus(load(sums, k), part))
            whole = plus(whole, part)
        totals[u] = total(whole)
        if crossing:
            for phase in range(count):
                z = code[at + LAYER_WIDTH * phase + 1]
                if z >> _LOW_QUBITS == 0 or z & (size - 1) == 0:
                    continue
                mine, across = load(signs, (z & (n - 1)) * n), z & (size - n)
                even = odd = zero(re)
                for k in range(0, size, n):
                    if _odd(k & across):
                        odd = plus(odd, load(here, k))
                    else:
                        even = plus(even, load(here, k))
                value = total(times(mine, minus_times(even, odd, splat(re, re.dtype.type(1)))))
                if _odd(base & code[at + LAYER_WIDTH * phase + 2]) ^ _odd((z >> _LOW_QUBITS) & u):
                    value = -value
                out[phase] += value
    _walsh_hadamard(sums, signs)
    _walsh_hadamard(totals, signs)
    for phase in range(count):
        z = code[at + LAYER_WIDTH * phase + 1]
        value = sums[z & (size - 1)] if z >> _LOW_QUBITS == 0 else totals[z >> _LOW_QUBITS]
        if z >> _LOW_QUBITS == 0 or z & (size - 1) == 0:
            out[phase] += -value if _odd(base & code[at + LAYER_WIDTH * phase + 2]) else value


@jit
def _log2(n):
    return _popcount(n - 1)


@jit
def _apply(code, data, op, table, base, re, im, inverse):
    """One operation on a block; ``table`` is that of its inverse where that is wanted."""
    row = code[H_OPS_AT] + op * WIDTH
    if base & code[row + E_CMASK] != code[row + E_CVALUE]:
        return
    if code[row + KIND] == MATRIX:
        _apply_matrix(code, data, row, base, re, im, inverse)
        return
    inside = lanes(re) - 1
    x, m0, m1 = code[row + X], code[row + M0] & ~inside, code[row + M1] & ~inside
    cmask, cvalue = code[row + CMASK] & ~inside, code[row + CVALUE] & ~inside
    begin = _sets(base, code[row + E0], code[row + E1])
    if code[row + KIND] == ONE and code[row + N_Y]:
        _apply_real(x & ~inside, x & inside, m0, m1, cmask, cvalue, begin, code[row + TARGET], table, re, im)
    elif x & ~inside:
        _apply_pairs(x & ~inside, x & inside, m0, m1, cmask, cvalue, begin, code[row + TARGET], table, re, im)
    else:
        _apply_alone(x, m0, m1, cmask, cvalue, begin, table, re, im)


# Overlaps for gradients -------------------------------------------------------------------------------------------------


@jit
def _overlap(code, op, base, re, im, lr, li, out):
    """Add to ``out``, which is laid out as a table, the sums of conj(lambda[i]) * psi[i] and conj(lambda[i]) * psi[i ^ x].

    Args:
        re: psi before the operation; so ``im``. ``lr`` and ``li``: lambda after it.
    """
    row = code[H_OPS_AT] + op * WIDTH
    n = lanes(re)
    inside = n - 1
    x, m0, m1 = code[row + X], code[row + M0] & ~inside, code[row + M1] & ~inside
    low, high = x & inside, x & ~inside
    cmask, cvalue = code[row + CMASK] & ~inside, code[row + CVALUE] & ~inside
    begin = _sets(base, code[row + E0], code[row + E1])
    run = _run_length(re.size, high | m0 | m1 | cmask)
    if high == 0:
        for start in range(0, re.size, run):
            if start & cmask != cvalue:
                continue
            ar = ai = br = bi = zero(re)
            for k in range(start, start + run, n):
                vr, vi, a, b = load(re, k), load(im, k), load(lr, k), load(li, k)
                wr, wi = mirrored(vr, low), mirrored(vi, low)
                ar = plus_times(plus_times(ar, a, vr), b, vi)
                ai = minus_times(plus_times(ai, a, vi), b, vr)
                br = plus_times(plus_times(br, a, wr), b, wi)
                bi = minus_times(plus_times(bi, a, wi), b, wr)
            t = (begin ^ _sets(start, m0, m1)) * 4 * n
            _add(out, t, ar)
            _add(out, t + n, ai)
            _add(out, t + 2 * n, br)
            _add(out, t + 3 * n, bi)
        return
    pivot = code[row + TARGET]
    toggle = _sets(high, m0, m1)
    for p in range(0, re.size // 2, run):
        i = (((p >> pivot) << (pivot + 1)) | (p & ((1 << pivot) - 1))) & _INDEX
        if i & cmask != cvalue:
            continue
        j = (i ^ high) & _INDEX
        ar = ai = br = bi = cr = ci = dr = di = zero(re)
        for k in range(0, run, n):
            vr, vi, wr, wi = load(re, i + k), load(im, i + k), load(re, j + k), load(im, j + k)
            a, b, c, d = load(lr, i + k), load(li, i + k), load(lr, j + k), load(li, j + k)
            ar = plus_times(plus_times(ar, a, vr), b, vi)
            ai = minus_times(plus_times(ai, a, vi), b, vr)
            cr = plus_times(plus_times(cr, c, wr), d, wi)
            ci = minus_times(plus_times(ci, c, wi), d, wr)
            if low:
                vr, vi, wr, wi = mirrored(vr, low), mirrored(vi, low), mirrored(wr, low), mirrored(wi, low)
            br = plus_times(plus_times(br, a, wr), b, wi)
            bi = minus_times(plus_times(bi, a, wi), b, wr)
            dr = plus_times(plus_times(dr, c, vr), d, vi)
            di = minus_times(plus_times(di, c, vi), d, vr)
        s = begin ^ _sets(i, m0, m1)
        t = (s ^ toggle) * 4 * n
        s = s * 4 * n
        _add(out, s, ar)
        _add(out, s + n, ai)
        _add(out, s + 2 * n, br)
        _add(out, s + 3 * n, bi)
        _add(out, t, cr)
        _add(out, t + n, ci)
        _add(out, t + 2 * n, dr)
        _add(out, t + 3 * n, di)


# Visits -----------------------------------------------------------------------------------------------------------------


@jit
def _work(code, data, tables, first, last, base, re, im, lr, li, found, out, turns, signs, work, reverse):
    """The operations of a visit on one block; in reverse with the overlaps for gradients, and lambda with psi."""
    for step in range(last - first):
        op = last - 1 - step if reverse else first + step
        table = tables[int(reverse), op]
        row = code[H_OPS_AT] + op * WIDTH
        if code[row + KIND] == LAYER:
            _apply_layer(code, row, base, turns[op - first], signs, work, re, im, lr, li, reverse)
            if reverse and code[row + NEEDS]:
                found[:] = 0
                _overlap_layer(code, row, base, signs, work, re, im, lr, li, found)
                _collect(found, out[op - first])
            continue
        wanted = reverse and code[row + NEEDS] and base & code[row + E_CMASK] == code[row + E_CVALUE]
        if wanted and code[row + KIND] == ONE and code[row + N_Y]:
            found[:] = 0
            _reverse_one(code, row, base, table, re, im, lr, li, found)
            _collect(found, out[op - first])
            continue
        _apply(code, data, op, table, base, re, im, reverse)
        if not reverse:
            continue
        if wanted:
            found[:] = 0
            _overlap(code, op, base, re, im, lr, li, found)
            _collect(found, out[op - first])
        _apply(code, data, op, table, base, lr, li, reverse)


@jit
def _reverse_one(code, row, base, table, re, im, lr, li, found):
    inside = lanes(re) - 1
    x, m0, m1 = code[row + X], code[row + M0] & ~inside, code[row + M1] & ~inside
    cmask, cvalue = code[row + CMASK] & ~inside, code[row + CVALUE] & ~inside
    begin = _sets(base, code[row + E0], code[row + E1])
    _reverse_real(x & ~inside, x & inside, m0, m1, cmask, cvalue, begin, code[row + TARGET], table, re, im, lr, li, found)


@jit
def _collect(found, sums):
    for k in range(found.size):
        sums[k] += found[k]


@jit
def _copy(code, offsets, run, state, base, block, back):
    """Bring a block together from its runs, or put it back."""
    for r in range(block.size // run):
        a = (base + code[offsets + r]) & _INDEX
        if back:
            for k in range(run):
                state[a + k] = block[r * run + k]
        else:
            for k in range(run):
                block[r * run + k] = state[a + k]


@jit
def _prepare_layers(code, table, first, last, turns):
    """Cosine and sine of each phase's half angle, which ``table`` holds."""
    for op in range(first, last):
        row = code[H_OPS_AT] + op * WIDTH
        if code[row + KIND] == LAYER:
            for phase in range(code[row + B]):
                turns[op - first, 2 * phase] = math.cos(table[op, phase])
                turns[op - first, 2 * phase + 1] = math.sin(table[op, phase])


@jit
def visit_chunk(code, data, tables, visit, re, im, lr, li, chunk, chunks, out, reverse):
    """One visit to the blocks of one chunk."""
    at = code[H_VISITS_AT] + visit * V_WIDTH
    m, first, last = code[at + V_QUBITS], code[at + V_FIRST], code[at + V_LAST]
    size, run, offsets = 1 << m, 1 << code[at + V_RUN], code[at + V_OFFSETS]
    blocks = re.size >> m
    found = np.empty(TABLE * lanes(re), re.dtype)
    layers = 0
    for op in range(first, last):
        layers += code[code[H_OPS_AT] + op * WIDTH + KIND] == LAYER
    turns = np.empty((last - first if layers else 0, 2 * LAYER_PHASES), re.dtype)
    tables_of_layer = np.empty((2, (2 << _LOW_QUBITS) + (size >> _LOW_QUBITS) if layers else 0), re.dtype)
    signs = np.empty(lanes(re) * lanes(re), re.dtype)
    lane_signs(signs)
    if layers:
        _prepare_layers(code, tables[int(reverse)], first, last, turns)
    work = np.empty((0 if run == size else 4 if reverse else 2, size), re.dtype)
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        base = _spread(block, code, code[at + V_BITS], m)
        end = base + size
        if run == size:
            _work(
                code, data, tables, first, last, base, re[base:end], im[base:end], lr[base:end], li[base:end], found, out, turns, signs,
                tables_of_layer, reverse,
            )  # fmt: skip
            continue
        for half in range(len(work)):
            _copy(code, offsets, run, re if half == 0 else im if half == 1 else lr if half == 2 else li, base, work[half], False)
        _work(
            code, data, tables, first, last, base, work[0], work[1], work[-2], work[-1], found, out, turns, signs, tables_of_layer, reverse
        )  # fmt: skip
        for half in range(len(work)):
            _copy(code, offsets, run, re if half == 0 else im if half == 1 else lr if half == 2 else li, base, work[half], True)


@jit
def start_chunk(what, re, im, from_r, from_i, chunk, chunks):
    """Set a state: to a given one (``what`` 1), to all qubits in 0 (0), or to nothing (-1)."""
    lo, hi = chunk * re.size // chunks, (chunk + 1) * re.size // chunks
    for k in range(lo, hi):
        re[k] = from_r[k] if what == 1 else 0
        im[k] = from_i[k] if what == 1 else 0
    if what == 0 and chunk == 0:
        re[0] = 1


# Observables ------------------------------------------------------------------------------------------------------------


@jit
def lane_signs(table):
    """table[z * lanes + k] = (-1)**parity(z & k)."""
    n = lanes(table)
    for z in range(n):
        for k in range(n):
            table[z * n + k] = -1 if _odd(z & k) else 1


@jit
def _walsh_hadamard(block, signs):
    """In place: block[k] becomes the sum over z of (-1)**parity(z & k) * block[z]."""
    n = lanes(block)
    h = block.size // 2
    while h >= n:
        for start in range(0, block.size, 2 * h):
            for k in range(start, start + h, n):
                a, b = load(block, k), load(block, k + h)
                store(block, k, plus(a, b))
                store(block, k + h, minus_times(a, b, splat(block, block.dtype.type(1))))
        h //= 2
    for k in range(0, block.size, n):
        v = load(block, k)
        h = n // 2
        while h:
            v = plus_times(mirrored(v, h), v, load(signs, h * n))
            h //= 2
        store(block, k, v)


@jit
def _coefficients(code, data, group, base, x, signs, cr, ci):
    """A group's coefficients on a block of indices i from ``base``: sum over terms of c * 1j**n_y * (-1)**parity(z & (i ^ x)).

    Returns:
        Whether any is imaginary.
    """
    at = code[H_GROUPS_AT] + 3 * group
    terms, coeff = code[H_TERMS_AT], code[H_COEFF_AT]
    first, last = code[at + 1], code[at + 2]
    n, size = lanes(cr), cr.size
    few = last - first <= _FEW_TERMS
    imaginary = False
    for term in range(first, last):
        imaginary |= code[terms + 2 * term + 1] & 1 != 0
    cr[:] = 0
    if imaginary:
        ci[:] = 0
    for term in range(first, last):
        z, n_y = code[terms + 2 * term], code[terms + 2 * term + 1] & 3
        c = cr.dtype.type(data[coeff + term])
        if _odd((base ^ x) & z) != (n_y >= 2):
            c = -c
        block = ci if n_y & 1 else cr
        if few:
            mine = load(signs, (z & (n - 1)) * n)
            for k in range(0, size, n):
                store(block, k, plus_times(load(block, k), mine, splat(block, -c if _odd(k & z) else c)))
        else:
            block[z & (size - 1)] += c
    if not few:
        _walsh_hadamard(cr, signs)
        if imaginary:
            _walsh_hadamard(ci, signs)
    return imaginary


@jit
def observable_chunk(code, data, first, last, weight, re, im, lr, li, chunk, chunks, into_lambda):
    """For groups ``first`` to ``last`` of Pauli words, each with one flip mask, on one chunk.

    Args:
        weight: A factor.
        into_lambda: Add weight * H psi to lambda; otherwise find weight * <psi| H |psi>.

    Returns:
        The expectation value, or 0.
    """
    n = lanes(re)
    size = min(BLOCK, re.size)
    tile = min(_TILE, re.size)
    signs = np.empty(n * n, re.dtype)
    lane_signs(signs)
    cr, ci = np.empty(size, re.dtype), np.empty(size, re.dtype)
    w = splat(re, re.dtype.type(weight))
    tiles = re.size // tile
    value = 0.0
    for here in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
        for group in range(first, last):
            x = code[code[H_GROUPS_AT] + 3 * group]
            low, high = x & (n - 1), x & ~(n - 1)
            sums = zero(re)
            for base in range(here * tile, (here + 1) * tile, size):
                partner = base ^ (x & ~(size - 1))
                if not into_lambda and partner < base:
                    continue  # the mirror image of one that counts twice
                imaginary = _coefficients(code, data, group, base, x, signs, cr, ci)
                part = zero(re)
                for k in range(0, size, n):
                    i = (base + k) & _INDEX
                    j = (i ^ high) & _INDEX
                    pr, pi, c = mirrored(load(re, j), low), mirrored(load(im, j), low), load(cr, k)
                    hr, hi = times(c, pr), times(c, pi)
                    if imaginary:
                        d = load(ci, k)
                        hr, hi = minus_times(hr, d, pi), plus_times(hi, d, pr)
                    if into_lambda:
                        store(lr, i, plus_times(load(lr, i), w, hr))
                        store(li, i, plus_times(load(li, i), w, hi))
                    else:
                        part = plus_times(plus_times(part, load(re, i), hr), load(im, i), hi)
                sums = plus(sums, part)
                if partner > base:
                    sums = plus(sums, part)
            value += total(sums)
    return value * weight


@jit
def dot_chunk(re, im, lr, li, chunk, chunks):
    """Re <psi|lambda> over one chunk."""
    n = lanes(re)
    vectors = re.size // n
    value = 0.0
    sums = zero(re)
    for k in range(chunk * vectors // chunks, (chunk + 1) * vectors // chunks):
        at = k * n
        sums = plus_times(plus_times(sums, load(re, at), load(lr, at)), load(im, at), load(li, at))
        if k & 1023 == 1023:  # in double precision from here on
            value += total(sums)
            sums = zero(re)
    return value + total(sums)


# One entry point, behind a symbol -----------------------------------------------------------------------------------------

# Tasks of ``chunk``.
START, FORWARD, REVERSE, EXPVAL, HAMILTONIAN, DOT = range(6)


def _pointer(element: Any) -> Any:
    @intrinsic
    def cast(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        del typingctx, address
        return types.CPointer(element)(types.int64), codegen

    return cast


as_int64, as_float64, as_float32 = _pointer(types.int64), _pointer(types.float64), _pointer(types.float32)


@jit
def _chunk(task, code, data, tables, index, last, weight, re, im, lr, li, chunk, chunks, out):
    if task == FORWARD or task == REVERSE:
        visit_chunk(code, data, tables, index, re, im, lr, li, chunk, chunks, out, task == REVERSE)
    elif task == START:
        start_chunk(index, re, im, lr, li, chunk, chunks)
    elif task == DOT:
        out[0, 0] += dot_chunk(re, im, lr, li, chunk, chunks)
    else:
        out[0, 0] += observable_chunk(code, data, index, last, weight, re, im, lr, li, chunk, chunks, task == HAMILTONIAN)


_kept: list[Any] = []
_ANY = 1 << 48  # the arrays behind bare addresses are as long as they are
_I, _D = types.int64, types.float64
SIGNATURE = types.void(_I, _I, _I, _I, _I, _I, _D, _I, _I, _I, _I, _I, _I, _I)


# Two functions, not one that is made for a precision: numba finds no closure in its disk cache again.


def _entry_float64(task, code, data, tables, index, last, weight, re, im, lr, li, chunk, chunks, out):
    codes = carray(as_int64(code), (_ANY,))
    size, longest = 1 << codes[H_QUBITS], codes[H_LONGEST]
    _chunk(
        task, codes, carray(as_float64(data), (_ANY,)), carray(as_float64(tables), (2, codes[H_OPS], TABLE * 4)), index, last, weight,
        carray(as_float64(re), (size,)), carray(as_float64(im), (size,)), carray(as_float64(lr), (size,)), carray(as_float64(li), (size,)),
        chunk, chunks, carray(as_float64(out), (longest, TABLE * 4)),
    )  # fmt: skip


def _entry_float32(task, code, data, tables, index, last, weight, re, im, lr, li, chunk, chunks, out):
    codes = carray(as_int64(code), (_ANY,))
    size, longest = 1 << codes[H_QUBITS], codes[H_LONGEST]
    _chunk(
        task, codes, carray(as_float64(data), (_ANY,)), carray(as_float32(tables), (2, codes[H_OPS], TABLE * 8)), index, last, weight,
        carray(as_float32(re), (size,)), carray(as_float32(im), (size,)), carray(as_float32(lr), (size,)), carray(as_float32(li), (size,)),
        chunk, chunks, carray(as_float64(out), (longest, TABLE * 8)),
    )  # fmt: skip


def compiled(function: Any, signature: Any, *, parallel: bool = False) -> tuple[Any, int]:
    """A function compiled for one signature, and where its machine code lies (numba's own calling convention).

    Who calls an address compiles nothing again, and its arguments become those of the signature.
    """
    options = {"fastmath": FAST, "error_model": "numpy", "boundscheck": False, "parallel": parallel}
    found = njit(signature, cache=True, nogil=True, **options)(function)
    _kept.append(found)  # as long as it lives, so does its machine code
    (overload,) = found.overloads.values()
    return found, int(overload.library.get_pointer_to_function(overload.fndesc.llvm_func_name))


@functools.cache
def chunk_address(real: str) -> int:
    """Where the entry point for a precision lies; see ``_chunk`` for what it does."""
    return compiled(_entry_float32 if real == "float32" else _entry_float64, SIGNATURE)[1]
