"""The arguments of a verb, from one description, and their values, from the words of a command line.

A verb calls a function of the package. Its options, with their types, defaults and meanings, are read from the source
of that function and of dataclasses of options (see ``described``). Nothing is imported for it, so that help and
refusals come before torch is loaded.

fire guesses: that ``1e3`` names a number rather than a file, that the word after a switch is its value; and it runs a
verb before it complains about an option. So the words are sorted and checked here, and fire is given ``--name=value``
for each argument, with the function that reads the value.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fire.decorators import SetParseFn, SetParseFns

from pssr2_monai.bundle import described_training_ids, text_ids, training_ids
from pssr2_monai.described import NO, YES, Described, Option, text_value
from pssr2_monai.errors import UsageError, nearest

HELP_WIDTH = 120
IDS, FILES = "**overrides", "*files"  # any id of the training config, and any number of words


@dataclass(frozen=True)
class Answer:
    """What a verb reports."""

    text: str  # for people
    data: Any  # the same for programs, which ``--json`` prints


@dataclass(frozen=True)
class Verb:
    """A verb of the command."""

    run: Callable[..., Answer | None]  # takes the given options by their names
    summary: str
    notes: Sequence[str]  # paragraphs of the help
    places: Sequence[str]  # names of the options that are positional arguments
    options: Mapping[str, Option]
    ids: str | None  # what ids of the training config are for; None if they are not options of the verb
    files: str | None  # what any number of positional arguments are; None if they are counted
    example: str  # the words of a command line after the verb

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def switches(self) -> set[str]:
        """The options that need no value, ids of the training config among them."""
        ids = training_ids() if self.ids is not None else {}
        switches = {name for name, default in ids.items() if isinstance(default, bool)}
        return switches | {name for name, option in self.options.items() if bool in option.kinds}

    def help(self) -> str:
        named = [option for name, option in self.options.items() if name not in self.places]
        rows = [(name.upper(), self.options[name].line) for name in self.places]
        rows += [(option.flag, option.line) for option in named]
        usage = [name.upper() for name in self.places] + [option.usage for option in named]
        if self.files is not None:
            rows.append(("FILE", self.files))
            usage.append("[FILE ...]")
        if self.ids is not None:
            rows.append(("--ID", self.ids))
            usage.append("[--ID VALUE ...]")
        parts = [self.summary, _filled(["pssr2", self.name, *usage]), _table(rows)]
        if self.ids is not None and self.name == "train":
            ids = [
                (" ".join(f"--{name}" for name in names), f"{meaning} ({default})")
                for names, default, meaning in described_training_ids()
                if not set(names) & self.options.keys()
            ]
            parts.append(f"Ids and their defaults:\n\n{_table(ids)}")
        parts += [_filled(note.split(" ")) for note in self.notes]
        return "\n\n".join([*parts, f"Example: pssr2 {self.name} {self.example}"])


def verb(*sources: str, places: str = "", example: str) -> Callable[[Callable[..., Answer | None]], Verb]:
    """Make a verb of a function that is called with the given options.

    Its own parameters are options, and those of the sources: ``module:name`` of functions and dataclasses, followed by
    the names of these parameters where not all are. Where the first source is a function, its docstring describes the
    verb, and that of the decorated function adds notes.
    """

    def decorate(run: Callable[..., Answer | None]) -> Verb:
        function: Any = ast.parse(textwrap.dedent(inspect.getsource(run))).body[0]
        described = [*map(Described.in_package, sources), Described(function, [])]
        options = {option.name: option for source in described for option in source.options()}
        variadic = {name: meaning for source in described for name, meaning in source.variadic().items()}
        summary, *notes = (
            paragraph
            for source in described
            if source in (described[0], described[-1]) and isinstance(source.definition, ast.FunctionDef)
            for paragraph in source.paragraphs
        )
        ordered = {name: options[name] for name in places.split()} | options
        return Verb(run, summary, notes, places.split(), ordered, variadic.get(IDS), variadic.get(FILES), example)

    return decorate


def _filled(words: Sequence[str]) -> str:
    text = " ".join(word.replace(" ", "\xa0") for word in words)  # a word is an option with its value
    return textwrap.fill(text, HELP_WIDTH, break_on_hyphens=False, break_long_words=False).replace("\xa0", " ")


def _table(rows: Sequence[tuple[str, str]]) -> str:
    left = max(len(name) for name, _ in rows) + 2
    fill = partial(textwrap.fill, width=HELP_WIDTH, subsequent_indent=" " * left, break_on_hyphens=False)
    return "\n".join(fill(meaning, initial_indent=name.ljust(left)) for name, meaning in rows)


def fire_words(verb: Verb, words: Sequence[str]) -> list[str]:
    """Return the words as fire takes them without guessing, and teach fire how to read each value.

    Options are ``--name value`` or ``--name=value``; ``-`` in a name is ``_``. After ``--`` all words are positional.
    Values of the wrong type are refused when fire reads them.
    """
    values, files = _sorted_words(verb, words)
    missing = [
        name.upper() if name in verb.places else option.flag
        for name, option in verb.options.items()
        if option.required and name not in values
    ]
    if missing:
        raise UsageError(f"{verb.name}: {' and '.join(missing)} must be given; see pssr2 {verb.name} --help")
    readers: dict[str, Callable[[str], Any]] = dict.fromkeys(text_ids(), text_value) if verb.ids is not None else {}
    SetParseFns(**readers | {name: partial(_read, verb, option) for name, option in verb.options.items()})(verb.run)
    if verb.files is not None:
        SetParseFn(text_value)(verb.run)
    return [*(f"--{name}={value}" for name, value in values.items()), *files]


def _sorted_words(verb: Verb, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    positional: list[str] = []
    values: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            positional += rest
            break
        if re.fullmatch(r"-[A-Za-z].*", word):
            raise UsageError(f"{verb.name}: there is no option {word}; options begin with two dashes, files with ./-")
        if not word.startswith("--"):
            positional.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name not in verb.options and verb.ids is None:  # ids are checked once the config is merged, with its presets
            known = [f"--{option}" for option in verb.options]
            raise UsageError(f"{verb.name}: there is no option --{name}{nearest(f'--{name}', known)}")
        values[name] = value if equals else _next_value(verb, name, rest)
    if verb.files is not None:
        return values, positional
    if len(positional) > len(verb.places):
        raise UsageError(
            f"{verb.name}: {positional[len(verb.places)]!r} is one argument too many; it takes "
            f"{' '.join(map(str.upper, verb.places)) or 'options only'} (give a folder instead of *.tif)"
        )
    return dict(zip(verb.places, positional, strict=False)) | values, []


def _next_value(verb: Verb, name: str, rest: list[str]) -> str:
    # A switch takes none but true or false.
    following = rest[0] if rest and not rest[0].startswith("--") else None
    if name in verb.switches or (following is None and name not in verb.options):
        return rest.pop(0) if following is not None and following.lower() in (*YES[:2], *NO[:2]) else "True"
    if following is None:
        raise UsageError(f"{verb.name}: --{name} needs a value; see pssr2 {verb.name} --help")
    return rest.pop(0)


def _read(verb: Verb, option: Option, text: str) -> Any:
    try:
        return option.read(text)
    except UsageError as error:
        raise UsageError(f"{verb.name}: {error}") from None
