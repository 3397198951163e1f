"""What jobs write: tables, files that can be continued, folders of parts."""
