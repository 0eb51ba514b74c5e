//! Processes to which the kernel refuses io_uring, as containers do.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Loads the word at an offset of `seccomp_data`.
const LOAD: u16 = 0x20;
/// Passes over `jt` instructions when the word is greater or equal, else over `jf`.
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The command, with a filter that answers `EPERM` to `io_uring_setup`, `_enter` and `_register`.
pub(crate) fn without_io_uring(command: &mut Command) -> &mut Command {
    let first = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let last = u32::try_from(libc::SYS_io_uring_register).unwrap();
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 2, first),
        step(JUMP_IF_AT_LEAST, 1, 0, last + 1),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: both calls only read what they are given, which outlives them; they may be made
        // between fork and exec.
        let statuses = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if statuses == [0, 0] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: `install` makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) }
}
