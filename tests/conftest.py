"""How hard hypothesis tries: the same few examples every time, or, in the long run, many new ones."""

import os

from hypothesis import settings

settings.register_profile("normal", derandomize=True, deadline=None, max_examples=150)
settings.register_profile("long", deadline=None, max_examples=20_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))
