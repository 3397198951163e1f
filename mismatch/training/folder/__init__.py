"""The folder of a run: what it writes, and how a later run goes on from it."""
