//! RandGen: from a seed to a program (spec 02, 7).
//!
//! The order of the draws is consensus: each procedure is written in the order of its text. What is
//! done millions of times, drawing and looking for a variable, is behind [`Source`]: [`fast`] is what
//! programs use, [`plain`] is written to be read beside the specification, and tests compare them.

mod fast;
mod plain;

use heapless::Vec;

use super::opcode::{self, Class};
use super::{Program, SCOPES_MAX, Watch};
use crate::backend::Backend;
use crate::error::ProgramError;
use crate::params::{BRANCH_COST, INITIAL_BUDGET, INPUT_COST, INSNS_MAX, MEMORY_COST};
use crate::primitives::chacha20::expand_long;

pub use plain::PlainGenerator;

/// Deepest nesting of scopes that a budget can pay for. A loop takes two iterations and one read
/// at least; a branch has its own cost and hands on 7/32.
const fn scopes_of_budget(budget: u32) -> usize {
    if budget < 2 * MEMORY_COST {
        return 0;
    }
    let in_loop = scopes_of_budget(budget / 2 - MEMORY_COST);
    let in_branch =
        if budget < BRANCH_COST { 0 } else { scopes_of_budget((budget - BRANCH_COST) * 7 / 32) };
    1 + if in_loop > in_branch { in_loop } else { in_branch }
}

const _: () = assert!(scopes_of_budget(INITIAL_BUDGET) == 8);
const _: () = assert!(scopes_of_budget(INITIAL_BUDGET) <= SCOPES_MAX);

/// Generates programs: some 2 KiB of draws and variables.
#[derive(Clone)]
pub struct Generator {
    source: fast::FastSource,
    insns_max: usize,
}

impl Generator {
    /// A generator with the limit of the consensus.
    #[must_use]
    pub const fn new() -> Generator {
        Generator::with_limit(INSNS_MAX)
    }

    /// A generator with another limit, to test what happens at the limit.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_limit(insns_max: usize) -> Generator {
        Generator { source: fast::FastSource::new(), insns_max }
    }

    /// Makes the program of a seed and its memory: `make_program` of spec 03, 2.4.
    ///
    /// # Errors
    /// [`ProgramError::TooBig`] when it has more than [`INSNS_MAX`] words; `program` then holds no
    /// program.
    pub fn generate(&mut self, seed: &[u8; 32], program: &mut Program) -> Result<(), ProgramError> {
        self.generate_on(seed, program, Backend::Soft)
    }

    /// [`generate`](Generator::generate) with the key stream kernels of a back end.
    ///
    /// # Errors
    /// As [`generate`](Generator::generate).
    pub fn generate_on(
        &mut self,
        seed: &[u8; 32],
        program: &mut Program,
        backend: Backend,
    ) -> Result<(), ProgramError> {
        let words_max = self.insns_max.min(INSNS_MAX);
        program.start(|memory| expand_long(seed, 0, memory, backend));
        self.source.start(seed, backend);
        program
            .overwrite(|memory| generate_into(&mut memory[..words_max], &mut self.source, &mut ()))
    }

    /// The plain form of [`generate`](Generator::generate) into any words, with somebody who looks
    /// on. The length of `words` and of `variables` are the limits.
    ///
    /// # Errors
    /// [`ProgramError::TooBig`] when the program has more words.
    #[doc(hidden)]
    pub fn generate_watched(
        seed: &[u8; 32],
        words: &mut [u32],
        variables: &mut [u8],
        watch: &mut impl Watch,
    ) -> Result<usize, ProgramError> {
        generate_into(words, &mut plain::PlainSource::of_seed(seed, variables), watch)
    }
}

impl Default for Generator {
    fn default() -> Self {
        Generator::new()
    }
}

impl core::fmt::Debug for Generator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Generator").field("insns_max", &self.insns_max).finish_non_exhaustive()
    }
}

/// The infinite stream of random words (spec 02, 7.1) and the variable stack V.
trait Source {
    /// The next random word.
    fn draw(&mut self) -> u32;

    /// How many words were drawn.
    fn draws(&self) -> u64;

    /// Appends unused variables, or the MARK of a scope, at the end of the stack, which is given;
    /// `None` when there is no room.
    fn append(&mut self, end: usize, entry: Entry) -> Option<()>;

    /// Step 4 of `getvar` (spec 02, 7.7): looks for a variable among those between `lo` and `hi`,
    /// from the one at `start` on, and round again. The result is an index.
    fn search(&mut self, kind: Kind, lo: usize, hi: usize, start: usize) -> usize;

    /// Step 5: marks a variable used.
    fn mark_used(&mut self, index: usize);

    /// A number from `lo` to `hi - 1`.
    #[inline(always)]
    fn range(&mut self, lo: usize, hi: usize) -> usize {
        lo + (self.draw() % (hi - lo) as u32) as usize
    }

    /// True once in `n`.
    #[inline(always)]
    fn toss(&mut self, n: u32) -> bool {
        self.draw().is_multiple_of(n)
    }
}

/// What is appended to the variable stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// This many variables, not yet used as operands.
    Free(usize),
    /// The beginning of a scope.
    Mark,
}

impl Entry {
    fn len(self) -> usize {
        match self {
            Entry::Free(count) => count,
            Entry::Mark => 1,
        }
    }
}

fn generate_into<S: Source, W: Watch>(
    words: &mut [u32],
    source: &mut S,
    watch: &mut W,
) -> Result<usize, ProgramError> {
    let mut drawing = Drawing { source, words, len: 0, height: 0, marks: Vec::new(), watch };
    drawing.make_loop(INITIAL_BUDGET)?;
    Ok(drawing.len)
}

/// Takes a cost from a budget that has it.
fn spend(budget: &mut u32, cost: u32) -> bool {
    match budget.checked_sub(cost) {
        Some(rest) => {
            *budget = rest;
            true
        }
        None => false,
    }
}

/// Most items in a round of a body.
const ITEMS_MAX: usize = 11;

/// `4 * max / i`, `3 * max / i` and `2 * max / i`, by `max` and `i` (spec 02, 7.4).
static ODDS: [[[u8; 3]; ITEMS_MAX + 1]; ITEMS_MAX + 1] = {
    let mut odds = [[[0; 3]; ITEMS_MAX + 1]; ITEMS_MAX + 1];
    let mut max = 2;
    while max <= ITEMS_MAX {
        let mut i = 1;
        while i <= max {
            odds[max][i] = [(4 * max / i) as u8, (3 * max / i) as u8, (2 * max / i) as u8];
            i += 1;
        }
        max += 1;
    }
    odds
};

/// How many adjacent variables an operand is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Double,
}

/// A program in the making (spec 02, 7.2).
struct Drawing<'a, S, W> {
    source: &'a mut S,
    words: &'a mut [u32],
    len: usize,
    /// Entries of the variable stack.
    height: usize,
    /// Positions of the MARKs in the variable stack.
    marks: Vec<usize, SCOPES_MAX>,
    watch: &'a mut W,
}

impl<S: Source, W: Watch> Drawing<'_, S, W> {
    /// Appends a word. There is no way back from a program that is too big, so it ends here: no
    /// word beyond the limit is ever written or patched.
    fn emit(&mut self, word: u32) -> Result<(), ProgramError> {
        let place = self.words.get_mut(self.len).ok_or(ProgramError::TooBig)?;
        *place = word;
        self.len += 1;
        self.watch.emitted(self.source.draws());
        Ok(())
    }

    fn append(&mut self, entry: Entry) -> Result<(), ProgramError> {
        // `VARIABLES_MAX` is derived from the limits: with them there is always room.
        self.source.append(self.height, entry).ok_or(ProgramError::TooBig)?;
        self.height += entry.len();
        Ok(())
    }

    fn new_variables(&mut self, count: usize) -> Result<(), ProgramError> {
        self.append(Entry::Free(count))
    }

    fn open(&mut self) -> Result<(), ProgramError> {
        // As for the variables: the budget does not pay for more scopes.
        self.marks.push(self.height).map_err(|_| ProgramError::TooBig)?;
        self.append(Entry::Mark)
    }

    fn close(&mut self) -> Result<(), ProgramError> {
        self.emit(u32::from(opcode::END))?;
        if let Some(mark) = self.marks.pop() {
            self.height = mark;
        }
        Ok(())
    }

    /// Spec 02, 7.3. Works on a copy of the budget: a scope never continues behind its loop.
    fn make_loop(&mut self, budget: u32) -> Result<(), ProgramError> {
        let count = self.source.range(2, 7 + 29 * self.marks.len()) as u32;
        let reads = self.source.range(2, 4);
        if budget < MEMORY_COST * count {
            return Ok(());
        }
        let mut budget = budget / count;
        self.emit(count << opcode::REG_B_SHIFT | u32::from(opcode::LOOP))?;
        self.open()?;
        let template = self.source.draw() << 8 | u32::from(opcode::MEMORY);
        for _ in 0..reads {
            if !spend(&mut budget, MEMORY_COST) {
                break;
            }
            self.new_variables(1)?;
            let carry = self.source.draw() & 0xf;
            let carry_mask = 0xf << opcode::CARRY_SHIFT;
            self.emit(template & !carry_mask | carry << opcode::CARRY_SHIFT)?;
        }
        self.body(&mut budget)?;
        self.close()
    }

    /// Spec 02, 7.4 without its scope, which the callers open and close.
    fn body(&mut self, budget: &mut u32) -> Result<(), ProgramError> {
        loop {
            let items = self.source.range(2, ITEMS_MAX + 1) as u32;
            for i in 1..=items {
                if !self.item(items, i, budget)? {
                    return Ok(());
                }
            }
            let crowding = (self.len * 25 / INSNS_MAX) as u32;
            if self.source.draw() % 64 + crowding < 50 && !self.branch(budget)? {
                return Ok(());
            }
            if self.source.draw() % 32 < 23 {
                return self.make_loop(*budget);
            }
        }
    }

    /// Item `i` of `max` in a round of a body: the first of the list that succeeds.
    fn item(&mut self, max: u32, i: u32, budget: &mut u32) -> Result<bool, ProgramError> {
        let [four, three, two] = ODDS[max as usize][i as usize].map(u32::from);
        Ok(self.source.toss(four) && self.op(Class::Op4To4, budget)?
            || self.source.toss(three) && self.op(Class::Op4To2, budget)?
            || self.source.toss(three) && self.op(Class::Op2To2, budget)?
            || self.source.toss(two) && self.op(Class::Op2To1, budget)?
            || self.source.toss(i) && self.input(budget)?
            || self.op(Class::Op1To1, budget)?)
    }

    /// Spec 02, 7.5.
    #[inline(always)] // Compiled for each class: what it divides by is then a constant.
    fn op(&mut self, class: Class, budget: &mut u32) -> Result<bool, ProgramError> {
        // Consensus: drawn also when the budget does not suffice.
        let random = self.source.draw();
        if !spend(budget, class.cost()) {
            return Ok(false);
        }
        let codes = class.opcodes();
        let code = u32::from(codes.start) + random % codes.len() as u32;
        // Consensus: A is picked before B. Indexes are not masked to their fields.
        let word = match class {
            Class::Op1To1 => code | self.pick_a(Kind::Single),
            Class::Op2To1 | Class::Op2To2 => {
                code | self.pick_a(Kind::Single) | self.pick_b(Kind::Single)
            }
            Class::Op4To2 | Class::Op4To4 => {
                code | self.pick_a(Kind::Double) | self.pick_b(Kind::Double)
            }
        };
        self.emit(word)?;
        self.new_variables(class.results())?;
        Ok(true)
    }

    fn pick_a(&mut self, kind: Kind) -> u32 {
        self.variable(kind) << opcode::REG_A_SHIFT
    }

    fn pick_b(&mut self, kind: Kind) -> u32 {
        if self.source.toss(4) {
            self.source.draw() << opcode::REG_B_SHIFT | opcode::HAS_IMM
        } else {
            self.variable(kind) << opcode::REG_B_SHIFT
        }
    }

    fn input(&mut self, budget: &mut u32) -> Result<bool, ProgramError> {
        if !spend(budget, INPUT_COST) {
            return Ok(false);
        }
        self.new_variables(1)?;
        let word = self.source.draw() << 8 | u32::from(opcode::IN);
        self.emit(word)?;
        Ok(true)
    }

    /// Spec 02, 7.6.
    fn branch(&mut self, budget: &mut u32) -> Result<bool, ProgramError> {
        if !spend(budget, BRANCH_COST) {
            return Ok(false);
        }
        let code = if self.source.toss(2) { opcode::IF_RANDOM } else { opcode::IF_LIKELY };
        let condition = self.variable(Kind::Single) << opcode::REG_A_SHIFT;
        self.emit(u32::from(code) | condition | 2 << opcode::REG_B_SHIFT)?;
        let to_false_side = self.branch_side(*budget)?;
        let over_false_side = self.branch_side(*budget)?;
        self.patch_jump(to_false_side, over_false_side - to_false_side);
        self.patch_jump(over_false_side, self.len - over_false_side - 1);
        Ok(true)
    }

    /// A jump to be patched, and the body behind it. Returns the position of the jump.
    fn branch_side(&mut self, budget: u32) -> Result<usize, ProgramError> {
        let jump_at = self.len;
        self.emit(u32::from(opcode::JMP))?;
        self.open()?;
        self.body(&mut (budget * 7 / 32))?;
        self.close()?;
        Ok(jump_at)
    }

    fn patch_jump(&mut self, at: usize, distance: usize) {
        self.words[at] = (distance as u32) << opcode::JUMP_SHIFT | u32::from(opcode::JMP);
    }

    /// Chooses a variable and marks it used: `getvar` of spec 02, 7.7. For a pair the result is the
    /// index of its second half.
    fn variable(&mut self, kind: Kind) -> u32 {
        let (lo, hi) = self.choose_scope(kind);
        let start = self.source.range(lo + 1, hi) + 1;
        let index = self.source.search(kind, lo, hi, start);
        self.source.mark_used(index);
        if kind == Kind::Double {
            self.source.mark_used(index - 1);
        }
        index as u32
    }

    /// The MARK of the scope to choose from and the end of its variables.
    fn choose_scope(&mut self, kind: Kind) -> (usize, usize) {
        let needed = if kind == Kind::Single { 1 } else { 2 };
        let mut hi = self.height;
        for at in (1..self.marks.len()).rev() {
            let lo = self.marks[at];
            if hi - lo > needed && !self.source.toss(4) {
                return (lo, hi);
            }
            hi = lo;
        }
        // The outermost scope has two variables at least, its memory reads.
        (0, hi)
    }
}
