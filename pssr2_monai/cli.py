"""The command ``pssr2``: the verbs of ``pssr2_monai.commands``, run by fire after their options were checked.

fire runs a function first and complains about unknown options afterwards; here they are refused before anything runs.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import fire
from fire.core import FireExit

from pssr2_monai.commands import COMMANDS
from pssr2_monai.errors import InputError, causes
from pssr2_monai.machine import keep_memory

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; the exit status is 0, 1 where it failed, 2 where arguments are missing."""
    # Two threads that spin while they wait take each other's core; torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # What profiling tells about itself helps nobody.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    keep_memory()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [each for each in arguments if each != "--debug"]
    _set_up_output(debug)
    try:
        sys.exit(_run(arguments))
    except BrokenPipeError:  # the reader of the output has gone, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; a training goes on with --resume, restoring with the same command again", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"pssr2: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"there is no command {name!r}{_nearest(name, COMMANDS)}; there are {', '.join(COMMANDS)}")
    if "--help" in rest or "-h" in rest:
        print(inspect.getdoc(COMMANDS[name]))
        return 0
    _check_options(COMMANDS[name], rest)
    try:
        fire.Fire(COMMANDS[name], command=rest, name=f"pssr2 {name}")
    except FireExit as exit_:
        return int(exit_.code)
    return 0


def _check_options(command: Callable[..., None], arguments: Sequence[str]) -> None:
    """Refuses what the command does not take, and says what is missing."""
    parameters = inspect.signature(command).parameters
    expected = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    positional = _positional(arguments)
    if len(positional) > len(expected):
        raise InputError(
            f"{command.__name__}: {positional[len(expected)]!r} is one argument too many; it takes "
            f"{' '.join(name.upper() for name in expected) or 'options only'} (a folder instead of *.tif)"
        )
    given = [each[2:].split("=")[0].replace("-", "_") for each in arguments if each.startswith("--")]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for option in given:
            if option not in parameters:
                near = _nearest(f"--{option}", [f"--{name}" for name in parameters])
                raise InputError(f"{command.__name__}: there is no option --{option}{near}")
    missing = [name.upper() for name in expected[len(positional) :] if name not in given]
    missing += [
        f"--{name}"
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name not in given
    ]
    if missing:
        raise InputError(
            f"{command.__name__}: {' and '.join(missing)} must be given; see pssr2 {command.__name__} --help"
        )


def _positional(arguments: Sequence[str]) -> list[str]:
    """The arguments that are neither options nor their values, as fire tells them apart."""
    found, value_follows = [], False
    for each in arguments:
        if each.startswith("--"):
            value_follows = "=" not in each
        elif value_follows:
            value_follows = False
        else:
            found.append(each)
    return found


def _overview() -> str:
    lines = ["pssr2: point-scanning super-resolution for microscopy", ""]
    lines += [f"  {name:12}{(inspect.getdoc(each) or '').splitlines()[0]}" for name, each in COMMANDS.items()]
    return "\n".join([*lines, "", "pssr2 COMMAND --help tells more; --debug shows the traceback of an error."])


def _nearest(name: str, known: Any) -> str:
    from pssr2_monai.presets import nearest

    return nearest(name, known)


def _set_up_output(debug: bool) -> None:
    """The package's own messages on stderr; those of the libraries only where asked for."""
    logging.basicConfig(level=logging.INFO if debug else logging.CRITICAL, format="%(message)s", stream=sys.stderr)
    logging.getLogger("pssr2_monai").setLevel(logging.INFO)
    if not debug:
        warnings.filterwarnings("ignore")
        # MONAI sets this logger's level and handler by itself when it is imported; a filter stays.
        logging.getLogger("monai.bundle.workflows").addFilter(lambda record: False)


def _one_line(error: BaseException) -> str:
    """What to tell of an error: the user's part of it where there is one, which MONAI wraps in its own."""
    for innermost in causes(error):
        if isinstance(innermost, InputError):
            return str(innermost)
    text = " ".join(str(innermost).split())
    return f"{type(innermost).__name__}: {text[:300]} (--debug shows where)"
