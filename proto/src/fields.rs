//! Reading the members of a JSON object, with errors that name the key.

use std::fmt;

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use serde_json::{Map, Value};

/// Most characters of a foreign value that an error text repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// Why a message in JSON was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// More bytes than a message of this kind may have.
    TooLong {
        /// Bytes that came.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The bytes are not JSON; the text of the parser.
    NotJson(String),
    /// JSON, but not an object.
    NotObject,
    /// A member that must be there is not.
    Missing {
        /// The member.
        key: &'static str,
    },
    /// A member has a value of the wrong kind or outside its range.
    Invalid {
        /// The member.
        key: &'static str,
        /// What is wanted.
        want: &'static str,
        /// What came, shortened.
        have: String,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "message of {bytes} bytes, at most {bytes_max} are accepted")
            }
            Self::NotJson(why) => write!(f, "not JSON: {why}"),
            Self::NotObject => f.write_str("not a JSON object"),
            Self::Missing { key } => write!(f, "key {key} is missing"),
            Self::Invalid { key, want, have } => write!(f, "key {key}: want {want}, have {have}"),
        }
    }
}

impl std::error::Error for MessageError {}

/// A JSON object that is read member by member. Unknown members are ignored (spec 05, 2.5).
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The members of an object.
    ///
    /// # Errors
    /// [`MessageError::NotObject`].
    pub fn of(value: &'a Value) -> Result<Self, MessageError> {
        value.as_object().map(Fields).ok_or(MessageError::NotObject)
    }

    /// The member, `None` when it is absent or `null`.
    #[must_use]
    pub fn optional(&self, key: &'static str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The member.
    ///
    /// # Errors
    /// [`MessageError::Missing`] when it is absent or `null`.
    pub fn required(&self, key: &'static str) -> Result<&'a Value, MessageError> {
        self.optional(key).ok_or(MessageError::Missing { key })
    }

    /// The member if it is there, converted by `read`.
    ///
    /// # Errors
    /// What `read` says.
    pub fn optional_as<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&'static str, &'a Value) -> Result<T, MessageError>,
    ) -> Result<Option<T>, MessageError> {
        self.optional(key).map(|value| read(key, value)).transpose()
    }

    /// The member, converted by `read`.
    ///
    /// # Errors
    /// [`MessageError::Missing`], or what `read` says.
    pub fn required_as<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&'static str, &'a Value) -> Result<T, MessageError>,
    ) -> Result<T, MessageError> {
        read(key, self.required(key)?)
    }
}

/// Parses the bytes of a message of at most `bytes_max` bytes.
///
/// # Errors
/// [`MessageError::TooLong`] and [`MessageError::NotJson`].
pub fn parse_json(bytes: &[u8], bytes_max: usize) -> Result<Value, MessageError> {
    if bytes.len() > bytes_max {
        return Err(MessageError::TooLong { bytes: bytes.len(), bytes_max });
    }
    serde_json::from_slice(bytes).map_err(|e| MessageError::NotJson(e.to_string()))
}

/// The error of a value that is not what is wanted.
#[must_use]
pub fn invalid(key: &'static str, want: &'static str, value: &Value) -> MessageError {
    let mut have = value.to_string();
    if let Some((end, _)) = have.char_indices().nth(SHOWN_CHARS_MAX) {
        have.truncate(end);
        have.push_str("..");
    }
    MessageError::Invalid { key, want, have }
}

/// A text.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn text<'a>(key: &'static str, value: &'a Value) -> Result<&'a str, MessageError> {
    value.as_str().ok_or_else(|| invalid(key, "a text", value))
}

/// A finite number.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn double(key: &'static str, value: &Value) -> Result<f64, MessageError> {
    value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| invalid(key, "a number", value))
}

/// An integer 0..2^64.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn unsigned64(key: &'static str, value: &Value) -> Result<u64, MessageError> {
    value.as_u64().ok_or_else(|| invalid(key, "an integer from 0", value))
}

/// An integer 0..2^32.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn unsigned32(key: &'static str, value: &Value) -> Result<u32, MessageError> {
    let number = value.as_u64().and_then(|x| u32::try_from(x).ok());
    number.ok_or_else(|| invalid(key, "an integer 0..4294967295", value))
}

/// A height: an integer 0..2^31.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn height(key: &'static str, value: &Value) -> Result<i32, MessageError> {
    let number = value.as_i64().and_then(|x| i32::try_from(x).ok()).filter(|x| *x >= 0);
    number.ok_or_else(|| invalid(key, "a height 0..2147483647", value))
}

/// A compact target that a hash can meet, as a number.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn target(key: &'static str, value: &Value) -> Result<CompactTarget, MessageError> {
    let target = CompactTarget(unsigned32(key, value)?);
    if !target.is_well_formed() {
        return Err(invalid(key, "a compact target: positive, at most 0x207fffff", value));
    }
    Ok(target)
}

/// A hash of 64 hex digits in display order (spec 05, 2.1).
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn display_hash(key: &'static str, value: &Value) -> Result<Hash32, MessageError> {
    let hash = value.as_str().and_then(|text| Hash32::from_display_hex(text).ok());
    hash.ok_or_else(|| invalid(key, "64 hex digits", value))
}

/// A hash or key of 64 hex digits in memory order.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn memory_hash(key: &'static str, value: &Value) -> Result<Hash32, MessageError> {
    let hash = value.as_str().and_then(|text| Hash32::from_hex(text).ok());
    hash.ok_or_else(|| invalid(key, "64 hex digits", value))
}

/// Bytes as hex, in memory order.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn bytes(key: &'static str, value: &Value) -> Result<Vec<u8>, MessageError> {
    let bytes = value.as_str().and_then(|text| hex::decode(text).ok());
    bytes.ok_or_else(|| invalid(key, "hex", value))
}

/// A list of at most `len_max` elements, each converted by `read`.
///
/// # Errors
/// [`MessageError::Invalid`].
pub fn list<'a, T>(
    key: &'static str,
    value: &'a Value,
    len_max: usize,
    read: impl Fn(&'static str, &'a Value) -> Result<T, MessageError>,
) -> Result<Vec<T>, MessageError> {
    let elements = value.as_array().ok_or_else(|| invalid(key, "a list", value))?;
    if elements.len() > len_max {
        let have = format!("{} elements", elements.len());
        return Err(MessageError::Invalid { key, want: "a shorter list", have });
    }
    elements.iter().map(|element| read(key, element)).collect()
}
