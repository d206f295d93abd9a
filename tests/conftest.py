"""How hard hypothesis tries, and the browser in which tests look at what people look at."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("normal", derandomize=True, deadline=None, max_examples=150)
settings.register_profile("long", deadline=None, max_examples=20_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (  # a browser that asks nobody on the network for anything
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A headless Chromium that is installed here, or the one that BROWSER_PATH names; without one, a loud skip."""
    path = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"NO BROWSER: none of {', '.join(BROWSERS)} is installed, and nobody has looked at the pages"
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*QUIET])
        yield started
        started.close()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where pictures are kept for people to look at: `artefacts/` in the checkout, or what ARTEFACTS names."""
    directory = Path(os.environ.get("ARTEFACTS", ROOT / "artefacts"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory
