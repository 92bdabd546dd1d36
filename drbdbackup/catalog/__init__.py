"""The facts about runs and copies of all nodes; the only place that speaks SQL.

A catalog's trip: `publish` here, `exchange.put` on a road, `exchange.fetch` there, then `merge.merge_fetched`. The two
in the middle are file work for a process that may hang and be abandoned; the others are local and open databases.
"""
