"""Measurements of the cluster as ratios against a reference measured in the same run. Nothing here is ever asserted."""
