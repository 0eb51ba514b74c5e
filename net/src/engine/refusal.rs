//! Why the kernel gives no ring, in words that tell what to do about it.

use std::io;

/// What the kernel's refusal of a ring means, and what to do about it.
pub(super) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring (5.8 or newer is needed)".to_owned(),
        Some(libc::EPERM | libc::EACCES) => format!(
            "io_uring is forbidden: {error} (a seccomp filter, as containers have, or \
             sysctl kernel.io_uring_disabled)"
        ),
        Some(libc::ENOMEM) => format!(
            "io_uring: {error}: raise the limit for locked memory (ulimit -l; it is {} bytes)",
            memlock_limit().map_or_else(|| "unknown".to_owned(), |limit| limit.to_string())
        ),
        _ => format!("io_uring: {error}"),
    }
}

/// The soft limit for locked memory, bytes; None when it can not be read.
pub(super) fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` at the address.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (status == 0).then_some(limit.rlim_cur)
}
