//! Memory of systems like Unix.

use core::ptr::NonNull;

use super::{Access, RefusedError};

/// Maps memory that can be written, of whole pages.
pub(super) fn map(len: usize) -> Result<NonNull<u8>, RefusedError> {
    // SAFETY: a new private mapping, at an address that the system chooses, touches nothing else.
    let start = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            len,
            protection(Access::Write),
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(last_error());
    }
    NonNull::new(start.cast()).ok_or(RefusedError(0))
}

/// Changes what may be done with whole pages.
///
/// # Safety
/// They belong to a mapping of [`map`], and no reference into them needs what is taken away.
pub(super) unsafe fn protect(
    start: *mut u8,
    len: usize,
    access: Access,
) -> Result<(), RefusedError> {
    // SAFETY: as the caller promises.
    let result = unsafe { libc::mprotect(start.cast(), len, protection(access)) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Gives memory back.
///
/// # Safety
/// It is the whole of a mapping of [`map`], and nobody uses it any more.
pub(super) unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: as the caller promises.
    unsafe { libc::munmap(start.as_ptr().cast(), len) };
}

fn protection(access: Access) -> libc::c_int {
    match access {
        Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        Access::Execute => libc::PROT_READ | libc::PROT_EXEC,
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
