import sys

import pytest

from chaos.loading import load_object
from testbed.base.errors import UsageError


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes modules into directories, loads from them, and leaves nothing of it behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def run(name, directory=None, **files):
        place = tmp_path / (directory or "none")
        place.mkdir(exist_ok=True)
        for module, text in files.items():
            (place / f"{module}.py").write_text(text)
        return load_object(name, (str(place),) if directory else (), "scenario.toml", "workload[1].kind")

    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_of_the_same_name_beside_another_scenario_is_not_taken_for_it(load):
    one = load("my_load:Mine", "a", my_load="class Mine: who = 'a'")
    other = load("my_load:Mine", "b", my_load="class Mine: who = 'b'")
    again = load("my_load:Mine", "a")
    assert (one.who, other.who, again.who) == ("a", "b", "a")


def test_the_same_module_is_loaded_once(load):
    assert load("my_load:Mine", "a", my_load="class Mine: pass") is load("my_load:Mine", "a")


def test_a_nested_class_is_found_by_its_dotted_name(load):
    assert load("my_load:Outer.Inner", "a", my_load="class Outer:\n    class Inner: pass").__qualname__ == "Outer.Inner"
    with pytest.raises(UsageError, match=r"module 'my_load' has no 'Outer.Other'"):
        load("my_load:Outer.Other", "a")


def test_a_module_in_use_is_not_replaced_by_a_scenarios(load):
    with pytest.raises(UsageError, match="is taken by one that is in use"):
        load("json:Mine", "a", json="class Mine: pass")
    assert sys.modules["json"].loads("1") == 1


def test_a_directory_that_happens_to_be_called_so_takes_no_name(load, tmp_path):
    (tmp_path / "a" / "json").mkdir(parents=True)
    assert load("json:JSONDecoder", "a").__name__ == "JSONDecoder"
