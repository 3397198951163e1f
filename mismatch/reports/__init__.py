"""Pages that show results: one HTML file each, which needs nothing beside it."""
