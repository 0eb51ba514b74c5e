//! What a real node must be like to be taken for a development network.
//!
//! A node does not say which network it is of: the main network and `pkttest` have the same genesis
//! block, the same limit and the same `testnet: false` (spec 06, 2). But on the main network a run
//! would tell the node to pay addresses that nobody has the key of. So a node is taken unasked only
//! when nobody else can be on its network, and when its blocks are so easy that a run would find
//! some.

use packetcrypt_node::NodeInfo;

/// Difficulty up to which a chain counts as a private one. 1 is 4096 hashes (spec 06, 1.2): the hardest
/// block is 4 million hashes, of which a run has its first within minutes. A network that others mine
/// on is harder, unless it is very young; then its node has peers.
pub const DIFFICULTY_MAX: f64 = 1000.0;

/// Why a node may be one of a network that others use.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SharedNetwork {
    /// It has peers.
    #[error("the node has {0} peers")]
    Peers(i64),
    /// Its blocks are hard.
    #[error(
        "the difficulty of the node's chain is {0}, on a private chain at most {DIFFICULTY_MAX}"
    )]
    Difficulty(f64),
}

/// Says whether the node can only be one of a private network.
///
/// # Errors
/// [`SharedNetwork`] with what speaks against it.
pub fn require_private(info: &NodeInfo) -> Result<(), SharedNetwork> {
    if info.connections != 0 {
        return Err(SharedNetwork::Peers(info.connections));
    }
    // As `not at most`, so that a difficulty that is no number is refused too.
    let is_easy = info.difficulty <= DIFFICULTY_MAX;
    if is_easy { Ok(()) } else { Err(SharedNetwork::Difficulty(info.difficulty)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lonely_node_with_easy_blocks_is_taken() {
        let info = |connections, difficulty| NodeInfo {
            version: 1,
            blocks: 200_000,
            connections,
            difficulty,
            errors: String::new(),
        };
        assert_eq!(require_private(&info(0, 1.0)), Ok(()));
        assert_eq!(require_private(&info(0, DIFFICULTY_MAX)), Ok(()));
        assert_eq!(require_private(&info(8, 1.0)), Err(SharedNetwork::Peers(8)));
        assert!(require_private(&info(0, 1000.5)).is_err());
        assert!(require_private(&info(0, f64::NAN)).is_err());
    }
}
