"""The leaderboard: rows of records, one table per protocol, and the view across protocols."""
