"""Raft: the replicated log of Ongaro's thesis ("Consensus: Bridging Theory and Practice", 2014, errata included)."""
