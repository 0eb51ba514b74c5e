//! Block miner.
