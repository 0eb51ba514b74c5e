//! Addresses that are paid (spec 05, 2.4; spec 06, 1.2 and 2).
//!
//! Four rules, from the laxest to the strictest:
//! [`has_handler_characters`] (what an announcement handler must accept),
//! [`is_valid_pay_to`] (what block handler and paymaker credit),
//! [`payout_script`] (what the node accepts for a payout), and
//! [`check`] (what a user may type: an address of the main network that all of them accept).

use std::fmt;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Bech32m, Hrp};

/// Most bytes of an address for an announcement handler.
pub const HANDLER_BYTES_MAX: usize = 63;
/// Most UTF-16 units of an address for block handler and paymaker.
pub const PAY_TO_UNITS_MAX: usize = 64;

/// Version byte of base58 addresses that begin with `p`.
const PUBKEY_HASH: u8 = 0x75;
/// Version byte of base58 script addresses, which begin with `P`.
const SCRIPT_HASH: u8 = 0x38;

/// The rule of the announcement handler for characters and length.
///
/// # Errors
/// Which of the two is broken; the text is that of the reply (spec 05, 6.1).
pub fn has_handler_characters(text: &str) -> Result<(), HandlerAddressError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(HandlerAddressError::Characters(text.to_owned()));
    }
    if text.len() > HANDLER_BYTES_MAX {
        return Err(HandlerAddressError::TooLong);
    }
    Ok(())
}

/// Why an announcement handler refuses an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerAddressError {
    /// A character that is neither letter nor digit, or none at all.
    Characters(String),
    /// More than [`HANDLER_BYTES_MAX`] bytes.
    TooLong,
}

impl fmt::Display for HandlerAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Characters(text) => write!(f, "invalid payto {text}"),
            Self::TooLong => f.write_str("payto too long"),
        }
    }
}

impl std::error::Error for HandlerAddressError {}

/// The rule of the nodejs pool: whether work for this address is credited.
///
/// It checks the checksum and the kind, not the length or version of what is encoded.
#[must_use]
pub fn is_valid_pay_to(text: &str) -> bool {
    if text.encode_utf16().count() > PAY_TO_UNITS_MAX {
        return false;
    }
    if text.starts_with("pkt1") {
        // Bech32 addresses have at least 8 characters; the separator is the last "1", so a second
        // one makes another prefix.
        return text.len() >= 8
            && CheckedHrpstring::new::<Bech32>(text).is_ok_and(|it| it.hrp().as_str() == "pkt");
    }
    if text.starts_with('p') {
        let decoded = bs58::decode(text).with_check(None).into_vec();
        return decoded.is_ok_and(|bytes| bytes.first() == Some(&PUBKEY_HASH));
    }
    false
}

/// Why a text is no address that can be paid on the PKT network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Nothing at all.
    Empty,
    /// Neither `pkt1..` nor `p..`.
    Kind,
    /// An address of this other network.
    OtherNetwork(String),
    /// Capital letters where the pool wants small ones.
    UpperCase,
    /// An address that the node pays but pools do not credit: it begins with `P`.
    ScriptHash,
    /// A character that can not be there, or a wrong checksum: a typing error.
    Checksum,
    /// A witness version other than 0.
    WitnessVersion(u8),
    /// What is encoded has not the length of a payee.
    ProgramBytes {
        /// Bytes encoded.
        bytes: usize,
        /// Lengths that are right.
        want: &'static str,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the address is empty"),
            Self::Kind => f.write_str("not a PKT address: it begins neither with pkt1 nor with p"),
            Self::OtherNetwork(prefix) => {
                write!(f, "an address of another network: it begins with {prefix}, want pkt1")
            }
            Self::UpperCase => f.write_str("the address must be written in small letters"),
            Self::ScriptHash => {
                f.write_str("pools do not credit addresses that begin with P; use a pkt1 address")
            }
            Self::Checksum => f.write_str("the checksum does not fit: there is a typing error"),
            Self::WitnessVersion(version) => {
                write!(f, "witness version {version}, the network knows version 0 only")
            }
            Self::ProgramBytes { bytes, want } => {
                write!(f, "the address encodes {bytes} bytes, want {want}")
            }
        }
    }
}

impl std::error::Error for AddressError {}

/// The strict rule, for what a user types: an address of the main network that handlers, pools and
/// the node accept alike.
///
/// # Errors
/// [`AddressError`] with what is wrong.
pub fn check(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("pkt1") {
        return check_segwit(text);
    }
    if let Some((prefix, _)) = lower.split_once('1')
        && ["tpk", "bc", "tb", "bcrt", "sb", "ltc"].contains(&prefix)
    {
        return Err(AddressError::OtherNetwork(format!("{prefix}1")));
    }
    let Some(first @ ('p' | 'P')) = text.chars().next() else {
        return Err(AddressError::Kind);
    };
    let decoded = bs58::decode(text).with_check(None).into_vec();
    let decoded = decoded.map_err(|_| AddressError::Checksum)?;
    match decoded.split_first() {
        Some((&PUBKEY_HASH, program)) if first == 'p' => program_bytes(program, &[20], "20"),
        Some((&SCRIPT_HASH, _)) => Err(AddressError::ScriptHash),
        _ => Err(AddressError::Kind),
    }
}

fn check_segwit(text: &str) -> Result<(), AddressError> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(AddressError::UpperCase);
    }
    let mut decoded = match CheckedHrpstring::new::<Bech32>(text) {
        Ok(decoded) => decoded,
        // Later witness versions have another checksum: not a typing error.
        Err(_) => match CheckedHrpstring::new::<Bech32m>(text) {
            Ok(decoded) => {
                let version = decoded.witness_version().ok_or(AddressError::Checksum)?;
                return Err(AddressError::WitnessVersion(version.to_u8()));
            }
            Err(_) => return Err(AddressError::Checksum),
        },
    };
    if decoded.hrp().as_str() != "pkt" {
        return Err(AddressError::Kind);
    }
    let empty = AddressError::ProgramBytes { bytes: 0, want: "20 or 32" };
    let version = decoded.remove_witness_version().ok_or(empty)?;
    if version.to_u8() != 0 {
        return Err(AddressError::WitnessVersion(version.to_u8()));
    }
    let program: Vec<u8> = decoded.byte_iter().collect();
    program_bytes(&program, &[20, 32], "20 or 32")?;
    decoded.validate_segwit_padding().map_err(|_| AddressError::Checksum)
}

fn program_bytes(
    program: &[u8],
    lengths: &[usize],
    want: &'static str,
) -> Result<(), AddressError> {
    if lengths.contains(&program.len()) {
        Ok(())
    } else {
        Err(AddressError::ProgramBytes { bytes: program.len(), want })
    }
}

/// The output script that the node pays for an address of any network it knows (spec 06, 1.2);
/// `None` where it would answer "could not be decoded".
///
/// Public keys in hex and `script:` texts, which the node takes too, are not addresses for us.
#[must_use]
pub fn payout_script(text: &str) -> Option<Vec<u8>> {
    if let Ok((hrp, version, program)) = bech32::segwit::decode(text) {
        let is_known =
            ["pkt", "tpk", "bc", "tb", "bcrt", "sb"].contains(&hrp.to_lowercase().as_str());
        let is_payee = version.to_u8() == 0 && [20, 32].contains(&program.len());
        return (is_known && is_payee).then(|| [&[0, program.len() as u8], &program[..]].concat());
    }
    let decoded = bs58::decode(text).with_check(None).into_vec().ok()?;
    let (&version, hash) = decoded.split_first().filter(|(_, hash)| hash.len() == 20)?;
    match version {
        // pkt, pkttest, simnet and the Bitcoin networks: pay to public key hash.
        PUBKEY_HASH | 0x6f | 0x00 | 0x3f => Some([&[0x76, 0xa9, 20], hash, &[0x88, 0xac]].concat()),
        // The same networks: pay to script hash.
        SCRIPT_HASH | 0xc4 | 0x05 | 0x7b => Some([&[0xa9, 20], hash, &[0x87]].concat()),
        _ => None,
    }
}

/// The main network's address of an output script, `None` when it has none.
#[must_use]
pub fn of_script(script: &[u8]) -> Option<String> {
    let base58 = |version: u8, hash: &[u8]| {
        bs58::encode([&[version], hash].concat()).with_check().into_string()
    };
    match script {
        [0, 20, program @ ..] if program.len() == 20 => segwit(program),
        [0, 32, program @ ..] if program.len() == 32 => segwit(program),
        [0x76, 0xa9, 20, hash @ .., 0x88, 0xac] if hash.len() == 20 => {
            Some(base58(PUBKEY_HASH, hash))
        }
        [0xa9, 20, hash @ .., 0x87] if hash.len() == 20 => Some(base58(SCRIPT_HASH, hash)),
        _ => None,
    }
}

fn segwit(program: &[u8]) -> Option<String> {
    bech32::segwit::encode_v0(Hrp::parse("pkt").ok()?, program).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
    const GOOD_20: &str = "pkt1qvv8h9d0p4wq8xy0q2chr8erac900dy7kj5jyju";
    const GOOD_P: &str = "p7A4miQjxjmLPfbGyqRqyqTb5be9p527zS";

    #[test]
    fn addresses_a_user_may_type() {
        for text in [GOOD, GOOD_20, GOOD_P] {
            assert_eq!(check(text), Ok(()), "{text}");
            assert_eq!(has_handler_characters(text), Ok(()));
            assert!(is_valid_pay_to(text));
            assert_eq!(of_script(&payout_script(text).unwrap()).as_deref(), Some(text));
        }
    }

    #[test]
    fn each_wrong_address_has_its_reason() {
        assert_eq!(check(""), Err(AddressError::Empty));
        assert_eq!(check("hello"), Err(AddressError::Kind));
        assert_eq!(check("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"), Err(AddressError::Kind));
        assert_eq!(check(&GOOD.to_uppercase()), Err(AddressError::UpperCase));
        assert_eq!(check(&GOOD.replace('z', "y")), Err(AddressError::Checksum));
        assert_eq!(check(&GOOD_P.replace('A', "B")), Err(AddressError::Checksum));
        assert_eq!(check("pkt1"), Err(AddressError::Checksum));
        let other = check("tpk1qvv8h9d0p4wq8xy0q2chr8erac900dy7kp3w33s");
        assert_eq!(other, Err(AddressError::OtherNetwork("tpk1".into())));
        // Valid for the JS rule alone: version 0 with a short program, and version 1.
        let short = check("pkt1qzpqqpqyhqkawfdaj");
        assert!(matches!(short, Err(AddressError::ProgramBytes { .. })), "{short:?}");
        let version = check("pkt1prtf67j9a6sfgxadwd");
        assert_eq!(version, Err(AddressError::WitnessVersion(1)));
        let script =
            bs58::encode([&[SCRIPT_HASH], &[7; 20][..]].concat()).with_check().into_string();
        assert_eq!(check(&script), Err(AddressError::ScriptHash));
        assert!(payout_script(&script).is_some() && !is_valid_pay_to(&script));
        let short = bs58::encode([PUBKEY_HASH, 1, 2]).with_check().into_string();
        assert!(check(&short).is_err() && payout_script(&short).is_none());
    }

    #[test]
    fn the_handler_looks_at_characters_and_length() {
        assert_eq!(has_handler_characters("x y").unwrap_err().to_string(), "invalid payto x y");
        assert_eq!(has_handler_characters("").unwrap_err().to_string(), "invalid payto ");
        let long = has_handler_characters(&"a".repeat(64)).unwrap_err();
        assert_eq!(long.to_string(), "payto too long");
        assert_eq!(has_handler_characters(&"a".repeat(63)), Ok(()));
    }

    #[test]
    fn the_node_pays_addresses_of_every_network() {
        assert!(payout_script("tpk1qvv8h9d0p4wq8xy0q2chr8erac900dy7kp3w33s").is_some());
        assert!(payout_script("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4").is_some());
        assert_eq!(payout_script("hello"), None);
    }

    proptest::proptest! {
        #[test]
        fn what_a_user_may_type_everybody_accepts(text in "(pkt1)?[ -~]{0,70}") {
            if check(&text).is_ok() {
                assert!(is_valid_pay_to(&text) && payout_script(&text).is_some());
            }
            let _ = has_handler_characters(&text);
        }

        #[test]
        fn every_program_has_an_address_that_passes(program in proptest::collection::vec(0u8.., 20)) {
            let script = [&[0, 20], &program[..]].concat();
            let text = of_script(&script).unwrap();
            assert_eq!(check(&text), Ok(()));
            assert_eq!(payout_script(&text).unwrap(), script);
        }
    }
}
