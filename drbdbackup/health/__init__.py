"""What monitoring asks of a pair: everything that is known of its backups, and what of it wants a person's attention.

`evidence` gathers, within a moment; `judge` decides and is pure. Nagios, Prometheus and messages all speak of the same.
"""
