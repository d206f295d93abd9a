"""How a node class reaches a process that did not define it: by name, by file, or by value.

A name is enough where the class can be imported. A class of a script, a REPL or a function is carried by value, so that
an unguarded script is never run a second time. It knows nothing of processes; both ends use it.
"""

import importlib
import importlib.util
import inspect
import io
import os
import pickle
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from testbed.base.errors import UsageError
from testbed.live.exits import describe_error

if TYPE_CHECKING:
    from testbed.node import Node

_MAIN = ("__main__", "__mp_main__")
_beside: set[str] = set()  # modules that were found in a search directory: another directory may replace them


class NodeClassRef(msgspec.Struct, frozen=True):
    """A node class on its way. `label` is for people; `pickled` is the class itself where no name leads to it.

    `search` are the directories to look in first; `file` is where the module lies if its name alone does not tell.
    """

    label: str
    module: str
    qualname: str
    search: tuple[str, ...] = ()
    file: str | None = None
    pickled: bytes | None = None


def describe(node: "type | str", search: Sequence[str] = ()) -> NodeClassRef:
    """A reference to a class, or to a "module:Class" to be looked up in the `search` directories first.

    UsageError for what is no node class, no such form, or cannot be carried by value. A name is not imported here.
    """
    directories = tuple(os.path.abspath(directory) for directory in search)
    if isinstance(node, str):
        module, colon, qualname = node.partition(":")
        if not (
            colon and module and qualname and all(map(str.isidentifier, [*module.split("."), *qualname.split(".")]))
        ):
            raise UsageError("node", node, 'is not of the form "module:Class"')
        return NodeClassRef(node, module, qualname, directories)
    label = f"{getattr(node, '__module__', '?')}:{getattr(node, '__qualname__', node)}"
    checked = _check(node, label)
    module, qualname = checked.__module__, checked.__qualname__
    file = _file_if_needed(module)
    if is_importable(checked):
        return NodeClassRef(label, module, qualname, directories, file)
    return NodeClassRef(label, module, qualname, directories, file, _pickle(checked, label))


def load(ref: NodeClassRef) -> "type[Node]":
    """The class itself. UsageError says what is wrong; the user's own exception at import is its cause."""
    for directory in reversed(ref.search):
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
    if ref.file is not None:
        _import_file(ref)
    if ref.pickled is not None:
        try:
            return _check(pickle.loads(ref.pickled), ref.label)
        except (Exception, SystemExit) as error:
            raise UsageError("node", ref.label, f"cannot be rebuilt from its value: {describe_error(error)}") from error
    found: Any = _import(ref)
    for name in ref.qualname.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = getattr(sys.modules[ref.module], "__file__", None) or ref.module
            raise UsageError("node", ref.label, f"{where} has no class {ref.qualname}") from None
    return _check(found, ref.label)


def is_importable(cls: type) -> bool:
    """Whether the class is what its module holds under its name, in a module other than the script that runs."""
    if cls.__module__ in _MAIN or getattr(sys.modules.get(cls.__module__), "__file__", None) is None:
        return False
    found: Any = sys.modules[cls.__module__]
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _check(found: Any, label: str) -> "type[Node]":
    from testbed.node import Node

    if not isinstance(found, type):
        raise UsageError("node", label, f"is a {type(found).__name__}, not a class")
    if not issubclass(found, Node):
        raise UsageError("node", label, "is not a subclass of testbed.Node")
    return found


def _import(ref: NodeClassRef) -> ModuleType:
    _make_way(ref)
    try:
        module = importlib.import_module(ref.module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{ref.module}.".startswith(f"{error.name}."):
            looked = f" (looked in {', '.join(ref.search)} first)" if ref.search else ""
            raise UsageError("node", ref.label, f"there is no module {error.name}{looked}") from error
        raise UsageError("node", ref.label, f"importing it failed: {describe_error(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError("node", ref.label, f"importing it failed: {describe_error(error)}") from error
    if PathFinder.find_spec(ref.module.partition(".")[0], list(ref.search)):
        _beside.add(ref.module)
    return module


def _make_way(ref: NodeClassRef) -> None:
    """A module of the same name from elsewhere must not be taken for the one in the search directories."""
    top = ref.module.partition(".")[0]
    spec = PathFinder.find_spec(top, list(ref.search)) if ref.search else None
    loaded = sys.modules.get(top)
    if spec is None or loaded is None or _same_file(spec.origin, getattr(loaded, "__file__", None)):
        return
    if not any(name.partition(".")[0] == top for name in _beside):
        elsewhere = getattr(loaded, "__file__", None) or "built in"
        raise UsageError("node", ref.label, f"the name {top} is taken by a module that is in use ({elsewhere})")
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]


def _import_file(ref: NodeClassRef) -> None:
    assert ref.file is not None
    loaded = sys.modules.get(ref.module)
    if loaded is not None and _same_file(getattr(loaded, "__file__", None), ref.file):
        return
    spec = importlib.util.spec_from_file_location(ref.module, ref.file)
    if spec is None or spec.loader is None:
        raise UsageError("node", ref.label, f"{ref.file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[ref.module] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[ref.module]
        raise UsageError("node", ref.label, f"importing {ref.file} failed: {describe_error(error)}") from error


def _file_if_needed(module: str) -> str | None:
    """The module's file, if importing its name in a fresh process would not lead there."""
    file: str | None = getattr(sys.modules.get(module), "__file__", None)
    if module in _MAIN or file is None or _same_file(_origin(module), file):
        return None
    return os.path.abspath(file)


def _origin(module: str) -> str | None:
    """The file that a fresh import would find; `importlib.util.find_spec` would only look at what is loaded."""
    path: Sequence[str] | None = None
    origin: str | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        finders = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec: ModuleSpec | None = next((found for found in finders if found is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
        origin = spec.origin
    return origin


def _same_file(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and os.path.realpath(one) == os.path.realpath(other)


def _pickle(cls: type, label: str) -> bytes:
    # Only here: the processes that load a class by name have no use for it.
    import cloudpickle  # type: ignore[import-untyped]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # untyped package
        """cloudpickle loses the fields of struct classes (3.1: constructing one fails), so they are rebuilt here."""

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type(msgspec.Struct)) and not is_importable(obj):
                return _reduce_struct(obj)
            return super().reducer_override(obj)

    buffer = io.BytesIO()
    try:
        Pickler(buffer).dump(cls)
    except Exception as error:
        reason = f"cannot be carried to another process, so define it in a module: {describe_error(error)}"
        raise UsageError("node", label, reason) from error
    return buffer.getvalue()


class _Later:
    """A default factory that is known only when the struct class exists, because it may refer to it."""

    target: Callable[[], Any]

    def __call__(self) -> Any:
        return self.target()


def _post_init(struct: Any) -> None:
    """In place of a `__post_init__` that comes later: msgspec looks only once whether there is one."""
    type(struct).__post_init__(struct)


_MADE_BY_THE_METACLASS = {
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__dict__", "__module__"),
    *("__orig_bases__", "__parameters__", "__slots__", "__weakref__"),
}


def _reduce_struct(cls: Any) -> tuple[Any, ...]:
    """In two steps, as a struct's types and methods may refer to the struct itself: first its fields, all of type Any,
    then, once the class exists and can be referred to, everything else."""
    own = [name for name in cls.__annotations__ if name in cls.__struct_fields__]
    names, defaults = cls.__struct_fields__, cls.__struct_defaults__
    default_of = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    encoded = dict(zip(names, cls.__struct_encode_fields__, strict=True))
    fields, factories = {}, {}
    for name in own:
        arguments = {"name": encoded[name]}
        default = default_of.get(name, msgspec.NODEFAULT)
        factory = getattr(default, "factory", None)
        if isinstance(factory, FunctionType):
            factories[name] = factory
            arguments["default_factory"] = None
        elif factory is not None:
            arguments["default_factory"] = factory
        elif default is not msgspec.NODEFAULT:
            arguments["default"] = default
        fields[name] = arguments
    state = {
        "attributes": {k: v for k, v in vars(cls).items() if k not in _MADE_BY_THE_METACLASS and k not in own},
        "annotations": _annotations(cls),
        "factories": factories,
        "shape": (names, cls.__struct_encode_fields__, len(defaults)),
    }
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if "__orig_bases__" in vars(cls):  # of generics
        namespace["__orig_bases__"] = cls.__orig_bases__
    has_post_init = "__post_init__" in vars(cls)
    skeleton = (type(cls), cls.__name__, cls.__bases__, namespace, fields, _struct_options(cls, own), has_post_init)
    return _struct_skeleton, skeleton, state, None, None, _complete_struct


def _struct_options(cls: Any, own: list[str]) -> dict[str, Any]:
    config = cls.__struct_config__
    options = {name: getattr(config, name) for name in dir(config) if not name.startswith("_")}
    parameters = inspect.signature(cls).parameters
    options["kw_only"] = any(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in own)
    return options


def _annotations(cls: Any) -> dict[str, Any]:
    """The class's own, with types instead of strings where they can be resolved: elsewhere nobody could."""
    try:
        resolved = typing.get_type_hints(cls, include_extras=True)
    except NameError:  # a name local to a function; msgspec cannot decode such a struct here either
        resolved = cls.__annotations__
    return {name: resolved[name] for name in cls.__annotations__}


def _struct_skeleton(
    metaclass: Any,
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    fields: dict[str, dict[str, Any]],
    options: dict[str, Any],
    has_post_init: bool,
) -> Any:
    for field, arguments in fields.items():
        if arguments.get("default_factory", ...) is None:
            arguments["default_factory"] = _Later()
        namespace[field] = msgspec.field(**arguments)
    namespace["__annotations__"] = dict.fromkeys(fields, Any)
    if has_post_init:
        namespace["__post_init__"] = _post_init
    return metaclass(name, bases, namespace, **options)


def _complete_struct(cls: Any, state: dict[str, Any]) -> None:
    cls.__annotations__ = state["annotations"]
    for name, value in state["attributes"].items():
        setattr(cls, name, value)
    names, defaults = cls.__struct_fields__, cls.__struct_defaults__
    for name, factory in state["factories"].items():
        defaults[names.index(name) - len(names)].factory.target = factory
    if (names, cls.__struct_encode_fields__, len(defaults)) != state["shape"]:
        raise TypeError(f"struct {cls.__qualname__} changed its shape on the way; define it in a module")
