"""The classifier on the line: what it sees of a joint, the model folder, the session that answers, operating points."""
