//! Memory for machine code: written, then sealed, then executed; never writable and executable.

use core::ptr::NonNull;
use core::slice;

/// A page of this architecture: protection changes for whole ones.
const PAGE_BYTES: usize = 1 << 12;

/// The operating system refused something: its error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedError(pub(crate) i32);

/// A mapping that holds code.
#[derive(Debug)]
pub(crate) struct CodeMemory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value alone, as that of a `Box` would.
unsafe impl Send for CodeMemory {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for CodeMemory {}

impl CodeMemory {
    /// Maps memory.
    pub(crate) fn new(len: usize) -> Result<CodeMemory, RefusedError> {
        // SAFETY: a new private mapping, at an address that the system chooses, touches nothing else.
        let start = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(last_error());
        }
        let start = NonNull::new(start.cast()).ok_or(RefusedError(0))?;
        Ok(CodeMemory { start, len })
    }

    /// Puts code at a position, sealed. Code on the pages that the first and the last of it share
    /// with other code can not be executed meanwhile: nobody may.
    pub(crate) fn write(&mut self, at: usize, code: &[u8]) -> Result<(), RefusedError> {
        assert!(at + code.len() <= self.len, "as much code as there is memory for");
        self.protect(at, code.len(), libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: the bytes are inside of the mapping, readable and writable now, and nobody else
        // has them.
        let bytes = unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(at), code.len()) };
        bytes.copy_from_slice(code);
        self.protect(at, code.len(), libc::PROT_READ | libc::PROT_EXEC)
    }

    /// Changes what may be done with the pages of some bytes.
    fn protect(
        &mut self,
        at: usize,
        len: usize,
        protection: libc::c_int,
    ) -> Result<(), RefusedError> {
        let on_page = at % PAGE_BYTES;
        // SAFETY: the range is inside of our mapping, which no reference points into.
        let result = unsafe {
            let first = self.start.as_ptr().add(at - on_page);
            libc::mprotect(first.cast(), on_page + len, protection)
        };
        if result == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// The memory, of which only what was written is code.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is always readable, and written only through `&mut self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: the range is exactly our mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn last_error() -> RefusedError {
    #[cfg(any(target_os = "linux", target_os = "hurd", target_os = "redox"))]
    // SAFETY: the address of the error number of this thread.
    let number = unsafe { *libc::__errno_location() };
    #[cfg(not(any(target_os = "linux", target_os = "hurd", target_os = "redox")))]
    let number = 0;
    RefusedError(number)
}
