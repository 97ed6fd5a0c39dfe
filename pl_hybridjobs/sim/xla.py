"""The CPU engine as an XLA FFI handler: one node in a jitted JAX program, whatever the number of gates.

Layouts are those of XLA's public C header ``xla/ffi/api/c_api.h`` (API 0.1), read as words of 8 bytes. Of a call frame: 1 the extension,
4 the stage (low half; 3 means execute), 9 the argument pointers, 14 the result pointers. Of a buffer: 2 the data type, 3 the data,
4 the rank, 5 the dimensions.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numba import carray, cfunc, types

from pl_hybridjobs.sim import drivers, kernels
from pl_hybridjobs.sim.kernels import FAST, as_float32, as_float64, as_int64
from pl_hybridjobs.sim.program import Program

_F32 = 11  # XLA_FFI_DataType_F32
_EXECUTE = 3
_METADATA = 1


@kernels.jit
def _count(buffer):
    """How many elements a buffer has."""
    dims = as_int64(buffer[5])
    total = 1
    for k in range(buffer[4]):
        total *= dims[k]
    return total


@kernels.jit
def _read(buffer, out):
    count = out.size
    if (buffer[2] & 0xFFFFFFFF) == _F32:
        single = carray(as_float32(buffer[3]), (count,))
        for k in range(count):
            out[k] = single[k]
    else:
        double = carray(as_float64(buffer[3]), (count,))
        for k in range(count):
            out[k] = double[k]


@kernels.jit
def _write(buffer, found):
    count = found.size
    if (buffer[2] & 0xFFFFFFFF) == _F32:
        single = carray(as_float32(buffer[3]), (count,))
        for k in range(count):
            single[k] = found[k]
    else:
        double = carray(as_float64(buffer[3]), (count,))
        for k in range(count):
            double[k] = found[k]


@kernels.jit
def _run(run, engine, itemsize, code, data, params, batch, n_params, start, weights, values, grads, rows, mode, threads):
    """``drivers.run`` on arrays, which must outlive the call."""
    start_r = start_i = 0
    if start.size:
        start_r = start.ctypes.data
        start_i = start_r + itemsize * (start.size // 2)
    drivers.call_run(
        run, engine, code, data, params.ctypes.data, batch, n_params, start_r, start_i, weights.ctypes.data, values.ctypes.data,
        grads.ctypes.data, rows, mode, threads,
    )  # fmt: skip


@kernels.jit
def _execute(arguments, results, like):
    """Arguments: the program as raw bytes, options (mode, threads), parameters (..., P), start (real and imaginary part, or empty).
    Results: values (..., M), gradients (..., rows, P).
    """
    raw, options, vector = as_int64(arguments[0]), as_int64(arguments[1]), as_int64(arguments[2])
    chosen = as_int64(options[3])[0]  # two 32-bit numbers
    mode, threads = chosen & 0xFFFFFFFF, chosen >> 32
    header = carray(as_int64(raw[3]), (kernels.HEADER,))
    m = header[kernels.H_OBS]
    n_params = as_int64(vector[5])[vector[4] - 1]
    batch = _count(vector) // n_params if n_params else _count(as_int64(results[0])) // max(m, 1)
    params = np.empty(batch * n_params)
    _read(vector, params)
    start_buffer = as_int64(arguments[3])
    start = np.empty(_count(start_buffer), like.dtype)
    _read(start_buffer, start)
    rows = m if mode == drivers.JACOBIAN else 0
    values = np.empty(batch * m)
    grads = np.empty(batch * rows * n_params)
    weights = np.empty(batch * m)
    _run(
        drivers.run_of(like), drivers.engine_of(like), like.itemsize, raw[3], raw[3] + 8 * header[kernels.H_LENGTH],
        params, batch, n_params, start, weights, values, grads, rows, mode, threads,
    )  # fmt: skip
    _write(as_int64(results[0]), values)
    _write(as_int64(results[1]), grads)


@functools.cache  # also keeps the machine code alive, of which XLA knows the address only
def _handler(real: Any) -> Any:
    def handler(frame):
        if frame[1] != 0:
            extension = as_int64(frame[1])
            if (extension[1] & 0xFFFFFFFF) == _METADATA:
                as_int64(extension[3])[3] = 1 << 32  # major 0, minor 1
                return 0
        if (frame[4] & 0xFFFFFFFF) != _EXECUTE:
            return 0
        _execute(as_int64(frame[9]), as_int64(frame[14]), np.empty(1, real))
        return 0

    return cfunc(types.intp(types.CPointer(types.int64)), cache=True, fastmath=FAST, error_model="numpy")(handler)


@drivers.once
def target(c_dtype: str) -> str:
    """The name under which JAX can call the engine in a precision; registered when first asked for."""
    import jax

    real = np.float32 if c_dtype == "complex64" else np.float64
    drivers.link(np.dtype(real))
    name = f"pl_hybridjobs_run_{c_dtype}"
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(name, capsule(_handler(real).address, None, None), platform="cpu")
    return name


def raw(program: Program) -> np.ndarray[Any, Any]:
    """A program as an int32 array, which passes JAX unchanged with and without its 64-bit mode."""
    return np.concatenate([program.code.view(np.int32), program.data.view(np.int32)])
