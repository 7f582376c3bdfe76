"""The program that asks an engine image's own vLLM; `program` is handed to the image's Python as text."""
