"""Rows in: read, audit, and draw a sample catalogue. No torch."""
