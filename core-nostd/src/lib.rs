//! The consensus of PacketCrypt, a proof of work that costs bandwidth: hashing, random programs,
//! announcements and blocks, without std, allocation, operating system or C.
//!
//! # Announcements
//!
//! An [`Announcement`](announcement::Announcement) is 1024 bytes that cost CPU time to make.
//! [`announcement::check`] says whether one is good, with memory that the caller provides: a
//! [`CheckScratch`](announcement::CheckScratch), which together with the stack stays below 48 KiB.
//! [`announcement::check_batch`] checks many and does once a job what they share.
//!
//! ```
//! use packetcrypt_core::announcement::{self, Announcement, CheckScratch};
//! use packetcrypt_core::{AnnError, Hash32};
//!
//! // Of a block explorer or node: there the bytes of a block hash are reversed.
//! let parent = Hash32::from_display_hex(
//!     "25509447fe88be51bafb4d941d507d5d4a959c751d1f68dfaf0711215e1e5e48",
//! )?;
//! let mut bytes = [0; 1024];
//! bytes[0] = 1; // version
//! bytes[8..12].copy_from_slice(&0x207f_ffff_u32.to_le_bytes()); // work_bits, the easiest
//! let announcement = Announcement::from_bytes(&bytes);
//!
//! static FRESH: CheckScratch = CheckScratch::new(); // It can also be made at compile time.
//! let mut scratch = CheckScratch::new();
//! let result = announcement::check(announcement, &parent, &mut scratch);
//! assert_eq!(result, Err(AnnError::InvalItem4)); // Nobody worked for these bytes.
//! # let _ = &FRESH;
//! # Ok::<(), packetcrypt_core::bytes::HexError>(())
//! ```
//!
//! To mine, [`announcement::prepare`] makes the tables of a hard nonce in memory of the caller, and
//! [`Prepared::search`](announcement::Prepared::search) tries soft nonces in them.
//!
//! # Blocks
//!
//! [`block`] has the header, the commitment in the coinbase, the tree of announcements and its
//! proof, the search for block nonces and the check of a whole block; [`difficulty`] the targets.
//!
//! # Engines
//!
//! Two things can be done faster than the plain way, and all work that matters goes through them: a
//! [`Backend`] selects the kernels of calls that take many hashes or states at once, and
//! [`randhash::Execute`] is the seam behind which programs are interpreted or compiled. Whatever is
//! chosen, the results are those of [`Backend::Soft`] and [`randhash::Interpreter`], bit for bit.
//!
//! # What hostile bytes can do
//!
//! Nothing but be refused: no call panics on input from a peer, or works without limit, or gives a
//! result that depends on what was checked before. Documented panics are about wrong arguments of
//! the calling program, such as slices of different lengths.
//!
//! References such as `spec 03, 2.9` are to the specification: document and section.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod announcement;
pub mod backend;
pub mod block;
pub mod bytes;
pub mod cryptocycle;
pub mod difficulty;
pub mod error;
pub mod merkle;
pub mod params;
mod prefetch;
pub mod primitives;
pub mod randhash;

mod simd;

pub use backend::Backend;
pub use bytes::{CompactTarget, Hash32, Hash64};
pub use error::{AnnError, ExecError, ProgramError};
