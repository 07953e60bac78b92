"""What a manager tells of itself: notices, records of the log, counts, spans."""
