//! Test vectors of PacketCrypt and their loader.
//!
//! The vectors lie in `data/`, one directory a topic, each with a README. The environment variable
//! `PACKETCRYPT_VECTORS` names another directory of the same layout, in which there may be more or
//! fewer files of the known forms; so tests ask for files by the beginning of the name
//! ([`files`]) and report how many cases of each ran ([`VectorFile::report`]).
//!
//! Public data of the chain is not part of the project: [`chain`] finds it where
//! `PACKETCRYPT_CHAIN_VECTORS` points or beside the checkout, and says so where it is absent.
//!
//! The reports are written past the capture of the test harness, so that a plain `cargo test`
//! shows them.

pub mod values;

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The environment variable that names another directory of vectors.
pub const VECTORS_VARIABLE: &str = "PACKETCRYPT_VECTORS";
/// The environment variable that names the directory of public chain data.
pub const CHAIN_VARIABLE: &str = "PACKETCRYPT_CHAIN_VECTORS";

/// Every form of vector file: topic, beginning of the name, ending, and the test that runs it.
///
/// A file of a topic that fits no row is an error of the set or of this table: see the test below.
pub const FORMS: &[(&str, &str, &str, &str)] = &[
    ("randhash", "draws", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "expand", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "immediates", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "ops", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "programs", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "programs-full", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "programs-too-big", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "states-full", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "synthetic", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("randhash", "trace", "json", "core-nostd/tests/vectors_randhash.rs"),
    ("announcements", "ann_traces", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "crypt", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "crypt_full", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "cryptocycle_full", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "cryptocycle_traces", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "invalid", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "invalid", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "items", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "items_full", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "merkle", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "primitives", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "v0_consensus", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "v0_consensus", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "v0_reference_miner", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "v0_reference_miner", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "valid", "json", "core-nostd/tests/vectors_announcements.rs"),
    ("announcements", "valid", "bin", "core-nostd/tests/vectors_announcements.rs"),
    ("blocks", "anns", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "anns_", "bin", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "blocks_invalid", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "blocks_valid", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "coinbase", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "content_proofs", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "difficulty", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "header_from_work", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "index", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "layout", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "mining", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "pcp_entities", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("blocks", "prooftree", "json", "core-nostd/tests/vectors_blocks.rs"),
    ("pool", "annhandler_replies", "json", "handler/tests/vectors.rs"),
    ("pool", "anns", "json", "handler/tests/vectors.rs"),
    ("pool", "anns", "bin", "handler/tests/vectors.rs"),
    ("pool", "blkhandler", "json", "tools/blkhandler/tests/vectors.rs"),
    ("pool", "master", "json", "tools/master/tests/vectors.rs"),
    ("pool", "paymaker", "json", "tools/paymaker/tests/vectors.rs"),
    ("pool", "real_shares", "json", "blockminer/tests/vectors.rs"),
    ("pool", "sprayer_datagram", "bin", "proto/tests/vectors.rs"),
    ("pool", "units", "json", "proto/tests/vectors.rs"),
    ("pktd-rpc", "", "json", "tools/node/tests/vectors.rs"),
];

/// One vector file.
#[derive(Clone, Debug)]
pub struct VectorFile {
    /// File name with its ending, e.g. `blocks_valid_1.json`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

impl VectorFile {
    /// The content. Panics with the path when it can not be read: this is a test.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_else(|e| panic!("{}: {e}", self.path.display()))
    }

    /// The content as JSON. Panics with the path when it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes())
            .unwrap_or_else(|e| panic!("{}: {e}", self.path.display()))
    }

    /// The file of the same directory with another ending, e.g. the `.bin` beside a `.json`.
    pub fn companion(&self, ending: &str) -> VectorFile {
        let path = self.path.with_extension(ending);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        VectorFile { name, path }
    }

    /// Name without its ending.
    pub fn stem(&self) -> &str {
        self.name.rsplit_once('.').map_or(&self.name, |(stem, _)| stem)
    }

    /// Says how many cases of this file ran, and fails when a present file gave none.
    pub fn report(&self, cases: usize) {
        say(&format!("vectors: {} {cases} cases", self.name));
        assert!(cases > 0, "{} is present but gave no case", self.path.display());
    }
}

/// The directory of the vectors: `PACKETCRYPT_VECTORS`, else the project's own copy.
pub fn dir() -> PathBuf {
    match env::var_os(VECTORS_VARIABLE) {
        Some(named) => {
            let dir = resolve(Path::new(&named));
            assert!(dir.is_dir(), "{VECTORS_VARIABLE}: no directory {}", dir.display());
            dir
        }
        None => own_dir(),
    }
}

fn own_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// The files of a topic whose name begins with `prefix` and has this ending, by name; but not those
/// that begin with a longer form of [`FORMS`]: `programs*.json` are not `programs-full*.json`.
///
/// An absent form is no error (a set may hold fewer files): it is said and the list is empty.
pub fn files(topic: &str, prefix: &str, ending: &str) -> Vec<VectorFile> {
    let found = of_form(&dir(), topic, prefix, ending);
    if found.is_empty() {
        say(&format!("vectors: no file {topic}/{prefix}*.{ending} in this set"));
    }
    found
}

/// A file of the set that another one names, or `None`, said aloud: a set may hold fewer files.
pub fn named(topic: &str, name: &str) -> Option<VectorFile> {
    let path = dir().join(topic).join(name);
    if path.is_file() {
        return Some(VectorFile { name: name.to_owned(), path });
    }
    say(&format!("vectors: {topic}/{name} is not in this set, what needs it is skipped"));
    None
}

/// A file of the project's own copy, whatever `PACKETCRYPT_VECTORS` says: for tests that need some
/// real data and are not about the vectors.
pub fn own(topic: &str, name: &str) -> VectorFile {
    let path = own_dir().join(topic).join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    VectorFile { name: name.to_owned(), path }
}

/// The file of the public chain data with this name, or `None`, said aloud, where it is absent.
pub fn chain(name: &str) -> Option<VectorFile> {
    let dir = match env::var_os(CHAIN_VARIABLE) {
        Some(named) => resolve(Path::new(&named)),
        None => workspace().join("../shared/vectors/chain"),
    };
    let path = dir.join(name);
    if path.is_file() {
        return Some(VectorFile { name: name.to_owned(), path });
    }
    say(&format!("vectors: {name} skipped, no such file in {} ({CHAIN_VARIABLE})", dir.display()));
    None
}

/// Decodes hex of a vector. Panics on anything else: this is a test.
pub fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_else(|e| panic!("not hex ({e}): {text}"))
}

/// Decodes hex of a vector into an array. Panics when the length differs.
pub fn unhex_array<const N: usize>(text: &str) -> [u8; N] {
    let bytes = unhex(text);
    let len = bytes.len();
    bytes.try_into().unwrap_or_else(|_| panic!("want {N} bytes, have {len}: {text}"))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Tests run in the directory of their package; a relative name is meant from where the user is,
/// which is nearly always the top of the workspace.
fn resolve(named: &Path) -> PathBuf {
    let from_workspace = workspace().join(named);
    if named.is_relative() && from_workspace.is_dir() { from_workspace } else { named.to_owned() }
}

fn of_form(dir: &Path, topic: &str, prefix: &str, ending: &str) -> Vec<VectorFile> {
    let mut found = list(&dir.join(topic), prefix, ending);
    found.retain(|file| {
        !FORMS.iter().any(|&(of, longer, end, _)| {
            of == topic
                && end == ending
                && longer.len() > prefix.len()
                && longer.starts_with(prefix)
                && file.name.starts_with(longer)
        })
    });
    found
}

fn list(dir: &Path, prefix: &str, ending: &str) -> Vec<VectorFile> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<VectorFile> = entries
        .flatten()
        .map(|entry| VectorFile {
            name: entry.file_name().to_string_lossy().into_owned(),
            path: entry.path(),
        })
        .filter(|file| file.name.starts_with(prefix))
        .filter(|file| file.name.rsplit_once('.').is_some_and(|(_, end)| end == ending))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn say(line: &str) {
    // Not `println!`, which the test harness captures. One write, so that lines of parallel tests
    // do not mix.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_set_has_a_form() {
        let topics = ["randhash", "announcements", "blocks", "pool", "pktd-rpc"];
        for topic in topics {
            for file in list(&dir().join(topic), "", "json").into_iter().chain(list(
                &dir().join(topic),
                "",
                "bin",
            )) {
                let known = FORMS.iter().any(|&(of, prefix, ending, _)| {
                    of == topic
                        && file.name.starts_with(prefix)
                        && file.name.ends_with(&format!(".{ending}"))
                });
                assert!(known, "no test claims {topic}/{}", file.name);
            }
        }
    }

    #[test]
    fn a_file_is_of_the_longest_form_that_fits() {
        let set = std::env::temp_dir().join(format!("packetcrypt-vectors-{}", std::process::id()));
        let topic = set.join("randhash");
        fs::create_dir_all(&topic).unwrap();
        for name in
            ["programs-x.json", "programs.json", "programs-full-2.json", "programs.bin", "p.json"]
        {
            fs::write(topic.join(name), "[]").unwrap();
        }
        let names = |prefix| -> Vec<String> {
            of_form(&set, "randhash", prefix, "json").into_iter().map(|file| file.name).collect()
        };
        assert_eq!(names("programs"), ["programs-x.json", "programs.json"]);
        assert_eq!(names("programs-full"), ["programs-full-2.json"]);
        assert!(names("programs-too-big").is_empty());
        fs::remove_dir_all(&set).unwrap();
    }

    #[test]
    fn every_form_names_a_test_that_exists() {
        for (topic, prefix, ending, test) in FORMS {
            assert!(
                workspace().join(test).is_file(),
                "{topic}/{prefix}*.{ending} should run in {test}, which does not exist"
            );
        }
    }
}
