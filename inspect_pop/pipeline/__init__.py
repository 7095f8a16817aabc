"""The way of a board through all steps, and the record that it leaves."""
