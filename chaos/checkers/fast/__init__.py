"""Ways to decide without a search whether an order exists, where theory knows one.

Each is exact as far as it answers, and answers None where its conditions do not hold. None knows models by name.
"""
