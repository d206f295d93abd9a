"""The vocabulary: durations, seeded randomness, limits, link rules, bytes, errors. It does nothing by itself."""
