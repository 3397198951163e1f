"""Pages that need no other file, and what notebooks show, made from templates/."""
