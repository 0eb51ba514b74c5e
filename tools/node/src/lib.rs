//! JSON-RPC client of the chain node.
