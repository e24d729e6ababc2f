"""What commands take on their command line: lists of numbers, knob settings, grouped options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Number = int | float
Command = TypeVar("Command", bound=Callable[..., Any])


def split_numbers(value: str | Sequence[Any], read: Callable[[str], Number]) -> tuple[Number, ...]:
    """Read "1,2,3", or a sequence of numbers or texts.

    Args:
        value: What the user wrote, or passed from Python.
        read: Turns the text of one item into a number, such as `int`.

    Raises:
        ValueError: An item is no such number, or there are none.
    """
    items = value.split(",") if isinstance(value, str) else value
    numbers = tuple(read(str(item).strip()) for item in items)
    if not numbers:
        raise ValueError("no numbers")
    return numbers


def read_number(text: str) -> Number:
    """Read an integer as one, any other number as float.

    Raises:
        ValueError: It is no number.
    """
    try:
        return int(text)
    except ValueError:
        return float(text)


class NumberList(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 only
    """Integers with commas between."""

    name = "numbers"

    def __init__(self, minimum: int, maximum: int, example: str) -> None:
        self._range = minimum, maximum
        self._example = example

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Read them."""
        low, high = self._range
        try:
            numbers = tuple(int(number) for number in split_numbers(value, int))
        except ValueError:
            numbers = ()
        if not numbers or not all(low <= number <= high for number in numbers):
            self.fail(
                f"{value!r} is not a list of integers from {low} to {high} such as "
                f"{self._example}.",
                param,
                ctx,
            )
        return numbers


class KnobSetting(click.ParamType):  # type: ignore[type-arg]
    """NAME=VALUE with a number as value, or several with commas; integers stay integers."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Number | list[Number]]:
        """Split and read one knob."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        try:
            found = list(split_numbers(text, read_number))
        except ValueError:
            found = []
        if not (name and equals and found) or any(number != number for number in found):
            self.fail(
                f"{value!r} is not NAME=NUMBER, such as threshold=0.3, or one number an exit, such "
                "as threshold=0.3,0.2,0.2.",
                param,
                ctx,
            )
        return name, found if len(found) > 1 else found[0]


class GroupedOption(click.Option):
    """An option that `--help` shows under a heading."""

    def __init__(self, *args: Any, group: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


def grouped_option(group: str, *names: str, **settings: Any) -> Callable[[Command], Command]:
    """Declare an option under a heading of `--help`."""
    return click.option(*names, cls=GroupedOption, group=group, **settings)
