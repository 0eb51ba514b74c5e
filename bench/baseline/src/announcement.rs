//! Announcements as the reference makes and checks them.

use packetcrypt_core::announcement::{Announcement, Header, soft_nonce_max};
use packetcrypt_core::cryptocycle;
use packetcrypt_core::params::{CYCLES, TABLE_ITEMS, TREE_LEVELS};
use packetcrypt_core::randhash::{Interpreter, PlainGenerator, Program};
use packetcrypt_core::{AnnError, CompactTarget, ExecError, Hash32, Hash64, ProgramError};

use crate::Libsodium;
use crate::cycle::{State, item_number, make_fuzzable, part};

/// Nonces between which the reference alternates, so that the memory has time.
const INTERLEAVED: usize = 4;

type Item = [u8; 1024];
type Node = [u8; 64];

/// Programs and the items of their tables: what is used over and over.
struct Maker<'a> {
    sodium: &'a Libsodium,
    generator: Box<PlainGenerator>,
    interpreter: Box<Interpreter>,
    program: Box<Program>,
    state: Box<cryptocycle::State>,
}

impl<'a> Maker<'a> {
    fn new(sodium: &'a Libsodium) -> Maker<'a> {
        Maker {
            sodium,
            generator: Box::default(),
            interpreter: Box::default(),
            program: Box::default(),
            state: Box::default(),
        }
    }

    fn load(&mut self, seed: &[u8; 32]) -> Result<(), ProgramError> {
        let sodium = self.sodium;
        let mut expand = |num, out: &mut [u8]| sodium.expand(seed, num, out);
        self.generator.generate(&mut expand, &mut self.program)
    }

    /// Item `num` of the table of the loaded program.
    fn item(&mut self, seed: &[u8; 32], num: u64) -> Result<&Item, ExecError> {
        self.sodium.init(&mut self.state.0, seed, num);
        let window = self.program.window(num);
        let words = self.program.words();
        self.interpreter.interpret(words, window, &mut self.state, CYCLES)?;
        make_fuzzable(&mut self.state.0);
        self.sodium.crypt(&mut self.state.0);
        Ok(self.state.first_half())
    }
}

/// Makes the tables of jobs: 9 MiB that are used again for each.
pub struct Job<'a> {
    maker: Maker<'a>,
    items: Vec<Item>,
    /// The tree of table 1: all leaves, then each level upwards.
    nodes: Vec<Node>,
}

impl<'a> Job<'a> {
    /// Memory for one job.
    #[must_use]
    pub fn new(sodium: &'a Libsodium) -> Job<'a> {
        Job {
            maker: Maker::new(sodium),
            items: vec![[0; 1024]; TABLE_ITEMS],
            nodes: vec![[0; 64]; 2 * TABLE_ITEMS - 1],
        }
    }

    /// Makes both tables and the tree of a header, and returns the search in them; `None` when one
    /// of its programs can not be used.
    pub fn prepare(
        &mut self,
        header: &Header,
        parent_block_hash: &Hash32,
        target: CompactTarget,
    ) -> Option<Search<'_>> {
        let ann_hash_0 = header.ann_hash_0(parent_block_hash);
        self.fill(&ann_hash_0)?;
        let root = self.build_tree();
        let seed_2 = Hash64(self.maker.sodium.blake2b(&joined(&root, &ann_hash_0.0)));
        self.fill(&seed_2)?;
        Some(Search {
            sodium: self.maker.sodium,
            seed: *header.ann_hash_1(&Hash64(root)).lo(),
            target,
            soft_nonce_max: soft_nonce_max(target)?,
            items: &self.items,
            root: Hash64(root),
        })
    }

    fn fill(&mut self, seed: &Hash64) -> Option<()> {
        self.maker.load(seed.lo()).ok()?;
        for (num, item) in (0..).zip(&mut self.items) {
            *item = *self.maker.item(seed.hi(), num).ok()?;
        }
        Some(())
    }

    fn build_tree(&mut self) -> Node {
        let sodium = self.maker.sodium;
        for (item, leaf) in self.items.iter().zip(&mut self.nodes) {
            *leaf = sodium.blake2b(item);
        }
        for at in TABLE_ITEMS..self.nodes.len() {
            let below = 2 * (at - TABLE_ITEMS);
            let pair = joined(&self.nodes[below], &self.nodes[below + 1]);
            self.nodes[at] = sodium.blake2b(&pair);
        }
        self.nodes[self.nodes.len() - 1]
    }
}

/// A job whose tables are made.
pub struct Search<'t> {
    sodium: &'t Libsodium,
    seed: [u8; 32],
    target: CompactTarget,
    soft_nonce_max: u32,
    items: &'t [Item],
    root: Hash64,
}

impl Search<'_> {
    /// The merkle root of table 1.
    #[must_use]
    pub fn root(&self) -> &Hash64 {
        &self.root
    }

    /// The largest soft nonce that the target allows.
    #[must_use]
    pub fn soft_nonce_max(&self) -> u32 {
        self.soft_nonce_max
    }

    /// Tries `count` soft nonces from `first` on and hands over those that meet the target, with
    /// their work hash.
    pub fn search(&self, first: u32, count: u32, found: &mut dyn FnMut(u32, Hash32)) {
        let mut states: [State; INTERLEAVED] = [[0; 2048]; INTERLEAVED];
        for first in (first..first + count).step_by(INTERLEAVED) {
            for (nonce, state) in (first..).zip(&mut states) {
                self.sodium.init(state, &self.seed, u64::from(nonce));
            }
            for _ in 0..4 {
                let items = states.each_ref().map(|state| {
                    let item = &self.items[(item_number(state) % TABLE_ITEMS as u64) as usize];
                    self.sodium.prefetch(item);
                    item
                });
                for (state, item) in states.iter_mut().zip(items) {
                    self.sodium.update(state, item);
                }
            }
            for (nonce, state) in (first..).zip(&mut states) {
                let hash = Hash32(self.sodium.finish(state));
                if self.target.is_met_by(&hash) {
                    found(nonce, hash);
                }
            }
        }
    }
}

/// Checks announcements one after the other.
pub struct Checker<'a> {
    maker: Maker<'a>,
}

impl<'a> Checker<'a> {
    /// Memory for checks.
    #[must_use]
    pub fn new(sodium: &'a Libsodium) -> Checker<'a> {
        Checker { maker: Maker::new(sodium) }
    }

    /// Generates the program of a seed; says whether it can be used.
    pub fn generate(&mut self, seed: &[u8; 32]) -> Option<&Program> {
        self.maker.load(seed).ok()?;
        Some(&self.maker.program)
    }

    /// The steps of spec 03, 2.9.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn check(
        &mut self,
        announcement: &Announcement,
        parent_block_hash: &Hash32,
    ) -> Result<Hash32, AnnError> {
        if announcement.version() == 0 {
            return Err(AnnError::Inval);
        }
        let max = soft_nonce_max(announcement.work_bits()).ok_or(AnnError::BadWorkBits)?;
        if announcement.soft_nonce() > max {
            return Err(AnnError::SoftNonceHigh);
        }
        let sodium = self.maker.sodium;
        let root = announcement.root();
        let ann_hash_0 = announcement.header().ann_hash_0(parent_block_hash);
        let ann_hash_1 = announcement.header().ann_hash_1(root);
        let seed_2 = Hash64(sodium.blake2b(&joined(&root.0, &ann_hash_0.0)));
        self.maker.load(seed_2.lo()).map_err(|_| AnnError::BadProgram)?;

        let mut state = [0; 2048];
        let mut num = 0;
        sodium.init(&mut state, ann_hash_1.lo(), u64::from(announcement.soft_nonce()));
        for _ in 0..4 {
            num = item_number(&state) % TABLE_ITEMS as u64;
            let item = self.maker.item(seed_2.hi(), num).map_err(|_| AnnError::BadProgramExec)?;
            sodium.update(&mut state, item);
        }
        let work_hash = Hash32(sodium.finish(&mut state));

        let mut sealed = *announcement.to_bytes();
        for (byte, key) in sealed[88..920].iter_mut().zip(&state) {
            *byte ^= key;
        }
        for (byte, key) in sealed[984..].iter_mut().zip(&state[832..]) {
            *byte ^= key;
        }
        if sealed[984..] != [0; 40] {
            return Err(AnnError::InvalItem4);
        }
        self.maker.load(ann_hash_0.lo()).map_err(|_| AnnError::BadProgram)?;
        let item = self.maker.item(ann_hash_0.hi(), num).map_err(|_| AnnError::BadProgramExec)?;
        let mut hash: Node = sodium.blake2b(item);
        for level in 0..TREE_LEVELS {
            let sibling: Node = part(&sealed, 88 + 64 * level);
            let is_left = num >> level & 1 == 0;
            let pair = if is_left { joined(&hash, &sibling) } else { joined(&sibling, &hash) };
            hash = sodium.blake2b(&pair);
        }
        if hash != root.0 {
            return Err(AnnError::Inval);
        }
        if !announcement.work_bits().is_met_by(&work_hash) {
            return Err(AnnError::InsufPow(work_hash));
        }
        Ok(work_hash)
    }
}

fn joined(left: &Node, right: &Node) -> [u8; 128] {
    let mut pair = [0; 128];
    pair[..64].copy_from_slice(left);
    pair[64..].copy_from_slice(right);
    pair
}
