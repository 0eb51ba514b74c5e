//! Programs that are compiled, by their words, and the memory of their code.
//!
//! Code is sealed when all programs that are wanted are compiled, and memory made writable again when
//! there is no room left: to change what may be done with memory stops every thread of the process.

use alloc::vec::Vec;
use core::ops::Range;

use crate::memory::{CodeMemory, RefusedError};

/// Programs that are kept. A check of announcements of different jobs has two for each of 32.
const PROGRAMS_MAX: usize = 64;
/// Bytes for their code: twice of what so many need in the mean, for single items.
const CODE_BYTES: usize = 1 << 20;
/// Where code begins: at a line of the cache.
const ALIGNMENT: usize = 64;

/// A form of the code of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For an item in each lane.
    Lanes,
    /// For a single item.
    One,
}

/// Which forms are meant, by their numbers.
pub(super) type Forms = [bool; 2];

/// A program and its code.
#[derive(Debug, Default)]
pub(super) struct Entry {
    words: Vec<u32>,
    /// It can not be compiled.
    pub(super) is_unusual: bool,
    /// Output positions differ between lanes.
    pub(super) diverges: bool,
    /// The code of each form.
    pub(super) codes: [Option<Range<usize>>; 2],
    /// The constants that the code for lanes uses.
    pub(super) immediates: Vec<u32>,
}

impl Entry {
    fn begin(&mut self, words: &[u32]) {
        self.words.clear();
        self.words.extend_from_slice(words);
        self.is_unusual = false;
        self.codes = [None, None];
    }

    /// Which of these forms have no code.
    pub(super) fn missing(&self, forms: Forms) -> Forms {
        core::array::from_fn(|form| forms[form] && self.codes[form].is_none())
    }

    pub(super) fn code(&self, form: Form) -> Option<&Range<usize>> {
        self.codes[form as usize].as_ref()
    }
}

/// The programs.
#[derive(Debug)]
pub(super) struct Store {
    /// The first `len` are programs, the others memory for more.
    entries: Vec<Entry>,
    len: usize,
    memory: CodeMemory,
    /// Bytes of code that are not sealed yet.
    unsealed_len: usize,
}

impl Store {
    pub(super) fn new() -> Result<Store, RefusedError> {
        let mut memory = CodeMemory::new(CODE_BYTES)?;
        // Where this is forbidden it shall be known at once.
        memory.seal(1)?;
        memory.unseal()?;
        Ok(Store { entries: Vec::new(), len: 0, memory, unsealed_len: 0 })
    }

    /// Forgets all programs. After an error the memory of their code is not to be had.
    pub(super) fn clear(&mut self) -> Result<(), RefusedError> {
        self.len = 0;
        self.unsealed_len = 0;
        self.memory.unseal()
    }

    /// For how many more programs there is room.
    pub(super) fn left(&self) -> usize {
        PROGRAMS_MAX - self.len
    }

    /// The place of a program, if it is here.
    pub(super) fn find(&self, words: &[u32]) -> Option<usize> {
        self.entries[..self.len].iter().position(|entry| entry.words == words)
    }

    /// Takes a program in, for which there must be room.
    pub(super) fn add(&mut self, words: &[u32]) -> usize {
        assert!(self.len < PROGRAMS_MAX, "room for a program");
        if self.len == self.entries.len() {
            self.entries.push(Entry::default());
        }
        self.entries[self.len].begin(words);
        self.len += 1;
        self.len - 1
    }

    /// The program at a place.
    pub(super) fn entry(&self, at: usize) -> &Entry {
        &self.entries[at]
    }

    pub(super) fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.entries[at]
    }

    /// The program at a place, and the memory to write its code.
    pub(super) fn writing(&mut self, at: usize) -> (&mut Entry, &mut [u8]) {
        (&mut self.entries[at], &mut self.memory.unsealed()[self.unsealed_len..])
    }

    /// So many bytes of that memory are the code of a form now.
    pub(super) fn wrote(&mut self, at: usize, form: Form, len: usize) {
        let start = self.memory.sealed().len() + self.unsealed_len;
        self.entries[at].codes[form as usize] = Some(start..start + len);
        let end = self.unsealed_len + len;
        self.unsealed_len = end.next_multiple_of(ALIGNMENT).min(self.memory.unsealed().len());
    }

    /// Makes all code executable.
    pub(super) fn seal(&mut self) -> Result<(), RefusedError> {
        if self.unsealed_len > 0 {
            self.memory.seal(self.unsealed_len)?;
            self.unsealed_len = 0;
        }
        Ok(())
    }

    /// Code that is sealed.
    pub(super) fn sealed(&self, code: &Range<usize>) -> &[u8] {
        &self.memory.sealed()[code.clone()]
    }
}
