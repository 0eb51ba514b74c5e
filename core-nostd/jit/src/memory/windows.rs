//! Memory of Windows.

use core::ptr::NonNull;

use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_EXECUTE_READ, PAGE_PROTECTION_FLAGS, PAGE_READWRITE,
    VirtualAlloc, VirtualFree, VirtualProtect,
};

use super::{Access, RefusedError};

/// Maps memory that can be written, of whole pages.
pub(super) fn map(len: usize) -> Result<NonNull<u8>, RefusedError> {
    let kind = MEM_COMMIT | MEM_RESERVE;
    // SAFETY: new memory, at an address that the system chooses, touches nothing else.
    let start = unsafe { VirtualAlloc(core::ptr::null(), len, kind, protection(Access::Write)) };
    NonNull::new(start.cast()).ok_or_else(last_error)
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
    let mut before = 0;
    // SAFETY: as the caller promises.
    let result = unsafe { VirtualProtect(start.cast(), len, protection(access), &mut before) };
    if result != 0 { Ok(()) } else { Err(last_error()) }
}

/// Gives memory back.
///
/// # Safety
/// It is the whole of a mapping of [`map`], and nobody uses it any more.
pub(super) unsafe fn unmap(start: NonNull<u8>, _: usize) {
    // SAFETY: as the caller promises; all of a mapping is given back with length 0.
    unsafe { VirtualFree(start.as_ptr().cast(), 0, MEM_RELEASE) };
}

fn protection(access: Access) -> PAGE_PROTECTION_FLAGS {
    match access {
        Access::Write => PAGE_READWRITE,
        Access::Execute => PAGE_EXECUTE_READ,
    }
}

fn last_error() -> RefusedError {
    // SAFETY: it reads the error number of this thread.
    RefusedError(unsafe { GetLastError() }.cast_signed())
}
