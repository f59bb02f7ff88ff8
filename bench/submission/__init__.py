"""Submissions to a shared leaderboard: what a sender packs, and how a stranger's archive is held to the rules."""
