//! What can be wrong with an announcement and with a program.

use core::fmt;

use crate::bytes::Hash32;

/// Why [`check`](crate::announcement::check) refuses an announcement (spec 03, 2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnError {
    /// `work_bits` is no well-formed compact target (step 1).
    BadWorkBits,
    /// The soft nonce is above the largest one that the target allows (step 2).
    SoftNonceHigh,
    /// One of the two programs is longer than a program may be (steps 3 and 6).
    BadProgram,
    /// A program executes more words than it may, for an item that is needed (steps 4 and 7).
    BadProgramExec,
    /// The item prefix does not belong to the nonce (step 5).
    InvalItem4,
    /// The version is 0, or the merkle branch does not lead to the root (steps 0a and 8).
    Inval,
    /// All is well but the work: the announcement's work hash is not below its target (step 9).
    InsufPow(Hash32),
}

impl AnnError {
    /// The numeric result in the numbering of the reference, in which 0 is success.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            AnnError::Inval
            | AnnError::BadWorkBits
            | AnnError::BadProgram
            | AnnError::BadProgramExec => 1,
            AnnError::InvalItem4 => 2,
            AnnError::InsufPow(_) => 3,
            AnnError::SoftNonceHigh => 4,
        }
    }

    /// The name of the result in spec 03, 2.9.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AnnError::BadWorkBits => "BAD_WORK_BITS",
            AnnError::SoftNonceHigh => "SOFT_NONCE_HIGH",
            AnnError::BadProgram => "BAD_PROGRAM",
            AnnError::BadProgramExec => "BAD_PROGRAM_EXEC",
            AnnError::InvalItem4 => "INVAL_ITEM4",
            AnnError::Inval => "INVAL",
            AnnError::InsufPow(_) => "INSUF_POW",
        }
    }
}

impl fmt::Display for AnnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnnError::BadWorkBits => f.write_str("work_bits is no well-formed compact target"),
            AnnError::SoftNonceHigh => {
                f.write_str("soft_nonce is above the largest one of this target")
            }
            AnnError::BadProgram => f.write_str("a program of this announcement is too long"),
            AnnError::BadProgramExec => f.write_str("a program of this announcement runs too long"),
            AnnError::InvalItem4 => f.write_str("item4_prefix does not belong to the nonce"),
            AnnError::Inval => f.write_str("version 0, or the merkle branch misses the root"),
            AnnError::InsufPow(hash) => {
                write!(f, "work hash {} is not below the target", hash.display())
            }
        }
    }
}

impl core::error::Error for AnnError {}

/// Why no program can be made from a seed (spec 02, 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramError {
    /// The program would be longer than the limit.
    TooBig,
}

impl ProgramError {
    /// The numeric result in the numbering of the reference.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            ProgramError::TooBig => -1,
        }
    }

    /// The name of the result in spec 02, 8.3.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ProgramError::TooBig => "TOO_BIG",
        }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::TooBig => f.write_str("the program of this seed is too long"),
        }
    }
}

impl core::error::Error for ProgramError {}

/// Why a program can not be run over a state, or not to its end (spec 02, 8.3).
///
/// The content of the state is meaningless after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecError {
    /// A cycle executes more words than the limit.
    TooLong,
    /// The program is none that the generator makes: an unknown opcode, a register outside of the
    /// variable stack, an END without a scope and the like. Generated programs never give it.
    Invalid,
}

impl ExecError {
    /// The numeric result in the numbering of the reference, which knows [`ExecError::TooLong`]
    /// only: the other is treated like it.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            ExecError::TooLong | ExecError::Invalid => -3,
        }
    }

    /// The name of the result in spec 02, 8.3.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ExecError::TooLong => "TOO_LONG",
            ExecError::Invalid => "INVALID",
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecError::TooLong => f.write_str("the program executes too many words"),
            ExecError::Invalid => f.write_str("the program is not a valid one"),
        }
    }
}

impl core::error::Error for ExecError {}
