"""Images that stand in files of rows: what they are called, and how their bytes are had."""
