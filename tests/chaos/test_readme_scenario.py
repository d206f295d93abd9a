"""The scenario that the README shows is the shipped one, cut after its first fault."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_scenario_of_the_readme_is_the_shipped_one_up_to_its_first_fault():
    (text,) = re.findall(
        r"single_point_of_failure.toml`, shortened .*?```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    shipped = tomllib.loads((ROOT / "configs" / "single_point_of_failure.toml").read_text())
    assert len(shipped["fault"]) == 3
    assert tomllib.loads(text) == shipped | {"fault": shipped["fault"][:1]}
