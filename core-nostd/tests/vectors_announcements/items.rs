//! Items, tables and the trees over them.

use std::collections::BTreeMap;

use packetcrypt_core::announcement::item::{item_v0, items_v1};
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{ITEM_BYTES, TABLE_ITEMS, TREE_NODES};
use packetcrypt_core::randhash::{Execute, Generator, Interpreter, Program};
use packetcrypt_core::{Backend, Hash64, merkle};
use packetcrypt_vectors::{files, unhex_array};
use serde_json::Value;

use crate::values::{assert_compress64, list, number, text};
use crate::whole::{Whole, report_whole};

/// A version-1 table that makes one item at a time.
pub(crate) struct ItemMaker {
    pub(crate) program: Program,
    interpreter: Interpreter,
    seed: Hash64,
}

impl ItemMaker {
    pub(crate) fn new(seed: Hash64) -> ItemMaker {
        let mut program = Program::EMPTY;
        Generator::new().generate(seed.lo(), &mut program).expect("a program");
        let mut interpreter = Interpreter::new();
        interpreter.load(&program);
        ItemMaker { program, interpreter, seed }
    }

    pub(crate) fn item(&mut self, num: u64) -> [u8; ITEM_BYTES] {
        self.item_on(num, Backend::best())
    }

    fn item_on(&mut self, num: u64, backend: Backend) -> [u8; ITEM_BYTES] {
        let mut state = [State::ZERO];
        let exec = &mut self.interpreter;
        items_v1(&self.program, self.seed.hi(), &[num], &mut state, exec, backend).unwrap();
        *state[0].first_half()
    }
}

#[test]
fn items() {
    let mut used = BTreeMap::new();
    for file in files("announcements", "items", "json") {
        let json = file.json();
        let mut whole = Whole::beside(&file);
        let mut count = 0;
        let mut check_item = |case: &Value, item: [u8; ITEM_BYTES]| {
            assert_eq!(hex::encode(&item[..32]), text(&case["first32"]));
            assert_compress64(&item, &case["item_compress64"]);
            if let Some(full) = Whole::at(&mut whole, case.get("full_at"), ITEM_BYTES) {
                assert_eq!(item, full[..]);
            }
            count += 1;
        };
        for case in list(&json["v0"]) {
            let mut item = [0; ITEM_BYTES];
            item_v0(&unhex_array(text(&case["seed"])), number(&case["num"]) as u32, &mut item);
            check_item(case, item);
        }
        for case in list(&json["v1"]) {
            let mut maker = ItemMaker::new(Hash64::from_hex(text(&case["seed"])).unwrap());
            let len = maker.program.words().len() as u64;
            assert_eq!(len, number(&case["program_len"]));
            let memory: Vec<u8> =
                maker.program.memory().iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_compress64(&memory, &case["memory_compress64"]);
            let item = maker.item(number(&case["num"]));
            for backend in Backend::available() {
                assert_eq!(maker.item_on(number(&case["num"]), backend), item, "{backend}");
            }
            check_item(case, item);
        }
        file.report(count);
        Whole::note(whole, &mut used);
    }
    report_whole("items_full", &used);
}

#[test]
fn merkle_trees() {
    for file in files("announcements", "merkle", "json") {
        let json = file.json();
        for case in list(&json) {
            let mut table = vec![[0; ITEM_BYTES]; TABLE_ITEMS];
            if number(&case["version"]) == 0 {
                let seed = unhex_array(text(&case["seed"]));
                for (num, item) in (0..).zip(&mut table) {
                    item_v0(&seed, num, item);
                }
            } else {
                let mut maker = ItemMaker::new(Hash64::from_hex(text(&case["seed"])).unwrap());
                for (num, item) in (0..).zip(&mut table) {
                    *item = maker.item(num);
                }
            }
            assert_compress64(table.as_flattened(), &case["table_compress64"]);
            let mut nodes = vec![Hash64::ZERO; TREE_NODES];
            for backend in Backend::available() {
                nodes.fill(Hash64::ZERO);
                merkle::build(&table, &mut nodes, backend);
                let root = merkle::root(&nodes);
                assert_eq!(root.hex().to_string(), text(&case["root"]), "{backend}");
            }
            for branch in list(&case["branches"]) {
                check_branch(&nodes, branch);
            }
        }
        file.report(list(&json).len());
    }
}

fn check_branch(nodes: &[Hash64], branch: &Value) {
    let num = number(&branch["num"]) as usize;
    let leaf = Hash64::from_hex(text(&branch["leaf"])).unwrap();
    assert_eq!(nodes[num], leaf);
    let siblings = merkle::branch(nodes, num);
    assert_eq!(hex::encode(siblings), text(&branch["siblings"]));
    let root = merkle::root(nodes);
    assert!(merkle::verify(&siblings, root, &leaf, num));
    assert!(!merkle::verify(&siblings, root, &leaf, num ^ 1));
    for at in [0, siblings.len() - 1] {
        let mut other = siblings;
        other[at] ^= 0x80;
        assert!(!merkle::verify(&other, root, &leaf, num));
    }
}
