//! END: the values of a scope are added to the output (spec 02, 8.2).
//!
//! Where all lanes output at the same position the output is kept as the values are, a row of all
//! lanes for each word, and values are added row by row.
//!
//! Where positions diverge, each lane adds adjacent words at its own position: values have to be
//! transposed. An END then only puts its rows behind those that are pending. When the lanes that
//! execute change, or many rows are pending, all of them are added at once, eight rows and lanes at
//! a time.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_epi8, _mm256_load_si256,
    _mm256_loadu_si256, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_store_si256,
    _mm256_storeu_si256,
};

use packetcrypt_core::randhash::lower::{Outputs, Slot};

use super::encode::{self as i, Condition, R8, RDX, indexed};
use super::frame::{Constant, Layout, PENDING_ROWS, POSITION_BITS};
use super::program::Walk;
use super::states::{LANES, ROW, transpose};

/// Adds pending rows to the outputs of lanes: the frame, where in it the mask of the lanes is that
/// executed, and bytes of the rows.
pub(super) type AddPending = unsafe extern "sysv64" fn(*mut u8, u32, u32);

impl Walk<'_, '_> {
    /// Emits an END. The values are dead then.
    pub(super) fn output(&mut self, outputs: Outputs) {
        if outputs.is_empty() {
            return;
        }
        let slots = self.lowered.outputs(outputs);
        if self.diverges() {
            self.output_pending(slots);
        } else {
            self.output_rows(slots);
        }
    }

    fn output_rows(&mut self, slots: &[Slot]) {
        let e = &mut *self.emitter;
        let layout = e.layout();
        let mask = self.masked.map(|depth| e.load(layout.mask(depth)));
        for (number, slot) in slots.iter().enumerate() {
            let to = indexed(layout.output() + number as u32 * layout.row(), R8);
            let source = e.source(*slot);
            let sum = match mask {
                Some(mask) => {
                    let value = e.op(i::PAND, mask, source);
                    e.apply(i::PADDD, value, to);
                    value
                }
                None => {
                    let sum = e.load(to);
                    e.apply(i::PADDD, sum, source);
                    sum
                }
            };
            e.code.store(e.target.width, to, sum);
            e.end_step();
            if let Some(mask) = mask {
                e.keep(mask);
            }
        }
        e.end_step();
        e.code.apply_constant(i::Arithmetic::Add, R8, slots.len() as u32 * layout.row());
        e.code.apply_constant(i::Arithmetic::And, R8, 255 * layout.row());
    }

    fn output_pending(&mut self, slots: &[Slot]) {
        let e = &mut *self.emitter;
        let layout = e.layout();
        for (number, slot) in slots.iter().enumerate() {
            let value = e.vector(*slot);
            let to = indexed(layout.pending() + number as u32 * layout.row(), R8);
            e.code.store(e.target.width, to, value);
            e.end_step();
        }
        e.code.apply_constant(i::Arithmetic::Add, R8, slots.len() as u32 * layout.row());
    }

    /// Emits that pending rows are added where positions diverge. Registers hold nothing then.
    pub(super) fn add_pending(&mut self) {
        if self.diverges() {
            self.emitter.code.test_general(R8);
            self.add_pending_unless(Condition::Zero);
        }
    }

    /// The same when there are so many that the next END might find no room.
    pub(super) fn add_many_pending(&mut self) {
        if self.diverges() {
            let e = &mut *self.emitter;
            e.code.compare_constant(R8, PENDING_ROWS * e.layout().row());
            self.add_pending_unless(Condition::Below);
        }
    }

    fn add_pending_unless(&mut self, condition: Condition) {
        let e = &mut *self.emitter;
        let layout = e.layout();
        let mask = match self.masked {
            Some(depth) => layout.mask(depth),
            None => layout.constant(Constant::Ones),
        };
        let over = e.code.jump_if(condition);
        e.code.set_frame_argument();
        e.code.set_argument(mask.at);
        e.code.move_general(RDX, R8, i::Bits::B32);
        e.code.call(layout.add_pending());
        e.code.apply_general(i::Arithmetic::Xor, R8, R8, i::Bits::B32);
        e.code.land(over);
        e.forget();
    }
}

/// The function that code for a number of lanes calls.
pub(super) fn add_pending_of(layout: Layout) -> AddPending {
    if layout.lanes() == LANES { add_pending_8 } else { add_pending_16 }
}

#[target_feature(enable = "avx2")]
unsafe extern "sysv64" fn add_pending_8(frame: *mut u8, mask: u32, bytes: u32) {
    // SAFETY: as the caller says.
    unsafe { add_rows(Layout::new(8), frame, mask, bytes, 0) };
}

#[target_feature(enable = "avx2")]
unsafe extern "sysv64" fn add_pending_16(frame: *mut u8, mask: u32, bytes: u32) {
    // SAFETY: as the caller says.
    unsafe {
        add_rows(Layout::new(16), frame, mask, bytes, 0);
        add_rows(Layout::new(16), frame, mask, bytes, LANES);
    }
}

/// Adds pending rows in eight lanes, and moves the positions of those that executed.
///
/// # Safety
/// `frame` must be that of the layout, `mask` the offset of a row in it, and `bytes` those of whole
/// rows, of which there is room for.
#[inline(always)]
#[allow(clippy::cast_ptr_alignment)] // Rows of a frame are aligned.
unsafe fn add_rows(layout: Layout, frame: *mut u8, mask: u32, bytes: u32, first_lane: usize) {
    // SAFETY: all places are rows of the frame, or words of the outputs of lanes, behind which there
    // is room for as many rows as can be pending from any position; see `frame`.
    unsafe {
        let column = 4 * first_lane;
        let row = layout.row() as usize;
        let rows = bytes as usize / row;
        let at = |place: u32| frame.add(place as usize + column).cast::<__m256i>();
        let mask = _mm256_load_si256(at(mask));
        let positions = _mm256_load_si256(at(layout.positions()));
        let outside = _mm256_set1_epi32(layout.no_position() as i32);
        let mut starts = [0_u32; LANES];
        let masked = _mm256_blendv_epi8(outside, positions, mask);
        _mm256_storeu_si256(starts.as_mut_ptr().cast(), masked);
        let moved = _mm256_and_si256(mask, _mm256_set1_epi32(4 * rows as i32));
        let positions = _mm256_and_si256(
            _mm256_add_epi32(positions, moved),
            _mm256_set1_epi32(POSITION_BITS as i32),
        );
        _mm256_store_si256(at(layout.positions()), positions);

        let pending = at(layout.pending()).cast::<u8>();
        // Rows of zeros complete the last eight.
        for number in rows..rows.next_multiple_of(LANES) {
            _mm256_store_si256(pending.add(number * row).cast(), _mm256_setzero_si256());
        }
        for from in (0..rows).step_by(LANES) {
            let mut words = [_mm256_setzero_si256(); LANES];
            for (number, words) in words.iter_mut().enumerate() {
                *words = _mm256_load_si256(pending.add((from + number) * row).cast());
            }
            for (lane, words) in transpose(words).into_iter().enumerate() {
                let output = layout.lane_output(first_lane + lane) as usize;
                let to = frame.add(output + starts[lane] as usize + 4 * from).cast();
                _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), words));
            }
        }
    }
}

const _: () = assert!(ROW == 4 * LANES);
