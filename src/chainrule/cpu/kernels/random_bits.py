"""The kernel of random bits: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

It makes the same numbers as the reference of ``ops.random_bits``. Loop order: units of 16,384 elements, then vectors of
counters, a counter in each lane of 64 bits, which gives four words. It reads the state and writes each element once.
"""

from __future__ import annotations

from chainrule.cpu.codegen.emit import Function, Module, Value, lanes_of, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel, KernelStep, KernelSteps

_WORDS = 4
_ELEMENTS_PER_UNIT = 16384
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def random_bits(target: Target, size: int, bits: int) -> KernelSteps:
    """Return the kernel that makes ``size`` numbers of ``bits`` random bits each.

    Its operands are "state" (2, int64), that is, seed and counter, and "out" (size, int32).
    """
    kernel = Kernel(
        "random_bits",
        f"{size} {bits}",
        lambda target, name: _generate(target, name, size, bits),
        units=-(-size // _ELEMENTS_PER_UNIT),
        bytes=16 + 4 * size,
    )
    return KernelSteps([KernelStep(kernel, ("state", "out"))])


def _generate(target: Target, name: str, size: int, bits: int) -> Module:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    state, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    seed, counter = f.load(state, "i64"), f.load(f.at(state, 1, "i64"), "i64")
    lanes = target.lanes(8)
    group = _WORDS * lanes
    keys = _keys(f, seed, lanes)
    end = f.least(f["end"] * _ELEMENTS_PER_UNIT, f.parameter(size))
    with f.loop(f["begin"] * _ELEMENTS_PER_UNIT, end, group) as first:
        block = f.splat(counter + first // _WORDS, lanes) + f.numbers(range(lanes), "i64")
        words = _in_order(f, _philox(f, block, keys)) >> (32 - bits)
        place, left = f.at(out, first, "i32"), end - first
        whole = f.compare("sge", left, group)
        with f.when(whole):
            f.store(words, place)
        with f.when(whole ^ 1):
            f.masked_store(words, place, f.lane_mask(left, group))
    return module


def _keys(f: Function, seed: Value, lanes: int) -> list[tuple[Value, Value]]:
    """Return the key of each round, two words of 32 bits, each in all lanes of a vector of i64."""
    low, high = seed & _LOW, seed >> 32
    return [(f.splat((low + i * _WEYL[0]) & _LOW, lanes), f.splat((high + i * _WEYL[1]) & _LOW, lanes)) for i in range(_ROUNDS)]


def _philox(f: Function, block: Value, keys: list[tuple[Value, Value]]) -> tuple[Value, Value, Value, Value]:
    """Return four random words for each counter, a vector for each of the four.

    A word is kept in the lower half of an i64, so that the product of two words has all its 64 bits.
    """
    zero = f.zero(block.type)
    c0, c1, c2, c3 = block & _LOW, block >> 32, zero, zero
    for k0, k1 in keys:
        left, right = _times(c0, _MULTIPLIERS[0]), _times(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & _LOW, (left >> 32) ^ c3 ^ k1, left & _LOW
    return c0, c1, c2, c3


def _times(word: Value, multiplier: int) -> Value:
    return word.f.op(f"mul {word.type} {word.text}, {word.f.number(multiplier, word.type).text}", word.type)


def _in_order(f: Function, words: tuple[Value, Value, Value, Value]) -> Value:
    """Return a vector of i32 with the four words of the first counter, then those of the second counter, and so on."""
    lanes = lanes_of(words[0].type)
    first, second = words[0] | (words[1] << 32), words[2] | (words[3] << 32)
    pairs = f.shuffle(first, second, [place for lane in range(lanes) for place in (lane, lanes + lane)])
    type_ = vector(_WORDS * lanes, "i32")
    return f.op(f"bitcast {pairs.type} {pairs.text} to {type_}", type_)
