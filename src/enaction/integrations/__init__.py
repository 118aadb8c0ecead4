"""Other people's programs: their logs as passages, and a callback for their trainers. Each imports what it needs."""
