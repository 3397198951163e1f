"""Rows of each format: CSV and TSV, JSON lines, Parquet and datasets, folders of images, tables in
memory.
"""
