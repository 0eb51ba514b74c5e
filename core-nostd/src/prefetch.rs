//! Asking for memory ahead of its use, so that the waits of several reads overlap.
#![allow(unsafe_code)]

/// Bytes of a cache line. Where lines are longer some are asked for twice.
const LINE_BYTES: usize = 64;

/// Asks for all cache lines of a value. Does nothing where there is no such instruction.
#[inline(always)]
pub(crate) fn read<T>(value: &T) {
    let start = core::ptr::from_ref(value).cast::<u8>();
    let mut at = 0;
    while at < size_of::<T>() {
        line(start.wrapping_add(at));
        at += LINE_BYTES;
    }
}

#[inline(always)]
fn line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that a program could see and never faults; SSE is part of
    // x86-64.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch reads nothing that a program could see and never faults.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
