//! Every constant of the consensus that is not a field offset, with its unit and its rule.

/// Bytes of an announcement (spec 03, 2.1).
pub const ANNOUNCEMENT_BYTES: usize = 1024;
/// Bytes of the header of an announcement (spec 03, 2.1).
pub const HEADER_BYTES: usize = 88;
/// Bytes of one item of a table (spec 03, 2.4).
pub const ITEM_BYTES: usize = 1024;
/// Items of a table (spec 03, 2.4).
pub const TABLE_ITEMS: usize = 8192;
/// Levels of an announcement's merkle tree above its leaves (spec 03, 2.5).
pub const TREE_LEVELS: usize = 13;
/// Nodes of an announcement's merkle tree: the leaves, each level upwards, the root.
pub const TREE_NODES: usize = 2 * TABLE_ITEMS - 1;
/// Bytes of one node of an announcement's merkle tree.
pub const NODE_BYTES: usize = 64;
/// Bytes of the siblings of a merkle branch (spec 03, 2.1).
pub const SIBLINGS_BYTES: usize = TREE_LEVELS * NODE_BYTES;
/// Bytes of the prefix of the fourth item in an announcement (spec 03, 2.1).
pub const ITEM4_PREFIX_BYTES: usize = 40;
/// Table items that one nonce reads (spec 03, 2.6).
pub const ITEM_READS: usize = 4;
/// Largest value of the 24-bit soft nonce field (spec 03, 2.1).
pub const SOFT_NONCE_FIELD_MAX: u32 = 0x00ff_ffff;

/// Bytes of a CryptoCycle state (spec 03, 1.1).
pub const STATE_BYTES: usize = 2048;
/// Units of 16 bytes between the head of a state and its end: the longest message together with
/// its additional data (spec 03, 1.3).
pub const MESSAGE_UNITS_MAX: usize = (STATE_BYTES - 48) / 16;

/// Longest program, in words (spec 02, 3).
pub const INSNS_MAX: usize = 2048;
/// Most words that one cycle of a program may execute (spec 02, 3).
pub const OPS_MAX: u32 = 20_000;
/// Budget with which the generation of a program begins (spec 02, 3).
pub const INITIAL_BUDGET: u32 = 20_000;
/// Budget cost of one MEMORY read (spec 02, 3).
pub const MEMORY_COST: u32 = 20;
/// Budget cost of one IN (spec 02, 3).
pub const INPUT_COST: u32 = 2;
/// Budget cost of one branch (spec 02, 3).
pub const BRANCH_COST: u32 = 50;
/// Cycles of the program of one table item (spec 02, 3).
pub const CYCLES: u32 = 2;
/// Cycles of the program that version 0 runs over the search state (spec 03, 2.6).
pub const CYCLES_V0: u32 = 4;
/// Words of program memory that one item sees (spec 02, 3).
pub const WINDOW_WORDS: usize = 256;
/// Words of the program memory (spec 02, 3).
pub const MEMORY_WORDS: usize = 2048;
/// Number of different windows into the program memory (spec 02, 8.1).
pub const WINDOWS: u64 = (MEMORY_WORDS - WINDOW_WORDS) as u64;

/// Largest admissible compact target, as a word (spec 01, 6).
pub const COMPACT_MAX: u32 = 0x207f_ffff;
/// First parent height at which an announcement of version 1 or more is allowed (spec 03, 2.1).
pub const VERSION_1_HEIGHT_MIN: u32 = 103_869;
/// Height that stands for "no parent block" in the first blocks of a chain (spec 03, 2.1).
pub const NO_PARENT_HEIGHT: u32 = 0xffff_fffc;
/// Blocks between the parent of an announcement and the first block that may use it
/// (spec 03, 2.1).
pub const ANN_WAIT_BLOCKS: u32 = 3;

/// Greatest proof version of a block that is accepted, and the one that is made (spec 04, 8).
pub const PROOF_VERSION_MAX: u64 = 2;
/// First height of a block of proof version 2 (spec 04, 8).
pub const PROOF_VERSION_2_HEIGHT_MIN: u32 = 113_949;
/// Last height of a block of proof version 0 or 1 (spec 04, 8).
pub const PROOF_VERSIONS_0_1_HEIGHT_MAX: u32 = 122_621;

const _: () = assert!(HEADER_BYTES + SIBLINGS_BYTES + NODE_BYTES + ITEM4_PREFIX_BYTES == 1024);
const _: () = assert!(ANNOUNCEMENT_BYTES == ITEM_BYTES);
const _: () = assert!(1 << TREE_LEVELS == TABLE_ITEMS);
const _: () = assert!(INSNS_MAX <= MEMORY_WORDS);
const _: () = assert!(MESSAGE_UNITS_MAX == 125);
const _: () = assert!(STATE_BYTES == 8 * WINDOW_WORDS);
