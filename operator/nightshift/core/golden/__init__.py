"""Golden sets: questions whose answers are compared between two revisions."""
