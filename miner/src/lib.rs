//! Announcement miner.
