//! Memory for machine code: written, then sealed, then executed; never writable and executable.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use core::ptr::NonNull;
use core::slice;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// A page of this architecture: protection changes for whole ones.
const PAGE_BYTES: usize = 1 << 12;

/// The operating system refused something: its error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedError(pub(crate) i32);

/// What may be done with memory, besides reading it.
#[derive(Clone, Copy, Debug)]
enum Access {
    Write,
    Execute,
}

/// A mapping that holds code: the pages at its beginning are sealed, the others can be written.
#[derive(Debug)]
pub(crate) struct CodeMemory {
    start: NonNull<u8>,
    len: usize,
    /// Bytes of the sealed pages.
    sealed_len: usize,
}

// SAFETY: the mapping belongs to the value alone, as that of a `Box` would.
unsafe impl Send for CodeMemory {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for CodeMemory {}

impl CodeMemory {
    /// Maps memory of some pages that can be written.
    pub(crate) fn new(len: usize) -> Result<CodeMemory, RefusedError> {
        let start = system::map(len)?;
        Ok(CodeMemory { start, len, sealed_len: 0 })
    }

    /// Bytes that can be written, and sealed later.
    pub(crate) fn unsealed(&mut self) -> &mut [u8] {
        // SAFETY: these pages of the mapping are readable and writable, and nobody else has them.
        unsafe {
            let first = self.start.as_ptr().add(self.sealed_len);
            slice::from_raw_parts_mut(first, self.len - self.sealed_len)
        }
    }

    /// Seals the first `len` of those bytes: from now on they can be executed, and not be written.
    /// What is left of the last page is sealed with them.
    pub(crate) fn seal(&mut self, len: usize) -> Result<(), RefusedError> {
        let len = len.next_multiple_of(PAGE_BYTES);
        self.protect(self.sealed_len, len, Access::Execute)?;
        self.sealed_len += len;
        Ok(())
    }

    /// Makes all memory writable again: what was sealed is code no longer.
    pub(crate) fn unseal(&mut self) -> Result<(), RefusedError> {
        self.protect(0, self.sealed_len, Access::Write)?;
        self.sealed_len = 0;
        Ok(())
    }

    /// The bytes that are sealed.
    pub(crate) fn sealed(&self) -> &[u8] {
        // SAFETY: these pages of the mapping are readable, and nobody can write them.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.sealed_len) }
    }

    /// Changes what may be done with whole pages. To take something away interrupts every CPU that
    /// runs a thread of the process: the fewer calls, the better for the others.
    fn protect(&mut self, at: usize, len: usize, access: Access) -> Result<(), RefusedError> {
        assert!(at + len <= self.len, "inside of the mapping");
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the range is inside of our mapping, which no reference points into.
        unsafe { system::protect(self.start.as_ptr().add(at), len, access) }
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: exactly our mapping, which nobody uses any more.
        unsafe { system::unmap(self.start, self.len) };
    }
}
