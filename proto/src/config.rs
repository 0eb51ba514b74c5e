//! `config.json`: what the master tells everybody (spec 05, 4.2).

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use serde::Serialize;
use serde_json::Value;

use crate::fields::{self, Fields, MessageError, invalid};
use crate::json;

/// Most bytes of a `config.json` that a client reads.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Most addresses in one of the lists.
pub const URLS_LEN_MAX: usize = 1024;
/// Most characters of an address.
pub const URL_CHARS_MAX: usize = 2048;
/// Most announcement versions in the list.
pub const ANN_VERSIONS_LEN_MAX: usize = 16;
/// The greatest sensible `mineOldAnns`: announcements older than 259 blocks are worth nothing.
pub const MINE_OLD_ANNS_MAX: u32 = 259;

/// The master's configuration of the pool.
///
/// Equality means that nothing changed: clients compare each new one with the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterConfig {
    /// `tipHash`: parent hash of the current work.
    pub tip_hash: Hash32,
    /// `currentHeight`: height of the block to be mined next, the work number.
    pub current_height: i32,
    /// `masterUrl`: base of `work_` and `bt_` for clients that do not use the address the user
    /// gave; may be empty.
    pub master_url: String,
    /// `submitAnnUrls`: where announcements are posted. The order decides who owns which.
    pub submit_ann_urls: Vec<String>,
    /// `downloadAnnUrls`: base addresses of the announcement handlers.
    pub download_ann_urls: Vec<String>,
    /// `submitBlockUrls`: where shares are posted. The order decides which one takes a share.
    pub submit_block_urls: Vec<String>,
    /// `paymakerUrl`: base address of the paymaker; may be empty.
    pub paymaker_url: String,
    /// `version`: hard version of the protocol, see [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// `softVersion`: see [`crate::PROTOCOL_SOFT_VERSION`].
    pub soft_version: u32,
    /// `annVersions`: accepted announcement versions; handlers use the first.
    pub ann_versions: Vec<u8>,
    /// `mineOldAnns`: how many blocks below the tip announcement miners should work.
    pub mine_old_anns: u32,
    /// `annTarget`: the easiest announcement target that is accepted. Announcement miners and
    /// handlers can do nothing without it.
    pub ann_target: Option<CompactTarget>,
    /// `blkinfoUrl`: base of `blkinfo_` when it is not the master.
    pub blkinfo_url: Option<String>,
    /// `workHash`: [`WorkFile::file_hash`](crate::work::WorkFile::file_hash) of the current work,
    /// told by a master that refreshes it within a height; ours, unknown to the reference.
    pub work_hash: Option<Hash32>,
}

impl MasterConfig {
    /// Parses the JSON of a master, ours or another.
    ///
    /// `tipHash`, `currentHeight`, `submitAnnUrls`, `submitBlockUrls` and `version` must be there.
    /// The other keys may be absent or `null`: texts and lists are empty then, numbers 0.
    ///
    /// # Errors
    /// [`MessageError`] with the key that is missing or makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let value = fields::parse_json(bytes, CONFIG_BYTES_MAX)?;
        let fields = Fields::of(&value)?;
        let urls = |key, value| fields::list(key, value, URLS_LEN_MAX, url);
        let versions = |key, value| fields::list(key, value, ANN_VERSIONS_LEN_MAX, byte);
        Ok(Self {
            tip_hash: fields.required_as("tipHash", fields::display_hash)?,
            current_height: fields.required_as("currentHeight", fields::height)?,
            master_url: fields.optional_as("masterUrl", url_or_empty)?.unwrap_or_default(),
            submit_ann_urls: fields.required_as("submitAnnUrls", urls)?,
            download_ann_urls: fields.optional_as("downloadAnnUrls", urls)?.unwrap_or_default(),
            submit_block_urls: fields.required_as("submitBlockUrls", urls)?,
            paymaker_url: fields.optional_as("paymakerUrl", url_or_empty)?.unwrap_or_default(),
            version: fields.required_as("version", fields::unsigned32)?,
            soft_version: fields.optional_as("softVersion", fields::unsigned32)?.unwrap_or(0),
            ann_versions: fields.optional_as("annVersions", versions)?.unwrap_or_default(),
            mine_old_anns: fields.optional_as("mineOldAnns", mine_old_anns)?.unwrap_or(0),
            ann_target: fields.optional_as("annTarget", fields::target)?,
            blkinfo_url: fields.optional_as("blkinfoUrl", url)?,
            work_hash: fields.optional_as("workHash", fields::display_hash)?,
        })
    }

    /// The JSON that the master serves: tabs, and the keys in the order of spec 05, 4.2.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::to_tabbed(&Wire {
            tip_hash: self.tip_hash.display().to_string(),
            current_height: self.current_height,
            master_url: &self.master_url,
            submit_ann_urls: &self.submit_ann_urls,
            download_ann_urls: &self.download_ann_urls,
            submit_block_urls: &self.submit_block_urls,
            paymaker_url: &self.paymaker_url,
            version: self.version,
            soft_version: self.soft_version,
            ann_versions: &self.ann_versions,
            mine_old_anns: self.mine_old_anns,
            ann_target: self.ann_target.map(|target| target.0),
            blkinfo_url: self.blkinfo_url.as_deref(),
            work_hash: self.work_hash.map(|hash| hash.display().to_string()),
        })
    }

    /// The announcement version of this pool: the first of the list, 1 when it is empty.
    #[must_use]
    pub fn ann_version(&self) -> u8 {
        self.ann_versions.first().copied().unwrap_or(1)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    tip_hash: String,
    current_height: i32,
    master_url: &'a str,
    submit_ann_urls: &'a [String],
    download_ann_urls: &'a [String],
    submit_block_urls: &'a [String],
    paymaker_url: &'a str,
    version: u32,
    soft_version: u32,
    ann_versions: &'a [u8],
    mine_old_anns: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ann_target: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blkinfo_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    work_hash: Option<String>,
}

/// An `http://` or `https://` address without blanks, so that it can stand in a request line.
fn url(key: &'static str, value: &Value) -> Result<String, MessageError> {
    let text = fields::text(key, value)?;
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let begins_with_host = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'));
    if !begins_with_host || !is_plain || text.len() > URL_CHARS_MAX {
        return Err(invalid(key, "an http:// or https:// address", value));
    }
    Ok(text.to_owned())
}

fn url_or_empty(key: &'static str, value: &Value) -> Result<String, MessageError> {
    if value.as_str() == Some("") { Ok(String::new()) } else { url(key, value) }
}

fn byte(key: &'static str, value: &Value) -> Result<u8, MessageError> {
    let number = value.as_u64().and_then(|x| u8::try_from(x).ok());
    number.ok_or_else(|| invalid(key, "integers 0..255", value))
}

fn mine_old_anns(key: &'static str, value: &Value) -> Result<u32, MessageError> {
    let number = fields::unsigned32(key, value)?;
    if number > MINE_OLD_ANNS_MAX {
        return Err(invalid(key, "an integer 0..259", value));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"{"tipHash":"7180001a7aaa9dcb3021dcf3931296f9185eef8455221a53453f57631fcad17e",
        "currentHeight":7,"submitAnnUrls":[],"submitBlockUrls":[],"version":3}"#;

    fn with(key: &str, value: Value) -> Result<MasterConfig, MessageError> {
        let mut config: Value = serde_json::from_str(LEAST).unwrap();
        config[key] = value;
        MasterConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn optional_keys_may_be_absent_or_null() {
        let config = MasterConfig::parse(LEAST.as_bytes()).unwrap();
        assert_eq!(config.ann_version(), 1);
        assert_eq!((config.mine_old_anns, config.ann_target), (0, None));
        for key in
            ["masterUrl", "downloadAnnUrls", "annVersions", "annTarget", "blkinfoUrl", "workHash"]
        {
            assert_eq!(with(key, Value::Null), Ok(config.clone()), "{key}");
        }
        assert!(!config.to_json().contains("workHash"), "the reference has no such key");
        assert_eq!(with("someFutureKey", Value::from(1)), Ok(config));
    }

    #[test]
    fn required_keys_are_named() {
        for key in ["tipHash", "currentHeight", "submitAnnUrls", "submitBlockUrls", "version"] {
            let error = with(key, Value::Null).unwrap_err();
            assert!(matches!(error, MessageError::Missing { key: named } if named == key));
        }
    }

    #[test]
    fn nonsense_is_named() {
        let long = "h".repeat(3000);
        let nonsense = [
            ("tipHash", serde_json::json!("71")),
            ("currentHeight", serde_json::json!(-1)),
            ("currentHeight", serde_json::json!(2_147_483_648u64)),
            ("currentHeight", serde_json::json!(1.5)),
            ("currentHeight", serde_json::json!("7")),
            ("masterUrl", serde_json::json!("ftp://x")),
            ("paymakerUrl", serde_json::json!("http://")),
            ("submitAnnUrls", serde_json::json!(["http://a b/"])),
            ("submitAnnUrls", serde_json::json!(["http://a\r\nx: y/"])),
            ("submitAnnUrls", serde_json::json!([format!("http://{long}")])),
            ("submitBlockUrls", serde_json::json!(vec!["http://a"; 1025])),
            ("annVersions", serde_json::json!([256])),
            ("mineOldAnns", serde_json::json!(260)),
            ("workHash", serde_json::json!("71")),
            ("annTarget", serde_json::json!(0)),
            ("annTarget", serde_json::json!(0x2080_0000u32)),
            ("annTarget", serde_json::json!(0x2100_0001u32)),
        ];
        for (key, value) in nonsense {
            let error = with(key, value).unwrap_err();
            assert!(matches!(&error, MessageError::Invalid { key: named, .. } if *named == key));
            assert!(error.to_string().len() < 300, "{error}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(MasterConfig::parse(b"[]"), Err(MessageError::NotObject));
        assert!(matches!(MasterConfig::parse(b"{"), Err(MessageError::NotJson(_))));
        let long = vec![b' '; CONFIG_BYTES_MAX + 1];
        assert!(matches!(MasterConfig::parse(&long), Err(MessageError::TooLong { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = MasterConfig::parse(&bytes);
        }
    }
}
