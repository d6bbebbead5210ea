"""Find the pipeline that ``FILE[:name]`` means, by importing the file as a module.

The file is imported under its stem with its folder first in ``sys.path``, so that the worker
processes of the cpu lane, which get that path, find its functions.
"""

from __future__ import annotations

import ast
import difflib
import errno
import importlib.util
import inspect
import os
import stat
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from anabranch.cli._shown import shown
from anabranch.errors import AnabranchError, ConfigurationError
from anabranch.pipeline import MapStep, ParallelStep, Pipeline, Step

MISSING: Final = os.strerror(errno.ENOENT)
NO_FILE: Final = "it is no regular file"
NODES = (Step, ParallelStep, MapStep)


class WrongUsageError(AnabranchError):
    """Say what is wrong with a command: the person's mistake who typed it."""


class UserCodeError(AnabranchError):
    """Carry what the user's own code raised, as its cause."""


def load(target: str) -> Pipeline[Any, Any]:
    """Return the pipeline that ``target`` means.

    Raises:
        WrongUsageError: no such file, no such name, no pipeline or several.
        UserCodeError: the file raised while it was imported.
    """
    file, name = split(target)
    path = _checked(file)
    module = _imported(path)
    if name is None:
        return _only(path, module)
    return _as_pipeline(f"{path.name}:{name}", _named(path, module, name))


def split(target: str) -> tuple[str, str | None]:
    r"""Split ``FILE[:name]``; the colon of a drive (``C:\flow.py``) is part of the file."""
    file, colon, name = target.rpartition(":")
    is_drive = len(file) == 1 and file.isalpha()
    if not colon or is_drive or "/" in name or "\\" in name or not _why_unreadable(Path(target)):
        return target, None
    if not name.isidentifier():
        raise WrongUsageError(
            f"{target}: {name!r} after the colon is no name; give FILE:name, or FILE alone"
        )
    return file, name


def _checked(file: str) -> Path:
    path = Path(file)
    why = _why_unreadable(path)
    if why == MISSING:
        names = [name for name in _python_files(path.parent) if name != path.name]
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ""
        raise WrongUsageError(f"there is no file {file}{hint}")
    if path.suffix != ".py" or why == NO_FILE:
        raise WrongUsageError(f"{file!r} is no .py file; give the file that holds the pipeline")
    if why:
        raise WrongUsageError(f"{file:.80} cannot be read: {why}")
    path = path.resolve()
    if not path.stem.isidentifier():
        raise WrongUsageError(
            f"{path.name} cannot be imported: {path.stem!r} is no module's name; "
            f"rename it with letters, digits and underscores"
        )
    if _hides_another(path):
        raise WrongUsageError(
            f"{path.name} would hide the module {path.stem!r} from everything that imports it; "
            f"rename the file"
        )
    return path


def _why_unreadable(path: Path) -> str:
    """Say in the system's words why a file cannot be read; empty if it can."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return NO_FILE
        with path.open("rb"):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _python_files(folder: Path) -> list[str]:
    return [each.name for each in folder.glob("*.py")] if folder.is_dir() else []


def _hides_another(path: Path) -> bool:
    if path.stem in sys.stdlib_module_names or path.stem == "__main__":
        return True
    known = sys.modules.get(path.stem)
    origin: str | None = getattr(known, "__file__", None)
    if known is None:
        found = importlib.util.find_spec(path.stem)
        if found is None or not found.has_location:  # none, or a folder without __init__.py
            return False
        origin = found.origin
    return origin is None or Path(origin).resolve() != path


def _imported(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent))
    # A worker process runs the file of __main__ again; ours would only make its start slow.
    vars(sys.modules["__main__"]).pop("__file__", None)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert isinstance(spec, ModuleSpec)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    return _guarded(path, spec.loader.exec_module, module) or module


def _guarded(path: Path, call: Any, *args: Any) -> Any:
    """Call the user's code; turn what it raises into what the program says."""
    try:
        return call(*args)
    except ConfigurationError as error:
        raise WrongUsageError(f"{_line_in(path, error)}: {error}") from error
    except SystemExit as error:
        raise WrongUsageError(
            f"{_line_in(path, error)}: it called sys.exit({error.code!r}) when it was imported; "
            f'put that under `if __name__ == "__main__":`'
        ) from error
    except BaseException as error:  # a signal's KeyboardInterrupt too; then that is what is told
        raise UserCodeError(str(path)) from error


def _line_in(path: Path, error: BaseException) -> str:
    """Return the last line of the user's file that the traceback went through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path.name}:{line}" if line else path.name


def _only(path: Path, module: ModuleType) -> Pipeline[Any, Any]:
    public = {name: each for name, each in vars(module).items() if not name.startswith("_")}
    pipelines = {name: each for name, each in public.items() if isinstance(each, Pipeline)}
    own = _assigned(path)
    candidates = {name: each for name, each in pipelines.items() if name in own} or pipelines
    found = {id(each): each for each in candidates.values()}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise WrongUsageError(
            f"{path.name} has {len(found)} pipelines; name one: {_choices(path, candidates)}"
        )
    steps = {name: each for name, each in public.items() if isinstance(each, NODES)}
    hint = f"; name a step: {_choices(path, steps)}" if steps else ""
    raise WrongUsageError(
        f"{path.name} has no Pipeline among its public names{hint or '; give it one'}"
    )


def _choices(path: Path, names: Mapping[str, object]) -> str:
    shown = ", ".join(f"{path.name}:{name}" for name in list(names)[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _assigned(path: Path) -> set[str]:
    """Find the names that the file itself assigns: what it only imports is another's."""
    nodes = ast.walk(ast.parse(path.read_bytes()))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _named(path: Path, module: ModuleType, name: str) -> Any:
    if name in vars(module):
        return vars(module)[name]
    near = difflib.get_close_matches(name, vars(module), n=1)
    hint = f"did you mean {path.name}:{near[0]}?" if near else "give the name of a Pipeline in it"
    raise WrongUsageError(f"{path.name} has no {name!r}; {hint}")


def _as_pipeline(where: str, found: Any) -> Pipeline[Any, Any]:
    if inspect.isfunction(found):
        found = _returned(where, found)
    if isinstance(found, Pipeline):
        return found
    if isinstance(found, NODES):
        return Pipeline([found])
    raise WrongUsageError(
        f"{where} is {shown(found):.80} ({type(found).__name__}); give a Pipeline, a step, or a "
        f"function without arguments that returns one"
    )


def _returned(where: str, function: Any) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise WrongUsageError(
            f"{where} is a function that cannot be called without arguments ({error}); "
            f"name a function of none that returns a pipeline"
        ) from None
    if inspect.iscoroutinefunction(function):
        raise WrongUsageError(
            f"{where} is an async function; name a plain one that returns a pipeline"
        )
    return _guarded(Path(inspect.getfile(function)), function)
