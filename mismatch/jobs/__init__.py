"""Every task as a function: one module a task, without a command line, without printing.

A function takes rows and a model, and options as keyword arguments under the names that the
command line has for them. It returns a frozen dataclass. It logs to `logging.getLogger("mismatch")`
and reports its progress to `mismatch.progress`.
"""
