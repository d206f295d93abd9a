"""Blocking calls on a cluster, for people and their tests: over either world, through its port."""
