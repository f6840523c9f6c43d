"""CloudWatch's metric math, as far as `terraform/` uses it.

Source of the semantics: "Metric math syntax and functions" and "Using IF expressions" in the
Amazon CloudWatch User Guide,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html:

- operators work at each timestamp; a value that one of two series lacks is taken as 0, and where
  both lack it there is none;
- what would divide by zero is dropped;
- a condition is false where it is 0 and true where it is anything else; where it is missing, IF
  gives nothing; true with nothing to take gives 0, false with nothing to take gives nothing;
- FILL puts a number where there is none.

The guide leaves open what comes of a missing value and a number, and other texts of AWS read
otherwise, so what matters is proved under each `Reading`.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

Point = float | None
Series = tuple[Point, ...]
"""One value for each period, oldest first; None where there is none."""
Value = float | Series


class Reading(Enum):
    """What an operator makes of a missing value."""

    GUIDE = "guide"
    """0 beside another series that has a value; missing beside a number."""
    ZERO = "zero"
    """0 beside a number too."""
    ABSENT = "absent"
    """Missing, beside whatever: as in SQL."""


class ExpressionError(ValueError):
    """It is no expression of the part that is known here."""


_Operation = Callable[[float, float], float]
_Node = Callable[[Mapping[str, Series], Reading], Value]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<sign><=|>=|==|!=|[-+*/<>(),]))"
)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read."""

    text: str
    names: frozenset[str]
    """The series that it asks for."""
    _root: _Node

    def evaluate(self, series: Mapping[str, Series], reading: Reading = Reading.GUIDE) -> Series:
        """Values of the same periods as those of `series`, which must be equally long.

        Raises:
            KeyError: a series that the expression names is not given.
        """
        length = len(next(iter(series.values())))
        return _points(self._root(series, reading), length)


def parse_expression(text: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: a sign, a name or a function stands there that is not known here.
    """
    reader = _Reader(text)
    root = reader.read_any()
    reader.take("")
    return Expression(text, frozenset(reader.names), root)


class _Reader:
    """Recursive descent: OR, AND, comparisons, sums, products, a minus in front."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokenize(text))
        self._at = 0
        self.names: set[str] = set()

    def take(self, expected: str) -> None:
        if self._next() != expected:
            raise ExpressionError(f"{expected or 'the end'} is missing in: {self._text}")
        self._at += 1

    def read_any(self) -> _Node:
        return self._read_chain(self._read_all, {"OR": _any})

    def _read_all(self) -> _Node:
        return self._read_chain(self._read_comparison, {"AND": _all})

    def _read_comparison(self) -> _Node:
        return self._read_chain(self._read_sum, _COMPARISONS)

    def _read_sum(self) -> _Node:
        return self._read_chain(self._read_product, {"+": operator.add, "-": operator.sub})

    def _read_product(self) -> _Node:
        return self._read_chain(self._read_signed, {"*": operator.mul, "/": _divide})

    def _read_signed(self) -> _Node:
        if self._next() != "-":
            return self._read_atom()
        self._at += 1
        return _joined(operator.mul, _number(-1.0), self._read_signed())

    def _read_atom(self) -> _Node:
        word = self._next()
        self._at += 1
        if word == "(":
            inner = self.read_any()
            self.take(")")
            return inner
        if word[:1].isdigit():
            return _number(float(word))
        if word in _FUNCTIONS:
            return self._read_call(word)
        if word[:1].islower():
            self.names.add(word)
            return lambda series, _reading: series[word]
        raise ExpressionError(f"{word or 'the end'} is not expected in: {self._text}")

    def _read_call(self, name: str) -> _Node:
        call, counts = _FUNCTIONS[name]
        self.take("(")
        arguments = [self.read_any()]
        while self._next() == ",":
            self._at += 1
            arguments.append(self.read_any())
        self.take(")")
        if len(arguments) not in counts:
            raise ExpressionError(f"{name} takes {counts} arguments, not these: {self._text}")
        return lambda series, reading: call(
            [argument(series, reading) for argument in arguments], reading
        )

    def _read_chain(self, read: Callable[[], _Node], signs: Mapping[str, _Operation]) -> _Node:
        node = read()
        while (sign := self._next()) in signs:
            self._at += 1
            node = _joined(signs[sign], node, read())
        return node

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""


def _tokenize(text: str) -> Iterator[str]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"{text[at:].strip()[0]} is not known in: {text}")
        yield found[0].strip()
        at = found.end()


def _number(value: float) -> _Node:
    return lambda _series, _reading: value


def _joined(operation: _Operation, left: _Node, right: _Node) -> _Node:
    return lambda series, reading: _apply(
        operation, left(series, reading), right(series, reading), reading
    )


def _apply(operation: _Operation, left: Value, right: Value, reading: Reading) -> Value:
    length = _length(left, right)
    if length is None:
        assert isinstance(left, float)  # noqa: S101 - where there is no length there is no series
        assert isinstance(right, float)  # noqa: S101 - likewise
        return operation(left, right)
    has_number = isinstance(left, float) or isinstance(right, float)
    is_zero = reading is Reading.ZERO or (reading is Reading.GUIDE and not has_number)
    pairs = zip(_points(left, length), _points(right, length), strict=True)
    return tuple(_apply_once(operation, one, other, is_zero=is_zero) for one, other in pairs)


def _apply_once(operation: _Operation, left: Point, right: Point, *, is_zero: bool) -> Point:
    is_whole = left is not None and right is not None
    has_any = left is not None or right is not None
    if not (is_whole or (has_any and is_zero)):
        return None
    result = operation(left or 0.0, right or 0.0)
    return None if math.isnan(result) else result


def _length(*values: Value) -> int | None:
    return next((len(value) for value in values if isinstance(value, tuple)), None)


def _points(value: Value, length: int) -> Series:
    if isinstance(value, tuple):
        return value
    return (None if math.isnan(value) else value,) * length


def _divide(left: float, right: float) -> float:
    return left / right if right else math.nan  # which is how "dropped" gets out of here


def _all(left: float, right: float) -> float:
    return float(bool(left) and bool(right))


def _any(left: float, right: float) -> float:
    return float(bool(left) or bool(right))


def _comparing(compare: Callable[[float, float], bool]) -> _Operation:
    return lambda left, right: float(compare(left, right))


_COMPARISONS = {
    "<": _comparing(operator.lt),
    "<=": _comparing(operator.le),
    ">": _comparing(operator.gt),
    ">=": _comparing(operator.ge),
    "==": _comparing(operator.eq),
    "!=": _comparing(operator.ne),
}


def _if(arguments: list[Value], reading: Reading) -> Value:
    length = _length(*arguments) or 1
    columns = [_points(value, length) for value in (*arguments, math.nan)[:3]]
    return tuple(
        _choose(condition, positive, negative, reading)
        for condition, positive, negative in zip(*columns, strict=True)
    )


def _choose(condition: Point, positive: Point, negative: Point, reading: Reading) -> Point:
    if condition is None:
        return None
    if not condition:
        return negative
    return 0.0 if positive is None and reading is not Reading.ABSENT else positive


def _fill(arguments: list[Value], _reading: Reading) -> Value:
    series, filler = arguments
    if isinstance(series, float):
        return series
    fillers = _points(filler, len(series))
    pairs = zip(series, fillers, strict=True)
    return tuple(other if point is None else point for point, other in pairs)


_FUNCTIONS: dict[str, tuple[Callable[[list[Value], Reading], Value], Collection[int]]] = {
    "IF": (_if, (2, 3)),
    "FILL": (_fill, (2,)),
}
