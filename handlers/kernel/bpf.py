"""An assembler of classic BPF programs that look at a frame and return a verdict.

A program is written as a graph of decisions (:data:`Node`). Nobody writes a length check: a load
past the end of a frame would end the program with 0, so the assembler works out how much of the
frame is known to be there on every way to a field, and puts a check in front of a load that needs
one. Nor are jumps limited to the 255 instructions that the machine can jump over.

Sources: `Documentation/networking/filter.rst`, `include/uapi/linux/filter.h`, and `net/core/
filter.c` (`bpf_check_classic`, which accepts a program).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

INSTRUCTION: Final = struct.Struct("=HBBI")
"""`struct sock_filter`: code, jump if true, jump if false, value."""

_LOADS: Final = {4: 0x00, 2: 0x08, 1: 0x10}
_ABSOLUTE, _RELATIVE, _LENGTH, _MEMORY = 0x20, 0x40, 0x80, 0x60
_LOAD_X: Final = 0x01
_STORE: Final = 0x02
_ADD, _AND, _SHIFT, _SUBTRACT, _BY_X = 0x04, 0x54, 0x64, 0x1C, 0x0C
_JUMP, _EQUAL, _AT_LEAST, _AT_LEAST_X, _ANY_BIT = 0x05, 0x15, 0x35, 0x3D, 0x45
_RETURN: Final = 0x06
_A_TO_X: Final = 0x07

_FAR: Final = 255
"""The most instructions that a conditional jump can jump over."""

_ANCILLARY: Final = 0xFFFFF000
"""SKF_AD_OFF: offsets from here on are what the kernel knows of the frame."""


class Field(Struct, frozen=True):
    """`size` bytes of the frame (1, 2 or 4), a number in network byte order.

    Its `offset` counts from the start of the frame; with `relative`, from the present header
    (:class:`Enter`, :class:`Skip`).
    """

    offset: int
    size: int
    relative: bool = False

    @property
    def end(self) -> int:
        """The number of bytes that must be there."""
        return self.offset + self.size

    def native(self, number: int) -> int:
        """What is loaded where the machine has written `number` in its own byte order."""
        return int.from_bytes(number.to_bytes(self.size, sys.byteorder))


class Ancillary(Struct, frozen=True):
    """What the kernel knows of the frame besides its bytes: a number `SKF_AD_…`."""

    number: int


class Saved(Struct, frozen=True):
    """The byte that the last :class:`Skip` saved."""


VLAN_TAG_PRESENT: Final = Ancillary(48)
"""Whether the kernel has taken a VLAN tag off the frame."""

SAVED: Final = Saved()

type Loaded = Field | Ancillary | Saved


class Slot(Struct, frozen=True):
    """A value that is only filled in later (:meth:`Code.filled`): number `index` of them."""

    index: int


type Value = int | Slot


class Return(Struct, frozen=True, eq=False):
    """The end, with a verdict."""

    verdict: Value


class Test(Struct, frozen=True, eq=False):
    """Goes to `yes` or `no`: is what is loaded, masked, the value?

    With `any_bit`, the question is whether it has any bit of the value.
    """

    loaded: Loaded
    value: Value
    yes: Node
    no: Node
    mask: int | None = None
    any_bit: bool = False


class Require(Struct, frozen=True, eq=False):
    """Goes on if there are `size` bytes of the frame, or of the present header if `relative`."""

    size: int
    then: Node
    relative: bool = False


class Enter(Struct, frozen=True, eq=False):
    """Makes what begins `offset` bytes into the frame the present header."""

    offset: int
    then: Node


class Skip(Struct, frozen=True, eq=False):
    """Saves the first byte of the present header, and goes on to the header behind it.

    The present one has (second byte + `more`) << `shift` bytes.
    """

    more: int
    shift: int
    then: Node


type Node = Return | Test | Require | Enter | Skip


def any_of(loaded: Loaded, values: Iterable[Value], yes: Node, no: Node) -> Node:
    """Whether what is loaded is any of `values`; the first one is asked first."""
    node = no
    for value in reversed(list(values)):
        node = Test(loaded, value, yes, node)
    return node


class Code(Struct, frozen=True):
    """An assembled program, some of whose values are to be filled in.

    Attributes:
        text: the instructions.
        places: where in it the value of each slot belongs: offset and index.
    """

    text: bytes
    places: tuple[tuple[int, int], ...]

    def filled(self, values: Sequence[int]) -> bytes:
        """The program with the value of each slot."""
        text = bytearray(self.text)
        for offset, index in self.places:
            _VALUE.pack_into(text, offset, values[index])
        return bytes(text)


_VALUE: Final = struct.Struct("=I")
_VALUE_OFFSET: Final = 4


def assemble(root: Node, *, short: Return, trailer: Sequence[Value] = ()) -> Code:
    """The program that starts at `root`; a frame that is too short gets the verdict of `short`.

    `trailer` is data at the program's end, which no way leads to (:func:`read_trailer`).
    """
    order = _order(root, short)
    states = _states(order)
    tail = _Tail()
    for value in reversed(trailer):
        tail.put(_RETURN, value)
    for node in reversed(order):
        tail.add(node, states.get(id(node), _State()), short)
    return tail.code()


def read_trailer(program: bytes) -> list[int]:
    """The values of the returns at the end of `program`, the last one first."""
    found = []
    for offset in range(len(program) - INSTRUCTION.size, -1, -INSTRUCTION.size):
        code, _, _, value = INSTRUCTION.unpack_from(program, offset)
        if code != _RETURN:
            break
        found.append(value)
    return found


def _next(node: Node) -> tuple[Node, ...]:
    match node:
        case Return():
            return ()
        case Test():
            return node.yes, node.no
        case _:
            return (node.then,)


def _order(root: Node, short: Return) -> list[Node]:
    """Every node before those that it leads to; `short`, where any check may lead, is last."""
    found: list[Node] = []
    seen = {id(short)}
    waiting: list[tuple[Node, bool]] = [(root, False)]
    while waiting:
        node, left = waiting.pop()
        if left:
            found.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            waiting += ((one, False) for one in _next(node))
    return [*reversed(found), short]


class _State(Struct, frozen=True):
    """What is certain when a node begins.

    Attributes:
        known: the bytes of the frame that are there.
        reach: the bytes of the present header that are there; negative if not even its start.
        loaded: what the accumulator has, and the mask that was applied.
    """

    known: int = 0
    reach: int = -1
    loaded: tuple[Loaded, int | None] | None = None

    def met(self, other: _State | None) -> _State:
        """What is certain if the way here was either of two."""
        if other is None:
            return self
        return _State(
            min(self.known, other.known),
            min(self.reach, other.reach),
            self.loaded if self.loaded == other.loaded else None,
        )

    def has(self, size: int, *, relative: bool) -> bool:
        """Whether so many bytes are there."""
        return size <= (self.reach if relative else self.known)

    def with_bytes(self, size: int, *, relative: bool) -> _State:
        """The state after a check that so many bytes are there, if that needs one."""
        if self.has(size, relative=relative):
            return self
        if relative:
            return _State(self.known, size)
        return _State(size, self.reach)

    def after(self, node: Node) -> _State:
        """The state at the end of `node`."""
        match node:
            case Test(loaded=Field() as field):
                there = self.with_bytes(field.end, relative=field.relative)
                return _State(there.known, there.reach, (field, node.mask))
            case Test():
                return _State(self.known, self.reach, (node.loaded, node.mask))
            case Require():
                return self.with_bytes(node.size, relative=node.relative)
            case Enter():
                return _State(self.known, self.known - node.offset, self.loaded)
            case Skip():
                return _State(self.known, -1, (SAVED, None))
            case Return():
                return self


def _states(order: Sequence[Node]) -> dict[int, _State]:
    """What is certain at the beginning of each node, whichever way leads there."""
    found = {id(order[0]): _State()}
    for node in order[:-1]:
        after = found[id(node)].after(node)
        for one in _next(node):
            found[id(one)] = after.met(found.get(id(one)))
    return found


class _Tail:
    """The end of a program, to which instructions are added in front."""

    def __init__(self) -> None:
        self._reversed: list[tuple[int, int, int, Value]] = []
        self._starts: dict[int, int] = {}

    def code(self) -> Code:
        """The program."""
        text = bytearray()
        places = []
        for code, yes, no, value in reversed(self._reversed):
            if isinstance(value, Slot):
                places.append((len(text) + _VALUE_OFFSET, value.index))
            text += INSTRUCTION.pack(code, yes, no, 0 if isinstance(value, Slot) else value)
        return Code(bytes(text), tuple(places))

    def put(self, code: int, value: Value = 0) -> None:
        """Put an instruction in front."""
        self._reversed.append((code, 0, 0, value))

    def add(self, node: Node, state: _State, short: Return) -> None:
        """Put the instructions of `node` in front."""
        match node:
            case Return():
                self.put(_RETURN, node.verdict)
            case Test():
                self._branch(_ANY_BIT if node.any_bit else _EQUAL, node.value, node.yes, node.no)
                self._load(node.loaded, node.mask, state, short)
            case Require():
                self._go(node.then)
                self._check(node.size, state, short, relative=node.relative)
            case Enter():
                self._go(node.then)
                self.put(_LOAD_X, node.offset)
            case Skip():
                self._go(node.then)
                self._skip(node)
                self._check(_READ, state, short, relative=True)
        self._starts[id(node)] = len(self._reversed)

    def _go(self, node: Node) -> None:
        distance = len(self._reversed) - self._starts[id(node)]
        if distance:
            self.put(_JUMP, distance)

    def _branch(self, code: int, value: Value, yes: Node | int, no: Node | int) -> None:
        """A conditional jump to nodes, or to so many instructions from the end.

        For a target that is too far away, the jump leads to a jump behind it.
        """
        starts = []
        for target in (yes, no):
            start = target if isinstance(target, int) else self._starts[id(target)]
            # A jump in between makes the way to the other target longer by one.
            if len(self._reversed) - start >= _FAR:
                if isinstance(target, Return):
                    self.put(_RETURN, target.verdict)
                else:
                    self.put(_JUMP, len(self._reversed) - start)
                start = len(self._reversed)
            starts.append(start)
        here = len(self._reversed)
        self._reversed.append((code, here - starts[0], here - starts[1], value))

    def _load(self, loaded: Loaded, mask: int | None, state: _State, short: Return) -> None:
        if state.loaded == (loaded, mask):
            return
        if mask is not None:
            self.put(_AND, mask)
        match loaded:
            case Field():
                base = _RELATIVE if loaded.relative else _ABSOLUTE
                self.put(_LOADS[loaded.size] | base, loaded.offset)
                self._check(loaded.end, state, short, relative=loaded.relative)
            case Ancillary():
                self.put(_LOADS[1] | _ABSOLUTE, _ANCILLARY + loaded.number)
            case Saved():
                self.put(_MEMORY, 0)

    def _check(self, size: int, state: _State, short: Return, *, relative: bool) -> None:
        """Check that so many bytes are there, unless that is certain."""
        if state.has(size, relative=relative):
            return
        passed = len(self._reversed)
        if not relative:
            self._branch(_AT_LEAST, size, passed, short)
        else:
            if size:  # the length, less what is in front of the header
                self._branch(_AT_LEAST, size, passed, short)
                self.put(_SUBTRACT)
                passed = len(self._reversed)
            self._branch(_AT_LEAST_X, 0, passed, short)
        self.put(_LENGTH)

    def _skip(self, node: Skip) -> None:
        self.put(_MEMORY, 0)
        self.put(_A_TO_X)
        self.put(_BY_X)
        self.put(_SHIFT, node.shift)
        self.put(_ADD, node.more)
        self.put(_LOADS[1] | _RELATIVE, 1)
        self.put(_STORE, 0)
        self.put(_LOADS[1] | _RELATIVE, 0)


_READ: Final = 2
"""The bytes of a header that a :class:`Skip` reads."""
