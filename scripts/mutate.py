"""Change one thing of a module at a time, such as ``<`` to ``<=``, and see whether its tests notice.

Tests are collected once. Each mutant is a process forked from there in which the code of one function is exchanged, and
which runs the tests that call this function, those that caught most so far first, up to the first failure. What is not
in a function (constants, class bodies, defaults) is imported anew for each mutant. Hypothesis draws the same examples
for all, and does not shrink. The mutants that no test noticed are listed with their lines.

    python scripts/mutate.py pssr2_monai/images/axes.py [--tests tests/images ...] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # a process with threads of its own cannot be forked

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pssr2_monai"
SECONDS = 20.0  # of a processor, for a mutant at most, besides twice what the tests take without one
WAIT = 3600  # seconds that a mutant may take that does nothing but wait
MOST_MB = 2048  # more than the process has when it begins
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.MatMult: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change of a module's tree."""

    line: int
    what: str
    function: str  # the outermost function it is in, such as ``Frames.window``; "" for none
    apply: Callable[[], None]  # changes the tree for good


class Mutants(ast.NodeVisitor):
    """All mutants of a module. Left out: documentation, annotations, decorators, and the words of messages."""

    def __init__(self, tree: ast.Module) -> None:
        self.all: list[Mutant] = []
        self.classes: list[str] = []
        self.function = ""
        self.in_message = False
        self.visit(tree)

    def add(self, node: ast.AST, what: str, target: Any, field: str, value: Any, place: int | None = None) -> None:
        def apply() -> None:
            if place is None:
                setattr(target, field, value)
            else:
                getattr(target, field)[place] = value

        self.all.append(Mutant(node.lineno, what, self.function, apply))  # type: ignore[attr-defined]

    def visit(self, node: ast.AST) -> None:
        for field, child in ast.iter_fields(node):
            if field not in (
                "annotation",
                "returns",
                "decorator_list",
                "keywords" if isinstance(node, ast.ClassDef) else "",
            ):
                for place, part in enumerate(child) if isinstance(child, list) else [(None, child)]:
                    if isinstance(part, ast.AST):
                        self.visit_part(node, field, place, part)

    def visit_part(self, parent: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # documentation
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (isinstance(node, ast.keyword) and node.arg == "strict"):
            return  # strict: a check that nothing fails
        kept = self.function, self.in_message
        self.in_message = self.in_message or isinstance(node, (ast.Raise, ast.JoinedStr))
        self.in_message = self.in_message and not isinstance(node, ast.FormattedValue)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not self.function:
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if default is not None:
                    self.visit(ast.Expression(default))
            self.function = ".".join([*self.classes, node.name])
            for number, statement in enumerate(node.body):
                self.visit_part(node, "body", number, statement)
        elif isinstance(node, ast.ClassDef):
            self.classes.append(node.name)
            self.visit(node)
            self.classes.pop()
        else:
            self.mutate(parent, field, place, node)
            if not isinstance(node, ast.FormattedValue):
                self.visit(node)
            else:
                self.visit_part(node, "value", None, node.value)
        self.function, self.in_message = kept

    def mutate(self, parent: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
        def replace(what: str, value: ast.AST) -> None:
            self.add(node, what, parent, field, ast.copy_location(value, node), place)

        if isinstance(node, ast.Compare):
            for number, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    what = f"{type(operator).__name__} -> {other.__name__} in {ast.unparse(node)}"
                    self.add(node, what, node, "ops", other(), number)
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            other_operator = OPERATORS[type(node.op)]
            what = f"{type(node.op).__name__} -> {other_operator.__name__} in {ast.unparse(node)}"
            self.add(node, what, node, "op", other_operator())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            replace(f"drop {type(node.op).__name__} in {ast.unparse(node)}", node.operand)
        elif isinstance(node, ast.BoolOp):
            other_junction = ast.Or if isinstance(node.op, ast.And) else ast.And
            self.add(node, f"-> {other_junction.__name__} in {ast.unparse(node)}", node, "op", other_junction())
        elif isinstance(node, ast.Constant):
            self.mutate_constant(node, parent)
        elif isinstance(node, ast.Return) and not (node.value is None or ast.unparse(node.value) == "None"):
            self.add(node, f"return None instead of {ast.unparse(node.value)}", node, "value", ast.Constant(None))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            replace(f"drop {ast.unparse(node)}", ast.Pass())
        elif isinstance(node, (ast.Break, ast.Continue)):
            replace("break <-> continue", ast.Continue() if isinstance(node, ast.Break) else ast.Break())
        conditions = [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While)) else getattr(node, "ifs", [])
        for number, test in enumerate(conditions):
            if not isinstance(test, (ast.Compare, ast.UnaryOp)):  # those are turned round above
                negated = ast.copy_location(ast.UnaryOp(ast.Not(), test), test)
                where = ("ifs", number) if isinstance(node, ast.comprehension) else ("test", None)
                self.add(test, f"not ({ast.unparse(test)})", node, where[0], negated, where[1])

    def mutate_constant(self, node: ast.Constant, parent: ast.AST) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add(node, f"{value} -> {not value} in {ast.unparse(parent)}", node, "value", not value)
        elif isinstance(value, (int, float)):
            self.add(node, f"{value} -> {value + 1} in {ast.unparse(parent)}", node, "value", value + 1)
        elif isinstance(value, str) and not self.in_message:
            self.add(node, f"{value!r} -> {value + '~'!r} in {ast.unparse(parent)}", node, "value", value + "~")


# --------------------------------------------------------------------------------- putting a mutant into the package


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def exchange(module: ModuleType, function: str, tree: ast.Module) -> None:
    """Let a function of a module that is imported do what a changed tree says."""
    target: Any = module
    for name in function.split("."):
        target = vars(target)[name]
    target = getattr(target, "fget", None) or getattr(target, "func", None) or target
    target = getattr(target, "__func__", target)
    target = getattr(target, "__wrapped__", target)
    source = compile(ast.fix_missing_locations(tree), str(module.__file__), "exec")
    target.__code__ = next(code for code in codes(source) if code.co_qualname == function)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module from a tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self.path))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(compile(ast.fix_missing_locations(self.tree), str(self.path), "exec"), vars(module))


class Forked:
    """Runs a function in a forked process without output and with bounds, and returns its status."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, function: Callable[[], int]) -> tuple[int, bytes]:
        """The status, 1 also for a process that was ended, and what it wrote into its pipe."""
        end, child_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(end)
                os.setpgid(0, 0)
                nothing = os.open(os.devnull, os.O_RDWR)
                for number in (0, 1, 2):
                    os.dup2(nothing, number)
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_CPU, (int(self.seconds) + 1, int(self.seconds) + 2))
                resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MB * 2**20,) * 2)
                signal.alarm(WAIT)
                self.pipe = child_end
                status = function()
            finally:
                os._exit(status)
        os.close(child_end)
        with os.fdopen(end, "rb") as file:
            written = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return int(status != 0), written


class Tests:
    """A pytest plugin: instead of all tests, runs those that matter for each mutant."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    def run(self, items: Sequence[pytest.Item]) -> str | None:
        """The first test that fails, if any."""
        for item, following in zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return item.nodeid
        return None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.mutation.run_in_functions(self, session.items)
        return True


class Mutation:
    """The mutants of one module, and what became of them."""

    def __init__(self, path: Path, tests: Sequence[Path], only: str) -> None:
        self.path = path
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        self.tests = [str(test) for test in tests]
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        found = Mutants(self.tree).all
        self.mutants = [mutant for mutant in found if only in mutant.function]
        self.caught: Counter[str] = Counter()  # by the test that did
        self.survivors: list[Mutant] = []
        unused = ("cacheprovider", "terminal", "xdist", "timeout", "napari", "npe2", "pytest-qt")
        self.options = [
            "--capture=no",
            "--hypothesis-profile=mutants",
            "--override-ini=addopts=--import-mode=importlib",
        ]
        self.options += [f"-pno:{plugin}" for plugin in unused]

    def run(self) -> None:
        """Try the mutants within functions, then the others."""
        if pytest.main([*self.options, *self.tests], plugins=[Tests(self)]) not in (0, 5):
            raise SystemExit(f"{self.path}: the tests fail without any change; run pytest {' '.join(self.tests)}")
        self.run_outside_functions()

    def run_in_functions(self, tests: Tests, items: Sequence[pytest.Item]) -> None:
        seconds, calls, failed = self.measure(tests, items)
        if failed:
            raise SystemExit(f"{self.path}: {failed} fails without any change")
        self.seconds = SECONDS + 2 * sum(seconds.values())
        print(
            f"{self.name}: {len(self.mutants)} mutants, {len(items)} tests of {sum(seconds.values()):.1f} s", flush=True
        )
        module = sys.modules[self.name]
        fork = Forked(self.seconds)
        for mutant in self.mutants:
            if not mutant.function:
                continue
            chosen = [item for item in items if mutant.function in calls.get(item.nodeid, ())]
            chosen.sort(key=lambda item: (-self.caught[item.nodeid], seconds[item.nodeid]))

            def child(mutant: Mutant = mutant, chosen: list[pytest.Item] = chosen) -> int:
                mutant.apply()
                exchange(module, mutant.function, self.tree)
                failed = tests.run(chosen)
                os.write(fork.pipe, (failed or "").encode())
                return int(failed is not None)

            self.note(mutant, *fork(child))

    def measure(self, tests: Tests, items: Sequence[pytest.Item]) -> tuple[dict[str, float], dict[str, list[str]], str]:
        """The seconds of each test and the functions of the module that it calls, from a process of its own."""
        fork = Forked(3600)

        def child() -> int:
            seconds: dict[str, float] = {}
            calls: dict[str, list[str]] = {}
            file, called = str(self.path), set()

            def note(frame: FrameType, event: str, argument: object) -> None:
                if event == "call" and frame.f_code.co_filename == file:
                    called.add(frame.f_code.co_qualname.partition(".<locals>")[0])

            for item, following in zip_longest(items, items[1:]):
                called.clear()
                began = time.process_time()
                threading.setprofile(note)
                sys.setprofile(note)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                sys.setprofile(None)
                seconds[item.nodeid], calls[item.nodeid] = time.process_time() - began, sorted(called)
                if tests.failed:
                    break
            os.write(fork.pipe, json.dumps([seconds, calls, item.nodeid * tests.failed]).encode())
            return 0

        _, written = fork(child)
        return tuple(json.loads(written))  # type: ignore[return-value]

    def run_outside_functions(self) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE or name.startswith("tests.")]:
            del sys.modules[name]
        fork = Forked(self.seconds)
        for mutant in self.mutants:
            if mutant.function:
                continue

            def child(mutant: Mutant = mutant) -> int:
                mutant.apply()
                sys.meta_path.insert(0, Changed(self.name, self.path, self.tree))
                return int(pytest.main([*self.options, "-x", *self.tests]))

            self.note(mutant, *fork(child))

    def note(self, mutant: Mutant, status: int, written: bytes) -> None:
        self.caught[written.decode()] += status
        if not status:
            self.survivors.append(mutant)
            print(f"{self.path.relative_to(ROOT)}:{mutant.line}: {mutant.function}: {mutant.what}", flush=True)


def tests_of(path: Path) -> list[Path]:
    """The test files of a module: ``tests/images/test_axes.py``, and those that have its name and more."""
    folder = ROOT / "tests" / path.relative_to(ROOT / PACKAGE).parent
    return sorted(folder.glob(f"test_{path.stem}*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("--tests", type=Path, nargs="+", help="files or folders; by default the module's own test file")
    parser.add_argument("--only", default="", metavar="NAME", help="part of the names of the functions to change")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    path = options.module.resolve()
    mutation = Mutation(path, [test.resolve() for test in options.tests or tests_of(path)], options.only)
    mutation.run()
    count, survived = len(mutation.mutants), len(mutation.survivors)
    share = f"{100 * (count - survived) / count:.1f} %" if count else "none"
    print(f"| {path.relative_to(ROOT)} | {count} | {count - survived} | {share} |", flush=True)
    if options.json:
        survivors = [[mutant.line, mutant.function, mutant.what] for mutant in mutation.survivors]
        options.json.write_text(json.dumps({"mutants": count, "survivors": survivors}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
