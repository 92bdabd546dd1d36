"""The pair's own configuration: one `pair.toml` to every file that must agree on both nodes.

Nothing here touches a node: what is rendered lies in a folder until somebody copies it.
"""
