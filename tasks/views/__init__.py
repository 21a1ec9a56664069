"""Read-only views of a workspace; nothing here loads a model or starts Ray."""
