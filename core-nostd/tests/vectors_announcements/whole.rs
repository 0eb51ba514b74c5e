//! Whole states and items, in binary files beside the JSON that describes them.

use std::collections::BTreeMap;

use packetcrypt_vectors::{VectorFile, files};
use serde_json::Value;

use crate::values::number;

/// The file of whole states or items that belongs to a JSON file, and how often it was used.
pub(crate) struct Whole {
    pub(crate) file: VectorFile,
    pub(crate) bytes: Vec<u8>,
    pub(crate) cases: usize,
}

impl Whole {
    /// `crypt-1.json` has `crypt_full-1.bin`, `crypt-1_full.bin` or `crypt_full.bin`, if any.
    pub(crate) fn beside(json: &VectorFile) -> Option<Whole> {
        let stem = json.stem().replace("_traces", "");
        let name = stem.trim_end_matches(|c: char| c.is_ascii_digit() || ['-', '_'].contains(&c));
        let tail = &stem[name.len()..];
        let names = [
            format!("{name}_full{tail}.bin"),
            format!("{stem}_full.bin"),
            format!("{name}_full.bin"),
        ];
        names.into_iter().find_map(|name| {
            let path = json.path.with_file_name(&name);
            let file = VectorFile { name, path };
            file.path.is_file().then(|| Whole { bytes: file.bytes(), file, cases: 0 })
        })
    }

    /// The bytes at an offset that a case gives.
    pub(crate) fn at(
        whole: &mut Option<Whole>,
        offset: Option<&Value>,
        len: usize,
    ) -> Option<Vec<u8>> {
        let (whole, offset) = (whole.as_mut()?, number(offset?) as usize);
        whole.cases += 1;
        Some(whole.bytes[offset..offset + len].to_vec())
    }

    /// Notes how many of its cases a JSON file used.
    pub(crate) fn note(whole: Option<Whole>, used: &mut BTreeMap<String, usize>) {
        if let Some(whole) = whole {
            *used.entry(whole.file.name).or_default() += whole.cases;
        }
    }
}

/// Says of each file of whole states or items how many of them ran.
pub(crate) fn report_whole(prefix: &str, used: &BTreeMap<String, usize>) {
    for file in files("announcements", prefix, "bin") {
        file.report(used.get(&file.name).copied().unwrap_or(0));
    }
}
