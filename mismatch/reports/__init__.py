"""Pages that need nothing beside them, and what notebooks show, made from templates/."""
