//! Where values are: the variable stack of a program as slots, and slots for values that are moved
//! out of loops (the assignment of registers, if slots were registers).

use super::{MARK, MOVED_SLOTS, STACK_SLOTS, Slot, UnusualProgramError};

/// The variable stack: for each register where its value is, and what it depends on.
#[derive(Clone)]
pub(super) struct Stack {
    pub(super) slots: [Slot; STACK_SLOTS],
    /// How many of the open scopes, from the outermost, the value depends on.
    levels: [u8; STACK_SLOTS],
    pub(super) height: usize,
    /// Slots for moved values that are taken.
    moved: usize,
}

impl Stack {
    pub(super) const fn new() -> Stack {
        Stack { slots: [MARK; STACK_SLOTS], levels: [0; STACK_SLOTS], height: 0, moved: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.height = 0;
        self.moved = 0;
    }

    /// Slots for values that are moved out of a loop; `None` when there are not so many left.
    pub(super) fn moved(&mut self, results: usize) -> Option<Slot> {
        if self.moved + results > MOVED_SLOTS {
            return None;
        }
        let slot = STACK_SLOTS + self.moved;
        self.moved += results;
        Some(slot as Slot)
    }

    pub(super) fn push(&mut self, slot: Slot, level: u8) -> Result<(), UnusualProgramError> {
        if self.height == STACK_SLOTS {
            return Err(UnusualProgramError);
        }
        self.slots[self.height] = slot;
        self.levels[self.height] = level;
        self.height += 1;
        Ok(())
    }

    /// The slot and level of a register, which must be a variable.
    pub(super) fn variable(&self, register: usize) -> Result<(Slot, u8), UnusualProgramError> {
        if register >= self.height || self.slots[register] == MARK {
            return Err(UnusualProgramError);
        }
        Ok((self.slots[register], self.levels[register]))
    }

    /// The slots and level of an operand: a register, or the pair whose high half it is.
    pub(super) fn operand(
        &self,
        register: usize,
        is_pair: bool,
    ) -> Result<([Slot; 2], u8), UnusualProgramError> {
        let (slot, level) = self.variable(register)?;
        if !is_pair {
            return Ok(([slot; 2], level));
        }
        let below = register.checked_sub(1).ok_or(UnusualProgramError)?;
        let (slot_below, level_below) = self.variable(below)?;
        Ok(([slot_below, slot], level.max(level_below)))
    }
}
