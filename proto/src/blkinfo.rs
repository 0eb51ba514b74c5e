//! `blkinfo_<hash>.json`: the header of a known block and the signing key above it (spec 05, 4.5).

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use serde::Serialize;
use serde_json::Value;

use crate::fields::{self, Fields, MessageError, invalid};
use crate::json;

/// Most bytes of a block information that a client reads.
pub const BLKINFO_BYTES_MAX: usize = 64 << 10;

/// What the master knows of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockInfo {
    /// The header as the node tells it.
    pub header: BlockInfoHeader,
    /// Key that signs announcements whose parent is this block: the key of height + 1. `None` when
    /// signing is off.
    pub sig_key: Option<Hash32>,
}

/// The verbose header of `getblockheader`, without what changes with time.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockInfoHeader {
    /// Hash of the block.
    pub hash: Hash32,
    /// Its height.
    pub height: i32,
    /// Version field; `versionHex` says the same and is not kept.
    pub version: u32,
    /// Root of its transactions, internal order.
    pub merkle_root: Hash32,
    /// Seconds since the epoch.
    pub time: u64,
    /// Nonce field.
    pub nonce: u32,
    /// Target of the block.
    pub bits: CompactTarget,
    /// Limit of the network / target, rounded by the node to 8 decimals.
    pub difficulty: f64,
    /// Hash of the block before, zero for the genesis block.
    pub previous_hash: Hash32,
}

impl BlockInfo {
    /// Parses the JSON of a master.
    ///
    /// # Errors
    /// [`MessageError`] with the key that is missing or makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let value = fields::parse_json(bytes, BLKINFO_BYTES_MAX)?;
        let fields = Fields::of(&value)?;
        let header = BlockInfoHeader::from_json(fields.required("header")?)?;
        Ok(Self { header, sig_key: fields.optional_as("sigKey", fields::memory_hash)? })
    }

    /// The JSON that the master serves, indented with tabs.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire {
            header: HeaderWire,
            #[serde(rename = "sigKey")]
            sig_key: Option<String>,
        }
        json::to_tabbed(&Wire {
            header: self.header.wire(),
            sig_key: self.sig_key.map(|key| key.hex().to_string()),
        })
    }
}

impl BlockInfoHeader {
    /// Reads the object of `getblockheader` or of a `blkinfo`.
    ///
    /// The node leaves out leading zeros of `bits` and tells a version above 2^31 as a negative
    /// number; both are understood.
    ///
    /// # Errors
    /// [`MessageError`] with the key that is missing or makes no sense.
    pub fn from_json(value: &Value) -> Result<Self, MessageError> {
        let fields = Fields::of(value)?;
        let previous = fields.optional_as("previousblockhash", fields::display_hash)?;
        let height = fields.required_as("height", fields::height)?;
        // A node may leave the member out for the genesis block, which has no parent.
        if previous.is_none() && height != 0 {
            return Err(MessageError::Missing { key: "previousblockhash" });
        }
        Ok(Self {
            hash: fields.required_as("hash", fields::display_hash)?,
            height,
            version: fields.required_as("version", version)?,
            merkle_root: fields.required_as("merkleroot", fields::display_hash)?,
            time: fields.required_as("time", fields::unsigned64)?,
            nonce: fields.required_as("nonce", fields::unsigned32)?,
            bits: fields.required_as("bits", bits)?,
            difficulty: fields.required_as("difficulty", fields::double)?,
            previous_hash: previous.unwrap_or(Hash32::ZERO),
        })
    }

    fn wire(&self) -> HeaderWire {
        HeaderWire {
            hash: self.hash.display().to_string(),
            height: self.height,
            version: self.version,
            version_hex: format!("{:08x}", self.version),
            merkleroot: self.merkle_root.display().to_string(),
            time: self.time,
            nonce: self.nonce,
            bits: self.bits.to_string(),
            difficulty: self.difficulty,
            previousblockhash: self.previous_hash.display().to_string(),
        }
    }
}

#[derive(Serialize)]
struct HeaderWire {
    hash: String,
    height: i32,
    version: u32,
    #[serde(rename = "versionHex")]
    version_hex: String,
    merkleroot: String,
    time: u64,
    nonce: u32,
    bits: String,
    difficulty: f64,
    previousblockhash: String,
}

fn version(key: &'static str, value: &Value) -> Result<u32, MessageError> {
    let signed = value.as_i64().and_then(|x| i32::try_from(x).ok()).map(i32::cast_unsigned);
    signed.map_or_else(|| fields::unsigned32(key, value), Ok)
}

fn bits(key: &'static str, value: &Value) -> Result<CompactTarget, MessageError> {
    let text = fields::text(key, value)?;
    let is_hex = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let word = u32::from_str_radix(text, 16).ok().filter(|_| is_hex);
    word.map(CompactTarget).ok_or_else(|| invalid(key, "1 to 8 hex digits", value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "hash": "7180001a7aaa9dcb3021dcf3931296f9185eef8455221a53453f57631fcad17e",
            "height": 501_009, "version": 536_870_912, "versionHex": "20000000",
            "merkleroot": "2c4fd5169b3efd6ffdc238bbd4db4f2b4e1cb72ed3e4509fde41c3d8255d3e4e",
            "time": 1_700_060_540, "nonce": 7, "bits": "1d00ffff", "difficulty": 2.5,
            "previousblockhash": "68ab8cfebd33214d7f44687e1556d005d87292d3aac2f65d4dfbe915ce629215"
        })
    }

    #[test]
    fn the_node_may_write_bits_without_zeros_and_versions_with_a_sign() {
        let mut value = sample();
        value["bits"] = json!("7fffff");
        value["version"] = json!(-1);
        let header = BlockInfoHeader::from_json(&value).unwrap();
        assert_eq!(header.bits, CompactTarget(0x007f_ffff));
        assert_eq!(header.version, u32::MAX);
        let text = BlockInfo { header, sig_key: None }.to_json();
        assert!(text.contains("\"bits\": \"007fffff\"") && text.contains("\"ffffffff\""));
        assert!(BlockInfo::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn only_the_genesis_block_has_no_parent() {
        let mut value = sample();
        value["previousblockhash"] = Value::Null;
        let missing = MessageError::Missing { key: "previousblockhash" };
        assert_eq!(BlockInfoHeader::from_json(&value), Err(missing));
        value["height"] = json!(0);
        assert!(BlockInfoHeader::from_json(&value).unwrap().previous_hash.is_zero());
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            ("hash", json!("zz")),
            ("height", json!(-1)),
            ("version", json!("1")),
            ("time", json!(-5)),
            ("nonce", json!(4_294_967_296u64)),
            ("bits", json!("+1d00ff")),
            ("bits", json!("")),
            ("bits", json!("01d00ffff")),
            ("difficulty", json!("1")),
        ];
        for (key, wrong) in cases {
            let mut value = sample();
            value[key] = wrong;
            let error = BlockInfoHeader::from_json(&value).unwrap_err();
            assert!(matches!(error, MessageError::Invalid { key: named, .. } if named == key));
        }
        assert_eq!(BlockInfo::parse(b"{}"), Err(MessageError::Missing { key: "header" }));
        assert_eq!(BlockInfo::parse(b"{\"header\":3}"), Err(MessageError::NotObject));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = BlockInfo::parse(&bytes);
        }
    }
}
