"""Thirty-two int16 lanes as one numba value, so that a loop keeps its state in vector registers.

LLVM's own vectoriser gives up on the check-node loop (too many arrays that might overlap) and
plain numba integers widen to int64. Every operation below is one LLVM vector instruction, which
LLVM splits or pads for whatever the processor has; no lane operation saturates.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

NUM_LANES = 32
_I16 = ir.IntType(16)
_VECTOR = ir.VectorType(_I16, NUM_LANES)
_ALIGNMENT = 2  # bytes: a rotated read starts at any int16


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"int16x{NUM_LANES}")


LANES = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, data_model_manager: Any, fe_type: Any) -> None:
        super().__init__(data_model_manager, fe_type, _VECTOR)


def _lane_operation(typer: Any) -> Any:
    """A numba intrinsic; what its typing context argument is to numba, its caller never sees."""
    return intrinsic(typer)


def _pointer(context: Any, builder: Any, signature: Any, array: Any, index: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, array).data
    return builder.bitcast(cgutils.gep(builder, data, index), ir.PointerType(_VECTOR))


def _splat(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), NUM_LANES), [0] * NUM_LANES)
    return builder.shuffle_vector(first, first, mask)


def _call(builder: Any, name: str, *operands: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{NUM_LANES}i16")
    return builder.call(function, operands)


@_lane_operation
def load(typing, array, index):
    """Lanes of a contiguous int16 array from ``index`` on; the array must reach that far."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature, *args), align=_ALIGNMENT)

    return LANES(array, types.intp), codegen


@_lane_operation
def store(typing, array, index, value):
    """Write the lanes into a contiguous int16 array from ``index`` on."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, *args[:2])
        builder.store(args[2], pointer, align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), codegen


@_lane_operation
def splat(typing, scalar):
    """The same int16 in every lane."""
    return LANES(types.int16), lambda context, builder, signature, args: _splat(builder, args[0])


def _binary(emit: Any) -> Any:
    def typer(typing, a, b):
        return LANES(LANES, LANES), lambda context, builder, signature, args: emit(builder, *args)

    return _lane_operation(typer)


add = _binary(lambda builder, a, b: builder.add(a, b))
subtract = _binary(lambda builder, a, b: builder.sub(a, b))
exclusive_or = _binary(lambda builder, a, b: builder.xor(a, b))
bit_and = _binary(lambda builder, a, b: builder.and_(a, b))
minimum = _binary(lambda builder, a, b: _call(builder, "smin", a, b))
maximum = _binary(lambda builder, a, b: _call(builder, "smax", a, b))


@_lane_operation
def magnitude(typing, a):
    """Absolute value of each lane."""

    def codegen(context, builder, signature, args):
        return _call(builder, "abs", args[0], ir.IntType(1)(0))

    return LANES(LANES), codegen


@_lane_operation
def shift_right(typing, a, b):
    """Arithmetic shift of each lane of ``a`` by the same lane of ``b``."""

    def codegen(context, builder, signature, args):
        return builder.ashr(*args)

    return LANES(LANES, LANES), codegen


@_lane_operation
def where_equal(typing, a, b, x, y):
    """Lane of ``x`` where ``a`` equals ``b``, else of ``y``."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed("==", args[0], args[1]), args[2], args[3])

    return LANES(LANES, LANES, LANES, LANES), codegen


@_lane_operation
def any_negative(typing, a):
    """True when a lane is negative."""

    def codegen(context, builder, signature, args):
        signs = builder.icmp_signed("<", args[0], ir.Constant(_VECTOR, [0] * NUM_LANES))
        packed = builder.bitcast(signs, ir.IntType(NUM_LANES))
        return builder.icmp_unsigned("!=", packed, ir.IntType(NUM_LANES)(0))

    return types.boolean(LANES), codegen
