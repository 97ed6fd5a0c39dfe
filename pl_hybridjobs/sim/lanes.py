"""A few numbers at once: a type for numba that LLVM keeps in a vector register, so that no kernel depends on what a compiler can vectorise.

32 bytes: 4 lanes in double, 8 in single precision.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_BYTES = 32
#: Of single precision; the lowest bits of an index into a state say which lane.
MAX_LANES = 8
_FLAGS = ("contract", "reassoc", "nsz", "arcp")


class Lanes(types.Type):  # type: ignore[misc]  # numba has no types
    """numba's name for a vector of one precision."""

    def __init__(self, element: Any) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _vector(kind))


def _vector(kind: Lanes) -> Any:
    return ir.VectorType(ir.FloatType() if kind.element == types.float32 else ir.DoubleType(), _count(kind.element))


def _count(element: Any) -> int:
    return _BYTES * 8 // int(element.bitwidth)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _vector(Lanes(array_type.dtype)).as_pointer())


def _width(kind: Any) -> int:
    return int(kind.dtype.bitwidth // 8)


@intrinsic
def lanes(typingctx: Any, array: Any) -> Any:
    """How many lanes a vector of the array's precision has."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, builder, arguments
        return ir.Constant(ir.IntType(64), _count(signature.args[0].dtype))

    del typingctx
    return types.int64(array), codegen


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index : index + lanes]``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=_width(signature.args[0]))

    del typingctx, index
    return Lanes(array.dtype)(array, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index : index + lanes] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]), align=_width(signature.args[0]))
        return context.get_dummy_value()

    del typingctx, index
    return types.none(array, types.int64, value), codegen


@intrinsic
def zero(typingctx: Any, array: Any) -> Any:
    """Zeros of the array's precision."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, builder, arguments
        kind = _vector(signature.return_type)
        return ir.Constant(kind, [0.0] * kind.count)

    del typingctx
    return Lanes(array.dtype)(array), codegen


@intrinsic
def splat(typingctx: Any, array: Any, value: Any) -> Any:
    """One number in all lanes, in the array's precision."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _vector(signature.return_type)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[1], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(
            one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        )

    del typingctx, value
    return Lanes(array.dtype)(array, array.dtype), codegen


def _fused(builder: Any, kind: Any, a: Any, b: Any, c: Any) -> Any:
    vector = _vector(kind)
    name = f"llvm.fmuladd.v{vector.count}f{kind.element.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(function, [a, b, c], fastmath=_FLAGS)


@intrinsic
def times(typingctx: Any, a: Any, b: Any) -> Any:
    """A * b."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.fmul(*arguments, flags=_FLAGS)

    del typingctx, b
    return a(a, a), codegen


@intrinsic
def plus(typingctx: Any, a: Any, b: Any) -> Any:
    """A + b."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.fadd(*arguments, flags=_FLAGS)

    del typingctx, b
    return a(a, a), codegen


@intrinsic
def plus_times(typingctx: Any, c: Any, a: Any, b: Any) -> Any:
    """C + a * b."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context
        return _fused(builder, signature.return_type, arguments[1], arguments[2], arguments[0])

    del typingctx, c, b
    return a(a, a, a), codegen


@intrinsic
def minus_times(typingctx: Any, c: Any, a: Any, b: Any) -> Any:
    """C - a * b."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context
        kind = _vector(signature.return_type)
        negative = builder.fsub(ir.Constant(kind, [-0.0] * kind.count), arguments[1], flags=_FLAGS)
        return _fused(builder, signature.return_type, negative, arguments[2], arguments[0])

    del typingctx, c, b
    return a(a, a, a), codegen


@intrinsic
def mirrored(typingctx: Any, value: Any, mask: Any) -> Any:
    """Lane k of the result is lane ``k ^ mask`` of the value."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found, wanted = arguments
        kind = _vector(signature.return_type)
        for bit in range(kind.count.bit_length() - 1):
            order = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [k ^ (1 << bit) for k in range(kind.count)])
            moved = builder.shuffle_vector(found, ir.Constant(kind, ir.Undefined), order)
            is_set = builder.trunc(builder.lshr(wanted, ir.Constant(ir.IntType(64), bit)), ir.IntType(1))
            found = builder.select(is_set, moved, found)
        return found

    del typingctx, mask
    return value(value, types.int64), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """The sum of the lanes, in double precision."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context
        kind = _vector(signature.args[0])
        found = ir.Constant(ir.DoubleType(), 0.0)
        for k in range(kind.count):
            one = builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), k))
            found = builder.fadd(found, one if kind.element == ir.DoubleType() else builder.fpext(one, ir.DoubleType()))
        return found

    del typingctx
    return types.float64(value), codegen
