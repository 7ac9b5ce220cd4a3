"""From the words of a command line to the arguments of a verb, by its signature.

fire guesses: that ``1e3`` names a number rather than a file, that the word after a switch is its value; and it runs a
verb before it complains of an option. So the words are sorted out and checked here, and fire is handed ``--name=value``
for each argument, with what reads the value.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

from fire.decorators import SetParseFn, SetParseFns
from fire.parser import DefaultParseValue

from pssr2_monai.bundle import text_ids, training_ids
from pssr2_monai.errors import UsageError, nearest

YES, NO = ("true", "yes", "1"), ("false", "no", "0")


def fire_words(command: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """The words as fire takes them without guessing; the command learns how each of its values is read.

    Options are ``--name value`` or ``--name=value``; ``-`` in a name is ``_``. A switch takes no value, or true or
    false. After ``--`` all is positional. A leading ``~`` is the user's home folder, which not every shell sees to.

    Raises:
        UsageError: an option that there is not or that has no value, a word too many, or something that is missing.
            A value of the wrong type is refused when fire reads it.
    """
    given, more = _given(command, words)
    parameters = inspect.signature(command).parameters
    missing = [
        name.upper() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else f"--{name}"
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in given
    ]
    if missing:
        verb = command.__name__
        raise UsageError(f"{verb}: {' and '.join(missing)} must be given; see pssr2 {verb} --help")
    _tell_fire(command)
    return [*(f"--{name}={value}" for name, value in given.items()), *more]


def options_of(command: Callable[..., Any]) -> list[str]:
    """The names of a verb's options, without those of the training config."""
    parameters = inspect.signature(command).parameters
    return [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]


def switches_of(command: Callable[..., Any]) -> set[str]:
    """The names of the options that need no value, those of the training config among them."""
    own = {name for name, kinds in _kinds(command).items() if bool in kinds}
    if takes_training_ids(command):
        own |= {name for name, default in training_ids().items() if isinstance(default, bool)}
    return own


def takes_training_ids(command: Callable[..., Any]) -> bool:
    """Whether any id of the training config is an option of the verb."""
    return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(command).parameters.values())


def _given(command: Callable[..., Any], words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The value of each argument that is given, as text, and the words of a verb that takes any number of them."""
    verb, switches = command.__name__, switches_of(command)
    expected = _positional(command)
    places: list[str] = []
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            places += rest
            break
        if re.fullmatch(r"-[A-Za-z].*", word):
            raise UsageError(f"{verb}: there is no option {word}; options begin with two dashes, files with ./-")
        if not word.startswith("--"):
            places.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        _check_known(command, name)
        if not equals:
            follows = rest[0] if rest and not rest[0].startswith("--") else None
            if name in switches or (follows is None and not _declared(command, name)):
                value = rest.pop(0) if follows is not None and follows.lower() in YES[:2] + NO[:2] else "True"
            elif follows is None:
                raise UsageError(f"{verb}: --{name} needs a value; see pssr2 {verb} --help")
            else:
                value = rest.pop(0)
        given[name] = value
    if _takes_any_number(command):
        return given, places
    if len(places) > len(expected):
        raise UsageError(
            f"{verb}: {places[len(expected)]!r} is one argument too many; it takes "
            f"{' '.join(name.upper() for name in expected) or 'options only'} (a folder instead of *.tif)"
        )
    return dict(zip(expected, places, strict=False)) | given, []


def _takes_any_number(command: Callable[..., Any]) -> bool:
    return any(each.kind is each.VAR_POSITIONAL for each in inspect.signature(command).parameters.values())


def _positional(command: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(command).parameters
    return [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]


def _declared(command: Callable[..., Any], name: str) -> bool:
    return name in (*_positional(command), *options_of(command))


def _check_known(command: Callable[..., Any], name: str) -> None:
    """Refuses an option that there is not; ids of a config are checked once it is merged, with its presets."""
    if not _declared(command, name) and not takes_training_ids(command):
        known: Iterable[str] = [f"--{each}" for each in (*_positional(command), *options_of(command))]
        raise UsageError(f"{command.__name__}: there is no option --{name}{nearest(f'--{name}', known)}")


def _kinds(command: Callable[..., Any]) -> dict[str, set[Any]]:
    """The types that each declared argument may have."""
    parameters = inspect.signature(command, eval_str=True).parameters
    return {name: _members(each.annotation) for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}


def _members(annotation: Any) -> set[Any]:
    """The types of a union, or the one type; of ``list[int]``, ``list``."""
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return {get_origin(each) or each for each in members}


def _tell_fire(command: Callable[..., Any]) -> None:
    readers = {name: _reader(command, name, kinds) for name, kinds in _kinds(command).items()}
    if takes_training_ids(command):
        readers = dict.fromkeys(text_ids(), _text) | readers
    SetParseFns(**readers)(command)
    if _takes_any_number(command):
        SetParseFn(_text)(command)


def _reader(command: Callable[..., Any], name: str, kinds: set[Any]) -> Callable[[str], Any]:
    """What reads a value of one of these types."""

    def read(text: str) -> Any:
        for kind, reader, _ in READERS:
            if kind in kinds:
                try:
                    return reader(text)
                except ValueError:
                    continue
        expected = " or ".join(words for kind, _, words in READERS if kind in kinds)
        raise UsageError(f"{command.__name__}: --{name} {text}: is not {expected}")

    return read


def _text(text: str) -> str:
    """As it is, but for the home folder at the start of a path, or of each of several divided by commas."""
    return ",".join(os.path.expanduser(part) for part in text.split(","))


def _switch(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError
    return text.lower() in YES


def _whole(text: str) -> int:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    number = float(text)  # 1e3
    if not number.is_integer():
        raise ValueError
    return int(number)


def _number(text: str) -> float:
    number = float(text)
    if number != number:  # nan
        raise ValueError
    return number


def _list(text: str) -> list[Any]:
    value = DefaultParseValue(text)
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return list(value)


READERS: tuple[tuple[Any, Callable[[str], Any], str], ...] = (
    (bool, _switch, "true or false"),
    (int, _whole, "a whole number"),
    (float, _number, "a number"),
    (list, _list, "a list such as [1,4,4]"),
    (str, _text, "text"),
)
"""What reads each type, and its name in messages."""
