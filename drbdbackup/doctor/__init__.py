"""Checks a live node against what a backup needs. It looks and says; it never mends, starts or stops anything.

A file per theme: frozen facts, `gather` that reads them at the edge (each look with a deadline), and `judge`, a pure
function from facts to findings. A new check is one new file and its line in `examine`.
"""
