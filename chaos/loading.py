"""Finds what a scenario names as "module:Class": beside the scenario file first, then wherever Python looks."""

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from testbed.base.errors import UsageError

OWN_PACKAGES = ("chaos", "testbed")  # what runs is what counts, even beside another checkout
_beside: set[str] = set()  # modules that were found in a search directory: another directory may replace them


def load_object(name: str, search: tuple[str, ...], where: str, key: str) -> Any:
    """The object of that name ("module:Outer.Inner" is one, too).

    The directories of `search` come first, whatever was loaded under the module's name from elsewhere. UsageError,
    naming `where` and `key`, if there is no such object, its module fails, or its name is one of a module in use.
    """
    module_name, _, attributes = name.partition(":")
    for directory in reversed(search):
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
    top = module_name.partition(".")[0]
    taken = _make_way(top, search)
    if taken is not None:
        raise UsageError(where, key, f"the name of module {module_name!r} is taken by one that is in use ({taken})")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        reason = f"there is no module {module_name!r}" if error.name == module_name else f"{module_name}: {error}"
        raise UsageError(where, key, reason) from error
    except (Exception, SystemExit) as error:
        raise UsageError(where, key, f"importing {module_name} fails: {type(error).__name__}: {error}") from error
    if search and PathFinder.find_spec(top, list(search)):
        _beside.add(top)
    found: Any = module
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise UsageError(where, key, f"module {module_name!r} has no {attributes!r}") from None
    return found


def _make_way(top: str, search: tuple[str, ...]) -> str | None:
    """Forget a module (and its submodules) that an earlier search found elsewhere; else the file that is in the way."""
    importlib.invalidate_caches()  # files may be newer than what the path's finders remember
    spec = PathFinder.find_spec(top, list(search)) if search and top not in OWN_PACKAGES else None
    loaded = sys.modules.get(top)
    if spec is None or spec.origin is None or loaded is None:  # without an origin, it is a mere directory
        return None
    file = getattr(loaded, "__file__", None)
    if file is not None and Path(file).resolve() == Path(spec.origin).resolve():
        return None
    if top not in _beside:
        return file or "built in"
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]
    return None


def search_path(source: str) -> tuple[str, ...]:
    """Where to look first for a scenario's modules: the directory of its file."""
    return (str(Path(source).resolve().parent),) if source else ()
