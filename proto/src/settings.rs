//! What all roles' settings have in common: errors that name key, value and rule, and secrets that
//! are never printed.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What is shown in place of a secret.
const HIDDEN: &str = "<secret>";

/// A setting whose value breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key; an element of a list is named by its index, e.g. `ann_handlers[1]`.
    pub key: String,
    /// The value as it was given.
    pub value: String,
    /// What must hold, with the unit of the value.
    pub rule: String,
}

impl ConfigError {
    /// An error for a key.
    pub fn new(key: impl Into<String>, value: impl fmt::Display, rule: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), rule: rule.into() }
    }
}

/// Checks that a rule holds.
///
/// # Errors
/// [`ConfigError`] with key, value and rule when `holds` is false.
pub fn ensure(
    key: impl Into<String>,
    value: impl fmt::Display,
    holds: bool,
    rule: impl Into<String>,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(key, value, rule)) }
}

/// Checks that a number is not below the first bound nor above the second one. `unit` is what is
/// counted, or nothing.
///
/// # Errors
/// [`ConfigError`] that names both bounds.
pub fn ensure_range(
    key: &str,
    value: u64,
    [least, most]: [u64; 2],
    unit: &str,
) -> Result<(), ConfigError> {
    let rule = format!("must be {least} to {most} {unit}");
    ensure(key, value, (least..=most).contains(&value), rule.trim_end())
}

/// Most bytes of an address in a setting.
const URL_BYTES_MAX: usize = 1024;

/// Checks an address that our own programs connect to. All of them speak plain HTTP; TLS is a
/// proxy's matter (spec 05, 1).
///
/// # Errors
/// [`ConfigError`] with what is possible instead.
pub fn connect_url(key: impl Into<String>, url: &str) -> Result<(), ConfigError> {
    let key = key.into();
    let rule = "must begin with http://: TLS is not spoken. For an https address run a proxy that \
                speaks TLS to it, and give the proxy's http address";
    ensure(&key, url, !url.starts_with("https://"), rule)?;
    with_host(&key, url, url.strip_prefix("http://"), "must begin with http:// and name a host")
}

/// Checks an address that is only told to others, who may speak TLS to a proxy in front of us.
///
/// # Errors
/// [`ConfigError`].
pub fn published_url(key: impl Into<String>, url: &str) -> Result<(), ConfigError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rule = "must begin with http:// or https:// and name a host";
    with_host(&key.into(), url, rest, rule)
}

/// Checks what follows the scheme.
fn with_host(key: &str, url: &str, rest: Option<&str>, rule: &str) -> Result<(), ConfigError> {
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    ensure(key, url, has_host, rule)?;
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    let rule = "must be printable ASCII without blanks, of at most 1024 bytes";
    ensure(key, url, is_plain && url.len() <= URL_BYTES_MAX, rule)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.rule)
    }
}

impl std::error::Error for ConfigError {}

/// A choice by name, or none, with `#[serde(with = "by_name")]`.
pub mod by_name {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the name.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the name.
    ///
    /// # Errors
    /// Those of the deserializer, and a text that names nothing.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        name.map(|name| name.parse().map_err(de::Error::custom)).transpose()
    }
}

/// Text that is read from settings but never printed, neither by `Debug` nor by `Serialize`.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    /// Shows that there is a secret, not which: settings are printed for operators.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_not_printed() {
        let secret: Secret = serde_json::from_str("\"correct horse\"").unwrap();
        assert_eq!(secret.expose(), "correct horse");
        assert_eq!(format!("{secret:?}"), "<secret>");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<secret>\"");
        assert_eq!(serde_json::to_string(&Secret::default()).unwrap(), "\"\"");
    }

    #[test]
    fn addresses_to_connect_to_are_plain_http() {
        for good in ["http://pool.example", "http://10.0.0.1:8080/pfx/", "http://[::1]:80"] {
            assert_eq!(connect_url("pools", good), Ok(()), "{good}");
            assert_eq!(published_url("pools", good), Ok(()), "{good}");
        }
        assert_eq!(published_url("url", "https://pool.example"), Ok(()));
        let error = connect_url("pools", "https://pool.example").unwrap_err().to_string();
        assert!(error.starts_with("pools = https://pool.example: must begin with http://: "));
        assert!(error.contains("proxy"), "{error}");
        let long = format!("http://{}", "a".repeat(URL_BYTES_MAX));
        for bad in ["pool.example", "http://", "http:///x", "ftp://p", "http://a b", "", &long] {
            assert!(connect_url("pools", bad).is_err(), "{bad}");
            assert!(published_url("pools", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_name_key_value_and_rule() {
        let check = |mss: u32| ensure("mss", mss, mss >= 1032, "must be at least 1032 bytes");
        assert_eq!(check(1032), Ok(()));
        assert_eq!(check(5).unwrap_err().to_string(), "mss = 5: must be at least 1032 bytes");
    }

    #[test]
    fn both_bounds_of_a_range_are_allowed() {
        let check = |ms| ensure_range("wait_ms", ms, [100, 600], "ms");
        assert_eq!((check(100), check(600)), (Ok(()), Ok(())));
        assert_eq!(check(99).unwrap_err().to_string(), "wait_ms = 99: must be 100 to 600 ms");
        let error = ensure_range("len", 601, [0, 600], "").unwrap_err();
        assert_eq!(error.to_string(), "len = 601: must be 0 to 600");
    }
}
