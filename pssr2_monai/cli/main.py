"""The command ``pssr2``: the verbs of ``pssr2_monai.cli.verbs``, called by fire after their arguments were checked.

What a verb reports goes to stdout, as text or, with ``--json``, as one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, is_dataclass
from typing import Any

import fire

import pssr2_monai
from pssr2_monai.cli.arguments import Answer, fire_words
from pssr2_monai.cli.verbs import COMMANDS
from pssr2_monai.errors import InputError, UsageError, causes, nearest, one_line, printable
from pssr2_monai.lazy_monai import defer_optional_packages
from pssr2_monai.machine import Terminated, keep_memory, stopped_by_sigterm, wait_briefly

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
MESSAGE_LENGTH = 300  # characters that are shown of the message of an unexpected error
EVERYWHERE = """\
--json            report figures and paths as JSON on stdout
--debug           show the traceback of an error
--import PACKAGE  let weights and presets name the networks and transforms of an installed package of your own"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; its exit status is 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C and 143 for SIGTERM."""
    wait_briefly()
    # What torch's profiler logs about itself helps nobody.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # What Apple's GPU does not compute is computed on the processor.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    defer_optional_packages()
    keep_memory()
    words = list(sys.argv[1:] if argv is None else argv)
    debug, machine_readable = "--debug" in words, "--json" in words
    words = [word for word in words if word not in ("--debug", "--json")]
    _set_up_output(debug)
    try:
        words, packages = without_imports(words)
        if packages:
            from pssr2_monai.registered_names import import_packages

            import_packages(packages)
        with stopped_by_sigterm():
            _run(words, machine_readable)
        sys.exit(0)
    except BrokenPipeError:  # the reader of the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (KeyboardInterrupt, Terminated) as stop:
        print("stopped; resume a training with --resume, and restoring with the same command", file=sys.stderr)
        sys.exit(stop.code if isinstance(stop, Terminated) else INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"pssr2: {printable(_message(error))}", file=sys.stderr)
        sys.exit(WRONG_USAGE if any(isinstance(cause, UsageError) for cause in causes(error)) else FAILED)


def without_imports(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words without ``--import PACKAGE``, whose name Python keeps for itself, and the packages."""
    rest, packages = [], []
    remaining = iter(words)
    for word in remaining:
        name, equals, package = word.partition("=")
        if name != "--import":
            rest.append(word)
        elif package := package if equals else next(remaining, ""):
            packages += package.split(",")
        else:
            raise UsageError("--import: needs the name of a package")
    return rest, packages


def _run(words: Sequence[str], machine_readable: bool) -> None:
    if not words or words[0] in ("--help", "-h", "help"):
        print(_overview())
        return
    name, *rest = words
    if name == "--version":
        print(pssr2_monai.__version__)
        return
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}{nearest(name, COMMANDS)}; there are {', '.join(COMMANDS)}")
    verb = COMMANDS[name]
    if "--help" in rest or "-h" in rest:
        print(f"{verb.help()}\n\n{EVERYWHERE}")
        return

    def report(answer: Answer | None) -> str | None:
        return None if answer is None else as_json(answer.data) if machine_readable else answer.text

    fire.Fire(verb.run, command=fire_words(verb, rest), name=f"pssr2 {name}", serialize=report)


def as_json(data: Any) -> str:
    """Return data as JSON: dataclasses as objects, paths as strings, null for numbers that JSON does not have."""
    return json.dumps(_plain_data(data), indent=2, ensure_ascii=False, allow_nan=False)


def _plain_data(data: Any) -> Any:
    if is_dataclass(data) and not isinstance(data, type):
        data = asdict(data)
    if isinstance(data, Mapping):
        return {str(key): _plain_data(value) for key, value in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, str):
        return [_plain_data(value) for value in data]
    if isinstance(data, float):  # numpy's float64, too
        return float(data) if math.isfinite(data) else None
    if data is None or isinstance(data, (bool, int, str)):
        return data
    return _plain_data(data.tolist()) if hasattr(data, "tolist") else str(data)


def _overview() -> str:
    lines = ["pssr2: point-scanning super-resolution for microscopy", ""]
    lines += [f"  {name:12}{verb.summary}" for name, verb in COMMANDS.items()]
    return "\n".join([*lines, "", "Details: pssr2 COMMAND --help. Options of every command:", EVERYWHERE])


class _AroundBars(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines above progress bars rather than into them."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(file=self.stream) if bars else nullcontext():
            super().emit(record)


def _set_up_output(debug: bool) -> None:
    """The package's own messages on stderr; those of the libraries only where asked for."""
    handlers = [_AroundBars(sys.stderr)]
    logging.basicConfig(level=logging.INFO if debug else logging.CRITICAL, format="%(message)s", handlers=handlers)
    logging.getLogger("pssr2_monai").setLevel(logging.INFO)
    if not debug:
        warnings.filterwarnings("ignore")


def _message(error: BaseException) -> str:
    """The message of the user's error, which MONAI wraps in errors of its own, or else of the innermost cause."""
    for cause in causes(error):
        if isinstance(cause, InputError):
            return str(cause)
    return f"{type(cause).__name__}: {one_line(cause, MESSAGE_LENGTH)} (--debug shows where)"


if __name__ == "__main__":
    main()
