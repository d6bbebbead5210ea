"""What the rules of the house see: each is a function from a source to its offences.

None knows of an exception; those stand in test_house.py, with their reasons.
"""

import ast
import gc
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator

import attrs

FILE_LINES = 400  # up to 300 is the rule, this is the end
FUNCTION_LINES = 60  # up to 40 is the rule
NESTING = 4
BANNED = {"helper", "util", "handler", "service", "common", "base", "misc"}
FACADE_WORDS = {"manager", "task", "worker", "semaphore"}
CLOCKS = {"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith)
BLOCKS += (ast.Try, ast.TryStar, ast.Match)


@attrs.frozen
class Source:
    """A file and its tree; `name` is relative to the package where the file is in it."""

    name: str
    text: str
    tree: ast.Module = attrs.field(init=False)

    @tree.default
    def _parsed(self) -> ast.Module:
        # Garbage of earlier tests may format a traceback when it is collected, which parses
        # too, and CPython 3.11 takes the two for one: "AST constructor recursion depth mismatch".
        gc.collect(1)
        gc.disable()
        try:
            return ast.parse(self.text)
        finally:
            gc.enable()


@attrs.frozen
class Offence:
    """A place that breaks a rule; `name` is whose it is, where it is somebody's."""

    line: int
    says: str
    name: str = ""


Offences = Iterator[Offence]
Rule = Callable[[Source], Offences]


def long_file(source: Source) -> Offences:
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield Offence(1, f"{lines} lines, over {FILE_LINES}: give the second idea its own file")


def long_function(source: Source) -> Offences:
    for node in functions(source):
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield Offence(
                node.lineno, f"{node.name} has {lines} lines, over {FUNCTION_LINES}", node.name
            )


def deep_function(source: Source) -> Offences:
    for node in functions(source):
        depth = deepest(node.body)
        if depth > NESTING:
            yield Offence(node.lineno, f"{node.name} nests {depth}, over {NESTING}", node.name)


def deepest(body: Iterable[ast.stmt]) -> int:
    return max((depth_of(statement) for statement in body), default=0)


def depth_of(statement: ast.stmt) -> int:
    """Count a block and what is in it; `elif` is no deeper than its `if`."""
    if not isinstance(statement, BLOCKS):
        return 0  # a function within a function is measured by itself
    orelse = getattr(statement, "orelse", [])
    parts = [*getattr(statement, "handlers", []), *getattr(statement, "cases", []), statement]
    inner = [line for part in parts for line in getattr(part, "body", [])]
    inner += getattr(statement, "finalbody", [])
    if isinstance(statement, ast.If) and len(orelse) == 1 and isinstance(orelse[0], ast.If):
        return max(1 + deepest(inner), depth_of(orelse[0]))
    return 1 + max(deepest(inner), deepest(orelse))


def banned_name(source: Source) -> Offences:
    return named(source, BANNED, "is banned")


def facade_name(source: Source) -> Offences:
    return named(source, FACADE_WORDS, "is a word of the facades")


def named(source: Source, banned: set[str], why: str) -> Offences:
    for line, name in defined(source):
        words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
        for word in sorted(banned & (words | {word.removesuffix("s") for word in words})):
            yield Offence(line, f"{name}: {word!r} {why}", name)


def defined(source: Source) -> Iterator[tuple[int, str]]:
    """Yield the names that the file gives: to itself, functions, classes, arguments, variables."""
    yield 1, source.name.removesuffix(".py")
    for node in ast.walk(source.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield node.lineno, name


def broad_except(source: Source) -> Offences:
    for node in ast.walk(source.tree):
        match node:
            case ast.ExceptHandler(type=None):
                yield Offence(node.lineno, "a bare except")
            case ast.ExceptHandler(type=kind) if is_broad(kind):
                yield Offence(node.lineno, f"except {ast.unparse(kind)}")
            case ast.Call(func=function, args=kinds) if any(map(is_broad, kinds)):
                if ast.unparse(function).endswith("suppress"):
                    yield Offence(node.lineno, "suppress(Exception)")


def is_broad(kind: ast.expr) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    broad = {"Exception", "BaseException"}
    return any(isinstance(each, ast.Name) and each.id in broad for each in kinds)


def unsorted_all(source: Source) -> Offences:
    for node in source.tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                names = list(ast.literal_eval(value))
                expected = sorted(set(names))
                if names != expected:
                    yield Offence(node.lineno, f"__all__ in sorted() order is {expected}")


def foreign_loop(source: Source) -> Offences:
    for line, module in imported(source.tree):
        if module.split(".")[0] == "asyncio":
            yield Offence(line, "asyncio is imported in the seam only")


def late_import(source: Source) -> Offences:
    for function in functions(source):
        for line, module in imported(function):
            yield Offence(line, f"{module} is imported inside {function.name}", module)


def own_clock(source: Source) -> Offences:
    for node in ast.walk(source.tree):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in CLOCKS:
                yield Offence(node.lineno, f"time.{name}: time is the loop's clock")
            case ast.ImportFrom(module="time", names=names):
                if CLOCKS & {alias.name for alias in names}:
                    yield Offence(node.lineno, "time is the loop's clock")
    for line, module in imported(source.tree):
        if module.split(".")[0] == "random":
            yield Offence(line, "random stands only in leaf files that take a seed")


def no_docstring(source: Source) -> Offences:
    if ast.get_docstring(source.tree) is None:
        yield Offence(1, "no docstring: what is the one idea of this file?")


def unexplained_ignore(source: Source) -> Offences:
    ignore = re.compile(r"#\s*type:\s*ignore")
    explained = re.compile(r"# type: ignore\[[\w, -]+\]\s+#\s*\S+ \S+")
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        comment = token.string if token.type == tokenize.COMMENT else ""
        if ignore.match(comment) and not explained.match(comment):
            yield Offence(token.start[0], "say `# type: ignore[code]  # and the reason`")


def functions(source: Source) -> Iterator[Function]:
    return (node for node in ast.walk(source.tree) if isinstance(node, Function))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
