"""The library hosted on Ray: one module per stage, and `tasks.runtime`, which runs them."""
