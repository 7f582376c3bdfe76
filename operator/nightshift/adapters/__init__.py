"""One outside system per file: the only places that do input and output."""
