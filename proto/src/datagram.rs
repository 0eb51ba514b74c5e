//! Datagrams of the sprayer (spec 05, 7).
//!
//! A datagram is whole records of 1032 bytes, or, when its length is no multiple of that, a
//! subscription behind its last whole record. Nothing in it proves who sent it: accept records only
//! from the addresses that were subscribed to.

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ANNOUNCEMENT_BYTES, json};

/// Bytes of a record.
pub const RECORD_BYTES: usize = size_of::<Record>();
/// Most records of a datagram: what fits below 65 536 bytes with the headers of IP and UDP.
pub const RECORDS_LEN_MAX: usize = 63;
/// Most bytes of a subscription; longer tails are no subscriptions.
pub const SUBSCRIPTION_BYTES_MAX: usize = RECORD_BYTES - 1;

const _: () = assert!(RECORD_BYTES == 8 + ANNOUNCEMENT_BYTES);
const _: () = assert!(RECORDS_LEN_MAX * RECORD_BYTES == 65_016);

/// One announcement on its way, read in place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    /// Records queued to this subscriber before; receivers ignore it.
    pub sequence: U64,
    /// The announcement. Not checked by anybody yet.
    pub announcement: [u8; ANNOUNCEMENT_BYTES],
}

impl Record {
    /// A record to be sent.
    #[must_use]
    pub fn new(sequence: u64, announcement: [u8; ANNOUNCEMENT_BYTES]) -> Self {
        Self { sequence: U64::new(sequence), announcement }
    }
}

/// `{"yes_please_dos_me_passwd":..,"num":..,"count":..}`: the wish to be sprayed at.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The password of the sprayer; empty for an open one.
    #[serde(rename = "yes_please_dos_me_passwd")]
    pub password: String,
    /// Not used.
    #[serde(default)]
    pub num: Option<u32>,
    /// Not used.
    #[serde(default)]
    pub count: Option<u32>,
}

impl Subscription {
    /// The subscription that the reference sends.
    #[must_use]
    pub fn new(password: &str) -> Self {
        Self { password: password.to_owned(), num: Some(0), count: Some(1) }
    }

    /// The bytes of its datagram, `None` when they would be too long or look like records.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let bytes = json::to_line(self).into_bytes();
        (bytes.len() <= SUBSCRIPTION_BYTES_MAX).then_some(bytes)
    }

    /// Whether the password is this one. Takes the same time wherever they differ.
    #[must_use]
    pub fn has_password(&self, password: &str) -> bool {
        let (mine, theirs) = (password.as_bytes(), self.password.as_bytes());
        let differing = mine.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
        mine.len() == theirs.len() && differing == 0
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription(password hidden)")
    }
}

/// A datagram that came, read in place.
#[derive(Clone, Debug)]
pub struct Datagram<'a> {
    /// Its whole records; those beyond [`RECORDS_LEN_MAX`] too, a socket does not deliver more.
    pub records: &'a [Record],
    /// What follows them.
    pub tail: Tail,
}

/// What follows the last whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing: this is data.
    None,
    /// A subscription.
    Subscription(Subscription),
    /// Bytes that mean nothing.
    Garbage,
}

impl<'a> Datagram<'a> {
    /// Reads a datagram. Every sequence of bytes is one, at worst with a garbage tail.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        let len = bytes.len() / RECORD_BYTES;
        let Ok((records, tail)) = <[Record]>::ref_from_prefix_with_elems(bytes, len) else {
            return Self { records: &[], tail: Tail::Garbage };
        };
        let tail = match tail {
            [] => Tail::None,
            tail => serde_json::from_slice(tail).map_or(Tail::Garbage, Tail::Subscription),
        };
        Self { records, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_the_text_of_the_reference() {
        let bytes = Subscription::new("secret").to_bytes().unwrap();
        let text = r#"{"yes_please_dos_me_passwd":"secret","num":0,"count":1}"#;
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(Datagram::parse(&bytes).tail, Tail::Subscription(Subscription::new("secret")));
        assert!(Subscription::new(&"x".repeat(1032)).to_bytes().is_none());
    }

    #[test]
    fn num_and_count_may_be_null_or_absent() {
        for text in [
            r#"{"yes_please_dos_me_passwd":""}"#,
            r#"{"yes_please_dos_me_passwd":"","num":null,"count":null}"#,
        ] {
            let Tail::Subscription(subscription) = Datagram::parse(text.as_bytes()).tail else {
                panic!("{text}");
            };
            assert!(subscription.has_password(""));
        }
    }

    #[test]
    fn passwords_are_compared_whole_and_not_shown() {
        let subscription = Subscription::new("secret");
        assert!(subscription.has_password("secret"));
        for wrong in ["", "secre", "secrets", "secreT"] {
            assert!(!subscription.has_password(wrong));
        }
        assert!(!format!("{subscription:?}").contains("secret"));
    }

    #[test]
    fn records_stand_before_a_subscription() {
        let mut bytes = Record::new(7, [9; ANNOUNCEMENT_BYTES]).as_bytes().to_vec();
        bytes.extend(Subscription::new("p").to_bytes().unwrap());
        let datagram = Datagram::parse(&bytes);
        assert_eq!(datagram.records.len(), 1);
        assert_eq!(datagram.records[0].sequence.get(), 7);
        assert_eq!(datagram.tail, Tail::Subscription(Subscription::new("p")));
        assert!(Datagram::parse(&[]).records.is_empty());
        assert_eq!(Datagram::parse(&[]).tail, Tail::None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
            let datagram = Datagram::parse(&bytes);
            let len = datagram.records.len() * RECORD_BYTES;
            assert_eq!(datagram.records.as_bytes(), &bytes[..len]);
            assert_eq!(datagram.tail == Tail::None, len == bytes.len());
        }
    }
}
