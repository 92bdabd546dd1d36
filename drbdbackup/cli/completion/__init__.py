"""What Tab completes, for each shell: scripts made from the declared commands.

They start no Python: Tab must not wait.
"""
