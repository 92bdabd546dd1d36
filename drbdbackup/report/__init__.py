"""The only place that draws: values to tables, JSON and progress bars.

Whatever a command returns is shown here, for people and as a document. Nothing here decides, asks or changes anything;
only `console` asks for a yes.
"""
