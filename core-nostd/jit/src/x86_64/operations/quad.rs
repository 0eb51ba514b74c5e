//! The operations on 64-bit values, which are kept as two vectors, of low and of high words, and are
//! interleaved for multiplications and shifts.

use packetcrypt_core::randhash::opcode as op;

use super::{EVEN_WORDS, ODD_WORDS, Operation};
use crate::x86_64::emitter::Emitter;
use crate::x86_64::encode::{self as i, Source, Vector};
use crate::x86_64::frame::Constant as C;

/// The high word of each pair twice.
const HIGH_WORDS: u8 = 0b11_11_01_01;

/// Two vectors of 64-bit lanes: of the even and the odd pairs of each 256 bits, so to say. Which
/// lane is where does not matter, as `words_of` undoes what `interleave` does.
type Pairs = [Vector; 2];

impl Emitter<'_> {
    pub(super) fn quad(&mut self, operation: &Operation) -> [Vector; 2] {
        match operation.opcode {
            op::ADD64 => {
                let [low, high, _] = self.add64(operation, false);
                [low, high]
            }
            op::SUB64 => {
                let [low, high, _] = self.subtract64(operation, false);
                [low, high]
            }
            op::MUL64 => {
                let [a, a_high] = operation.a.map(|slot| self.vector(slot));
                let b = self.b_vector(operation);
                let b_high = self.b_high(operation);
                let high = self.multiply_high32(i::PMULUDQ, a, b);
                let cross = self.op(i::PMULLD, a_high, b);
                self.apply(i::PADDD, high, cross);
                self.code.op(i::PMULLD, self.target.width, cross, a, b_high);
                self.apply(i::PADDD, high, cross);
                let low = self.op(i::PMULLD, a, b);
                [low, high]
            }
            _ => self.shift64(operation),
        }
    }

    /// The sum, and its carry if asked for; else anything in the place of it.
    fn add64(&mut self, operation: &Operation, with_carry: bool) -> [Vector; 3] {
        let [a, a_high] = operation.a.map(|slot| self.vector(slot));
        let (b, b_high) = (self.b(operation), self.b_high(operation));
        let low = self.op(i::PADDD, a, b);
        let carry = self.above(a, low);
        let high = self.op(i::PADDD, a_high, b_high);
        if !with_carry {
            self.apply(i::PADDD, high, carry);
            return [low, high, carry];
        }
        let carry_out = self.above(a_high, high);
        let sum = self.op(i::PADDD, high, carry);
        // The carry came in at a word full of ones.
        let wrapped = self.above(high, sum);
        self.apply(i::POR, carry_out, wrapped);
        [low, sum, carry_out]
    }

    /// The difference, and its borrow if asked for; else anything in the place of it.
    fn subtract64(&mut self, operation: &Operation, with_borrow: bool) -> [Vector; 3] {
        let [a, a_high] = operation.a.map(|slot| self.vector(slot));
        let (b, b_high) = (self.b(operation), self.b_high(operation));
        let low = self.op(i::PSUBD, a, b);
        let borrow = self.above_source(b, a);
        let high = self.op(i::PSUBD, a_high, b_high);
        if !with_borrow {
            self.apply(i::PSUBD, high, borrow);
            return [low, high, borrow];
        }
        let borrow_out = self.above_source(b_high, a_high);
        let wrapped = self.above(borrow, high);
        self.apply(i::POR, borrow_out, wrapped);
        self.apply(i::PSUBD, high, borrow);
        [low, high, borrow_out]
    }

    /// 64-bit lanes from vectors of low and of high words.
    fn interleave(&mut self, low: Vector, high: Source) -> Pairs {
        [i::PUNPCKLDQ, i::PUNPCKHDQ].map(|instruction| self.op(instruction, low, high))
    }

    /// The even, or odd, words of 64-bit lanes.
    fn words_of(&mut self, [first, second]: Pairs, choice: u8) -> Vector {
        let to = self.temporary();
        self.code.op_immediate(i::SHUFPS, self.target.width, to, first, second.into(), choice);
        to
    }

    fn shift64(&mut self, operation: &Operation) -> [Vector; 2] {
        let [mut a, mut a_high] = operation.a.map(|slot| self.vector(slot));
        let b = self.b(operation);
        let by = self.masked(b, C::SixtyThree);
        let zero = self.layout().constant(C::Zero);
        let by_pairs = self.interleave(by, zero.into());
        self.done(by);
        let mut signs = None;
        if operation.opcode == op::SHRA64 {
            // A negative value is shifted as its complement.
            let mask = self.shift(i::PSRAD, a_high, 31);
            a = self.op(i::PXOR, a, mask);
            a_high = self.op(i::PXOR, a_high, mask);
            signs = Some(mask);
        }
        let pairs = self.interleave(a, a_high.into());
        let (there, back) = match operation.opcode {
            op::SHLL64 => (i::PSLLVQ, None),
            op::SHRL64 | op::SHRA64 => (i::PSRLVQ, None),
            op::ROTL64 => (i::PSLLVQ, Some(i::PSRLVQ)),
            _ => (i::PSRLVQ, Some(i::PSLLVQ)),
        };
        for (pair, by) in pairs.into_iter().zip(by_pairs) {
            if let Some(back) = back {
                let rest = self.constant_op(i::PSUBQ, C::SixtyFour64, by);
                self.apply_to(back, pair, rest);
                self.apply(there, pair, by);
                self.apply(i::POR, pair, rest);
                self.done(rest);
            } else {
                self.apply(there, pair, by);
            }
        }
        let results = [EVEN_WORDS, ODD_WORDS].map(|choice| self.words_of(pairs, choice));
        if let Some(mask) = signs {
            results.iter().for_each(|result| self.apply(i::PXOR, *result, mask));
        }
        results
    }

    pub(super) fn quad_widening(&mut self, operation: &Operation) -> [Vector; 4] {
        match operation.opcode {
            op::ADD64C => {
                let [low, high, carry] = self.add64(operation, true);
                let zero = self.load(self.layout().constant(C::Zero));
                [low, high, carry, zero]
            }
            op::SUB64C => {
                let [low, high, borrow] = self.subtract64(operation, true);
                let ones = self.constant_op(i::PSUBD, C::Zero, borrow);
                let same = self.load(ones);
                [low, high, ones, same]
            }
            _ => self.multiply_widening64(operation),
        }
    }

    /// 128-bit products from four products of words, for the pairs of interleaved operands.
    fn multiply_widening64(&mut self, operation: &Operation) -> [Vector; 4] {
        let is_signed_a = operation.opcode != op::MULU64C;
        let is_signed_b = operation.opcode == op::MUL64C;
        let [a_low, a_high] = operation.a;
        let (a_low, a_high) = (self.vector(a_low), self.source(a_high));
        let pairs_a = self.interleave(a_low, a_high);
        let b_low = self.b_vector(operation);
        let b_high = self.b_high(operation);
        let pairs_b = self.interleave(b_low, b_high);
        // The words of the results: the first, the second, the third and fourth together.
        let products = [0, 1].map(|part| {
            let products = self.product(pairs_a[part], pairs_b[part], is_signed_a, is_signed_b);
            self.done(pairs_a[part]);
            self.done(pairs_b[part]);
            products
        });
        let both = |word: usize| [products[0][word], products[1][word]];
        [
            self.words_of(both(0), EVEN_WORDS),
            self.words_of(both(1), EVEN_WORDS),
            self.words_of(both(2), EVEN_WORDS),
            self.words_of(both(2), ODD_WORDS),
        ]
    }

    /// The product of 64-bit lanes: its lowest word and its second, both in the low halves of lanes,
    /// and its high 64 bits.
    fn product(
        &mut self,
        a: Vector,
        b: Vector,
        is_signed_a: bool,
        is_signed_b: bool,
    ) -> [Vector; 3] {
        let a_high = self.shift(i::PSRLQ, a, 32);
        let b_high = self.shift(i::PSRLQ, b, 32);
        let low = self.op(i::PMULUDQ, a, b);
        let middle = self.op(i::PMULUDQ, a, b_high);
        self.apply_to(i::PMULUDQ, a_high, b_high);
        let high = b_high;
        self.apply(i::PMULUDQ, a_high, b);
        let other = a_high;
        // No sum of a product and a word overflows.
        let carried = self.shift(i::PSRLQ, low, 32);
        self.apply(i::PADDQ, middle, carried);
        self.code.shift(i::PSRLQ, self.target.width, carried, middle, 32);
        self.apply(i::PADDQ, high, carried);
        self.apply_constant(i::PAND, middle, C::LowWords64);
        self.apply(i::PADDQ, middle, other);
        self.code.shift(i::PSRLQ, self.target.width, carried, middle, 32);
        self.apply(i::PADDQ, high, carried);
        // A negative factor counts 2^64 too much.
        for (is_signed, factor, by) in [(is_signed_a, a, b), (is_signed_b, b, a)] {
            if is_signed {
                self.code.shuffle_words(self.target.width, carried, factor, HIGH_WORDS);
                self.shift_in_place(i::PSRAD, carried, 31);
                self.apply(i::PAND, carried, by);
                self.apply(i::PSUBQ, high, carried);
            }
        }
        self.done(carried);
        self.done(other);
        [low, middle, high]
    }
}
