"""The Job that asks golden questions of two revisions."""
