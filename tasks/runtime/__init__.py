"""What runs a stage: its declaration, its rows, its workers, and the commit of what they return."""
