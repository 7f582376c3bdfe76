"""What keeps the repository consistent: generated files and the check of docs/claims.md."""
