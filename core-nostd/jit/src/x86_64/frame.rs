//! The memory that compiled code for many items works on: where everything is, relative to one address.
//!
//! Code addresses the frame with displacements that are fixed when it is compiled, and with indexes
//! that are bounded: the word of a MEMORY read (masked to the window), the output position (masked to
//! the output, behind which there is room for the longest END) and the rows that are pending (fewer
//! than [`PENDING_ROWS`] before each END).

use packetcrypt_core::params::WINDOW_WORDS;
use packetcrypt_core::randhash::SCOPES_MAX;
use packetcrypt_core::randhash::lower::{INPUT_SLOT, OUTPUTS_MAX, SLOTS, Slot, WINDOW_SLOT};

use super::encode::{Place, place};

/// With as many pending rows they are added before the next END puts its own behind them.
pub(super) const PENDING_ROWS: u32 = 128;
/// Most pending rows, with those that complete the last eight.
const PENDING_ROWS_MAX: usize = PENDING_ROWS as usize + OUTPUTS_MAX + 8;
/// Words of the output of a lane with those that are added beyond its end.
const LANE_WORDS: usize = 3 * WINDOW_WORDS;
/// From the output of one lane to that of the next: behind it is room for what lanes add that did
/// not execute. Odd in lines of the cache, so that lanes use different ones.
const LANE_STRIDE: u32 = 4 * (LANE_WORDS + PENDING_ROWS_MAX).next_multiple_of(32) as u32 + 64;
/// The bits of a position, in bytes.
pub(super) const POSITION_BITS: u32 = 4 * WINDOW_WORDS as u32 - 1;
/// Rows of output where the position is the same for all lanes.
const OUTPUT_ROWS: u32 = 2 * WINDOW_WORDS as u32;
/// Most different immediates of a program.
pub(super) const IMMEDIATES_MAX: usize = 2048;

const _: () = assert!(2 * WINDOW_WORDS > WINDOW_WORDS - 1 + OUTPUTS_MAX);
const _: () = assert!(LANE_WORDS >= WINDOW_WORDS + PENDING_ROWS_MAX);

macro_rules! constants {
    ($($name:ident = $bytes:expr;)*) => {
        /// A constant that code uses, as wide as a vector.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Constant { $($name,)* }

        /// The 128 bits of each constant, repeated to the width of a vector.
        pub(super) const CONSTANTS: &[[u8; 16]] = &[$($bytes,)*];
    };
}

const fn words(word: u32) -> [u8; 16] {
    quads(word as u64 | (word as u64) << 32)
}

const fn quads(quad: u64) -> [u8; 16] {
    (quad as u128 | (quad as u128) << 64).to_le_bytes()
}

constants! {
    Zero = words(0);
    Ones = words(u32::MAX);
    One = words(1);
    Seven = words(7);
    Fifteen = words(15);
    ThirtyOne = words(31);
    ThirtyTwo = words(32);
    SixtyThree = words(63);
    SixtyFour64 = quads(64);
    LowWords64 = quads(u32::MAX as u64);
    OneBytes = words(0x0101_0101);
    OneHalves = words(0x0001_0001);
    SevenBytes = words(0x0707_0707);
    Nibbles = words(0x0f0f_0f0f);
    LowBytes = words(0x00ff_00ff);
    HighBytes = words(0xff00_ff00);
    LowHalf = words(0x0000_ffff);
    HighHalf = words(0xffff_0000);
    // Of each nibble: the number of one bits.
    Ones4 = [0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4];
    // Leading zeros of a byte whose high nibble this is; 255 where the low one decides.
    LeadingHigh = [255, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    LeadingLow = [8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4];
    // The same for trailing zeros.
    TrailingLow = [255, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0];
    TrailingHigh = [8, 4, 5, 4, 6, 4, 5, 4, 7, 4, 5, 4, 6, 4, 5, 4];
    // 2^n and 2^(7-n).
    Powers = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];
    PowersDown = [128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    // Choices of bytes: 255 is a zero.
    Swap16 = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14];
    Swap32 = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
    LowHalfTwice = [0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13];
    HighHalfTwice = [2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15];
    // The two low, or high, bytes of a word, at the low or high end of 16 bits.
    LowBytesLow = [0, 255, 1, 255, 4, 255, 5, 255, 8, 255, 9, 255, 12, 255, 13, 255];
    HighBytesLow = [2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15, 255];
    LowBytesHigh = [255, 0, 255, 1, 255, 4, 255, 5, 255, 8, 255, 9, 255, 12, 255, 13];
    HighBytesHigh = [255, 2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15];
}

/// The places of a frame for a number of lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    lanes: u32,
}

impl Layout {
    /// 8 lanes of 256 bits, or 16 of 512.
    pub(super) const fn new(lanes: usize) -> Layout {
        Layout { lanes: lanes as u32 }
    }

    pub(super) const fn lanes(self) -> usize {
        self.lanes as usize
    }

    /// Bytes of a vector.
    pub(super) const fn row(self) -> u32 {
        4 * self.lanes
    }

    pub(super) const fn slot(self, slot: Slot) -> Place {
        place(slot as u32 * self.row())
    }

    pub(super) const fn input(self) -> usize {
        INPUT_SLOT * self.row() as usize
    }

    pub(super) const fn window(self) -> usize {
        WINDOW_SLOT * self.row() as usize
    }

    /// The output: rows of all lanes where positions do not diverge, else the words of each lane.
    pub(super) const fn output(self) -> u32 {
        SLOTS as u32 * self.row()
    }

    /// The output of one lane where positions diverge.
    pub(super) const fn lane_output(self, lane: usize) -> u32 {
        self.output() + lane as u32 * LANE_STRIDE
    }

    const fn behind_output(self) -> u32 {
        let (rows, lanes) = (OUTPUT_ROWS * self.row(), self.lanes * LANE_STRIDE);
        self.output() + if rows > lanes { rows } else { lanes }
    }

    /// The output positions of the lanes, in bytes.
    pub(super) const fn positions(self) -> u32 {
        self.behind_output()
    }

    /// A position outside of the output of a lane.
    pub(super) const fn no_position(self) -> u32 {
        4 * LANE_WORDS as u32
    }

    /// Rows that are to be added to the outputs of lanes.
    pub(super) const fn pending(self) -> u32 {
        self.positions() + self.row()
    }

    /// A bit for each lane, as in a mask.
    pub(super) const fn lane_bits(self) -> u32 {
        self.pending() + PENDING_ROWS_MAX as u32 * self.row()
    }

    /// The lanes that execute a side of the branch at a depth, all bits set.
    pub(super) const fn mask(self, depth: usize) -> Place {
        place(self.lane_bits() + self.row() + depth as u32 * self.row())
    }

    /// The address of the function that adds pending rows.
    pub(super) const fn add_pending(self) -> Place {
        self.mask(SCOPES_MAX)
    }

    const fn words(self) -> u32 {
        self.add_pending().at + self.row()
    }

    /// The iteration of the loop at a depth.
    pub(super) const fn index(self, depth: usize) -> Place {
        place(self.words() + 4 * depth as u32)
    }

    /// The lanes that execute a side of the branch at a depth, a bit each.
    pub(super) const fn active(self, depth: usize) -> Place {
        place(self.index(SCOPES_MAX).at + 4 * depth as u32)
    }

    /// The lanes that will execute the false side.
    pub(super) const fn otherwise(self, depth: usize) -> Place {
        place(self.active(SCOPES_MAX).at + 4 * depth as u32)
    }

    /// The output position before the branch.
    pub(super) const fn saved_position(self, depth: usize) -> Place {
        place(self.otherwise(SCOPES_MAX).at + 4 * depth as u32)
    }

    pub(super) const fn constant(self, constant: Constant) -> Place {
        place(self.constants() + constant as u32 * self.row())
    }

    pub(super) const fn constants(self) -> u32 {
        self.saved_position(SCOPES_MAX).at
    }

    /// The immediates of the program.
    pub(super) const fn immediate(self, number: usize) -> Place {
        let first = self.constants() + CONSTANTS.len() as u32 * self.row();
        place(first + number as u32 * self.row())
    }

    /// Bytes of the frame.
    pub(super) const fn bytes(self) -> usize {
        self.immediate(IMMEDIATES_MAX).at as usize
    }
}

const _: () = {
    // Rows are aligned wherever they are.
    let mut lanes = 8;
    while lanes <= 16 {
        let layout = Layout::new(lanes);
        assert!(layout.words().is_multiple_of(layout.row()));
        assert!(layout.constants().is_multiple_of(layout.row()));
        assert!(layout.positions().is_multiple_of(layout.row()));
        lanes *= 2;
    }
};
