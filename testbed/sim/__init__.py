"""The world of simulation: one process, virtual time, one seed."""
