//! `bt_<n>.bin`: the block template for the block handler (spec 05, 4.4).

use std::fmt;

use packetcrypt_core::bytes::Hash32;

use crate::varint::{self, VarintError};
use crate::{HEADER_BYTES, MERKLE_BRANCH_LEN_MAX};

/// Most bytes of a template that is read: a block of 4 MB with witness and some room.
pub const TEMPLATE_BYTES_MAX: usize = 8 << 20;
/// Most transactions of a template: a block of 1 MB of the smallest transactions.
pub const TRANSACTIONS_LEN_MAX: usize = 20_000;

const FORMAT_VERSION: u64 = 1;

/// A block to be mined, as the node gives it out (`getrawblocktemplate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTemplate {
    /// Height of the block.
    pub height: i32,
    /// Header with nonce 0 and the merkle root of the placeholder coinbase.
    pub header: [u8; HEADER_BYTES],
    /// Coinbase as it is hashed for its id, with the placeholder of the commitment.
    pub coinbase_no_witness: Vec<u8>,
    /// Merkle branch of the coinbase, bottom up, internal order; empty for one transaction.
    pub merkle_branch: Vec<Hash32>,
    /// All transactions; the first is the coinbase with its witness if it has one.
    pub transactions: Vec<Vec<u8>>,
}

/// Why bytes are not a block template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// More than [`TEMPLATE_BYTES_MAX`] bytes.
    TooLong {
        /// Bytes that came.
        bytes: usize,
    },
    /// An item is cut short or its length is written badly.
    Varint {
        /// Number of the item, from 1.
        item: u8,
        /// What is wrong.
        error: VarintError,
    },
    /// An item holds more than its value.
    ExtraBytes {
        /// Number of the item, from 1.
        item: u8,
        /// Bytes too many.
        bytes: usize,
    },
    /// The format version is not 1.
    Version(u64),
    /// The height is above 2^31-1.
    Height(u64),
    /// The header has not 80 bytes.
    HeaderBytes(usize),
    /// An element of the merkle branch has not 32 bytes.
    HashBytes(usize),
    /// The merkle branch is longer than that of any block.
    BranchTooLong,
    /// More than [`TRANSACTIONS_LEN_MAX`] transactions.
    TooManyTransactions,
    /// No transaction, not even a coinbase.
    NoTransactions,
    /// Bytes behind the last item.
    TrailingBytes(usize),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("block template: ")?;
        match self {
            Self::TooLong { bytes } => {
                write!(f, "{bytes} bytes, at most {TEMPLATE_BYTES_MAX} are accepted")
            }
            Self::Varint { item, error } => write!(f, "item {item}: {error}"),
            Self::ExtraBytes { item, bytes } => write!(f, "item {item}: {bytes} bytes too many"),
            Self::Version(version) => write!(f, "format version {version}, want {FORMAT_VERSION}"),
            Self::Height(height) => write!(f, "height {height} is above 2147483647"),
            Self::HeaderBytes(bytes) => write!(f, "header of {bytes} bytes, want {HEADER_BYTES}"),
            Self::HashBytes(bytes) => write!(f, "merkle branch element of {bytes} bytes, want 32"),
            Self::BranchTooLong => {
                write!(f, "merkle branch of more than {MERKLE_BRANCH_LEN_MAX} elements")
            }
            Self::TooManyTransactions => {
                write!(f, "more than {TRANSACTIONS_LEN_MAX} transactions")
            }
            Self::NoTransactions => f.write_str("no transactions"),
            Self::TrailingBytes(bytes) => write!(f, "{bytes} bytes behind the last item"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl BlockTemplate {
    /// Parses a template file.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TemplateError> {
        if bytes.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes: bytes.len() });
        }
        let mut from = bytes;
        let version = number(1, item(1, &mut from)?)?;
        if version != FORMAT_VERSION {
            return Err(TemplateError::Version(version));
        }
        let height = number(2, item(2, &mut from)?)?;
        let header = item(3, &mut from)?;
        let coinbase = item(4, &mut from)?;
        let branch = list(5, item(5, &mut from)?, MERKLE_BRANCH_LEN_MAX)?
            .ok_or(TemplateError::BranchTooLong)?;
        let transactions = list(6, item(6, &mut from)?, TRANSACTIONS_LEN_MAX)?
            .ok_or(TemplateError::TooManyTransactions)?;
        if transactions.is_empty() {
            return Err(TemplateError::NoTransactions);
        }
        if !from.is_empty() {
            return Err(TemplateError::TrailingBytes(from.len()));
        }
        let hash = |bytes: &&[u8]| {
            (*bytes).try_into().map(Hash32).map_err(|_| TemplateError::HashBytes(bytes.len()))
        };
        Ok(Self {
            height: i32::try_from(height).map_err(|_| TemplateError::Height(height))?,
            header: header.try_into().map_err(|_| TemplateError::HeaderBytes(header.len()))?,
            coinbase_no_witness: coinbase.to_vec(),
            merkle_branch: branch.iter().map(hash).collect::<Result<_, _>>()?,
            transactions: transactions.into_iter().map(<[u8]>::to_vec).collect(),
        })
    }

    /// The bytes of the file. A height is never negative here.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut nested = Vec::new();
        varint::write(FORMAT_VERSION, &mut nested);
        varint::write_bytes(&nested, &mut bytes);
        nested.clear();
        varint::write(u64::from(self.height.unsigned_abs()), &mut nested);
        varint::write_bytes(&nested, &mut bytes);
        varint::write_bytes(&self.header, &mut bytes);
        varint::write_bytes(&self.coinbase_no_witness, &mut bytes);
        nested.clear();
        for hash in &self.merkle_branch {
            varint::write_bytes(&hash.0, &mut nested);
        }
        varint::write_bytes(&nested, &mut bytes);
        nested.clear();
        for transaction in &self.transactions {
            varint::write_bytes(transaction, &mut nested);
        }
        varint::write_bytes(&nested, &mut bytes);
        bytes
    }
}

fn item<'a>(item: u8, from: &mut &'a [u8]) -> Result<&'a [u8], TemplateError> {
    varint::read_bytes(from).map_err(|error| TemplateError::Varint { item, error })
}

fn number(item: u8, mut bytes: &[u8]) -> Result<u64, TemplateError> {
    let number = varint::read(&mut bytes).map_err(|error| TemplateError::Varint { item, error })?;
    if !bytes.is_empty() {
        return Err(TemplateError::ExtraBytes { item, bytes: bytes.len() });
    }
    Ok(number)
}

/// The elements of a nested list, `None` when there are more than `len_max`.
fn list(nr: u8, mut bytes: &[u8], len_max: usize) -> Result<Option<Vec<&[u8]>>, TemplateError> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        if elements.len() == len_max {
            return Ok(None);
        }
        elements.push(item(nr, &mut bytes)?);
    }
    Ok(Some(elements))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> BlockTemplate {
        BlockTemplate {
            height: 1_339_329,
            header: [7; HEADER_BYTES],
            coinbase_no_witness: vec![3; 300],
            merkle_branch: vec![Hash32([1; 32]), Hash32([2; 32])],
            transactions: vec![vec![4; 310], vec![5; 10]],
        }
    }

    #[test]
    fn cut_and_extended_files_are_refused() {
        let good = sample().to_bytes();
        assert_eq!(BlockTemplate::parse(&good), Ok(sample()));
        for len in 0..good.len() {
            assert!(BlockTemplate::parse(&good[..len]).is_err(), "{len}");
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(BlockTemplate::parse(&longer), Err(TemplateError::TrailingBytes(1)));
    }

    #[test]
    fn every_fault_has_its_error() {
        let mut other = sample().to_bytes();
        other[1] = 2;
        assert_eq!(BlockTemplate::parse(&other), Err(TemplateError::Version(2)));
        let none = BlockTemplate { transactions: Vec::new(), ..sample() };
        assert_eq!(BlockTemplate::parse(&none.to_bytes()), Err(TemplateError::NoTransactions));
        let deep = BlockTemplate { merkle_branch: vec![Hash32::ZERO; 33], ..sample() };
        assert_eq!(BlockTemplate::parse(&deep.to_bytes()), Err(TemplateError::BranchTooLong));
        let many = BlockTemplate { transactions: vec![Vec::new(); 20_001], ..sample() };
        assert_eq!(BlockTemplate::parse(&many.to_bytes()), Err(TemplateError::TooManyTransactions));
        let high = [1, 1, 5, 0xfe, 0, 0, 0, 0x80, 0, 0, 0, 1, 0];
        assert_eq!(BlockTemplate::parse(&high), Err(TemplateError::Height(0x8000_0000)));
        let header = [1, 1, 1, 0, 1, 9, 0, 0, 1, 0];
        assert_eq!(BlockTemplate::parse(&header), Err(TemplateError::HeaderBytes(1)));
        let extra = [2, 1, 1];
        let error = TemplateError::ExtraBytes { item: 1, bytes: 1 };
        assert_eq!(BlockTemplate::parse(&extra), Err(error));
    }

    proptest! {
        #[test]
        fn what_parses_is_written_back_alike(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0..800usize,
            xor: u8,
        ) {
            let _ = BlockTemplate::parse(&bytes);
            let mut changed = sample().to_bytes();
            let at = at % changed.len();
            changed[at] ^= xor;
            if let Ok(template) = BlockTemplate::parse(&changed) {
                prop_assert_eq!(template.to_bytes(), changed);
            }
        }
    }
}
