"""Messages and service stubs made from the project's proto files by `scripts/generate_stubs.py`."""
