"""numba kernels: an operation of a circuit, its overlap for gradients, or an observable, on a piece of a split state.

A circuit comes as two flat arrays (see ``program``): ``code`` (int64: what to do) and ``data`` (float64: constants). Nothing here needs
Python objects, so the same functions serve direct calls and XLA handlers, and nothing is compiled again for another circuit.

State: ``re`` and ``im``, both of length 2**n, float32 or float64; wire 0 is the most significant bit of the index.

All of this is in one file, because numba's disk cache looks at one file only. Gradients follow T. Jones and J. Gacon, "Efficient
calculation of gradients in classical simulations of variational quantum algorithms", arXiv:2009.02823.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

# Kinds of operations.
ONE, PAULI, PHASE, FLIP, MATRIX, LINEAR = range(6)
# Kinds of parts of a one-qubit operation.
RX, RY, RZ, DIAG, CONST = range(5)

# Columns of an operation's row in ``code``.
KIND, TARGET, VALUE, A, B, XMASK, ZMASK, FIXED, N_FIXED, N_Y, SPARE_1, SPARE_2 = range(12)
WIDTH = 12
# The header of ``code``.
H_QUBITS, H_OPS, H_OPS_AT, H_ANGLES, H_SLOTS_AT, H_SUBS_AT, H_OBS, H_OBS_AT, H_GROUPS_AT, H_TERMS_AT = range(10)
# Offsets into ``data``.
H_SCALE_AT, H_SHIFT_AT, H_COEFF_AT = range(10, 13)
#: Length of ``code`` itself.
H_LENGTH = 13
HEADER = 16

# Amplitudes that are worked on together where single bits would be too fine: their signs come from one table.
BLOCK_BITS = 6
BLOCK = 1 << BLOCK_BITS
# Every computed index is masked by this: then the compiler knows that it is not negative, leaves out Python's counting from the
# end, and can make vectors of the loop.
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
def _expand(p, code, fixed, n_fixed):
    """Insert a zero at each fixed bit position (ascending) of ``p``."""
    for k in range(n_fixed):
        bit = code[fixed + k]
        p = ((p >> bit) << (bit + 1)) | (p & ((1 << bit) - 1))
    return p & _INDEX


# One operation on a range of the state --------------------------------------------------------------------------------


@jit
def _one_run(ar, ai, br, bi, u):
    ur0, ui0, ur1, ui1, ur2, ui2, ur3, ui3 = u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7]
    for k in range(ar.size):
        a, b, c, d = ar[k], ai[k], br[k], bi[k]
        ar[k] = ur0 * a - ui0 * b + ur1 * c - ui1 * d
        ai[k] = ur0 * b + ui0 * a + ur1 * d + ui1 * c
        br[k] = ur2 * a - ui2 * b + ur3 * c - ui3 * d
        bi[k] = ur2 * b + ui2 * a + ur3 * d + ui3 * c


@jit
def _diagonal_run(ar, ai, br, bi, u):
    ur0, ui0, ur3, ui3 = u[0], u[1], u[6], u[7]
    for k in range(ar.size):
        a, b, c, d = ar[k], ai[k], br[k], bi[k]
        ar[k] = ur0 * a - ui0 * b
        ai[k] = ur0 * b + ui0 * a
        br[k] = ur3 * c - ui3 * d
        bi[k] = ur3 * d + ui3 * c


@jit
def _one_strided(re, im, width, u):
    """A contiguous range, with pairs ``width`` apart. Called with a literal width, so that the inner loop is unrolled into vectors."""
    ur0, ui0, ur1, ui1, ur2, ui2, ur3, ui3 = u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7]
    for block in range(re.size // (2 * width)):
        for s in range(width):
            i = (block * 2 * width + s) & _INDEX
            j = i + width
            a, b, c, d = re[i], im[i], re[j], im[j]
            re[i] = ur0 * a - ui0 * b + ur1 * c - ui1 * d
            im[i] = ur0 * b + ui0 * a + ur1 * d + ui1 * c
            re[j] = ur2 * a - ui2 * b + ur3 * c - ui3 * d
            im[j] = ur2 * b + ui2 * a + ur3 * d + ui3 * c


@jit
def _one_low(re, im, width, u):
    """A contiguous range for a target whose pairs are too near to each other for runs of a useful length."""
    if width == 1:
        _one_strided(re, im, 1, u)
    elif width == 2:
        _one_strided(re, im, 2, u)
    elif width == 4:
        _one_strided(re, im, 4, u)
    elif width == 8:
        _one_strided(re, im, 8, u)
    elif width == 16:
        _one_strided(re, im, 16, u)
    else:
        _one_strided(re, im, 32, u)


@jit
def _inverse_into(u, inverse, v):
    for k in range(8):
        v[k] = u[k]
    if inverse:
        v[1], v[7] = -u[1], -u[7]
        v[2], v[3], v[4], v[5] = u[4], -u[5], u[2], -u[3]


@jit
def _apply_one(code, row, u, re, im, n, chunk, chunks, inverse):
    v = np.empty(8, re.dtype)
    _inverse_into(u, inverse, v)
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    total = 1 << (n - n_fixed)
    lo, hi = chunk * total // chunks, (chunk + 1) * total // chunks
    target = 1 << code[row + TARGET]
    if n_fixed == 1 and target < BLOCK and n >= BLOCK_BITS:
        _one_low(re[2 * lo : 2 * hi], im[2 * lo : 2 * hi], target, v)
        return
    diagonal = v[2] == 0 and v[3] == 0 and v[4] == 0 and v[5] == 0
    low = 1 << code[fixed]
    p = lo
    while p < hi:
        run = min(low - (p & (low - 1)), hi - p)
        i = (_expand(p, code, fixed, n_fixed) | code[row + VALUE]) & _INDEX
        j = (i | target) & _INDEX
        if diagonal:
            _diagonal_run(re[i : i + run], im[i : i + run], re[j : j + run], im[j : j + run], v)
        else:
            _one_run(re[i : i + run], im[i : i + run], re[j : j + run], im[j : j + run], v)
        p += run


@jit
def _apply_pauli(code, row, u, signs, re, im, n, chunk, chunks, inverse):
    """exp(-1j * angle / 2 * P).

    Amplitude i becomes cos * itself plus w(j) times its partner j = i ^ x, with w(j) = -1j * 1j**n_y * (-1)**parity(j & z) * sin.
    """
    c, s = u[0], u[1]
    if inverse:
        s = -s
    x, z, value = code[row + XMASK], code[row + ZMASK], code[row + VALUE]
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    n_y = code[row + N_Y] & 3
    # w / sign = wr + 1j * wi
    wr = s if n_y == 1 else -s if n_y == 3 else 0.0
    wi = -s if n_y == 0 else s if n_y == 2 else 0.0
    if n >= BLOCK_BITS and 0 < x < BLOCK and (n_fixed == 1 or code[fixed + 1] >= BLOCK_BITS):
        _pauli_inside(code, x, z, value, fixed, n_fixed, c, wr, wi, signs, re, im, n, chunk, chunks)
        return
    if n >= BLOCK_BITS and (n_fixed == 0 or code[fixed] >= BLOCK_BITS):
        _pauli_blocks(code, x, z, value, fixed, n_fixed, c, wr, wi, signs, re, im, n, chunk, chunks)
        return
    total = 1 << (n - n_fixed)
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_expand(p, code, fixed, n_fixed) | value) & _INDEX
        j = (i ^ x) & _INDEX
        ti = -1.0 if _odd(i & z) else 1.0
        tj = -1.0 if _odd(j & z) else 1.0
        a, b, e, f = re[i], im[i], re[j], im[j]
        re[i], im[i] = c * a + tj * (wr * e - wi * f), c * b + tj * (wr * f + wi * e)
        if x:
            re[j], im[j] = c * e + ti * (wr * a - wi * b), c * f + ti * (wr * b + wi * a)


@jit
def _pauli_inside(code, x, z, value, fixed, n_fixed, c, wr, wi, signs, re, im, n, chunk, chunks):
    """Where amplitude and partner lie in one block, and all controls above it."""
    ones = re[0] * 0 + 1
    c = ones * c
    row = signs[z & (BLOCK - 1)]
    vr, vi = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    for k in range(BLOCK):
        vr[k], vi[k] = wr * row[k ^ x], wi * row[k ^ x]
    er, ei = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    total = 1 << (n - BLOCK_BITS - n_fixed + 1)
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, 1) | value) & _INDEX
        h = -ones if _odd(i & z & ~(BLOCK - 1)) else ones
        _mirror(re, i, x, er)
        _mirror(im, i, x, ei)
        for k in range(BLOCK):
            a, b, e, f = re[i + k], im[i + k], er[k], ei[k]
            re[i + k] = c * a + h * (vr[k] * e - vi[k] * f)
            im[i + k] = c * b + h * (vr[k] * f + vi[k] * e)


@jit
def _pauli_blocks(code, x, z, value, fixed, n_fixed, c, wr, wi, signs, re, im, n, chunk, chunks):
    """Where all fixed bits, the pivot among them, lie above a block."""
    ones = re[0] * 0 + 1
    c, wr, wi = ones * c, ones * wr, ones * wi
    high, low = x & ~(BLOCK - 1), x & (BLOCK - 1)
    row = signs[z & (BLOCK - 1)]
    own, partner = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    for k in range(BLOCK):
        own[k], partner[k] = row[k], row[k ^ low]
    er, ei = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    total = 1 << (n - BLOCK_BITS - n_fixed)
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, 0) | value) & _INDEX
        j = (i ^ high) & _INDEX
        hi = -ones if _odd(i & z & ~(BLOCK - 1)) else ones
        hj = -ones if _odd(j & z & ~(BLOCK - 1)) else ones
        if x == 0:
            for k in range(BLOCK):
                a, b, w = re[i + k], im[i + k], hi * own[k] * wi
                re[i + k] = c * a - w * b
                im[i + k] = c * b + w * a
            continue
        _mirror(re, j, low, er)
        _mirror(im, j, low, ei)
        if wr == 0:
            for k in range(BLOCK):
                a, b, e, f = re[i + k], im[i + k], er[k], ei[k]
                ti, tj = hi * own[k] * wi, hj * partner[k] * wi
                re[i + k] = c * a - tj * f
                im[i + k] = c * b + tj * e
                er[k] = c * e - ti * b
                ei[k] = c * f + ti * a
        else:
            for k in range(BLOCK):
                a, b, e, f = re[i + k], im[i + k], er[k], ei[k]
                ti, tj = hi * own[k] * wr, hj * partner[k] * wr
                re[i + k] = c * a + tj * e
                im[i + k] = c * b + tj * f
                er[k] = c * e + ti * a
                ei[k] = c * f + ti * b
        _mirror(er, 0, low, re[j : j + BLOCK])
        _mirror(ei, 0, low, im[j : j + BLOCK])


@jit
def _apply_phase(code, row, u, re, im, n, chunk, chunks, inverse):
    c, s = u[0], u[1]
    if inverse:
        s = -s
    value = code[row + VALUE]
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    total = 1 << (n - n_fixed)
    lo, hi = chunk * total // chunks, (chunk + 1) * total // chunks
    low = 1 << code[fixed] if n_fixed else 1 << n
    if low < BLOCK and n >= BLOCK_BITS:
        _phase_blocks(code, value, fixed, n_fixed, c, s, re, im, n, chunk, chunks)
        return
    p = lo
    while p < hi:
        run = min(low - (p & (low - 1)), hi - p)
        i = (_expand(p, code, fixed, n_fixed) | value) & _INDEX
        for k in range(i, i + run):
            a, b = re[k], im[k]
            re[k] = c * a - s * b
            im[k] = c * b + s * a
        p += run


@jit
def _phase_blocks(code, value, fixed, n_fixed, c, s, re, im, n, chunk, chunks):
    selected = np.empty(BLOCK, np.int64)
    count, n_low = _low_part(code, fixed, n_fixed, value, selected)
    cr, ci = np.ones(BLOCK, re.dtype), np.zeros(BLOCK, re.dtype)
    for m in range(count):
        cr[selected[m]], ci[selected[m]] = c, s
    total = 1 << (n - BLOCK_BITS - (n_fixed - n_low))
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, n_low) | (value & ~(BLOCK - 1))) & _INDEX
        for k in range(BLOCK):
            a, b = re[i + k], im[i + k]
            re[i + k] = cr[k] * a - ci[k] * b
            im[i + k] = cr[k] * b + ci[k] * a


@jit
def _swap_run(a, b):
    for k in range(a.size):
        a[k], b[k] = b[k], a[k]


@jit
def _mirror_by(source, at, high, low, out):
    for m in range(BLOCK // 8):
        start = (at + ((8 * m) ^ high)) & _INDEX
        for s in range(8):
            out[8 * m + s] = source[start + (s ^ low)]


@jit
def _mirror(source, at, mask, out):
    """out[k] = source[at + (k ^ mask)] for a block. The lowest bits are literal, so that they become shuffles of vectors."""
    high, low = mask & ~7, mask & 7
    if low == 0:
        _mirror_by(source, at, high, 0, out)
    elif low == 1:
        _mirror_by(source, at, high, 1, out)
    elif low == 2:
        _mirror_by(source, at, high, 2, out)
    elif low == 3:
        _mirror_by(source, at, high, 3, out)
    elif low == 4:
        _mirror_by(source, at, high, 4, out)
    elif low == 5:
        _mirror_by(source, at, high, 5, out)
    elif low == 6:
        _mirror_by(source, at, high, 6, out)
    else:
        _mirror_by(source, at, high, 7, out)


@jit
def _low_part(code, fixed, n_fixed, value, selected):
    """Split fixed bits into those inside a block and the others.

    Args:
        selected: Takes the indices inside a block whose low fixed bits have their values.

    Returns:
        How many these are, and how many of the fixed bits (ascending) are inside a block.
    """
    n_low = mask = 0
    for k in range(n_fixed):
        if code[fixed + k] < BLOCK_BITS:
            n_low += 1
            mask |= 1 << code[fixed + k]
    count = 0
    for k in range(BLOCK):
        if k & mask == value & mask:
            selected[count] = k
            count += 1
    return count, n_low


@jit
def _block_base(p, code, fixed, n_fixed, n_low):
    """The first index of the p-th block whose fixed high bits are all 0."""
    p = p << BLOCK_BITS
    for k in range(n_low, n_fixed):
        bit = code[fixed + k]
        p = ((p >> bit) << (bit + 1)) | (p & ((1 << bit) - 1))
    return p & _INDEX


@jit
def _flip_blocks(code, x, value, fixed, n_fixed, re, im, n, chunk, chunks):
    selected = np.empty(BLOCK, np.int64)
    count, n_low = _low_part(code, fixed, n_fixed, value, selected)
    low = x & (BLOCK - 1)
    total = 1 << (n - BLOCK_BITS - (n_fixed - n_low))
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, n_low) | (value & ~(BLOCK - 1))) & _INDEX
        j = (i ^ (x & ~(BLOCK - 1))) & _INDEX
        for m in range(count):
            a, b = i + selected[m], j + (selected[m] ^ low)
            re[a], re[b] = re[b], re[a]
            im[a], im[b] = im[b], im[a]


@jit
def _apply_flip(code, row, re, im, n, chunk, chunks):
    x, value = code[row + XMASK], code[row + VALUE]
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    total = 1 << (n - n_fixed)
    lo, hi = chunk * total // chunks, (chunk + 1) * total // chunks
    low = 1 << code[fixed]
    if low < BLOCK and n >= BLOCK_BITS:
        _flip_blocks(code, x, value, fixed, n_fixed, re, im, n, chunk, chunks)
        return
    p = lo
    while p < hi:
        run = min(low - (p & (low - 1)), hi - p)
        i = (_expand(p, code, fixed, n_fixed) | value) & _INDEX
        j = (i ^ x) & _INDEX
        _swap_run(re[i : i + run], re[j : j + run])
        _swap_run(im[i : i + run], im[j : j + run])
        p += run


@jit
def _apply_matrix(code, data, row, re, im, n, chunk, chunks, inverse):
    """A constant matrix on k qubits.

    Column A: where it lies in ``data``; B: k; XMASK: where its bits lie in ``code``, the least significant first.
    """
    at, k, bits, value = code[row + A], code[row + B], code[row + XMASK], code[row + VALUE]
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    size = 1 << k
    offsets = np.zeros(size, np.int64)
    for m in range(size):
        for b in range(k):
            if (m >> b) & 1:
                offsets[m] |= 1 << code[bits + b]
    matrix_r, matrix_i = np.empty((size, size), re.dtype), np.empty((size, size), re.dtype)
    for r in range(size):
        for c in range(size):
            if inverse:
                matrix_r[r, c] = data[at + 2 * (c * size + r)]
                matrix_i[r, c] = -data[at + 2 * (c * size + r) + 1]
            else:
                matrix_r[r, c] = data[at + 2 * (r * size + c)]
                matrix_i[r, c] = data[at + 2 * (r * size + c) + 1]
    old_r, old_i = np.empty(size, re.dtype), np.empty(size, re.dtype)
    total = 1 << (n - n_fixed)
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        base = (_expand(p, code, fixed, n_fixed) | value) & _INDEX
        for m in range(size):
            old_r[m], old_i[m] = re[base | offsets[m]], im[base | offsets[m]]
        for r in range(size):
            x = y = re[0] * 0
            for c in range(size):
                x += matrix_r[r, c] * old_r[c] - matrix_i[r, c] * old_i[c]
                y += matrix_r[r, c] * old_i[c] + matrix_i[r, c] * old_r[c]
            re[base | offsets[r]], im[base | offsets[r]] = x, y


@jit
def apply_chunk(code, data, mats, op, signs, re, im, chunk, chunks, inverse):
    """One operation, or its inverse, on one chunk of the state."""
    row = code[H_OPS_AT] + op * WIDTH
    kind, n = code[row + KIND], code[H_QUBITS]
    if kind == ONE:
        _apply_one(code, row, mats[op], re, im, n, chunk, chunks, inverse)
    elif kind == PAULI:
        _apply_pauli(code, row, mats[op], signs, re, im, n, chunk, chunks, inverse)
    elif kind == PHASE:
        _apply_phase(code, row, mats[op], re, im, n, chunk, chunks, inverse)
    elif kind == FLIP:
        _apply_flip(code, row, re, im, n, chunk, chunks)
    elif kind == MATRIX:
        _apply_matrix(code, data, row, re, im, n, chunk, chunks, inverse)


# Overlaps for gradients -------------------------------------------------------------------------------------------------


@jit
def _overlap_one_run(ar, ai, br, bi, lar, lai, lbr, lbi, out):
    """Add sum of conj(lambda_a) * psi_b, as 8 numbers, over pairs."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = ar[0] * 0
    for k in range(ar.size):
        a, b, c, d = ar[k], ai[k], br[k], bi[k]
        e, f, g, h = lar[k], lai[k], lbr[k], lbi[k]
        s0 += e * a + f * b
        s1 += e * b - f * a
        s2 += e * c + f * d
        s3 += e * d - f * c
        s4 += g * a + h * b
        s5 += g * b - h * a
        s6 += g * c + h * d
        s7 += g * d - h * c
    out[0] += s0
    out[1] += s1
    out[2] += s2
    out[3] += s3
    out[4] += s4
    out[5] += s5
    out[6] += s6
    out[7] += s7


@jit
def _overlap_strided(re, im, lr, li, width, out):
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = re[0] * 0
    for block in range(re.size // (2 * width)):
        for s in range(width):
            i = (block * 2 * width + s) & _INDEX
            j = i + width
            a, b, c, d = re[i], im[i], re[j], im[j]
            e, f, g, h = lr[i], li[i], lr[j], li[j]
            s0 += e * a + f * b
            s1 += e * b - f * a
            s2 += e * c + f * d
            s3 += e * d - f * c
            s4 += g * a + h * b
            s5 += g * b - h * a
            s6 += g * c + h * d
            s7 += g * d - h * c
    out[0] += s0
    out[1] += s1
    out[2] += s2
    out[3] += s3
    out[4] += s4
    out[5] += s5
    out[6] += s6
    out[7] += s7


@jit
def _overlap_low(re, im, lr, li, width, out):
    if width == 1:
        _overlap_strided(re, im, lr, li, 1, out)
    elif width == 2:
        _overlap_strided(re, im, lr, li, 2, out)
    elif width == 4:
        _overlap_strided(re, im, lr, li, 4, out)
    elif width == 8:
        _overlap_strided(re, im, lr, li, 8, out)
    elif width == 16:
        _overlap_strided(re, im, lr, li, 16, out)
    else:
        _overlap_strided(re, im, lr, li, 32, out)


@jit
def _overlap_one(code, row, re, im, lr, li, n, chunk, chunks, out):
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    total = 1 << (n - n_fixed)
    lo, hi = chunk * total // chunks, (chunk + 1) * total // chunks
    target = 1 << code[row + TARGET]
    if n_fixed == 1 and target < BLOCK and n >= BLOCK_BITS:
        _overlap_low(re[2 * lo : 2 * hi], im[2 * lo : 2 * hi], lr[2 * lo : 2 * hi], li[2 * lo : 2 * hi], target, out)
        return
    low = 1 << code[fixed]
    p = lo
    while p < hi:
        run = min(low - (p & (low - 1)), hi - p)
        i = (_expand(p, code, fixed, n_fixed) | code[row + VALUE]) & _INDEX
        j = (i | target) & _INDEX
        _overlap_one_run(
            re[i : i + run], im[i : i + run], re[j : j + run], im[j : j + run],
            lr[i : i + run], li[i : i + run], lr[j : j + run], li[j : j + run], out,
        )  # fmt: skip
        p += run


@jit
def _overlap_pauli_inside(code, x, z, value, fixed, n_fixed, signs, re, im, lr, li, n, chunk, chunks):
    """As ``_overlap_pauli_blocks``, where amplitude and partner lie in one block."""
    ones = re[0] * 0 + 1
    row = signs[z & (BLOCK - 1)]
    own = np.empty(BLOCK, re.dtype)
    for k in range(BLOCK):
        own[k] = row[k]
    fr, fi = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    total = 1 << (n - BLOCK_BITS - n_fixed + 1)
    sum_r = sum_i = 0.0
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, 1) | value) & _INDEX
        _mirror(lr, i, x, fr)
        _mirror(li, i, x, fi)
        part_r = part_i = ones * 0
        for k in range(BLOCK):
            part_r += own[k] * (fr[k] * re[i + k] + fi[k] * im[i + k])
            part_i += own[k] * (fr[k] * im[i + k] - fi[k] * re[i + k])
        if _odd(i & z & ~(BLOCK - 1)):
            part_r, part_i = -part_r, -part_i
        sum_r += part_r
        sum_i += part_i
    return sum_r, sum_i


@jit
def _overlap_pauli_blocks(code, x, z, value, fixed, n_fixed, signs, re, im, lr, li, n, chunk, chunks):
    """Sum of (-1)**(i & z) * conj(lambda[i ^ x]) * psi[i]."""
    ones = re[0] * 0 + 1
    high, low = x & ~(BLOCK - 1), x & (BLOCK - 1)
    row = signs[z & (BLOCK - 1)]
    own, partner = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    for k in range(BLOCK):
        own[k], partner[k] = row[k], row[k ^ low]
    er, ei, fr, fi = np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype), np.empty(BLOCK, re.dtype)
    total = 1 << (n - BLOCK_BITS - n_fixed)
    sum_r = sum_i = 0.0
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, 0) | value) & _INDEX
        j = (i ^ high) & _INDEX
        hi = -ones if _odd(i & z & ~(BLOCK - 1)) else ones
        hj = -ones if _odd(j & z & ~(BLOCK - 1)) else ones
        part_r = part_i = ones * 0
        if x == 0:
            for k in range(BLOCK):
                t = hi * own[k]
                part_r += t * (lr[i + k] * re[i + k] + li[i + k] * im[i + k])
                part_i += t * (lr[i + k] * im[i + k] - li[i + k] * re[i + k])
        else:
            _mirror(re, j, low, er)
            _mirror(im, j, low, ei)
            _mirror(lr, j, low, fr)
            _mirror(li, j, low, fi)
            for k in range(BLOCK):
                t, u = hi * own[k], hj * partner[k]
                part_r += t * (fr[k] * re[i + k] + fi[k] * im[i + k]) + u * (lr[i + k] * er[k] + li[i + k] * ei[k])
                part_i += t * (fr[k] * im[i + k] - fi[k] * re[i + k]) + u * (lr[i + k] * ei[k] - li[i + k] * er[k])
        sum_r += part_r
        sum_i += part_i
    return sum_r, sum_i


@jit
def _overlap_pauli(code, row, signs, re, im, lr, li, n, chunk, chunks):
    """Im <lambda| P |psi> over the amplitudes that the controls select."""
    x, z, value, n_y = code[row + XMASK], code[row + ZMASK], code[row + VALUE], code[row + N_Y] & 3
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    total = 1 << (n - n_fixed)
    sum_r = sum_i = 0.0
    if n >= BLOCK_BITS and 0 < x < BLOCK and (n_fixed == 1 or code[fixed + 1] >= BLOCK_BITS):
        total = 0
        sum_r, sum_i = _overlap_pauli_inside(code, x, z, value, fixed, n_fixed, signs, re, im, lr, li, n, chunk, chunks)
    elif n >= BLOCK_BITS and (n_fixed == 0 or code[fixed] >= BLOCK_BITS):
        total = 0
        sum_r, sum_i = _overlap_pauli_blocks(code, x, z, value, fixed, n_fixed, signs, re, im, lr, li, n, chunk, chunks)
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_expand(p, code, fixed, n_fixed) | value) & _INDEX
        j = (i ^ x) & _INDEX
        t = lr[j] * re[i] + li[j] * im[i]
        u = lr[j] * im[i] - li[j] * re[i]
        if _odd(i & z):
            t, u = -t, -u
        sum_r += t
        sum_i += u
        if x:
            t = lr[i] * re[j] + li[i] * im[j]
            u = lr[i] * im[j] - li[i] * re[j]
            if _odd(j & z):
                t, u = -t, -u
            sum_r += t
            sum_i += u
    if n_y == 0:
        return sum_i
    if n_y == 1:
        return sum_r
    if n_y == 2:
        return -sum_i
    return -sum_r


@jit
def _overlap_phase_blocks(code, value, fixed, n_fixed, re, im, lr, li, n, chunk, chunks):
    selected = np.empty(BLOCK, np.int64)
    count, n_low = _low_part(code, fixed, n_fixed, value, selected)
    here = np.zeros(BLOCK, re.dtype)
    for m in range(count):
        here[selected[m]] = 1
    total = 1 << (n - BLOCK_BITS - (n_fixed - n_low))
    found = 0.0
    for p in range(chunk * total // chunks, (chunk + 1) * total // chunks):
        i = (_block_base(p, code, fixed, n_fixed, n_low) | (value & ~(BLOCK - 1))) & _INDEX
        part = here[0] * 0
        for k in range(BLOCK):
            part += here[k] * (lr[i + k] * im[i + k] - li[i + k] * re[i + k])
        found += part
    return found


@jit
def _overlap_phase(code, row, re, im, lr, li, n, chunk, chunks):
    """-2 Im of sum of conj(lambda) * psi over the amplitudes that get the phase."""
    value = code[row + VALUE]
    fixed, n_fixed = code[row + FIXED], code[row + N_FIXED]
    total = 1 << (n - n_fixed)
    low = 1 << code[fixed] if n_fixed else 1 << n
    lo, hi = chunk * total // chunks, (chunk + 1) * total // chunks
    if low < BLOCK and n >= BLOCK_BITS:
        return -2.0 * _overlap_phase_blocks(code, value, fixed, n_fixed, re, im, lr, li, n, chunk, chunks)
    found = 0.0
    p = lo
    while p < hi:
        run = min(low - (p & (low - 1)), hi - p)
        i = (_expand(p, code, fixed, n_fixed) | value) & _INDEX
        for k in range(i, i + run):
            found += lr[k] * im[k] - li[k] * re[k]
        p += run
    return -2.0 * found


@jit
def overlap_chunk(code, op, signs, re, im, lr, li, chunk, chunks, out):
    """Add to ``out`` what the derivative by this operation's angles needs, over one chunk. ``re, im``: before it; ``lr, li``: after it."""
    row = code[H_OPS_AT] + op * WIDTH
    kind, n = code[row + KIND], code[H_QUBITS]
    if kind == ONE:
        _overlap_one(code, row, re, im, lr, li, n, chunk, chunks, out)
    elif kind == PAULI:
        out[0] += _overlap_pauli(code, row, signs, re, im, lr, li, n, chunk, chunks)
    else:
        out[0] += _overlap_phase(code, row, re, im, lr, li, n, chunk, chunks)


# Observables ------------------------------------------------------------------------------------------------------------


@jit
def _block_coefficients(code, data, group, base, x, signs, cr, ci):
    """A group's coefficients on a block of indices i from ``base``: sum over terms of c * 1j**n_y * (-1)**parity(z & (i ^ x)).

    Returns:
        Whether any is imaginary.
    """
    at = code[H_GROUPS_AT] + 3 * group
    terms, coeff = code[H_TERMS_AT], code[H_COEFF_AT]
    size = cr.size
    first, last = code[at + 1], code[at + 2]
    imaginary = False
    for k in range(size):
        cr[k] = 0
    for term in range(first, last):
        if code[terms + 2 * term + 1] & 1:
            imaginary = True
    if imaginary:
        for k in range(size):
            ci[k] = 0
    for term in range(first, last):
        z, n_y = code[terms + 2 * term], code[terms + 2 * term + 1] & 3
        c = cr.dtype.type(data[coeff + term])
        if _odd((base ^ x) & z) != (n_y >= 2):
            c = -c
        row = signs[z & (size - 1)]
        if n_y & 1:
            for k in range(size):
                ci[k] += c * row[k]
        else:
            for k in range(size):
                cr[k] += c * row[k]
    return imaginary


@jit
def _partners(source, at, mask, out):
    if out.size == BLOCK:
        _mirror(source, at, mask, out)
    else:
        for k in range(out.size):
            out[k] = source[at + (k ^ mask)]


@jit
def _small_signs(signs, re):
    table = np.empty(signs.shape, re.dtype)
    for z in range(signs.shape[0]):
        for k in range(signs.shape[1]):
            table[z, k] = signs[z, k]
    return table


@jit
def expval_chunk(code, data, first, last_group, signs, re, im, chunk, chunks):
    """The expectation value of groups of Pauli words, each with one flip mask, over one chunk."""
    n = code[H_QUBITS]
    size = signs.shape[0]
    table = _small_signs(signs, re)
    cr, ci, er, ei = np.empty(size, re.dtype), np.empty(size, re.dtype), np.empty(size, re.dtype), np.empty(size, re.dtype)
    blocks = (1 << n) // size
    total = 0.0
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        i = (block * size) & _INDEX
        for group in range(first, last_group):
            x = code[code[H_GROUPS_AT] + 3 * group]
            high, low = x & ~(size - 1), x & (size - 1)
            j = (i ^ high) & _INDEX
            if j < i:
                continue  # the mirror image of one that was counted twice
            # With partner j of i: conj(psi_i) * C(j) * psi_j, whose sum is real.
            imaginary = _block_coefficients(code, data, group, i, x, table, cr, ci)
            part = cr[0] * 0
            if x == 0:
                for k in range(size):
                    part += cr[k] * (re[i + k] * re[i + k] + im[i + k] * im[i + k])
            else:
                _partners(re, j, low, er)
                _partners(im, j, low, ei)
                for k in range(size):
                    part += cr[k] * (re[i + k] * er[k] + im[i + k] * ei[k])
                if imaginary:
                    for k in range(size):
                        part -= ci[k] * (re[i + k] * ei[k] - im[i + k] * er[k])
            total += 2.0 * part if high else part
    return total


@jit
def hamiltonian_chunk(code, data, first, last_group, weight, signs, re, im, lr, li, chunk, chunks):
    """Lambda += weight * H psi over one chunk, for groups ``first`` to ``last_group``."""
    n = code[H_QUBITS]
    size = signs.shape[0]
    table = _small_signs(signs, re)
    cr, ci, er, ei = np.empty(size, re.dtype), np.empty(size, re.dtype), np.empty(size, re.dtype), np.empty(size, re.dtype)
    w = re.dtype.type(weight)
    blocks = (1 << n) // size
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        i = (block * size) & _INDEX
        for group in range(first, last_group):
            x = code[code[H_GROUPS_AT] + 3 * group]
            imaginary = _block_coefficients(code, data, group, i, x, table, cr, ci)
            _partners(re, i ^ (x & ~(size - 1)), x & (size - 1), er)
            _partners(im, i ^ (x & ~(size - 1)), x & (size - 1), ei)
            for k in range(size):
                lr[i + k] += w * cr[k] * er[k]
                li[i + k] += w * cr[k] * ei[k]
            if imaginary:
                for k in range(size):
                    lr[i + k] -= w * ci[k] * ei[k]
                    li[i + k] += w * ci[k] * er[k]


@jit
def dot_chunk(re, im, lr, li, chunk, chunks):
    """Re <psi|lambda> over one chunk."""
    lo, hi = chunk * re.size // chunks, (chunk + 1) * re.size // chunks
    total = 0.0
    for k in range(lo, hi):
        total += re[k] * lr[k] + im[k] * li[k]
    return total


# One entry point, behind a symbol -----------------------------------------------------------------------------------------

# Tasks of ``chunk``.
APPLY, INVERT, REVERSE, REVERSE_BEFORE, REVERSE_AFTER, EXPVAL, HAMILTONIAN, DOT = range(8)


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
def _chunk(task, code, data, mats, op, last, weight, signs, re, im, lr, li, chunk, chunks, out):
    if task == APPLY or task == INVERT:
        apply_chunk(code, data, mats, op, signs, re, im, chunk, chunks, task == INVERT)
    elif task == EXPVAL:
        out[0] += expval_chunk(code, data, op, last, signs, re, im, chunk, chunks)
    elif task == DOT:
        out[0] += dot_chunk(re, im, lr, li, chunk, chunks)
    elif task == HAMILTONIAN:
        hamiltonian_chunk(code, data, op, last, weight, signs, re, im, lr, li, chunk, chunks)
    else:
        if task == REVERSE_BEFORE:
            overlap_chunk(code, op, signs, re, im, lr, li, chunk, chunks, out)
        apply_chunk(code, data, mats, op, signs, re, im, chunk, chunks, True)
        if task == REVERSE_AFTER:
            overlap_chunk(code, op, signs, re, im, lr, li, chunk, chunks, out)
        apply_chunk(code, data, mats, op, signs, lr, li, chunk, chunks, True)


_kept: list[Any] = []
_ANY = 1 << 48  # the arrays behind bare addresses are as long as they are
_I, _D = types.int64, types.float64
SIGNATURE = types.void(_I, _I, _I, _I, _I, _I, _D, _I, _I, _I, _I, _I, _I, _I, _I, _I)


# Two functions, not one that is made for a precision: numba finds no closure in its disk cache again.


def _entry_float64(task, code, data, mats, op, last, weight, signs, low, re, im, lr, li, chunk, chunks, out):
    codes = carray(as_int64(code), (_ANY,))
    size = 1 << codes[H_QUBITS]
    _chunk(
        task, codes, carray(as_float64(data), (_ANY,)), carray(as_float64(mats), (codes[H_OPS], 8)), op, last, weight,
        carray(as_float64(signs), (low, low)), carray(as_float64(re), (size,)), carray(as_float64(im), (size,)),
        carray(as_float64(lr), (size,)), carray(as_float64(li), (size,)), chunk, chunks, carray(as_float64(out), (8,)),
    )  # fmt: skip


def _entry_float32(task, code, data, mats, op, last, weight, signs, low, re, im, lr, li, chunk, chunks, out):
    codes = carray(as_int64(code), (_ANY,))
    size = 1 << codes[H_QUBITS]
    _chunk(
        task, codes, carray(as_float64(data), (_ANY,)), carray(as_float32(mats), (codes[H_OPS], 8)), op, last, weight,
        carray(as_float64(signs), (low, low)), carray(as_float32(re), (size,)), carray(as_float32(im), (size,)),
        carray(as_float32(lr), (size,)), carray(as_float32(li), (size,)), chunk, chunks, carray(as_float64(out), (8,)),
    )  # fmt: skip


@functools.cache
def chunk_address(real: str) -> int:
    """Where the machine code of the entry point for a precision lies (numba's own calling convention); see ``_chunk`` for what it does."""
    entry = _entry_float32 if real == "float32" else _entry_float64
    compiled = njit(SIGNATURE, cache=True, nogil=True, fastmath=FAST, error_model="numpy")(entry)
    _kept.append(compiled)  # as long as it lives, so does its machine code
    (overload,) = compiled.overloads.values()
    return int(overload.library.get_pointer_to_function(overload.fndesc.llvm_func_name))
