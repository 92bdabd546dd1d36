"""The only place that draws: values to tables, JSON and progress bars."""
