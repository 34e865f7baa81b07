"""DFT relaxations from several starts, compared pair by pair."""
